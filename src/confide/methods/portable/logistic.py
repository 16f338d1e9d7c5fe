"""Logistic regression that is kept as four arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from confide.numeric import Bools, Floats, sigmoid


@dataclass(frozen=True)
class Logistic:
    """Logistic regression on standardised features; a feature that is missing (NaN) counts as average.

    One that no training row has is worth nothing.

    ``bias`` [1]; all others [features].
    """

    mean: Floats
    scale: Floats
    weight: Floats
    bias: Floats

    @classmethod
    def fit(
        cls, features: NDArray[Any], target: NDArray[Any], weights: NDArray[Any] | None = None, **how: Any
    ) -> Logistic:
        """Fit on features [n, d] and right or wrong [n], each row with its weight [n] (None: 1).

        ``how`` goes to scikit-learn's ``LogisticRegression``.
        """
        from sklearn.linear_model import LogisticRegression

        known = np.isfinite(features)
        n = np.maximum(known.sum(0), 1)
        mean = np.where(known, features, 0).sum(0) / n
        scale = np.sqrt(np.where(known, (features - mean) ** 2, 0).sum(0) / n) + 1e-6
        model = LogisticRegression(**{"C": 1.0, "max_iter": 1000} | how)
        model.fit(np.nan_to_num((features - mean) / scale, copy=False), target, weights)
        arrays = (np.asarray(array, dtype=np.float64) for array in (mean, scale, model.coef_[0], model.intercept_))
        return cls(*arrays)

    def z(self, features: NDArray[Any]) -> Floats:
        """Logit [n] of being right."""
        standard = np.nan_to_num((features - self.mean) / self.scale, copy=False)
        return np.asarray(standard @ self.weight + self.bias, dtype=np.float64)

    def predict(self, features: NDArray[Any]) -> Floats:
        """P(right) [n]."""
        return sigmoid(self.z(features))

    @classmethod
    def rising(cls, features: Floats, right: Bools) -> Logistic:
        """A model that never falls with a feature: one with a negative weight is left out."""
        columns = features.copy()
        model = cls.fit(columns, right)
        while (model.weight < 0).any():
            columns[:, model.weight < 0] = 0.0  # a constant column gets the weight 0
            model = cls.fit(columns, right)
        return model

    def to_json(self) -> dict[str, list[float]]:
        """The arrays as JSON can hold them."""
        return {name: array.tolist() for name, array in vars(self).items()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Logistic:
        """The model that `to_json` came from; raises ValueError for parts that do not fit each other."""
        model = cls(**{name: np.asarray(array, dtype=np.float64) for name, array in data.items()})
        if not model.mean.shape == model.scale.shape == model.weight.shape or model.bias.shape != (1,):
            raise ValueError("the weights of a logistic model do not fit its features")
        return model
