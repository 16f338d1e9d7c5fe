"""The metric: a number from confidences and outcomes, with weights so that a resample is one evaluation.

Every metric is defined once, over a matrix of weights with one row per resample. Calling it gives the plain
number; ``resampled`` gives one number per resample. A row of weight 2 counts exactly like two copies of the row.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import cached_property, partial, update_wrapper
from typing import Any, ClassVar, Concatenate, Generic, ParamSpec, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from confide.errors import ConfideError
from confide.numeric import Floats

Weights = NDArray[Any]
"""Weights [resamples, n]: whole numbers, whose running sums are several times quicker, or floats."""

P = ParamSpec("P")
Curve = TypeVar("Curve")


@dataclass(frozen=True, eq=False)
class Weighted:
    """Confidences [n] and outcomes [n] under weights [resamples, n], and the curves that their metrics share.

    What does not depend on the weights, such as the order of the rows, is computed once for all weights that the same
    rows are put `under`: a draw of a million rows must not sort them again.
    """

    confidence: Floats
    outcome: Floats
    weights: Weights
    _curves: dict[tuple[Any, ...], Any] = field(default_factory=dict, repr=False)
    _lasting: dict[tuple[Any, ...], Any] = field(default_factory=dict, repr=False)

    def under(self, weights: Weights) -> Weighted:
        """The same rows under other ``weights``; what was computed of the rows alone stays."""
        return Weighted(self.confidence, self.outcome, weights, _lasting=self._lasting)

    @cached_property
    def real(self) -> Floats:
        """The weights as floats, which matrix products want."""
        return self.weights.astype(np.float64)

    def shared(self, curve: Callable[Concatenate[Weighted, P], Curve], *args: P.args, **kwargs: P.kwargs) -> Curve:
        """``curve(self, …)``, computed once for all metrics that read it; arrays count as equal when identical."""
        return _once(self._curves, partial(curve, self), curve, *args, **kwargs)

    def lasting(
        self, part: Callable[Concatenate[Floats, Floats, P], Curve], *args: P.args, **kwargs: P.kwargs
    ) -> Curve:
        """``part(confidence, outcome, …)``, computed once for all weights and metrics of these rows."""
        return _once(self._lasting, partial(part, self.confidence, self.outcome), part, *args, **kwargs)


def _once(
    known: dict[tuple[Any, ...], Any], compute: Callable[..., Curve], name: object, *args: Any, **kwargs: Any
) -> Curve:
    """``compute(*args, **kwargs)``, or what is ``known`` of it by its ``name`` and arguments."""
    key = (name, *(a if isinstance(a, Hashable) else id(a) for a in (*args, *kwargs.values())))
    if key not in known:
        # The arguments are kept, so that no other array can take over the identity of one.
        known[key] = args, kwargs, compute(*args, **kwargs)
    found: Curve = known[key][-1]
    return found


class Metric(Generic[P]):
    """A metric of the ranking kind: confidences may be any finite numbers, outcomes are right or wrong.

    Wraps a function of `Weighted` rows that returns one number per resample, NaN where the metric is undefined
    (AUROC without a wrong answer, say).
    """

    probability: ClassVar[bool] = False
    binary: ClassVar[bool] = True

    def __init__(self, function: Callable[Concatenate[Weighted, P], Floats]):
        self.__name__ = function.__name__
        update_wrapper(self, function)
        self.on = function
        """The metric of rows that are known to fit [resamples]; rows that several metrics read share their curves."""

    def __reduce__(self) -> str:
        """Copied and pickled as what its module calls it."""
        return self.__name__

    def __call__(
        self,
        confidence: ArrayLike,
        correct: ArrayLike,
        weights: ArrayLike | None = None,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> float:
        """The metric of n rows.

        Args:
            confidence: One number per row, shape [n]; in [0, 1] for metrics of probabilities.
            correct: 1 where the answer is right and 0 where it is wrong, shape [n]; for metrics against another
                number (`spearman`, `mfg`) that number.
            weights: How often each row counts, shape [n]; None: once.
            *args, **kwargs: The parameters of the metric.

        Raises:
            ConfideError: Arrays that do not match, missing or non-finite confidences, outcomes or confidences
                outside their range, negative weights.
        """
        w = np.ones(np.size(correct), dtype=np.int32) if weights is None else np.asarray(weights)
        if w.dtype.kind != "i":
            w = w.astype(np.float64)
        if not np.all(w >= 0):
            raise ConfideError(f"{self.__name__}: weights must be numbers of at least 0")
        return float(self.resampled(confidence, correct, w[None], *args, **kwargs)[0])

    def resampled(
        self, confidence: ArrayLike, correct: ArrayLike, weights: Weights, *args: P.args, **kwargs: P.kwargs
    ) -> Floats:
        """The metric of every resample: ``weights`` is [resamples, n], the result [resamples]."""
        name, x, y = self.__name__, np.asarray(confidence, dtype=np.float64), np.asarray(correct, dtype=np.float64)
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
        if weights.ndim != 2 or weights.shape[1] != len(x):
            raise ConfideError(f"{name}: {len(x)} confidences, but weights of shape {weights.shape[1:]}")
        return self.on(Weighted(x, y, weights), *args, **kwargs)


class ProbabilityMetric(Metric[P]):
    """A metric that reads a confidence as the probability of being right, so it must lie in [0, 1]."""

    probability: ClassVar[bool] = True


class Correlation(Metric[P]):
    """A metric against any number (agreement among samples, say) instead of right and wrong."""

    binary: ClassVar[bool] = False
