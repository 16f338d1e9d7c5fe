"""Report tokens: the few new tokens with which a model reports on its answer, their names and their ids."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from confide.errors import ConfideError

ASK_NAME = re.compile(r"<\|ask_\d+\|>")


@dataclass(frozen=True)
class ReportTokens:
    """The names of the tokens with which a model reports on one thing, such as its confidence.

    ``verdict`` holds the two verdict tokens, the one that raises the confidence first.

    >>> CONFIDENCE.ask_tokens(2)
    ('<|ask_1|>', '<|ask_2|>')
    """

    name: str
    verdict: tuple[str, str]

    def ask_tokens(self, count: int) -> tuple[str, ...]:
        """Names of the first ``count`` ask tokens."""
        return tuple(f"<|ask_{number}|>" for number in range(1, count + 1))


CONFIDENCE = ReportTokens("confidence", ("<|confident|>", "<|unconfident|>"))

GRADES = 11
GRADED = tuple(f"<|conf_{grade}|>" for grade in range(GRADES))
"""Graded tokens: each closes an answer and states a confidence of 0, 0.1 … 1 in it."""


@dataclass(frozen=True)
class TokenIds:
    """Where report tokens sit in one model's vocabulary: ``cn`` confident, ``un`` unconfident."""

    cn: int
    un: int
    ask: tuple[int, ...] = ()

    @property
    def all(self) -> list[int]:
        """Every id, the verdict first."""
        return [self.cn, self.un, *self.ask]


def token_ids(tokenizer: Any, ask_tokens: int | None = None) -> TokenIds:
    """The ids of the confidence's tokens in a tokenizer that has them (`ConfideError` otherwise).

    ``ask_tokens`` None takes as many as there are.
    """
    vocabulary = tokenizer.added_tokens_encoder
    if ask_tokens is None:
        ask_tokens = sum(1 for name in vocabulary if ASK_NAME.fullmatch(name))
    names = [*CONFIDENCE.verdict, *CONFIDENCE.ask_tokens(ask_tokens)]
    if missing := [name for name in names if name not in vocabulary]:
        raise ConfideError(f"the model has no token {missing[0]}: it was not trained to report its confidence")
    cn, un, *ask = (int(vocabulary[name]) for name in names)
    return TokenIds(cn, un, tuple(ask))


def graded_ids(tokenizer: Any) -> list[int]:
    """Ids of the graded tokens, lowest confidence first; empty for a tokenizer that has none."""
    vocabulary = tokenizer.added_tokens_encoder
    return [int(vocabulary[name]) for name in GRADED] if GRADED[-1] in vocabulary else []


def suppressed_ids(tokenizer: Any) -> list[int]:
    """Ids of every token that confide added and that must not be written into an answer.

    Graded tokens are not among them: where a model has them, they close its answers.
    """
    known = tokenizer.added_tokens_encoder.items()
    return sorted(int(token) for name, token in known if name in CONFIDENCE.verdict or ASK_NAME.fullmatch(name))
