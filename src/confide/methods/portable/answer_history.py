"""What training made of an answer to a kind of question: how often it was given there, and how often it was right.

The same wrong answer to another kind of question says nothing: "India" to *which continent?* makes "India" no more
familiar where a country is asked for. Only hashes of answers are kept.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from confide.hashing import key_of_text
from confide.numeric import Bools, Floats, Ints, logit
from confide.records import Record
from confide.tasks.text import spelled

STRENGTH = 2.0
"""Of answers."""

KIND_STRENGTH = 20.0
"""Of kinds of question, whose rates are counted in the same way."""

HALF = 1.0
"""How often training must have given an answer for it to be half familiar."""

_CLIP = 1e-3


@dataclass(frozen=True)
class AnswerHistory:
    """Counts of answers by kind of question; `AnswerHistory.fit` makes them.

    Attributes:
        given: hash → how often training gave the answer.
        right: hash → how often it was right.
        base: the share of right answers in training.
        scale: what counts are multiplied with (those of a part of the rows stand for all of them).
        strength: rows' worth of the base rate with which each answer starts.
    """

    given: dict[str, int]
    right: dict[str, int]
    base: float
    scale: float = 1.0
    strength: float = STRENGTH

    @classmethod
    def fit(cls, keys: Sequence[str], right: Bools, scale: float = 1.0, strength: float = STRENGTH) -> AnswerHistory:
        """Count the answers of graded training rows."""
        counts: dict[str, int] = defaultdict(int)
        good: dict[str, int] = defaultdict(int)
        for key, label in zip(keys, right.tolist(), strict=True):
            counts[key] += 1
            if label:
                good[key] += 1
        return cls(dict(counts), dict(good), float(np.mean(right)), scale, strength)

    def seen(self, keys: Sequence[str]) -> Floats:
        """How often training gave each answer, [n]."""
        return self.scale * np.array([self.given.get(key, 0) for key in keys], dtype=np.float64)

    def columns(self, keys: Sequence[str]) -> Floats:
        """[n, 2]: the logit of how often an answer was right (shrunk to the base rate), and ln(1 + times given).

        How often training gave an answer is itself a sign: default answers are given often and seldom right.
        """
        given = np.array([self.given.get(key, 0) for key in keys], dtype=np.float64)
        right = np.array([self.right.get(key, 0) for key in keys], dtype=np.float64)
        rate = (right + self.strength * self.base) / (given + self.strength)
        return np.column_stack([logit(np.clip(rate, _CLIP, 1 - _CLIP)), np.log1p(self.scale * given)])

    def to_json(self) -> dict[str, Any]:
        """The counts as JSON can hold them."""
        return dict(vars(self))

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> AnswerHistory:
        """The counts that `to_json` came from."""
        return cls(**data)


def answer_text(record: Record) -> str:
    """What makes two answers the same one: their text without case, accents, articles and punctuation."""
    return spelled(record.answer) or "∅"


def answer_keys(kinds: Ints, records: Sequence[Record]) -> list[str]:
    """A hash of each row's kind of question and answer, which is compared without case, accents and articles."""
    return [key_of_text(f"{kind}\0{answer_text(record)}") for kind, record in zip(kinds.tolist(), records, strict=True)]
