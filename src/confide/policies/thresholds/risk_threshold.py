"""Thresholds with a guarantee on the risk of what is kept.

Promised: with probability at least level over the calibration rows, P(wrong | kept) ≤ max_risk. The risk is a ratio,
so each test conditions on the rows it keeps: for a threshold t fixed without labels, the wrong ones among the k kept
rows are Binomial(k, P(wrong | score ≥ t)), and the p-value of "the risk at t exceeds max_risk" is
P(Binomial(k, max_risk) ≤ wrong). Thresholds are tested from strict to loose, and the loosest rejected one is the
answer (`confide.policies.thresholds.fallback_testing`; ``docs/explanation/decisions.md`` says why it is not MAPIE's).

**Grid.** Label-free quantiles of the raw score: the k-th highest score for those k alone at which one more wrong answer
becomes affordable. There the discrete test spends nearly all of 1 − level; every other k tests the same number of wrong
answers against a laxer tail and only adds chances to stop early. Testing starts where the kept rows afford a few wrong
answers, not at the first k that a flawless run would pass: one unlucky row at the top must not end it.

**Threshold.** A test at k rows is about the answers above the (k + 1)-th highest score: given that score, the k above
it are independent draws from all answers above it, so the test is exact there, whatever the shape of the risk. From the
k-th score up it would be exact for k − 1 rows. Where every row is kept there is no next score, and the lowest one is
the limit.

**What is assumed.** One after the other, the first threshold that breaks the promise depends on the scores, and the
rows above it with it. That costs nothing when the risk does not rise with the score; otherwise the level is off by what
lies between two neighbouring grid points (the tests hold a saw-tooth risk to the promise). The *simultaneous* boundary
assumes no shape: thresholds at fixed shares of the rows each get an even part of the error rate (Bonferroni), so that
all bounds hold at once, and any threshold may be chosen.

**Clusters.** Rows that share an entity depend on each other. Per entity, one row of each is tested. Per question, as
many independent questions are drawn from them; or, where there are rows enough, all are tested with a bound of their
own (`confide.policies.thresholds.cluster_bound`), on the grid of as many independent rows as tell as much. There the
thresholds' scores are taken as fixed; simulations hold that to the promise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betaincinv
from scipy.stats import binom, fisher_exact

from confide.errors import ConfideError, TooFewRowsError
from confide.numeric import Bools, Floats, Ints
from confide.policies.goals import Per, check_shares
from confide.policies.thresholds import fallback_testing as fallback
from confide.policies.thresholds.binomial_bound import BinomialCount, affordable_bad, fewest_rows
from confide.policies.thresholds.cluster_bound import BETTING, ClusterCount, Clusters, draw
from confide.policies.thresholds.judged_bound import ALONE, JudgedCount, Verdicts

# Where testing starts: at the most rows that are at most a quarter of all and afford at most six wrong answers.
# Fewer find smaller feasible sets and lose some coverage of large ones; between four and eight, mean coverage over 15
# simulated shapes (n = 300 to 5,000, oracle coverage 0.11 to 0.85) differs by 1 % of the oracle's.
_START_SHARE = 0.25
_START_WRONG = 6
# The simultaneous boundary: so many thresholds, at even shares of the rows.
_EVERYWHERE = 20


def bounded_risk_threshold(
    confidence: ArrayLike,
    correct: ArrayLike,
    max_risk: float,
    level: float,
    clusters: Sequence[str] | None = None,
    seed: int = 0,
    per: Per = "question",
    simultaneous: bool = False,
    hint: bool = True,
    verdicts: Verdicts | None = None,
) -> fallback.BoundedThreshold | fallback.Unmet:
    """Find the loosest threshold with P(wrong | kept) ≤ ``max_risk``, with probability at least ``level``.

    ``confidence`` (higher is surer, any scale) and ``correct`` have shape [n]. The probability is over the calibration
    rows; the risk is that of new rows exchangeable with them. Rows that share an entry of ``clusters`` depend on each
    other: ``per`` question all of them count, and per entity one of each, drawn with ``seed`` (`draw`).
    ``simultaneous`` assumes no shape of the risk; without ``hint`` no other limit is looked for. With the ``verdicts``
    of a judge on [n] rows, of which some are labelled, these count, and its error. Raises `ConfideError` when the goal
    is not a share in (0, 1), a confidence is not finite, there are so few rows or labels that not even a flawless run
    would show the goal, or verdicts are on rows that depend.

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
    rows_used, groups = "rows", None
    if clusters is not None:
        drawn = draw(clusters, per, seed)
        if drawn.per == "entity":
            rows_used = f"independent rows (one for each of the clusters that {len(c)} rows form)"
        elif drawn.per == "question":
            rows_used = f"independent rows (drawn from {len(c)} of entities of up to {drawn.most}; per entity are more)"
        c, y, groups = c[drawn.rows], y[drawn.rows], drawn.clusters
        verdicts = verdicts and verdicts.take_drawn(drawn)
    first = (1 - level) / (_EVERYWHERE if simultaneous else 1)
    if groups is not None:
        groups.check_flawless(max_risk, first)
    elif len(c) < (needed := fewest_rows(max_risk, 1 - first)):
        raise TooFewRowsError(
            f"a bound of {max_risk:g} at level {level:g} needs at least {needed} {rows_used}, got {len(c)}",
            needed,
            len(c),
        )
    if verdicts is not None:
        verdicts.check_labels(max_risk, first)
    order = np.argsort(-c, kind="stable")
    sample = _Sample(c[order], ~y[order], groups and groups.sorted(order), verdicts and verdicts.take(order))
    find = partial(_loosest, sample, level=level, simultaneous=simultaneous)
    least = partial(sample.least, max_risk, level)
    found = fallback.threshold_or_hint(find, "max_risk", max_risk, level, len(c), least, hint)
    return replace(found, labels=verdicts.labels) if verdicts and isinstance(found, fallback.Unmet) else found


