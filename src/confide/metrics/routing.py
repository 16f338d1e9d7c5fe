"""Routing: accuracy and cost when the least confident answers go to an expert instead.

Costs are in answers of the model itself: its own answer costs 1, an expert's ``expert_cost`` more, reading the
confidence an ``overhead``, whether or not the question is then escalated.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from confide.errors import ConfideError
from confide.metrics.metric import Metric, Weighted
from confide.metrics.running_sums import by_confidence, columns, cumulated, ratio, weighted_sum
from confide.numeric import Floats

POINTS = 21
"""Shares escalated at which a curve is drawn."""

MARGIN = 0.01
"""Accuracy that parity with the expert may lack."""

EXPERT_COST = 10.0
"""What an expert's answer costs when nobody says: ten answers of the model itself."""


@dataclass(frozen=True)
class Escalated:
    """Share escalated and accuracy of the pair [resamples, 1 + ties], the least confident tie first.

    Equal confidences are escalated in random order: the line between two points is the expectation.
    """

    share: Floats
    right: Floats

    @classmethod
    def of(cls, rows: Weighted, expert: ArrayLike) -> Escalated:
        """Escalate tie after tie of equal confidence; ``expert`` [n] is 1 where the expert is right.

        Raises `ConfideError` unless there is one expert's outcome per row.
        """
        helper = np.asarray(expert, dtype=np.float64)
        if helper.shape != rows.outcome.shape:
            raise ConfideError(f"expert's outcomes of shape {helper.shape}, outcomes of shape {rows.outcome.shape}")
        order, ends = rows.lasting(by_confidence)
        masses = columns(rows.weights, order)
        sent = cumulated(masses, ends)
        won = (helper - rows.outcome)[order]
        gain = cumulated(masses * won.astype(masses.dtype), ends)
        total = sent[:, -1:].astype(np.float64)
        share, gained = (np.pad(ratio(running, total), ((0, 0), (1, 0))) for running in (sent, gain))
        return cls(share, gained + ratio(weighted_sum(masses, rows.outcome[order]), total[:, 0])[:, None])

    @property
    def own(self) -> Floats:
        """Accuracy of the model alone [resamples]."""
        return self.right[:, 0]

    @property
    def expert(self) -> Floats:
        """Accuracy of the expert alone [resamples]."""
        return self.right[:, -1]

    @property
    def gap(self) -> Floats:
        """Lead of the expert [resamples]; 0 where there is none."""
        return np.maximum(self.expert - self.own, 0.0)

    def accuracy(self, points: int = POINTS) -> Floats:
        """Accuracy [resamples, points] at even shares from 0 to 1."""
        grid = np.linspace(0, 1, points)
        return np.array([np.interp(grid, share, right) for share, right in zip(self.share, self.right, strict=True)])

    def area(self) -> Floats:
        """Mean accuracy over all shares escalated [resamples]."""
        return np.asarray((np.diff(self.share, axis=1) * (self.right[:, 1:] + self.right[:, :-1])).sum(axis=1) / 2)

    def share_reaching(self, target: Floats) -> Floats:
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


def aiq(accuracy: Floats, *, overhead: float, expert_cost: float, limit: float) -> Floats:
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
def apgr(rows: Weighted, *, expert: ArrayLike) -> Floats:
    """Average performance gap recovered: the mean over shares of (accuracy − own) / (expert's − own).

    Ong et al. 2024 (RouteLLM, 2406.18665), section 2, with the exact area instead of ten shares. ``expert`` [n]
    is 1 where the expert is right. Escalating at random gives 0.5, 1 is best; NaN unless the expert is better.
    """
    curve = rows.shared(Escalated.of, expert)
    return ratio(curve.area() - curve.own, curve.gap)


@Metric
def cpt(rows: Weighted, *, expert: ArrayLike, part: float) -> Floats:
    """Call-performance threshold: the smallest share escalated that recovers ``part`` of the gap to the expert.

    RouteLLM's CPT(x %), section 2; lower is better, ``part`` at random; NaN unless the expert is better.
    """
    curve = rows.shared(Escalated.of, expert)
    return np.where(curve.gap > 0, curve.share_reaching(curve.own + part * curve.gap), np.nan)


@Metric
def parity_share(rows: Weighted, *, expert: ArrayLike, margin: float = MARGIN) -> Floats:
    """The smallest share escalated at which the pair is within ``margin`` of the expert's accuracy, in [0, 1]."""
    curve = rows.shared(Escalated.of, expert)
    return curve.share_reaching(curve.expert - margin)
