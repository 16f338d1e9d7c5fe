"""The trace: what a signal says along one answer."""

from __future__ import annotations

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
        """The answer's number: a threshold above it would have stopped the answer. None: it was read nowhere."""
        return min(self.values, default=None)
