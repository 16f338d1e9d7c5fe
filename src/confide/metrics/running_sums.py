"""Running sums of weights over rows in order of confidence, in which rows of equal confidence are one tie."""

from __future__ import annotations

import numpy as np

from confide.metrics.metric import Weights
from confide.numeric import Floats, Ints


def ordered(confidence: Floats, *, descending: bool = False) -> tuple[Ints, Ints]:
    """Rows in order of confidence [n], and the last position of every group of equal values [groups].

    In which order equal ones come is left open: they are one tie, and a stable sort takes two to five times as long.
    """
    order = np.argsort(-confidence if descending else confidence)
    values = confidence[order]
    ends = np.flatnonzero(np.append(values[1:] != values[:-1], True))
    return order.astype(np.int64), ends.astype(np.int64)


def by_confidence(confidence: Floats, _: Floats, *, descending: bool = False) -> tuple[Ints, Ints]:
    """`ordered`, of the rows of a metric: for `Weighted.lasting`."""
    return ordered(confidence, descending=descending)


def columns(weights: Weights, order: Ints) -> Weights:
    """``weights[:, order]`` laid out resample by resample, which makes running sums several times quicker."""
    return np.take(weights, order, axis=1, mode="clip")


def cumulated(masses: Weights, ends: Ints) -> Weights:
    """Running sums [resamples, groups] of ordered masses [resamples, n], at the end of every tie."""
    running: Weights = np.cumsum(masses, axis=1, dtype=masses.dtype)
    return running if len(ends) == running.shape[1] else columns(running, ends)


def preceding(running: Weights) -> Weights:
    """Running sums [resamples, groups] before each group instead of after it."""
    out = np.zeros_like(running)
    out[:, 1:] = running[:, :-1]
    return out


def ratio(top: Weights, bottom: Weights) -> Floats:
    """``top / bottom``, NaN where ``bottom`` is 0."""
    out = np.full(np.broadcast(top, bottom).shape, np.nan)
    np.divide(top, bottom, out=out, where=bottom != 0)
    return out


def weighted_sum(weights: Weights, values: Floats) -> Floats:
    """Sums [resamples] of ``values`` [n] under ``weights`` [resamples, n], on one core.

    A product of matrices would take all cores for it, where reading the weights is what takes long.
    """
    return np.asarray(np.einsum("rn,n->r", weights, values), dtype=np.float64)


def weighted_mean(weights: Weights, values: Floats) -> Floats:
    """Means [resamples] of ``values`` [n] under ``weights`` [resamples, n], NaN where these add up to 0."""
    return ratio(weighted_sum(weights, values), weights.sum(axis=1))
