"""Thresholds that keep the accuracy of small model and expert together within a margin of the expert's alone.

Escalated questions get the expert's answer, so only kept ones can lose: with d = 1 where a kept answer is wrong and
the expert's right, −1 where it is the other way round, and 0 elsewhere, the loss in accuracy is E[d] over all
questions. Promised: with probability at least level over the calibration rows, E[d] ≤ margin.

**Test.** Of n rows, b lose and c gain, a trinomial with probabilities (p_b, p_c). Outcomes are ordered by the score
statistic of "E[d] = margin" (Tango 1998, "Equivalence test and confidence interval for the difference in proportions
for the paired-sample design"), and the p-value is the largest probability, over every nuisance p_c, of an outcome
at least as extreme: the unconditional exact test of Hsueh, Liu and Chen (2001, Biometrics 57). It relies on no normal
approximation; and questions that both get right or both get wrong cost nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binom, norm

from confide.errors import ConfideError
from confide.policies.testing_plan import RESTART_SHARE, RESTART_WEIGHT, Plan
from confide.policies.threshold_bound import check_goal, one_per_cluster, rows_needed_for_a_bound

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

METHOD = "learn-then-test, fallback sequence, exact paired test"

# Shares of rows kept at the tests: every hundredth, so the answer is within 1 % of all rows of the finest grid's.
_TESTS = 100
_START_SHARE = 0.04
# The nuisance is searched at this many points, closer together near 0, where outcomes are few and the size jumps.
_NUISANCES = 48
# Standard deviations of the number of gains beyond which outcomes are left out of the sum.
_WIDE = 6.5


@dataclass(frozen=True)
class BoundedLoss:
    """A threshold that keeps the promise: keep a row when its raw confidence is at least ``threshold``.

    Of the ``n`` tested rows ``kept`` lie at or above it; of those, ``losses`` are wrong where the expert is right and
    ``gains`` right where it is wrong.
    """

    threshold: float
    losses: int
    gains: int
    n: int
    kept: int
    margin: float
    level: float
    method: str = METHOD


@dataclass(frozen=True)
class TooFar:
    """No threshold keeps the promise on these rows.

    ``attainable`` is what the same procedure grants for a larger margin that is a hundredth above one for which it
    grants nothing (None: for none below 0.5). It was chosen by looking at the labels, so it is a hint for the next
    goal, not a promise.
    """

    margin: float
    level: float
    n: int
    attainable: BoundedLoss | None


def match_expert_threshold(
    confidence: ArrayLike,
    correct: ArrayLike,
    expert: ArrayLike,
    margin: float,
    level: float,
    clusters: Sequence[str] | None = None,
    seed: int = 0,
) -> BoundedLoss | TooFar:
    """The loosest threshold whose pair of models loses at most ``margin`` of the expert's accuracy.

    ``confidence`` (higher is surer; −inf for none, which always escalates), ``correct`` and ``expert`` (is the expert
    right) have shape (n,). One row a cluster is tested, as in `bounded_risk_threshold`. Raises `ConfideError` for a
    margin or level outside (0, 1), or fewer rows than show the margin when no row loses.
    """
    check_goal(margin, level, "match-expert")
    c = np.asarray(confidence, dtype=float)
    y, e = np.asarray(correct, dtype=bool), np.asarray(expert, dtype=bool)
    if c.ndim != 1 or not c.shape == y.shape == e.shape or (clusters is not None and len(clusters) != len(c)):
        raise ConfideError("confidence, correct, expert and clusters must have one length")
    if np.isnan(c).any() or np.isposinf(c).any():
        raise ConfideError("a confidence that is missing must be −inf, any other finite")
    if clusters is not None:
        chosen = one_per_cluster(clusters, seed)
        c, y, e = c[chosen], y[chosen], e[chosen]
    needed = rows_needed_for_a_bound(margin, 1 - (1 - level) * (1 - RESTART_WEIGHT))
    if len(c) < needed:
        raise ConfideError(
            f"a margin of {margin:g} at level {level:g} needs at least {needed} independent rows, got {len(c)}"
        )
    order = np.argsort(-c, kind="stable")
    c, losses, gains = c[order], np.cumsum((e & ~y)[order]), np.cumsum((y & ~e)[order])
    if (found := _walk(c, losses, gains, margin, level)) is not None:
        return found
    # A larger margin is easier to show: halve the hundredths between this one and 0.5.
    low, high, attainable = int(margin * 100 + 1e-9), 50, None
    while high - low > 1:
        middle = (low + high) // 2
        if (found := _walk(c, losses, gains, middle / 100, level)) is not None:
            high, attainable = middle, found
        else:
            low = middle
    return TooFar(margin, level, len(c), attainable)


def loss_interval(losses: int, gains: int, n: int, level: float) -> tuple[float, float]:
    """One-sided bounds of E[d] from ``losses`` and ``gains`` among ``n`` rows, each at ``level``: (lower, upper).

    The margins at which the exact test just rejects, and their mirror image; (−1, 1) for no rows.
    """
    return -_upper(gains, losses, n, level), _upper(losses, gains, n, level)


def p_value(losses: int, gains: int, n: int, margin: float) -> float:
    """Exact p-value of "the loss is at least ``margin``" (−1 < margin < 1), for ``losses`` and ``gains`` of ``n``."""
    z = _score(np.array([losses]), np.array([gains]), n, margin)[0]
    return _size(_most_losses(float(z), n, margin), n, margin)


@lru_cache(maxsize=512)
def critical_losses(n: int, margin: float, error: float) -> Ints:
    """Most losses, for 0 to ``n`` gains, that reject "the loss is at least ``margin``" at ``error`` (−1: none do)."""
    # Discreteness makes the exact limit stricter than the normal one, seldom by as much as 1.
    low, high = float(norm.ppf(error)) - 1.5, float(norm.ppf(error)) + 0.25
    if _size(_most_losses(low, n, margin), n, margin) > error:
        return np.full(n + 1, -1)
    while high - low > 2e-3:
        middle = (low + high) / 2
        low, high = (middle, high) if _size(_most_losses(middle, n, margin), n, margin) <= error else (low, middle)
    return _most_losses(low, n, margin)


def rows_that_decide(loss_rate: float, gain_rate: float, margin: float, level: float, power: float) -> int | None:
    """Rows that decide with probability ``power`` at these true rates, by the normal approximation (None: none)."""
    distance = margin - (loss_rate - gain_rate)
    if abs(distance) < 1e-9:
        return None
    # Rates of zero are never certain: one row more of each kind in a thousand.
    variance = max(loss_rate + gain_rate - (loss_rate - gain_rate) ** 2, abs(margin), 1e-3)
    z = float(norm.ppf(level) + norm.ppf(power))
    return int(np.ceil(variance * (z / distance) ** 2))


def _score(losses: Ints, gains: Ints, n: int, margin: float) -> Floats:
    """Tango's statistic: the difference from ``margin`` in standard errors, at the likeliest nuisance with that margin.

    ``losses`` and ``gains`` have one shape; low values speak for a smaller loss.
    """
    b, c, m = (losses, gains, margin) if margin >= 0 else (gains, losses, -margin)
    linear = b * (1 + m) + c * (1 - m) - 2 * n * m
    smaller = (linear + np.sqrt(linear**2 + 8 * n * c * m * (1 - m))) / (4 * n)
    variance = n * (2 * smaller + m - m**2)
    return np.asarray((losses - gains - n * margin) / np.sqrt(np.maximum(variance, 1e-12)))


def _most_losses(z: float, n: int, margin: float) -> Ints:
    """For 0 to ``n`` gains the most losses whose score is at most ``z`` (−1: none)."""
    gains = np.arange(n + 1)
    low, high = np.full(n + 1, -1), n - gains + 1
    while np.any(high - low > 1):
        middle = (low + high) // 2
        inside = _score(np.maximum(middle, 0), gains, n, margin) <= z + 1e-9
        low, high = np.where(inside, middle, low), np.where(inside, high, middle)
    # A row more that gains never speaks against: this keeps the largest probability on the margin itself.
    return np.minimum(np.maximum.accumulate(low), n - gains)


def _size(most: Ints, n: int, margin: float) -> float:
    """Largest probability, over the nuisance, of at most ``most[gains]`` losses when the loss is ``margin``."""
    spread = (1 - abs(margin)) / 2 * np.linspace(0, 1, _NUISANCES) ** 3
    p_gain, p_loss = spread + max(-margin, 0.0), spread + max(margin, 0.0)
    deviation = np.sqrt(n * p_gain * (1 - p_gain))
    low = np.maximum(np.floor(n * p_gain - _WIDE * deviation), 0).astype(np.int64)
    high = np.minimum(np.ceil(n * p_gain + _WIDE * deviation) + 12, n).astype(np.int64)
    width = high - low + 1
    start = np.concatenate([[0], np.cumsum(width)[:-1]])
    gains = np.arange(width.sum()) - np.repeat(start - low, width)
    share = np.repeat(np.minimum(p_loss / np.maximum(1 - p_gain, 1e-12), 1.0), width)
    # Given the gains, the losses are binomial among the rows that are left.
    inside = binom.pmf(gains, n, np.repeat(p_gain, width)) * binom.cdf(most[gains], n - gains, share)
    return float(np.add.reduceat(inside, start).max())


def _upper(losses: int, gains: int, n: int, level: float) -> float:
    """The margin at which the test just rejects at 1 − ``level``: it rejects for all larger ones."""
    if n == 0:
        return 1.0
    low, high = (losses - gains) / n, 1.0
    while high - low > 1e-5:
        middle = (low + high) / 2
        low, high = (low, middle) if p_value(losses, gains, n, middle) <= 1 - level else (middle, high)
    return high


def _walk(confidence: Floats, losses: Ints, gains: Ints, margin: float, level: float) -> BoundedLoss | None:
    """Test thresholds from strict to loose; the loosest one that passes.

    ``confidence`` is sorted from high to low; ``losses[i]`` and ``gains[i]`` count those among the first i + 1.
    """
    n = len(confidence)
    finite = int(np.isfinite(confidence).sum())
    if finite == 0:
        return None
    plan = _plan(n).at_ties(confidence)
    good, at_hand = None, 0.0
    for kept, more in zip(plan.kept.tolist(), plan.added.tolist(), strict=True):
        at_hand = round(at_hand + more, 12)
        row = min(kept, finite) - 1
        if at_hand > 0 and losses[row] <= critical_losses(n, margin, at_hand * (1 - level))[gains[row]]:
            good = row + 1
        else:
            at_hand = 0.0
    if good is None:
        return None
    lost, gained = int(losses[good - 1]), int(gains[good - 1])
    return BoundedLoss(
        threshold=float(confidence[good - 1]),
        losses=lost,
        gains=gained,
        n=n,
        kept=good,
        margin=margin,
        level=level,
    )


@lru_cache(maxsize=64)
def _plan(n: int) -> Plan:
    """Numbers of kept rows to test, with shares of the error rate: depends on n alone."""
    shares = np.linspace(_START_SHARE, 1, round(_TESTS * (1 - _START_SHARE)) + 1)
    kept = np.unique(np.maximum(1, np.floor(shares * n + 1e-9)).astype(np.int64))
    restart = kept[kept <= max(RESTART_SHARE * n, kept[0])][-1]
    added = np.where(kept == kept[0], 1 - RESTART_WEIGHT, 0.0) + np.where(kept == restart, RESTART_WEIGHT, 0.0)
    return Plan(kept, added)
