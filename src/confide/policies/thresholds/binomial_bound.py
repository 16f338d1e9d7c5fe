"""Exact bounds of a share, from the number of rows that are bad: the binomial test and the Clopper–Pearson interval."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import bdtr, betaincinv
from scipy.stats import binom

from confide.numeric import Ints

POWER = 0.8
"""The number of rows that would decide is the one that decides with this probability."""

_MOST_ROWS = 100_000_000


@dataclass(frozen=True)
class BinomialCount:
    """``bad`` rows speak against a promise, of ``counted`` rows that it is about.

    They are the wrong ones of the ``kept`` (answered) rows, or the escalated ones of all ``n`` independent rows.
    """

    n: int
    kept: int
    bad: int
    counted: int

    @property
    def observed(self) -> float:
        """The share of bad rows; some row must count."""
        return self.bad / self.counted

    def shows(self, limit: float, error: float) -> bool:
        """Whether "the share exceeds ``limit``" is rejected at ``error``."""
        return self.counted > 0 and bool(bdtr(self.bad, self.counted, limit) <= error)

    def interval(self, level: float) -> tuple[float, float]:
        """One-sided bounds of the share, each at ``level``."""
        return clopper_pearson(self.bad, self.counted, level)


def clopper_pearson(bad: int, counted: int, level: float) -> tuple[float, float]:
    """One-sided Clopper–Pearson bounds of a share from ``bad`` of ``counted`` rows, each at ``level``.

    Returns (lower, upper); (0, 1) for no rows. Together they hold with probability at least 2·level − 1.
    """
    # Quantiles of beta distributions; scipy.special's are ten times as fast as scipy.stats'.
    lower = float(betaincinv(bad, counted - bad + 1, 1 - level)) if bad > 0 else 0.0
    upper = float(betaincinv(bad + 1, counted - bad, level)) if bad < counted else 1.0
    return lower, upper


def fewest_rows(limit: float, level: float) -> int:
    """Fewest rows, none of them bad, that show ``limit``: ⌈ln(1 − level) / ln(1 − limit)⌉."""
    return max(1, math.ceil(math.log1p(-level) / math.log1p(-limit) - 1e-9))


def affordable_bad(counted: Ints, limit: float, level: float) -> Ints:
    """Most bad rows among ``counted`` (any shape) that still show ``limit``; −1 where none would."""
    most = np.asarray(binom.ppf(1 - level, counted, limit)).astype(np.int64)
    return np.where(binom.cdf(most, counted, limit) <= 1 - level, most, most - 1)


def counted_rows_that_decide(share: float, limit: float, level: float) -> int | None:
    """Rows that decide with probability `POWER` if the true share of bad ones is ``share`` (None: none would)."""

    def decides(counted: int) -> bool:
        if share < limit:
            most = int(affordable_bad(np.array([counted]), limit, level)[0])
            return bool(binom.cdf(most, counted, share) >= POWER)
        # The lower bound exceeds the limit once P(Binomial(counted, limit) ≥ bad) < 1 − level.
        least = binom.ppf(level, counted, limit) + 1
        return bool(binom.sf(least - 1, counted, share) >= POWER)

    return None if share == limit else fewest_that_decide(decides)


def fewest_that_decide(decides: Callable[[int], bool], most: int = _MOST_ROWS) -> int | None:
    """The fewest rows that decide, by doubling and halving (None: more than ``most``)."""
    high = 1
    while not decides(high):
        high *= 2
        if high > most:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if decides(middle) else (middle, high)
    return high