def surest_are_worse(confidence: ArrayLike, correct: ArrayLike) -> bool:
    """Whether the surest tenth of the rows, all (n,), is wrong more often than the next four (Fisher's test, 0.05)."""
    order = np.argsort(-np.asarray(confidence, dtype=float), kind="stable")
    wrong = ~np.asarray(correct, dtype=bool)[order]
    top, below = wrong[: len(wrong) // 10], wrong[len(wrong) // 10 : len(wrong) // 2]
    table = np.array([[part.sum(), (~part).sum()] for part in (top, below)])
    return bool(fisher_exact(table, alternative="greater").pvalue < 0.05)


@dataclass(frozen=True, eq=False)
class _Sample:
    """Rows to test, from high to low ``confidence`` [n]: which are ``wrong``, in ``groups`` or by ``verdicts``."""

    confidence: Floats
    wrong: Bools
    groups: Clusters | None
    verdicts: Verdicts | None

    @cached_property
    def bad(self) -> Ints:
        """Wrong ones of the first rows [n]."""
        return np.cumsum(self.wrong)

    def count(self, kept: int) -> BinomialCount | ClusterCount | JudgedCount:
        """What the first ``kept`` rows show."""
        n = len(self.wrong)
        answered = np.arange(n) < kept
        if self.verdicts is not None:
            return self.verdicts.count(answered)
        if self.groups is not None:
            return self.groups.count(self.wrong & answered, answered, kept)
        return BinomialCount(n, kept, bad=int(self.bad[kept - 1]), counted=kept)

    def plan(self, max_risk: float, level: float, simultaneous: bool) -> fallback.Plan:
        """Which numbers of kept rows are tested."""
        n, grid = len(self.wrong), _everywhere if simultaneous else _plan
        if self.verdicts is not None:
            # The labels alone are tested with their part of the error rate, and the plan is theirs.
            plan = grid(self.verdicts.labels, max_risk, 1 - ALONE * (1 - level))
            plan = fallback.Plan(self.verdicts.kept_with(plan.kept), plan.added / ALONE)
        elif self.groups is not None:
            rows = max(self.groups.effective // BETTING, fewest_rows(max_risk, level))
            plan = grid(rows, max_risk, level).stretched(n)
            plan = plan.starting_from(self.groups.rows_needed(max_risk, 1 - level))
        else:
            plan = grid(n, max_risk, level)
        return plan.at_ties(self.confidence)

    def least(self, max_risk: float, level: float) -> float:
        """A limit below which no number of kept rows shows any at ``level``."""
        if self.groups is not None:
            return max_risk
        if self.verdicts is not None:
            return min(self.count(kept).observed for kept in self.plan(max_risk, level, False).kept.tolist())
        n = len(self.wrong)
        kept = np.arange(1, n + 1)
        # Clopper and Pearson's upper bounds; all wrong shows nothing below 1.
        bounds = np.where(self.bad < kept, betaincinv(self.bad + 1, np.maximum(kept - self.bad, 1), level), 1.0)
        return float(bounds.min())


def _loosest(sample: _Sample, max_risk: float, *, level: float, simultaneous: bool) -> fallback.BoundedThreshold | None:
    """The loosest threshold that passes its test (None: none does)."""
    plan = sample.plan(max_risk, level, simultaneous)
    choose = fallback.loosest_of_all if simultaneous else fallback.loosest_rejected
    last = choose(lambda position, error: sample.count(int(plan.kept[position])).shows(max_risk, error), plan.added)
    if last is None:
        return None
    kept = int(plan.kept[last])
    threshold = _just_above_the_next(sample.confidence, kept)
    return fallback.BoundedThreshold(threshold, max_risk, level, sample.count(kept))


def _just_above_the_next(confidence: Floats, kept: int) -> float:
    """The lowest threshold that keeps the first ``kept`` of the sorted ``confidence``, and no other."""
    return float(np.nextafter(confidence[kept], np.inf) if kept < len(confidence) else confidence[-1])


@lru_cache(maxsize=512)
def _everywhere(n: int, max_risk: float, level: float) -> fallback.Plan:
    """Numbers of kept rows at even shares of all, none that even a flawless run could not show; an even error rate."""
    error = (1 - level) / _EVERYWHERE
    least = min(n, fewest_rows(max_risk, 1 - error))
    kept = np.ceil(least + (n - least) * np.linspace(0, 1, _EVERYWHERE)).astype(np.int64)
    return fallback.Plan(kept, np.full(_EVERYWHERE, error))


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
