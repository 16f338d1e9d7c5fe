"""Routing: accuracy and cost when the least confident answers go to an expert instead.

Costs are in answers of the model itself: its own answer costs 1, an expert's ``expert_cost`` more, reading the
confidence an ``overhead``, whether or not the question is then escalated.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from confide.errors import ConfideError
from confide.metrics.metric import FloatArray, Metric, Weights, columns, cumulated, ordered, ratio

POINTS = 21
"""Shares escalated at which a curve is drawn."""

MARGIN = 0.01
"""Accuracy that parity with the expert may lack."""

EXPERT_COST = 10.0
"""What an expert's answer costs when nobody says: ten answers of the model itself."""


@dataclass(frozen=True)
class RoutingCurve:
    """Accuracy of the pair [points] at each share escalated [points], and its mean over all shares."""

    share: FloatArray
    accuracy: FloatArray
    area: float


def routing_curve(
    confidence: ArrayLike, correct: ArrayLike, expert: ArrayLike | None = None, *, points: int = POINTS
) -> RoutingCurve:
    """Escalate the least confident share of the rows; the expert answers those.

    ``confidence``, ``correct`` and ``expert`` (whether the expert is right; None: always) are [n]. Shares run
    evenly from 0 to 1. Equal confidences are escalated in random order, so the curve shows the expectation.
    Raises `ConfideError` when lengths differ.
    """
    x, y = np.asarray(confidence, dtype=np.float64), np.asarray(correct, dtype=np.float64)
    helper = np.ones_like(y) if expert is None else np.asarray(expert, dtype=np.float64)
    if not x.shape == y.shape == helper.shape or not len(x):
        raise ConfideError(f"routing: {len(x)} confidences, {len(y)} outcomes, {len(helper)} expert outcomes")
    escalated = Escalated.of(x, y, helper, np.ones((1, len(x)), dtype=np.int32))
    return RoutingCurve(np.linspace(0, 1, points), escalated.accuracy(points)[0], float(escalated.area()[0]))


@dataclass(frozen=True)
class Escalated:
    """Share escalated and accuracy of the pair [resamples, 1 + ties], the least confident tie first.

    Between two points a tie is escalated in part, at random: the line between them is the expectation.
    """

    share: FloatArray
    right: FloatArray

    @classmethod
    def of(cls, confidence: FloatArray, correct: FloatArray, expert: FloatArray, weights: Weights) -> Escalated:
        """Escalate tie after tie of ``confidence`` [n]; ``expert`` [n] is 1 where the expert is right."""
        order, ends = ordered(confidence)
        masses = columns(weights, order)
        sent = cumulated(masses, ends)
        gain = cumulated(masses * (expert - correct)[order].astype(masses.dtype), ends)
        total = sent[:, -1:].astype(np.float64)
        share, right = np.zeros((2, len(masses), len(ends) + 1))
        share[:, 1:] = ratio(sent, total)
        right[:, 1:] = ratio(gain, total)
        right += ratio(masses @ correct[order], total[:, 0])[:, None]
        return cls(share, right)

    @property
    def own(self) -> FloatArray:
        """Accuracy of the model alone [resamples]."""
        return self.right[:, 0]

    @property
    def expert(self) -> FloatArray:
        """Accuracy of the expert alone [resamples]."""
        return self.right[:, -1]

    def accuracy(self, points: int = POINTS) -> FloatArray:
        """Accuracy [resamples, points] at even shares from 0 to 1."""
        grid = np.linspace(0, 1, points)
        return np.array([np.interp(grid, share, right) for share, right in zip(self.share, self.right, strict=True)])

    def area(self) -> FloatArray:
        """Mean accuracy over all shares escalated [resamples]."""
        return np.asarray((np.diff(self.share, axis=1) * (self.right[:, 1:] + self.right[:, :-1])).sum(axis=1) / 2)

    def apgr(self) -> FloatArray:
        """See `apgr` [resamples]."""
        gap = self.expert - self.own
        return ratio(self.area() - self.own, np.where(gap > 0, gap, 0.0))

    def share_recovering(self, part: float) -> FloatArray:
        """See `cpt` [resamples]."""
        gap = self.expert - self.own
        return np.where(gap > 0, self.share_reaching(self.own + part * gap), np.nan)

    def share_reaching(self, target: FloatArray) -> FloatArray:
        """The smallest share escalated [resamples] at which the accuracy reaches ``target`` [resamples].

        NaN where no share does.
        """
        reached = self.right >= target[:, None] - 1e-9
        first = reached.argmax(axis=1)
        rows = np.arange(len(first))
        before = np.maximum(first - 1, 0)
        x0, x1 = self.share[rows, before], self.share[rows, first]
        y0, y1 = self.right[rows, before], self.right[rows, first]
        part = np.clip(np.nan_to_num(ratio(target - y0, y1 - y0)), 0, 1)
        return np.where(reached[rows, first], x0 + part * (x1 - x0), np.nan)


