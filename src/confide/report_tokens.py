"""Report tokens: the few new tokens with which a model reports on its answer, their names and their ids."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from confide.errors import ConfideError
from confide.signals import CONFIDENCE, SIGNALS

GRADES = 11
GRADED = tuple(f"<|conf_{grade}|>" for grade in range(GRADES))
"""Graded tokens: each closes an answer and states a confidence of 0, 0.1 … 1 in it."""


def report_names() -> set[str]:
    """The names of the tokens with which a model reports on any signal."""
    return {name for signal in SIGNALS.values() for name in signal.tokens}


@dataclass(frozen=True)
class TokenIds:
    """Where report tokens sit in one model's vocabulary: ``cn`` confident, ``un`` unconfident."""

    cn: int
    un: int

    @property
    def all(self) -> list[int]:
        """Both ids."""
        return [self.cn, self.un]


def token_ids(tokenizer: Any) -> TokenIds:
    """The ids of the confidence's tokens in a tokenizer that has them (`ConfideError` otherwise)."""
    vocabulary = tokenizer.added_tokens_encoder
    if missing := [name for name in CONFIDENCE.tokens if name not in vocabulary]:
        raise ConfideError(f"the model has no token {missing[0]}: it was not trained to report its confidence")
    cn, un = (int(vocabulary[name]) for name in CONFIDENCE.tokens)
    return TokenIds(cn, un)


def graded_ids(tokenizer: Any) -> list[int]:
    """Ids of the graded tokens, lowest confidence first; empty for a tokenizer that has none."""
    vocabulary = tokenizer.added_tokens_encoder
    return [int(vocabulary[name]) for name in GRADED] if GRADED[-1] in vocabulary else []


def suppressed_ids(tokenizer: Any) -> list[int]:
    """Ids of every token that confide added and that must not be written into an answer.

    Graded tokens are not among them: where a model has them, they close its answers.
    """
    names = report_names()
    return sorted(int(token) for name, token in tokenizer.added_tokens_encoder.items() if name in names)
