"""Bounds on fresh rows that hold however often one looks: after each row that is added, and at all looks together.

An exact bound for a fixed number of rows spends its whole error rate at one look. Whoever looks again after an
undecided answer, with more rows, would spend it again. These bounds are confidence sequences
(`confide.metrics.confidence_sequences`): they spend it once over all looks at rows that only grow.
"""

from __future__ import annotations

import math
from dataclasses import astuple, replace

import numpy as np
from scipy.stats import binom, norm

from confide.metrics.confidence_sequences import (
    log_evidence_above,
    log_evidence_of_loss,
    lower_sequence,
    upper_sequence,
)
from confide.policies.thresholds.binomial_bound import POWER, BinomialCount, fewest_that_decide
from confide.policies.thresholds.cluster_bound import ClusterCount
from confide.policies.thresholds.fallback_testing import Count
from confide.policies.thresholds.judged_bound import JudgedCount
from confide.policies.thresholds.paired_bound import PairedCount

_MOST_ROWS = 10_000_000


def anytime_interval(count: Count, below: float, above: float) -> tuple[float, float]:
    """One-sided bounds of the counted quantity: the lower one at level ``below``, the upper one at ``above``."""
    if isinstance(count, ClusterCount):
        count = replace(count, anytime=True)
        return count.interval(below)[0], count.interval(above)[1]
    if isinstance(count, BinomialCount):
        return _share_bounds(count.bad, count.counted, 1 - below, 1 - above)
    if isinstance(count, JudgedCount):
        return count.bounds(_share_bounds, _loss_bounds, 1 - below, 1 - above)
    return _loss_bounds(count.losses, count.gains, count.n, 1 - below, 1 - above)


def _share_bounds(hits: int, n: int, below: float, above: float) -> tuple[float, float]:
    """Bounds of a share at the error rates ``below`` and ``above``."""
    return float(lower_sequence(n, hits, below)), float(upper_sequence(n, hits, above))


def _loss_bounds(losses: int, gains: int, n: int, below: float, above: float) -> tuple[float, float]:
    """Bounds of a loss at the error rates ``below`` and ``above``; (−1, 1) for no rows."""
    if n == 0:
        return -1.0, 1.0
    return _loss_above(losses, gains, n, below), -_loss_above(gains, losses, n, above)


def power(count: Count, expected: float, limit: float, level: float) -> float | None:
    """Probability that as many rows show ``limit`` if the true quantity is ``expected`` (None: it cannot be told)."""
    if isinstance(count, JudgedCount):
        return None
    if isinstance(count, ClusterCount):
        return count.power(expected, limit, level)
    if isinstance(count, BinomialCount):
        return float(binom.cdf(_most_bad(count.counted, limit, 1 - level), count.counted, expected))
    return _paired_power(count.n, expected, count.gains / count.n, limit, level)


def rows_needed(count: Count, expected: float, coverage: float, limit: float, level: float) -> int | None:
    """About how many rows like these would decide with probability `POWER` (None: no number would).

    Without a row that counts, the quantity is taken as ``expected`` and the share of rows that count as ``coverage``.
    """
    if isinstance(count, ClusterCount):
        return _cluster_rows_needed(count, limit, level)
    if isinstance(count, JudgedCount):
        return _judged_rows_needed(count, limit, level)
    if isinstance(count, PairedCount):
        if not count.n:
            return None
        seen, gains = count.observed, count.gains / count.n
        if seen < limit:
            return fewest_that_decide(lambda n: _paired_power(n, seen, gains, limit, level) >= POWER, _MOST_ROWS)
        losses = count.losses / count.n
        return fewest_that_decide(lambda n: _paired_power(n, -seen, losses, -limit, level) >= POWER, _MOST_ROWS)
    needed = counted_rows_needed(count.observed if count.counted else expected, limit, level)
    share = count.counted / count.n if count.counted else coverage
    return None if needed is None or share == 0 else math.ceil(needed / share)


def counted_rows_needed(share: float, limit: float, level: float) -> int | None:
    """Rows that decide with probability `POWER` if the true share of bad ones is ``share`` (None: none would)."""
    if share >= limit:  # shown from the other side: the share of good rows is below 1 − limit
        share, limit = 1 - share, 1 - limit
    return fewest_that_decide(lambda n: bool(binom.cdf(_most_bad(n, limit, 1 - level), n, share) >= POWER), _MOST_ROWS)


def _most_bad(n: int, limit: float, alpha: float) -> int:
    """Most bad rows among ``n`` with which the upper sequence is at or under ``limit`` (−1: not even none)."""
    low, high = -1, math.floor(n * limit) + 1
    while high - low > 1:
        middle = (low + high) // 2
        shown = log_evidence_above(n, n - middle, 1 - limit) >= -math.log(alpha)
        low, high = (middle, high) if shown else (low, middle)
    return low


def _paired_power(n: int, expected: float, gain_rate: float, limit: float, level: float) -> float:
    """Probability that ``n`` rows show a loss under ``limit``, by a normal approximation of the loss seen.

    Gains are taken to be as frequent as ``gain_rate`` says, so that the loss seen depends on the losses alone.
    """
    gains = round(gain_rate * n)
    low, high = -1, n - gains + 1  # most losses that show the limit
    while high - low > 1:
        middle = (low + high) // 2
        shown = log_evidence_of_loss(n, gains, middle, -limit) >= -math.log(1 - level)
        low, high = (middle, high) if shown else (low, middle)
    if low < 0:
        return 0.0
    # Rates of zero are never certain: one row more of each kind in a thousand.
    spread = math.sqrt(max(expected + 2 * gain_rate, abs(limit), 1e-3) / n)
    return float(norm.cdf(((low - gains) / n - expected) / spread))


def _cluster_rows_needed(count: ClusterCount, limit: float, level: float) -> int | None:
    """About how many rows decide if more clusters are like those seen."""
    if not count.counted or count.observed == limit:
        return None
    # A normal sum grows past L with probability `POWER` when its mean is as large as this.
    quantile, wanted = float(norm.ppf(POWER)), -math.log(1 - level)
    error = math.exp(-((quantile + math.sqrt(quantile**2 + 2 * wanted)) ** 2) / 2)
    for times in map(int, 2 ** np.arange(1, 11)):
        more = replace(
            count,
            bad_each=np.tile(count.bad_each, times),
            counted_each=np.tile(count.counted_each, times),
            anytime=True,
        )
        if more.shows(limit, error) or more.exceeds(limit, error):
            return count.n * times
    return None


def _judged_rows_needed(count: JudgedCount, limit: float, level: float) -> int | None:
    """About how many rows decide if more of them are like those seen, labels included."""
    for times in map(int, 2 ** np.arange(1, 11)):
        more = JudgedCount(*(times * value for value in astuple(count)))
        lower, upper = anytime_interval(more, level, level)
        if lower > limit or upper <= limit:
            return more.n
    return None


def _loss_above(losses: int, gains: int, n: int, alpha: float) -> float:
    """The largest margin that the evidence for a larger loss rejects at ``alpha``."""
    low, high = -1 + 1e-9, max((losses - gains) / n, -1 + 1e-9)
    while high - low > 1e-6:
        middle = (low + high) / 2
        rejected = log_evidence_of_loss(n, losses, gains, middle) >= -math.log(alpha)
        low, high = (middle, high) if rejected else (low, middle)
    return low
