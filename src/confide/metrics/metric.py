"""The metric: a number from confidences and outcomes, with weights so that a resample is one evaluation.

Every metric is written once, over a matrix of weights with one row a resample. Calling it gives the plain
number; ``resampled`` gives one number a resample. A row of weight 2 counts exactly as the row written twice.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import update_wrapper
from typing import Any, ClassVar, Concatenate, Generic, ParamSpec

import numpy as np
from numpy.typing import ArrayLike, NDArray

from confide.errors import ConfideError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
Weights = NDArray[Any]
"""Weights [resamples, n]: whole numbers, whose running sums are several times quicker, or floats."""

P = ParamSpec("P")


class Metric(Generic[P]):
    """A metric of the ranking kind: confidences may be any finite numbers, outcomes are right or wrong.

    Wraps a function of (confidence [n], outcome [n], weights [resamples, n]) that returns [resamples].
    Undefined values (AUROC without a wrong answer, say) are NaN.
    """

    probability: ClassVar[bool] = False
    binary: ClassVar[bool] = True

    def __init__(self, batch: Callable[Concatenate[FloatArray, FloatArray, Weights, P], FloatArray]):
        self._batch = batch
        self.__name__ = batch.__name__
        update_wrapper(self, batch)

    def __call__(
        self,
        confidence: ArrayLike,
        correct: ArrayLike,
        weights: ArrayLike | None = None,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> float:
        """The metric of ``n`` rows, each counted ``weights`` times (once when None).

        Raises `ConfideError` for arrays that do not match, missing or non-finite confidences, outcomes other
        than 0 and 1 and, for metrics of probabilities, confidences outside [0, 1].
        """
        x, y = self._checked(confidence, correct)
        w: Weights = np.ones(len(x), dtype=np.int32) if weights is None else np.asarray(weights)
        if w.dtype.kind != "i":
            w = w.astype(np.float64)
        if w.shape != x.shape:
            raise ConfideError(f"{self.__name__}: {len(x)} confidences, but weights of shape {w.shape}")
        if not np.all(w >= 0):
            raise ConfideError(f"{self.__name__}: weights must be numbers of at least 0")
        return float(self._batch(x, y, w[None, :], *args, **kwargs)[0])

    def resampled(
        self,
        confidence: ArrayLike,
        correct: ArrayLike,
        weights: Weights,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> FloatArray:
        """The metric of every resample: ``weights`` is [resamples, n], the result [resamples]."""
        x, y = self._checked(confidence, correct)
        if weights.ndim != 2 or weights.shape[1] != len(x):
            raise ConfideError(f"{self.__name__}: {len(x)} confidences, but weights of shape {weights.shape}")
        return self._batch(x, y, weights, *args, **kwargs)

    def _checked(self, confidence: ArrayLike, correct: ArrayLike) -> tuple[FloatArray, FloatArray]:
        x = np.asarray(confidence, dtype=np.float64)
        y = np.asarray(correct, dtype=np.float64)
        name = self.__name__
        if x.ndim != 1 or x.shape != y.shape:
            raise ConfideError(f"{name}: confidences of shape {x.shape}, outcomes of shape {y.shape}")
        if not len(x):
            raise ConfideError(f"{name}: no rows")
        if bad := int(np.sum(~np.isfinite(x))):
            raise ConfideError(f"{name}: {bad} of {len(x)} confidences are missing; leave those rows out")
        if self.binary and not np.all((y == 0) | (y == 1)):
            raise ConfideError(f"{name}: every outcome must be right (1) or wrong (0)")
        if self.probability and (x.min() < 0 or x.max() > 1):
            raise ConfideError(f"{name} is for probabilities, but confidences run from {x.min():g} to {x.max():g}")
        return x, y


class ProbabilityMetric(Metric[P]):
    """A metric that reads a confidence as the probability of being right, so it must lie in [0, 1]."""

    probability: ClassVar[bool] = True


class Correlation(Metric[P]):
    """A metric against any number (agreement among samples, say) instead of right and wrong."""

    binary: ClassVar[bool] = False


def ordered(confidence: FloatArray, *, descending: bool = False) -> tuple[IntArray, IntArray]:
    """Rows in order of confidence [n], and the last position of every group of equal values [groups]."""
    order = np.argsort(-confidence if descending else confidence, kind="stable")
    values = confidence[order]
    ends = np.flatnonzero(np.append(values[1:] != values[:-1], True))
    return order.astype(np.int64), ends.astype(np.int64)


def columns(weights: Weights, order: IntArray) -> Weights:
    """``weights[:, order]`` laid out resample by resample, which makes running sums several times quicker."""
    return np.take(weights, order, axis=1, mode="clip")


def cumulated(masses: Weights, ends: IntArray) -> Weights:
    """Running sums [resamples, groups] of ordered masses [resamples, n], read at the end of every tie."""
    running: Weights = np.cumsum(masses, axis=1, dtype=masses.dtype)
    return running if len(ends) == running.shape[1] else columns(running, ends)


def preceding(running: Weights) -> Weights:
    """Running sums [resamples, groups] before each group instead of after it."""
    out = np.zeros_like(running)
    out[:, 1:] = running[:, :-1]
    return out


def ratio(top: Weights, bottom: Weights) -> FloatArray:
    """``top / bottom``, NaN where ``bottom`` is 0."""
    out = np.full(np.broadcast(top, bottom).shape, np.nan)
    np.divide(top, bottom, out=out, where=bottom != 0)
    return out
