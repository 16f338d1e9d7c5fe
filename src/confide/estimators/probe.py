"""The probe: a linear readout of middle layers at the answer's own tokens (SAPLMA, Azaria and Mitchell 2023).

It costs no pass of its own where the engine runs in process: the states are there when the answer is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from confide.engines.transformers import POSITIONS
from confide.estimators.states import States

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class View:
    """Which states a probe reads (layers counted from 1, names from `POSITIONS`) and its penalty.

    ``C`` is the inverse strength of the L2 penalty on standardised states, as in scikit-learn.
    """

    layers: tuple[int, ...]
    positions: tuple[str, ...]
    C: float

    def select(self, states: States) -> NDArray[np.float32]:
        """The states [n, features] that the view covers."""
        layers = [states.layers.index(layer) for layer in self.layers]
        positions = [POSITIONS.index(name) for name in self.positions]
        picked = states.values[:, layers][:, :, positions]
        return picked.reshape(len(picked), -1).astype(np.float32)


@dataclass(frozen=True)
class Probe:
    """A fitted readout: z = weight · (state − mean) / scale + bias."""

    view: View
    mean: Floats
    scale: Floats
    weight: Floats
    bias: float

    @classmethod
    def fit(cls, view: View, states: States, target: NDArray[Any]) -> Probe:
        """Logistic regression on the view of ``states``; ``target`` [n] right or wrong."""
        return cls.fit_features(view, view.select(states), target)

    @classmethod
    def fit_features(cls, view: View, features: NDArray[np.float32], target: NDArray[Any]) -> Probe:
        """`fit` on features that were selected before (folds share one selection)."""
        from sklearn.linear_model import LogisticRegression

        mean, scale = features.mean(0), features.std(0) + 1e-6
        model = LogisticRegression(C=view.C, max_iter=200, tol=1e-3)
        model.fit((features - mean) / scale, target)
        return cls(
            view,
            mean.astype(float),
            scale.astype(float),
            model.coef_[0].astype(float),
            float(model.intercept_[0]),
        )

    def z(self, states: States) -> Floats:
        """Logit [n] that the answer is right."""
        return self.z_features(self.view.select(states))

    def z_features(self, features: NDArray[np.float32]) -> Floats:
        """`z` of features that were selected before."""
        return np.asarray(((features - self.mean) / self.scale) @ self.weight + self.bias, dtype=np.float64)

    def arrays(self) -> dict[str, Floats]:
        """What is saved beside the view."""
        return {"mean": self.mean, "scale": self.scale, "weight": self.weight, "bias": np.array([self.bias])}

    @classmethod
    def from_arrays(cls, view: View, arrays: dict[str, Any]) -> Probe:
        """The probe that `arrays` came from."""
        mean, scale, weight = (np.asarray(arrays[name], dtype=float) for name in ("mean", "scale", "weight"))
        return cls(view, mean, scale, weight, float(arrays["bias"][0]))
