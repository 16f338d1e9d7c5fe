"""The traffic: of the answers around one, how many are such as training never gave, and what that makes of this one.

An answer that training never gave may come from the long tail of an unchanged world, or from a world that has shifted.
One row cannot tell which, its traffic can. Let e be the share of such answers among training rows, to folds that did
not see them, and s their share in the traffic: its one-sided lower confidence bound, but at least e. If the traffic is
φ parts of a world where every answer is new and 1 − φ parts of training's, then s = φ + (1 − φ)·e, so

    φ = (s − e) / (1 − e)

and by Bayes' rule an unseen answer is of the long tail with the probability

    w = (1 − φ)·e / s

(the reweighting of classes under label shift: Saerens, Latinne & Decaestecker 2002, doi 10.1162/089976602753284446).
Of an answer that training did give, 1 − φ is all that can be said: a model answers new questions with what it knows,
too. The same goes for phrasings of questions, but a known phrasing is none of a world where every phrasing is new. No
label is used. Of few rows the bound is low, so little traffic counts as training's: φ is 0 and w is 1 until it is clear
that it is not.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from confide.numeric import Bools
from confide.policies.thresholds.binomial_bound import clopper_pearson
from confide.records import Record

WINDOW = 1000
"""How many of the latest answers are the traffic of one in service."""

LEVEL = 0.95
"""Of the lower bound of a share."""


@dataclass(frozen=True)
class UnseenShare:
    """How many of ``n`` answers (or phrasings) training never had; ``usual`` is the share of such in training, e.

    >>> ordinary, shifted = UnseenShare(170, 1000, usual=0.17), UnseenShare(950, 1000, usual=0.17)
    >>> ordinary.shifted, ordinary.tail
    (0.0, 1.0)
    >>> round(shifted.shifted, 2), round(shifted.tail, 3)
    (0.92, 0.014)
    >>> UnseenShare(3, 3, usual=0.4).tail  # three new answers in a row: too few to tell
    1.0
    """

    unseen: int
    n: int
    usual: float

    @property
    def share(self) -> float:
        """What was seen of the share; 0 of no rows."""
        return self.unseen / self.n if self.n else 0.0

    @property
    def shifted(self) -> float:
        """φ: which part of the traffic at least is of a shifted world, in [0, 1]."""
        return (self._at_least - self.usual) / (1 - self.usual) if self.usual < 1 else 0.0

    @property
    def tail(self) -> float:
        """w: with which probability one that training never had is of its long tail, in [0, 1]."""
        return (1 - self.shifted) * self.usual / s if (s := self._at_least) > 0 else 1.0

    def told(self) -> dict[str, float]:
        """The counts and what follows from them, for whoever watches."""
        counts = {"unseen": self.unseen, "n": self.n, "usual": self.usual}
        return {**counts, "share": self.share, "shifted": self.shifted}

    @cached_property
    def _at_least(self) -> float:
        """s."""
        return max(clopper_pearson(self.unseen, self.n, LEVEL)[0], self.usual)


@dataclass(frozen=True)
class Traffic:
    """Of ``n`` answers, how many training never gave to that kind of question, and how many phrasings it never had."""

    n: int = 0
    answers: int = 0
    phrasings: int = 0


class Surroundings(Protocol):
    """What tells the traffic around each of some records."""

    def around(self, records: Sequence[Record], answers: Bools, phrasings: Bools) -> Sequence[Traffic]:
        """The traffic around each record, [n], of which it is known whether training never had answer and phrasing."""


class FileTraffic:
    """The rows of a file as each other's traffic: those of one split, or all where there are no splits.

    Args:
        by_split: a split's name (None: without one) → its traffic.
    """

    def __init__(self, by_split: Mapping[str | None, Traffic]):
        self._by_split = by_split

    @classmethod
    def of(cls, records: Sequence[Record], answers: Bools, phrasings: Bools) -> FileTraffic:
        """The traffic of these records, of which it is known whether training never had answer and phrasing, [n]."""
        rows: dict[str | None, list[int]] = {}
        for row, record in enumerate(records):
            rows.setdefault(record.split, []).append(row)
        return cls(
            {split: Traffic(len(r), int(answers[r].sum()), int(phrasings[r].sum())) for split, r in rows.items()}
        )

    def around(self, records: Sequence[Record], answers: Bools, phrasings: Bools) -> Sequence[Traffic]:
        """The traffic of each record's split; of one that has no rows nothing is known."""
        return [self._by_split.get(record.split, Traffic()) for record in records]


class TrafficWindow:
    """The latest answers of this process as the traffic of the next one; it may be used from several threads."""

    def __init__(self) -> None:
        self._latest: deque[tuple[bool, bool]] = deque()
        self._traffic = Traffic()
        self._closed = False
        self._lock = threading.Lock()

    @property
    def traffic(self) -> Traffic:
        """What the window holds."""
        return self._traffic

    def around(self, records: Sequence[Record], answers: Bools, phrasings: Bools) -> Sequence[Traffic]:
        """Let the records come in, one after the other: the traffic of each is itself and what came before it."""
        with self._lock:
            return [self._let_in(*new) for new in zip(answers.tolist(), phrasings.tolist(), strict=True)]

    def request(self) -> Surroundings:
        """The window for the answers to one request, of which only the first comes in, however many there are."""
        return _Request(self)

    @contextmanager
    def closed(self) -> Iterator[None]:
        """Inside it nothing comes in."""
        self._closed = True
        try:
            yield
        finally:
            self._closed = False

    def _let_in(self, answer: bool, phrasing: bool) -> Traffic:
        if self._closed:
            return self._traffic
        self._latest.append((answer, phrasing))
        left = self._latest.popleft() if len(self._latest) > WINDOW else (False, False)
        found = self._traffic
        self._traffic = Traffic(
            len(self._latest), found.answers + answer - left[0], found.phrasings + phrasing - left[1]
        )
        return self._traffic


@dataclass(frozen=True)
class _Request:
    window: TrafficWindow

    def around(self, records: Sequence[Record], answers: Bools, phrasings: Bools) -> Sequence[Traffic]:
        """The traffic of each answer, [n]."""
        return list(self.window.around(records[:1], answers[:1], phrasings[:1])) * len(records)
