"""Threshold counts: how many answers every threshold keeps on these rows, and how many of them are right."""

from __future__ import annotations

import math
import shlex
from dataclasses import dataclass
from typing import Any

import numpy as np

from confide.numeric import Bools, Floats
from confide.report.templating import clean

MAX_THRESHOLDS = 1000
"""Thresholds of one source: finer steps cannot be set with a slider, and the page stays small."""

DIGITS = 6
"""Significant digits of a threshold: what is shown is what was counted."""

GOALS = (0.02, 0.05, 0.1, 0.2, 0.3)
"""Risks for which the page lists what can be answered."""


@dataclass(frozen=True)
class Counts:
    """Rows at or above each threshold [m], from loose to strict, and the right ones among them.

    The first threshold keeps every row that has a value. ``risk`` is the share of wrong to start at.
    """

    threshold: Floats
    kept: Floats
    right: Floats
    risk: float = 0.1

    @classmethod
    def of(cls, confidence: Floats, correct: Bools, risk: float = 0.1) -> Counts:
        """Exact counts at `MAX_THRESHOLDS` thresholds or fewer, evenly spread over the rows.

        ``confidence`` [n] is finite, ``correct`` is [n]; n is at least 1. Thresholds are confidences that occur,
        rounded down to `DIGITS` digits before anything is counted.
        """
        ranked = np.argsort(confidence, kind="stable")
        order = confidence[ranked]
        values = np.unique(order)
        if len(values) > MAX_THRESHOLDS:
            values = order[np.linspace(0, len(order) - 1, MAX_THRESHOLDS).astype(int)]
        threshold = np.unique([rounded_down(float(v)) for v in values])
        right_above = np.concatenate([np.cumsum(correct[ranked][::-1])[::-1], [0]])
        first = np.searchsorted(order, threshold, side="left")
        return cls(threshold, (len(order) - first).astype(np.float64), right_above[first].astype(np.float64), risk)

    def loosest(self, risk: float) -> int | None:
        """Number of the loosest threshold with at most this share of wrong among the kept; None: there is none."""
        # The allowance for rounding keeps 1 wrong of 10 within a risk of 0.1.
        fits = np.flatnonzero(self.kept - self.right <= risk * self.kept + 1e-9)
        return int(fits[0]) if len(fits) else None

    def goal(self, risk: float) -> tuple[float, float] | None:
        """The share that is kept at the loosest threshold for a risk, and that threshold; None: there is none."""
        place = self.loosest(risk)
        return None if place is None else (float(self.kept[place] / self.kept[0]), float(self.threshold[place]))

    @property
    def start(self) -> int:
        """Where the slider stands first: at most ``risk`` wrong, or the middle where that cannot be had."""
        place = self.loosest(self.risk)
        return len(self.threshold) // 2 if place is None else place

    @property
    def cut(self) -> float:
        """The threshold where the slider stands first."""
        return float(self.threshold[self.start])

    def payload(self, source: str) -> dict[str, Any]:
        """The counts as the page's script reads them."""
        return {
            "name": clean(source, 60),
            "argument": shlex.quote(clean(source)),
            "threshold": [float(f"{t:.{DIGITS}g}") for t in self.threshold],
            "kept": [int(k) for k in self.kept],
            "right": [int(r) for r in self.right],
            "start": self.start,
        }


def rounded_down(value: float) -> float:
    """The largest number of `DIGITS` significant digits that is not above ``value``."""
    text = float(f"{value:.{DIGITS - 1}e}")
    if text <= value:
        return text
    exponent = math.floor(math.log10(abs(value)))
    return float(f"{text - 10.0 ** (exponent - DIGITS + 1):.{DIGITS - 1}e}")
