"""Numbers between probabilities and logits, said once. SciPy's functions where it has them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit

__all__ = ["Bools", "Floats", "Ints", "as_finite", "logistic_loss", "logit", "logit_of_exp", "sigmoid"]

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def as_finite(value: object) -> float | None:
    """``value`` as a float; None for what is no finite number, such as a server may write where one is wanted.

    >>> as_finite(-1), as_finite("1"), as_finite(float("inf")), as_finite(10**400)
    (-1.0, None, None, None)
    """
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def sigmoid(z: ArrayLike) -> NDArray[np.float64]:
    """1 / (1 + e^−z), the probability that belongs to a logit; any shape.

    >>> sigmoid([0.0, 2.0]).round(3).tolist()
    [0.5, 0.881]
    """
    return np.asarray(expit(np.asarray(z, dtype=np.float64)))


def logit_of_exp(c: ArrayLike) -> Floats:
    """logit(e^c) = c − ln(1 − e^c), the log-odds that belong to a log-probability c ≤ 0; any shape.

    Computed without forming e^c, which is 0 from c = −745 down. ln(1 − e^c) after Mächler (2012), "Accurately computing
    log(1 − exp(−|a|))".

    >>> logit_of_exp([-1000.0, np.log(0.5)]).round(6).tolist()
    [-1000.0, 0.0]
    """
    c = np.asarray(c, dtype=np.float64)
    with np.errstate(divide="ignore"):  # the branch that is not taken
        rest = np.where(c > -np.log(2), np.log(-np.expm1(c)), np.log1p(-np.exp(c)))
    return np.asarray(c - rest)


def logistic_loss(z: NDArray[Any], target: NDArray[Any]) -> float:
    """Mean log loss (nats) of the probability σ(z) against targets in [0, 1], computed from the logits.

    Args:
        z: logits, shape [n].
        target: 0 or 1, or a probability between them, shape [n].

    >>> round(logistic_loss(np.array([0.0, 0.0]), np.array([1.0, 0.0])), 4)
    0.6931
    """
    return float(np.mean(np.logaddexp(0, z) - target * z))
