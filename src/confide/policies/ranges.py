"""The range that a source's confidences lie in: [0, 1], or at most 0 for log-probabilities.

A confidence outside it is on another scale, such as 87 in percent, and lies above every threshold. It is refused, never
taken for a sure answer. What rounding adds (1.0000001) is cut off.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from confide.errors import ConfideError
from confide.records import Record, RecordTable
from confide.sources import log_space

ROUNDING = 1e-6
"""How far outside its range a number may lie for its digits alone."""


@dataclass(frozen=True)
class Range:
    """Confidences lie between ``low`` and ``high``; ``words`` says so."""

    low: float
    high: float
    words: str

    def within(self, value: float, source: str, row: str = "") -> float:
        """``value`` of ``source``, cut to this range; raises `ConfideError` where it is further outside than rounding.

        The error names the ``row``, where one is given.
        """
        if self.low - ROUNDING <= value <= self.high + ROUNDING:
            return self.cut(value)
        where = f"row {row}: " if row else ""
        raise ConfideError(f"{where}the confidence {value:g} from {source} is not {self.words}: {self._advice(value)}")

    def cut(self, value: float) -> float:
        """``value``, cut to this range; a threshold may lie a rounding step outside, so that nothing reaches it."""
        return min(max(value, self.low), self.high)

    def records(self, records: Sequence[Record], source: str) -> RecordTable:
        """``records`` with the confidences of ``source`` in this range (cut off where rounding left it).

        Raises `ConfideError`, as `within` does, for the first one outside.
        """
        table = RecordTable.of(records)
        values = table.confidence(source)
        outside = np.flatnonzero((values < self.low) | (values > self.high))
        for row in outside.tolist():
            values[row] = self.within(float(values[row]), source, str(table.ids[row]))
        return table.with_confidence(source, values) if len(outside) else table

    def _advice(self, value: float) -> str:
        if self == LOG_PROBABILITIES:
            return "take the logarithm of a probability, or minus a negative log-likelihood"
        if value > 1:
            return "divide a percentage by 100, and bring ratings to a probability"
        return "take e to the power of a log-probability, and 1 / (1 + e^−x) of a logit x"


PROBABILITIES = Range(0.0, 1.0, "in [0, 1]")
LOG_PROBABILITIES = Range(-math.inf, 0.0, "a log-probability (at most 0)")
ANY_NUMBER = Range(-math.inf, math.inf, "a number")
"""Of policies of before that were made on margins."""


def range_of(source: str) -> Range:
    """The range of the confidences of ``source``."""
    return LOG_PROBABILITIES if log_space(source) else PROBABILITIES
