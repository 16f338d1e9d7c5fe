"""Thresholds with a guarantee on the risk of what is kept.

Promised: with probability at least level over the calibration rows, P(wrong | kept) ≤ max_risk. The risk is a ratio,
so each test conditions on the rows it keeps: for a threshold t fixed without labels, the wrong ones among the k kept
rows are Binomial(k, P(wrong | score ≥ t)), and the p-value of "the risk at t exceeds max_risk" is
P(Binomial(k, max_risk) ≤ wrong). Thresholds are tested from strict to loose (`confide.policies.testing_plan`), and the
loosest rejected one is the answer.

**Grid.** Label-free quantiles of the raw score: the k-th highest score for those k alone at which one more
wrong answer becomes affordable. Those are the points where the discrete test spends nearly all of 1 −
level; every other k tests the same number of wrong answers against a laxer tail and only adds chances to
stop early. The walk starts where the kept rows afford a few wrong answers, not at the first k that a
flawless run would pass: one unlucky row at the top must not end it.

Quantiles come from the rows that are tested. This is exact when risk does not rise with the score, and
otherwise off by at most the rows between two neighbouring grid points; the tests hold a saw-tooth risk to
the promise.

**Why not MAPIE.** Its fixed sequence (1.6, ``mapie.risk_control``) turns the grid around by looking at the
observed risks, so labels choose the order of testing; it has no rule for where to start; and it rounds
``n · (wrong / n)`` up, which floating point turns into one wrong answer too many. What is needed is below.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import bdtr, betaincinv
from scipy.stats import binom

from confide.errors import ConfideError
from confide.policies.testing_plan import RESTART_SHARE, RESTART_WEIGHT, Plan, loosest_rejected

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# The number of rows that would decide is the one that decides with this probability.
_POWER = 0.8
_MOST_ROWS = 100_000_000

METHOD = "learn-then-test, fallback sequence, binomial tail"

# Where the walk starts: at the most rows that are at most a quarter of all and afford at most six wrong answers.
# Fewer find smaller feasible sets and lose some coverage of large ones; between four and eight, mean coverage over 15
# simulated shapes (n = 300 to 5,000, oracle coverage 0.11 to 0.85) differs by 1 % of the oracle's.
_START_SHARE = 0.25
_START_WRONG = 6


@dataclass(frozen=True)
class BoundedRisk:
    """A threshold that keeps the promise: keep a row when its raw confidence is at least ``threshold``.

    ``observed_risk``, ``coverage`` (shares) and ``upper_bound`` describe the ``n`` tested rows, of which
    ``kept`` lie at or above the threshold. ``upper_bound`` is the one-sided Clopper–Pearson bound at
    ``level`` for this threshold; it is at most ``max_risk``, and ``max_risk`` is what is promised: the
    bound itself was picked.
    """

    threshold: float
    observed_risk: float
    upper_bound: float
    coverage: float
    n: int
    kept: int
    max_risk: float
    level: float
    method: str = METHOD


@dataclass(frozen=True)
class Unattainable:
    """No threshold keeps the promise on these rows.

    ``attainable`` is what the same procedure grants for a larger ``max_risk`` that is a hundredth above one for which
    it grants nothing (None: for none below 1). It was chosen by looking at the labels, so it is a hint for the next
    goal, not a promise.
    """

    max_risk: float
    level: float
    n: int
    attainable: BoundedRisk | None


def bounded_risk_threshold(
    confidence: ArrayLike,
    correct: ArrayLike,
    max_risk: float,
    level: float,
    clusters: Sequence[str] | None = None,
    seed: int = 0,
) -> BoundedRisk | Unattainable:
    """The loosest threshold with P(wrong | kept) ≤ ``max_risk``, with probability at least ``level``.

    ``confidence`` (higher is surer, any scale) and ``correct`` have shape (n,). The probability is over the
    calibration rows; the risk is that of new rows exchangeable with them. Rows that share an entry of
    ``clusters`` depend on each other, so one row a cluster is drawn (with ``seed``) and only those are
    tested; the promise is then for one row of a new cluster.

    Raises `ConfideError` when the goal is not a share in (0, 1), a confidence is not finite, or there are
    fewer rows than ln(1 − level) / ln(1 − max_risk), with which not even a flawless run would show the
    goal.
    """
    check_goal(max_risk, level)
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
    needed = rows_needed_for_a_bound(max_risk, level)
    if len(c) < needed:
        raise ConfideError(
            f"a bound of {max_risk:g} at level {level:g} needs at least {needed} {rows_used}, got {len(c)}"
        )
    order = np.argsort(-c, kind="stable")
    c, wrong = c[order], np.cumsum(~y[order])
    found = _walk(c, wrong, max_risk, level)
    if found is not None:
        return found
    # A larger risk is easier to show: halve the hundredths between this one and 1.
    low, high, attainable = math.floor(max_risk * 100 + 1e-9), 100, None
    while high - low > 1:
        middle = (low + high) // 2
        if (found := _walk(c, wrong, middle / 100, level)) is not None:
            high, attainable = middle, found
        else:
            low = middle
    return Unattainable(max_risk, level, len(c), attainable)


def rows_needed_for_a_bound(max_risk: float, level: float) -> int:
    """Fewest kept rows, all of them right, that show ``max_risk``: ⌈ln(1 − level) / ln(1 − max_risk)⌉."""
    return max(1, math.ceil(math.log1p(-level) / math.log1p(-max_risk) - 1e-9))


def check_goal(limit: float, level: float, name: str = "max-risk") -> None:
    """Raise `ConfideError` unless both are shares strictly between 0 and 1; ``name`` is what the limit is called."""
    for what, value in ((name, limit), ("level", level)):
        if not 0 < value < 1:
            raise ConfideError(f"{what} must lie strictly between 0 and 1, got {value:g}")


def one_per_cluster(clusters: Sequence[str], seed: int) -> Ints:
    """Indices, ascending, of one row drawn uniformly from each cluster of the (n,) ``clusters``."""
    shuffled = np.random.default_rng(seed).permutation(len(clusters))
    _, first = np.unique(np.asarray(clusters, dtype=str)[shuffled], return_index=True)
    return np.sort(shuffled[first])


def risk_interval(wrong: int, kept: int, level: float) -> tuple[float, float]:
    """One-sided Clopper–Pearson bounds of a risk from ``wrong`` of ``kept`` rows, each at ``level``.

    Returns (lower, upper); (0, 1) for no rows. Together they hold with probability at least 2·level − 1.
    """
    # Quantiles of beta distributions; scipy.special's are ten times as fast as scipy.stats'.
    lower = float(betaincinv(wrong, kept - wrong + 1, 1 - level)) if wrong > 0 else 0.0
    upper = float(betaincinv(wrong + 1, kept - wrong, level)) if wrong < kept else 1.0
    return lower, upper


def _walk(confidence: Floats, wrong: Ints, max_risk: float, level: float) -> BoundedRisk | None:
    """Test thresholds from strict to loose; the loosest one that passes.

    ``confidence`` is sorted from high to low; ``wrong[i]`` counts the wrong answers among the first i + 1.
    """
    n = len(confidence)
    plan = _plan(n, max_risk, level).at_ties(confidence)
    errors_at = wrong[plan.kept - 1]
    good = loosest_rejected(np.asarray(bdtr(errors_at, plan.kept, max_risk)), plan.added)
    if good is None:
        return None
    k = int(plan.kept[good])
    errors = int(wrong[k - 1])
    return BoundedRisk(
        threshold=float(confidence[k - 1]),
        observed_risk=errors / k,
        upper_bound=risk_interval(errors, k, level)[1],
        coverage=k / n,
        n=n,
        kept=k,
        max_risk=max_risk,
        level=level,
    )


@lru_cache(maxsize=512)
def _plan(n: int, max_risk: float, level: float) -> Plan:
    """Numbers of kept rows to test: depends on the goal and n alone, never on a label or score."""
    error = 1 - level
    first = _steps(n, max_risk, (1 - RESTART_WEIGHT) * error)
    second = _steps(n, max_risk, RESTART_WEIGHT * error)
    second = second[second <= RESTART_SHARE * n]
    steps = _steps(n, max_risk, error)
    if not len(first) or not len(second) or second[-1] <= first[0]:  # too few rows for two starts
        steps = steps if len(steps) else np.array([n])
        start = min(int(np.searchsorted(steps, _START_SHARE * n, side="right")), _START_WRONG + 1)
        kept = np.unique(np.append(steps[max(start - 1, 0) :], n))
        return Plan(kept, np.where(kept == kept[0], error, 0.0))
    start = min(int(np.searchsorted(first, _START_SHARE * n, side="right")), _START_WRONG + 1)
    restart = int(second[-1])
    before = first[max(start - 1, 0) :]
    # Keeping every row is the last test, whether or not n is a step.
    kept = np.unique(np.concatenate([before[before < restart], [restart], steps[steps > restart], [n]]))
    added = np.where(kept == kept[0], (1 - RESTART_WEIGHT) * error, 0.0)
    return Plan(kept, added + np.where(kept == restart, RESTART_WEIGHT * error, 0.0))


def _steps(n: int, max_risk: float, error: float) -> Ints:
    """For 0, 1, 2, … wrong answers the fewest kept rows, at most ``n``, that afford them at ``error``; ascending."""
    most = int(affordable_wrong(np.array([n]), max_risk, 1 - error)[0])
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


def affordable_wrong(kept: Ints, max_risk: float, level: float) -> Ints:
    """Most wrong answers among ``kept`` rows (any shape) that still show the goal; −1 where none would."""
    most = np.asarray(binom.ppf(1 - level, kept, max_risk)).astype(np.int64)
    return np.where(binom.cdf(most, kept, max_risk) <= 1 - level, most, most - 1)


def kept_rows_that_decide(risk: float, max_risk: float, level: float) -> int | None:
    """Kept rows that decide with probability 0.8 if the true risk is ``risk`` (None: none would)."""

    def decides(kept: int) -> bool:
        if risk < max_risk:
            most = int(affordable_wrong(np.array([kept]), max_risk, level)[0])
            return bool(binom.cdf(most, kept, risk) >= _POWER)
        # The lower bound exceeds max_risk once P(Binomial(kept, max_risk) ≥ wrong) < 1 − level.
        least = binom.ppf(level, kept, max_risk) + 1
        return bool(binom.sf(least - 1, kept, risk) >= _POWER)

    if risk == max_risk:
        return None
    high = 1
    while not decides(high):
        high *= 2
        if high > _MOST_ROWS:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if decides(middle) else (middle, high)
    return high
