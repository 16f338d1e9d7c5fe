"""Numbers between probabilities and logits, said once. SciPy's functions where it has them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit

__all__ = ["Bools", "Floats", "Ints", "logistic_loss", "logit", "sigmoid"]

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def sigmoid(z: ArrayLike) -> NDArray[np.float64]:
    """1 / (1 + e^−z), the probability that belongs to a logit; any shape.

    >>> sigmoid([0.0, 2.0]).round(3).tolist()
    [0.5, 0.881]
    """
    return np.asarray(expit(np.asarray(z, dtype=np.float64)))


def logistic_loss(z: NDArray[Any], target: NDArray[Any], weights: NDArray[Any] | None = None) -> float:
    """Mean log loss (nats) of the probability σ(z) against targets in [0, 1], computed from the logits.

    Args:
        z: logits, shape [n].
        target: 0 or 1, or a probability between them, shape [n].
        weights: of the rows, shape [n]; None weighs them alike.

    >>> round(logistic_loss(np.array([0.0, 0.0]), np.array([1.0, 0.0])), 4)
    0.6931
    """
    return float(np.average(np.logaddexp(0, z) - target * z, weights=weights))
