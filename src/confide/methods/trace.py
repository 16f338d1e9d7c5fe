"""The trace: what a signal says along one answer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Trace:
    """What one signal says along one answer, at the n positions where it was read.

    Attributes:
        tokens: after how many tokens, reasoning included, [n].
        values: P(fine) there, [n] in [0, 1].
    """

    tokens: list[int]
    values: list[float]

    @property
    def lowest(self) -> float | None:
        """The answer's number: a threshold above it would have stopped the answer. None: it is not known."""
        return lowest_of(self.values)


def lowest_of(values: Sequence[float | None]) -> float | None:
    """The lowest of several values; None where there is none, or one of them is not known or no number.

    >>> lowest_of([0.9, 0.2]), lowest_of([0.9, None]), lowest_of([0.9, float("nan")])
    (0.2, None, None)
    """
    known = [value for value in values if value is not None and math.isfinite(value)]
    return min(known) if known and len(known) == len(values) else None
