"""Thresholds with a guarantee on the risk of what is kept.

Promised: with probability at least level over the calibration rows, P(wrong | kept) ≤ max_risk. The risk is a ratio,
so each test conditions on the rows it keeps: for a threshold t fixed without labels, the wrong ones among the k kept
rows are Binomial(k, P(wrong | score ≥ t)), and the p-value of "the risk at t exceeds max_risk" is
P(Binomial(k, max_risk) ≤ wrong). Thresholds are tested from strict to loose, and the loosest rejected one is the
answer (`confide.policies.thresholds.fallback_testing`; ``docs/decisions/0003-no-mapie.md`` says why it is not MAPIE's).

**Grid.** Label-free quantiles of the raw score: the k-th highest score for those k alone at which one more wrong answer
becomes affordable. There the discrete test spends nearly all of 1 − level; every other k tests the same number of wrong
answers against a laxer tail and only adds chances to stop early. Testing starts where the kept rows afford a few wrong
answers, not at the first k that a flawless run would pass: one unlucky row at the top must not end it.

Quantiles come from the rows that are tested. This is exact when risk does not rise with the score, and otherwise off by
at most the rows between two neighbouring grid points; the tests hold a saw-tooth risk to the promise.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import bdtr
from scipy.stats import binom

from confide.errors import ConfideError
from confide.numeric import Floats, Ints
from confide.policies.calibration_rows import one_per_cluster
from confide.policies.goals import check_shares
from confide.policies.thresholds import fallback_testing as fallback
from confide.policies.thresholds.binomial_bound import BinomialCount, affordable_bad, fewest_rows

# Where testing starts: at the most rows that are at most a quarter of all and afford at most six wrong answers.
# Fewer find smaller feasible sets and lose some coverage of large ones; between four and eight, mean coverage over 15
# simulated shapes (n = 300 to 5,000, oracle coverage 0.11 to 0.85) differs by 1 % of the oracle's.
_START_SHARE = 0.25
_START_WRONG = 6


def bounded_risk_threshold(
    confidence: ArrayLike,
    correct: ArrayLike,
    max_risk: float,
    level: float,
    clusters: Sequence[str] | None = None,
    seed: int = 0,
) -> fallback.BoundedThreshold | fallback.Unmet:
    """Find the loosest threshold with P(wrong | kept) ≤ ``max_risk``, with probability at least ``level``.

    ``confidence`` (higher is surer, any scale) and ``correct`` have shape [n]. The probability is over the calibration
    rows; the risk is that of new rows exchangeable with them. Rows that share an entry of ``clusters`` depend on each
    other, so one row per cluster is drawn (with ``seed``) and only those are tested; the promise is then for one row of
    a new cluster. Raises `ConfideError` when the goal is not a share in (0, 1), a confidence is not finite, or there
    are fewer rows than ln(1 − level) / ln(1 − max_risk), with which not even a flawless run would show the goal.

    >>> found = bounded_risk_threshold(np.arange(29), [True] * 29, 0.1, 0.95)
    >>> found.threshold, found.count.kept, round(found.upper_bound, 4)
    (0.0, 29, 0.0981)
    """
    check_shares(max_risk, level, "max-risk")
    c, y = np.asarray(confidence, dtype=float), np.asarray(correct, dtype=bool)
    if c.ndim != 1 or c.shape != y.shape or (clusters is not None and len(clusters) != len(c)):
        raise ConfideError("confidence, correct and clusters must have one length")
    if not np.isfinite(c).all():
        raise ConfideError(f"{int((~np.isfinite(c)).sum())} of {len(c)} confidences are not finite numbers")
    rows_used = "rows"
    if clusters is not None:
        chosen = one_per_cluster(clusters, seed)
        if len(chosen) < len(c):
            rows_used = f"independent rows (one for each of the clusters that {len(c)} rows form)"
        c, y = c[chosen], y[chosen]
    if len(c) < (needed := fewest_rows(max_risk, level)):
        raise ConfideError(
            f"a bound of {max_risk:g} at level {level:g} needs at least {needed} {rows_used}, got {len(c)}"
        )
    order = np.argsort(-c, kind="stable")
    c, wrong = c[order], np.cumsum(~y[order])
    return fallback.threshold_or_hint(
        lambda limit: _loosest(c, wrong, limit, level), "max_risk", max_risk, level, len(c)
    )


def _loosest(confidence: Floats, wrong: Ints, max_risk: float, level: float) -> fallback.BoundedThreshold | None:
    """The loosest threshold that passes its test (None: none does).

    ``confidence`` (n,) is sorted from high to low; ``wrong[i]`` counts the wrong answers among the first i + 1.
    """
    n = len(confidence)
    plan = _plan(n, max_risk, level).at_ties(confidence)
    p_values = np.asarray(bdtr(wrong[plan.kept - 1], plan.kept, max_risk))
    last = fallback.loosest_rejected(lambda position, error: bool(p_values[position] <= error), plan.added)
    if last is None:
        return None
    kept = int(plan.kept[last])
    count = BinomialCount(n, kept, bad=int(wrong[kept - 1]), counted=kept)
    return fallback.BoundedThreshold(float(confidence[kept - 1]), max_risk, level, count)


@lru_cache(maxsize=512)
def _plan(n: int, max_risk: float, level: float) -> fallback.Plan:
    """Numbers of kept rows to test: depends on the goal and n alone, never on a label or score."""
    error = 1 - level
    first = _steps(n, max_risk, (1 - fallback.RESTART_WEIGHT) * error)
    second = _steps(n, max_risk, fallback.RESTART_WEIGHT * error)
    second = second[second <= fallback.RESTART_SHARE * n]
    steps = _steps(n, max_risk, error)
    if not len(first) or not len(second) or second[-1] <= first[0]:  # too few rows for two starts
        steps = steps if len(steps) else np.array([n])
        start = min(int(np.searchsorted(steps, _START_SHARE * n, side="right")), _START_WRONG + 1)
        kept = np.unique(np.append(steps[max(start - 1, 0) :], n))
        return fallback.Plan(kept, np.where(kept == kept[0], error, 0.0))
    start = min(int(np.searchsorted(first, _START_SHARE * n, side="right")), _START_WRONG + 1)
    restart = int(second[-1])
    before = first[max(start - 1, 0) :]
    # Keeping every row is the last test, whether or not n is a step.
    kept = np.unique(np.concatenate([before[before < restart], [restart], steps[steps > restart], [n]]))
    return fallback.Plan.with_two_starts(kept, restart, error)


def _steps(n: int, max_risk: float, error: float) -> Ints:
    """For 0, 1, 2, … wrong answers the fewest kept rows, at most ``n``, that afford them at ``error``; ascending."""
    most = int(affordable_bad(np.array([n]), max_risk, 1 - error)[0])
    if most < 0:
        return np.array([], dtype=np.int64)
    # Every affordable number of wrong answers is a step; past a hundred, four hundred steps are fine enough.
    counts = np.unique(np.append(np.arange(min(most, 100) + 1), np.linspace(0, most, 400).astype(np.int64)))
    low, high = counts, np.full_like(counts, n)
    while np.any(high - low > 1):
        middle = (low + high) // 2
        affords = np.asarray(binom.cdf(counts, middle, max_risk)) <= error
        low, high = np.where(affords, low, middle), np.where(affords, middle, high)
    return high
