"""Thresholds of the goals that escalate: a budget, false alarms, close to the expert's accuracy, at the least cost.

**Budget.** Promised: with probability at least level over the calibration rows, at most ``budget`` of new questions
escalate. No label is needed. The threshold is an order statistic of the raw confidences, and the share of the
population below the (j + 1)-th lowest of n values exceeds ``budget`` with probability P(Binomial(n, budget) ≤ j) at
most (Wilks 1941, "Determination of sample sizes for setting tolerance limits"): j is the largest for which that is at
most 1 − level.

**False alarms.** Promised: with probability at least level over the calibration rows, at most ``limit`` of new fine
answers lie below the threshold. It is a budget on the fine rows alone; what lies below among the others is no part of
it.

**Matching an expert.** Escalated questions get the expert's answer, so only kept ones can lose. Promised: with
probability at least level over the calibration rows, the accuracy lost is at most the margin. Thresholds are tested
from strict to loose (`confide.policies.thresholds.fallback_testing`) with an exact paired test
(`confide.policies.thresholds.paired_bound`).

Questions of one entity depend on each other. Per entity, one of each is tested; per question all are, with a bound of
their own (`confide.policies.thresholds.cluster_bound`), from the threshold that escalates least on.

**Cost.** With p the probability that the small model is right and q that the expert is, at the same confidence,
answering costs ``answer`` + ``wrong`` · (1 − p), escalating ``escalate`` + ``wrong`` · (1 − q), abstaining ``abstain``.
Both probabilities are calibrated ones: thresholds picked on 0/1 outcomes follow their noise, and in simulation (100 to
1,000 rows) cost two to five times as much above the optimum. Nothing is promised: an expectation is estimated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
from numpy.typing import ArrayLike

from confide.errors import ConfideError, TooFewRowsError
from confide.numeric import Floats, Ints
from confide.policies.goals import BoundedName, Costs, check_shares
from confide.policies.thresholds import fallback_testing as fallback
from confide.policies.thresholds.binomial_bound import BinomialCount, affordable_bad, fewest_rows
from confide.policies.thresholds.cluster_bound import ClusterCount, Clusters
from confide.policies.thresholds.paired_bound import PairedCount

# Shares of rows kept at the tests: every hundredth, so the answer is within 1 % of all rows of the finest grid's.
_TESTS = 100
_START_SHARE = 0.04


def budget_threshold(
    confidence: ArrayLike,
    budget: float,
    level: float,
    gain: ArrayLike | None = None,
    groups: Clusters | None = None,
    hint: bool = True,
) -> fallback.BoundedThreshold | fallback.Unmet:
    """Find the threshold with the largest accuracy among those that escalate at most ``budget`` of new questions.

    ``confidence`` [n] is −inf where there is none; ``gain`` [n] is what escalating a row adds to the accuracy: 1
    where only the expert is right, −1 where only the small model is, 0 elsewhere or unknown. Without it, escalating
    is taken to help, so that the whole budget is used. Spending less is within the promise whatever labels say. Rows
    of different ``groups`` are independent.
    Without ``hint`` no other limit is looked for. Raises `ConfideError` for shares outside (0, 1) or too few rows.
    """
    check_shares(budget, level, "budget")
    c = np.asarray(confidence, dtype=float)
    if groups is None and len(c) < (needed := fewest_rows(budget, level)):
        raise TooFewRowsError(
            f"a budget of {budget:g} at level {level:g} needs at least {needed} independent rows, got {len(c)}",
            needed,
            len(c),
        )
    if groups is not None:
        groups.check_flawless(budget, 1 - level)
    return _order_statistic("budget", c, budget, level, gain, groups, hint)


def false_alarm_threshold(
    confidence: ArrayLike, limit: float, level: float, groups: Clusters | None = None, hint: bool = True
) -> fallback.BoundedThreshold | fallback.Unmet:
    """Find the highest threshold below which at most ``limit`` of new fine answers lie.

    ``confidence`` [n] is that of fine answers alone, −inf where there is none. Rows of different ``groups`` are
    independent. Without ``hint`` no other limit is looked for. Raises `ConfideError` for shares outside (0, 1) or too
    few rows.

    >>> found = false_alarm_threshold(np.arange(59), 0.05, 0.95)
    >>> found.threshold, found.count.bad, false_alarm_threshold(np.arange(93), 0.05, 0.95).threshold
    (0.0, 0, 1.0)
    """
    check_shares(limit, level, "false-alarms")
    c = np.asarray(confidence, dtype=float)
    if groups is None and len(c) < (needed := fewest_rows(limit, level)):
        raise TooFewRowsError(
            f"at most {limit:g} of false alarms at level {level:g} need at least {needed} independent fine rows "
            f"(correct is true), got {len(c)}",
            needed,
            len(c),
        )
    if groups is not None:
        groups.check_flawless(limit, 1 - level, "fine rows (correct is true)")
    return _order_statistic("false_alarms", c, limit, level, None, groups, hint)


def _order_statistic(
    goal: BoundedName,
    confidence: Floats,
    limit: float,
    level: float,
    gain: ArrayLike | None,
    groups: Clusters | None,
    hint: bool,
) -> fallback.BoundedThreshold | fallback.Unmet:
    """The threshold below which at most ``limit`` lie, by rows enough; arguments as in `budget_threshold`."""
    n, order = len(confidence), np.argsort(confidence, kind="stable")
    c = confidence[order]
    g = None if gain is None else np.asarray(gain, dtype=float)[order]
    groups = None if groups is None else groups.sorted(order)
    find = partial(_most_accurate, c, g, level=level, groups=groups)
    missing = int(np.isneginf(c).sum())
    return fallback.threshold_or_hint(
        find, goal, limit, level, n, lambda: _escalated(groups, n, missing).interval(level)[1], hint
    )


def _most_accurate(
    confidence: Floats, gain: Floats | None, budget: float, *, level: float, groups: Clusters | None
) -> fallback.BoundedThreshold | None:
    """The threshold of the largest accuracy within ``budget`` (None: the rows without a confidence exceed it).

    ``confidence`` and ``gain`` (n,) are sorted from low to high confidence; without ``gain`` it is the highest one.
    """
    c, n = confidence, len(confidence)
    if groups is not None:
        afford = _affordable_in_clusters(groups, n, budget, level)
    else:
        afford = int(affordable_bad(np.array([n]), budget, level)[0])
    missing = int(np.isneginf(c).sum())
    # Ties with a threshold are kept.
    candidates = np.unique(c[missing : afford + 1])
    if not len(candidates):
        return None
    escalated = np.searchsorted(c, candidates, side="left")
    best = len(candidates) - 1
    if gain is not None:
        best = int(np.argmax(np.concatenate([[0.0], np.cumsum(gain)])[escalated]))
    below = int(escalated[best])
    return fallback.BoundedThreshold(float(candidates[best]), budget, level, _escalated(groups, n, below))


def _escalated(groups: Clusters | None, n: int, below: int) -> fallback.Count:
    """What ``n`` rows, in order of confidence, show of the share escalated when the lowest ``below`` are."""
    if groups is None:
        return BinomialCount(n, n - below, below, counted=n)
    return groups.count(np.arange(n) < below, np.ones(n), n - below)


def _affordable_in_clusters(groups: Clusters, n: int, budget: float, level: float) -> int:
    """Most rows that may escalate: tested from none up until a test fails, every hundredth of the budget."""
    steps = np.unique(np.floor(budget * n * np.arange(_TESTS + 1) / _TESTS).astype(np.int64))
    afford = 0
    for below in steps.tolist():
        if not _escalated(groups, n, below).shows(budget, 1 - level):
            break
        afford = below
    return afford


def match_expert_threshold(
    confidence: ArrayLike,
    correct: ArrayLike,
    expert: ArrayLike,
    margin: float,
    level: float,
    groups: Clusters | None = None,
    hint: bool = True,
) -> fallback.BoundedThreshold | fallback.Unmet:
    """Find the loosest threshold whose pair of models loses at most ``margin`` of the expert's accuracy.

    ``confidence`` (higher is surer; −inf for none, which always escalates), ``correct`` and ``expert`` (is the expert
    right) have shape [n]; rows of different ``groups`` are independent. Raises `ConfideError` for a margin or level
    outside (0, 1), or fewer rows than show the margin when no row loses.
    """
    check_shares(margin, level, "match-expert")
    c = np.asarray(confidence, dtype=float)
    y, e = np.asarray(correct, dtype=bool), np.asarray(expert, dtype=bool)
    if c.ndim != 1 or not c.shape == y.shape == e.shape:
        raise ConfideError("confidence, correct and expert must have one length")
    if np.isnan(c).any() or np.isposinf(c).any():
        raise ConfideError("a confidence that is missing must be −inf, any other finite")
    first = (1 - level) * (1 - fallback.RESTART_WEIGHT)
    if groups is not None:
        groups.check_flawless(margin, first)
    elif len(c) < (needed := fewest_rows(margin, 1 - first)):
        raise TooFewRowsError(
            f"a margin of {margin:g} at level {level:g} needs at least {needed} independent rows, got {len(c)}",
            needed,
            len(c),
        )
    order = np.argsort(-c, kind="stable")
    loss = (e.astype(int) - y)[order]
    groups = None if groups is None else groups.sorted(order)
    find = partial(_loosest_within, c[order], loss, level=level, groups=groups)
    least = partial(_least_lost, c[order], loss, level=level, groups=groups)
    return fallback.threshold_or_hint(find, "match_expert", margin, level, len(c), least, hint)


def _least_lost(confidence: Floats, loss: Ints, *, level: float, groups: Clusters | None) -> float:
    """About the smallest margin that one of the two starts shows, where the tests do not depend on the margin."""
    if not np.isfinite(confidence).any():
        return 1.0
    plan, kept = _plan_on(confidence)
    starts = np.flatnonzero(plan.added)
    count = partial(_counted, loss, groups=groups)
    bounds = [count(int(kept[at])).interval(1 - plan.added[at] * (1 - level))[1] for at in starts]
    return min(bounds) - 1 / fallback.LIMITS


def _plan_on(confidence: Floats) -> tuple[fallback.Plan, Ints]:
    """The tests on ``confidence`` (n,), sorted from high to low, and how many rows each keeps."""
    plan = _tests(len(confidence)).at_ties(confidence)
    return plan, np.minimum(plan.kept, int(np.isfinite(confidence).sum()))


def _counted(loss: Ints, kept: int, *, groups: Clusters | None) -> PairedCount | ClusterCount:
    """What keeping the first ``kept`` of the rows loses and gains; ``loss`` is as in `_loosest_within`."""
    n = len(loss)
    if groups is None:
        return PairedCount(n, kept, losses=int((loss[:kept] > 0).sum()), gains=int((loss[:kept] < 0).sum()))
    return groups.count(np.where(np.arange(n) < kept, loss, 0), np.ones(n), kept, signed=True)


def _loosest_within(
    confidence: Floats, loss: Ints, margin: float, *, level: float, groups: Clusters | None
) -> fallback.BoundedThreshold | None:
    """The loosest threshold that passes its test (None: none does).

    ``confidence`` (n,) is sorted from high to low; ``loss`` (n,) is 1 where the expert alone is right, −1 where the
    small model alone is.
    """
    if not np.isfinite(confidence).any():
        return None
    plan, kept = _plan_on(confidence)
    count = partial(_counted, loss, groups=groups)
    last = fallback.loosest_rejected(
        # Rounded, so that equal sums of shares use one cached table.
        lambda position, share: count(int(kept[position])).shows(margin, round(share, 12) * (1 - level)),
        plan.added,
    )
    if last is None:
        return None
    end = int(kept[last])
    return fallback.BoundedThreshold(float(confidence[end - 1]), margin, level, count(end))


@lru_cache(maxsize=64)
def _tests(n: int) -> fallback.Plan:
    """Numbers of kept rows to test, with shares of the error rate: depends on n alone."""
    shares = np.linspace(_START_SHARE, 1, round(_TESTS * (1 - _START_SHARE)) + 1)
    kept = np.unique(np.maximum(1, np.floor(shares * n + 1e-9)).astype(np.int64))
    restart = kept[kept <= max(fallback.RESTART_SHARE * n, kept[0])][-1]
    return fallback.Plan.with_two_starts(kept, restart, 1.0)


@dataclass(frozen=True)
class Cheapest:
    """Abstain below ``abstain_below`` (None: never), escalate below ``answer_from`` (None: never answer)."""

    abstain_below: float | None
    answer_from: float | None


def cheapest_thresholds(confidence: ArrayLike, right: ArrayLike, expert: ArrayLike, costs: Costs) -> Cheapest:
    """The two thresholds of least expected cost over the rows.

    ``confidence`` is finite; ``right`` and ``expert`` are the calibrated probabilities that either model is right;
    all (n,). With rising confidence the decision goes from abstain over escalate to answer, each possibly never.
    """
    c = np.asarray(confidence, dtype=float)
    order = np.argsort(-c, kind="stable")
    c = c[order]
    p, q = np.asarray(right, dtype=float)[order], np.asarray(expert, dtype=float)[order]
    n = len(c)
    escalating = costs.escalate + costs.wrong * (1 - q)
    # Cost of answering the surest k instead of escalating them, and of abstaining on all but the surest k.
    answering = np.concatenate([[0.0], np.cumsum(costs.answer + costs.wrong * (1 - p) - escalating)])
    withheld = np.zeros(n + 1)
    if costs.abstain is not None:
        withheld[:n] = np.cumsum((costs.abstain - escalating)[::-1])[::-1]
    # A threshold cannot part equal confidences.
    allowed = np.concatenate([[True], c[1:] < c[:-1], [True]]) if n else np.array([True])
    answering[~allowed] = np.inf
    withheld = np.where(allowed, withheld, np.inf)
    if costs.abstain is None:
        withheld[:n] = np.inf
    # From each k on, the cheapest place to start abstaining; of equals the one that abstains least.
    later = np.minimum.accumulate(withheld[::-1])[::-1]
    kept = int(n - np.argmin((answering + later)[::-1]))
    stop = int(n - np.argmin(withheld[kept:][::-1]))
    return Cheapest(
        abstain_below=None if stop == n else (float(c[stop - 1]) if stop > 0 else math.inf),
        answer_from=float(c[kept - 1]) if kept > 0 else None,
    )


def cost_of(decisions: Sequence[str], correct: ArrayLike, expert: ArrayLike, costs: Costs) -> float:
    """Mean cost of ``decisions`` given who was right, all (n,)."""
    y, e = np.asarray(correct, dtype=float), np.asarray(expert, dtype=float)
    each = {
        "answer": costs.answer + costs.wrong * (1 - y),
        "escalate": costs.escalate + costs.wrong * (1 - e),
        "abstain": np.full(len(y), costs.abstain if costs.abstain is not None else 0.0),
    }
    made = np.asarray(decisions)
    return float(np.select([made == name for name in each], list(each.values())).mean())
