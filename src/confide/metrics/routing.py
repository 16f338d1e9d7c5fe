"""Routing: accuracy when the least confident answers go to an expert instead."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from confide.errors import ConfideError
from confide.metrics.metric import FloatArray, ordered


@dataclass(frozen=True)
class RoutingCurve:
    """Accuracy of the pair [points] at each share escalated [points], and its mean over all shares."""

    share: FloatArray
    accuracy: FloatArray
    area: float


def routing_curve(
    confidence: ArrayLike, correct: ArrayLike, expert: ArrayLike | None = None, *, points: int = 21
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
    order, ends = ordered(x)
    share = np.concatenate([[0.0], (ends + 1) / len(x)])
    gain = np.concatenate([[0.0], np.cumsum((helper - y)[order])[ends] / len(x)])
    accuracy = y.mean() + gain
    grid = np.linspace(0, 1, points)
    return RoutingCurve(grid, np.interp(grid, share, accuracy), float(np.trapezoid(accuracy, share)))
