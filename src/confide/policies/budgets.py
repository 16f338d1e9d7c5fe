"""A threshold that escalates no more than a share of the questions.

Promised: with probability at least level over the calibration rows, at most ``budget`` of new questions escalate.
No label is needed. The threshold is an order statistic of the raw confidences, and the share of the population below
the (j + 1)-th lowest of n values exceeds ``budget`` with probability P(Binomial(n, budget) ≤ j) at most (Wilks 1941,
"Determination of sample sizes for setting tolerance limits"): j is the largest for which that is at most 1 − level.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from confide.errors import ConfideError
from confide.policies.threshold_bound import (
    affordable_wrong,
    check_goal,
    one_per_cluster,
    rows_needed_for_a_bound,
)

METHOD = "order statistic, binomial tail"


@dataclass(frozen=True)
class BoundedShare:
    """Escalate below ``threshold``: ``escalated`` of the ``n`` rows do (None: not even the rows without a confidence,
    of which there are ``escalated``, fit the budget).
    """

    threshold: float | None
    escalated: int
    n: int


def budget_threshold(
    confidence: ArrayLike,
    budget: float,
    level: float,
    gain: ArrayLike | None = None,
    clusters: Sequence[str] | None = None,
    seed: int = 0,
) -> BoundedShare:
    """The threshold with the largest accuracy among those that escalate at most ``budget`` of new questions.

    ``confidence`` (n,) is −inf where there is none; ``gain`` (n,) is what escalating a row adds to the accuracy: 1
    where only the expert is right, −1 where only the small model is, 0 elsewhere or unknown. Without it, escalating
    is taken to help, so that the whole budget is used. Spending less is within the promise whatever labels say. One
    row a cluster counts. Raises `ConfideError` for shares outside (0, 1) or too few rows.
    """
    check_goal(budget, level, "budget")
    c = np.asarray(confidence, dtype=float)
    g = np.zeros(len(c)) if gain is None else np.asarray(gain, dtype=float)
    if clusters is not None:
        chosen = one_per_cluster(clusters, seed)
        c, g = c[chosen], g[chosen]
    n = len(c)
    afford = int(affordable_wrong(np.array([n]), budget, level)[0])
    if afford < 0:
        needed = rows_needed_for_a_bound(budget, level)
        raise ConfideError(
            f"a budget of {budget:g} at level {level:g} needs at least {needed} independent rows, got {n}"
        )
    order = np.argsort(c, kind="stable")
    c, g = c[order], g[order]
    missing = int(np.isneginf(c).sum())
    # The rows that escalate below each possible threshold; ties with it stay.
    limits = np.unique(c[missing : afford + 1])
    if not len(limits):
        return BoundedShare(None, missing, n)
    below = np.searchsorted(c, limits, side="left")
    best = len(limits) - 1
    if gain is not None:
        best = int(np.argmax(np.concatenate([[0.0], np.cumsum(g)])[below]))
    return BoundedShare(float(limits[best]), int(below[best]), n)