def aiq(accuracy: FloatArray, *, overhead: float, expert_cost: float, limit: float) -> FloatArray:
    """Average improvement in quality [resamples]: mean accuracy over all costs from 1 to ``limit``.

    Hu et al. 2024 (RouterBench, 2403.12031), section 3: the area under the non-decreasing convex hull of the
    (cost, accuracy) points of a router, divided by the range of cost. ``accuracy`` is [resamples, points] at
    even shares escalated; the model alone, without reading a confidence, is one point more, and past its
    dearest point a router keeps its accuracy. Raises `ConfideError` for costs that are not possible.
    """
    if expert_cost <= 0 or overhead < 0 or limit < 1 + overhead + expert_cost:
        raise ConfideError(f"aiq: overhead {overhead:g}, expert cost {expert_cost:g} and limit {limit:g} do not fit")
    points = accuracy.shape[1]
    cost = np.concatenate([[1.0], 1 + overhead + expert_cost * np.linspace(0, 1, points), [limit]])
    best = np.maximum.accumulate(np.hstack([accuracy[:, :1], accuracy, accuracy[:, -1:]]), axis=1)
    hull = best.copy()
    for i in range(len(cost) - 2):
        for j in range(i + 2, len(cost)):
            if cost[j] > cost[i]:
                part = (cost[i + 1 : j] - cost[i]) / (cost[j] - cost[i])
                line = best[:, i, None] * (1 - part) + best[:, j, None] * part
                np.maximum(hull[:, i + 1 : j], line, out=hull[:, i + 1 : j])
    return np.asarray(np.trapezoid(hull, cost, axis=1) / (limit - 1))


@Metric
def apgr(confidence: FloatArray, correct: FloatArray, weights: Weights, *, expert: ArrayLike) -> FloatArray:
    """Average performance gap recovered: the mean over shares of (accuracy − own) / (expert's − own).

    Ong et al. 2024 (RouteLLM, 2406.18665), section 2, with the exact area instead of ten shares. ``expert`` [n]
    is 1 where the expert is right. Escalating at random gives 0.5, 1 is best; NaN unless the expert is better.
    """
    return Escalated.of(confidence, correct, np.asarray(expert, dtype=np.float64), weights).apgr()


@Metric
def cpt(confidence: FloatArray, correct: FloatArray, weights: Weights, *, expert: ArrayLike, part: float) -> FloatArray:
    """Call-performance threshold: the smallest share escalated that recovers ``part`` of the gap to the expert.

    RouteLLM's CPT(x %), section 2; lower is better, ``part`` at random; NaN unless the expert is better.
    """
    return Escalated.of(confidence, correct, np.asarray(expert, dtype=np.float64), weights).share_recovering(part)


@Metric
def parity_share(
    confidence: FloatArray, correct: FloatArray, weights: Weights, *, expert: ArrayLike, margin: float = MARGIN
) -> FloatArray:
    """The smallest share escalated at which the pair is within ``margin`` of the expert's accuracy, in [0, 1]."""
    escalated = Escalated.of(confidence, correct, np.asarray(expert, dtype=np.float64), weights)
    return escalated.share_reaching(escalated.expert - margin)
