"""The probe: a readout of middle layers at the answer's own tokens (SAPLMA, Azaria and Mitchell 2023).

Linear or a small network; which states it reads, its penalty and its kind are chosen on validation rows.

It costs no pass of its own where the engine runs in process: the states are there when the answer is.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from confide.engines.engine import POSITIONS
from confide.methods.method import labels
from confide.methods.portable.logistic import Logistic
from confide.methods.stack.states import States
from confide.numeric import Floats, logistic_loss
from confide.records import Record

NETWORK_ROWS = 30
"""Right and wrong training rows that a network needs before it is tried."""

PENALTIES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
"""What a linear probe's C is chosen from."""


@dataclass(frozen=True)
class View:
    """Which states a probe reads (layers counted from 1, names from `POSITIONS`) and its penalty.

    ``C`` is the inverse strength of the L2 penalty on standardised states, as in scikit-learn's logistic regression.
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

    def fit(self, features: NDArray[np.float32], target: NDArray[Any]) -> Logistic:
        """Logistic regression on features that were selected before (folds share one selection)."""
        return Logistic.fit(features, target, C=self.C, max_iter=200, tol=1e-3)


@dataclass(frozen=True)
class Network:
    """One hidden layer of rectified units on standardised features; ``bias`` [1]."""

    mean: Floats
    scale: Floats
    hidden: Floats
    hidden_bias: Floats
    weight: Floats
    bias: Floats

    UNITS = 64

    @classmethod
    def fit(cls, features: NDArray[Any], target: NDArray[Any], C: float, seed: int = 0) -> Network:
        """Fit on features [n, d] and right or wrong [n]; a seventh of the rows says when to stop."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.neural_network import MLPClassifier

        mean, scale = features.mean(0), features.std(0) + 1e-6
        model = MLPClassifier(
            (cls.UNITS,),
            alpha=1 / C,
            batch_size=min(64, len(features) // 2),
            learning_rate_init=3e-4,
            max_iter=60,
            n_iter_no_change=4,
            early_stopping=True,
            validation_fraction=1 / 7,
            random_state=seed,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # 60 passes bound the time; the best one is kept
            model.fit((features - mean) / scale, target)
        (hidden, weight), (hidden_bias, bias) = model.coefs_, model.intercepts_
        return cls(*_floats(mean, scale, hidden, hidden_bias, weight[:, 0], bias))

    def z(self, features: NDArray[Any]) -> Floats:
        """Logit [n] of being right."""
        inside = np.maximum(((features - self.mean) / self.scale) @ self.hidden + self.hidden_bias, 0)
        return np.asarray(inside @ self.weight + self.bias, dtype=np.float64)


def _floats(*arrays: NDArray[Any]) -> list[Floats]:
    return [np.asarray(array, dtype=np.float64) for array in arrays]


@dataclass(frozen=True)
class Probe:
    """A fitted readout of one view of the states."""

    view: View
    model: Logistic | Network

    @classmethod
    def fit(cls, view: View, states: States, target: NDArray[Any]) -> Probe:
        """Logistic regression on the view of ``states``; ``target`` [n] right or wrong."""
        return cls(view, view.fit(view.select(states), target))

    def z(self, states: States) -> Floats:
        """Logit [n] that the answer is right."""
        return self.model.z(self.view.select(states))

    def about(self) -> dict[str, Any]:
        """What is saved beside `arrays`."""
        return {"kind": "network" if isinstance(self.model, Network) else "logistic", **vars(self.view)}

    def arrays(self) -> dict[str, Floats]:
        """What is saved beside the view."""
        return dict(vars(self.model))

    @classmethod
    def from_arrays(cls, about: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Probe:
        """The probe that `about` and `arrays` came from."""
        view = View(tuple(about["layers"]), tuple(about["positions"]), about["C"])
        model: type[Logistic | Network] = Network if about.get("kind") == "network" else Logistic
        return cls(view, model(**arrays))


def candidate_views(depth: int, positions: Sequence[str] = ("prompt_end", "answer_last", "closing")) -> list[View]:
    """Views for a model of ``depth`` layers, to choose from on validation rows."""
    spreads = ((0.4, 0.8), (0.4, 0.6, 0.8, 1.0))
    layers = {tuple(sorted({max(1, round(share * depth)) for share in spread})) for spread in spreads}
    return [View(chosen, tuple(positions), C) for chosen in sorted(layers) for C in PENALTIES]


def best_probe(probes: Sequence[Probe], held: States, validation: Sequence[Record]) -> Probe:
    """The probe with the lowest log loss on validation rows."""
    target = labels(validation).astype(np.float64)
    return min(probes, key=lambda probe: logistic_loss(probe.z(held), target))


def best_fitted(
    views: Sequence[View], states: States, train: Sequence[Record], held: States, validation: Sequence[Record]
) -> Probe:
    """Of linear probes on ``views``, fitted on training rows, the one that does best on validation rows."""
    return best_probe([Probe.fit(view, states, labels(train)) for view in views], held, validation)


def fit_probe(
    linear: Sequence[Probe],
    states: States,
    train: Sequence[Record],
    held: States,
    validation: Sequence[Record],
    seed: int = 0,
) -> Probe:
    """The source ``probe``: the best on validation rows of ``linear`` probes and networks over the same states."""
    right = labels(train)
    probes = list(linear)
    if min(right.sum(), (~right).sum()) >= NETWORK_ROWS:
        for layers, positions in sorted({(probe.view.layers, probe.view.positions) for probe in linear}):
            for view in (View(layers, positions, C) for C in (0.1, 1.0)):
                probes.append(Probe(view, Network.fit(view.select(states), right, view.C, seed)))
    return best_probe(probes, held, validation)


def fit_position_probes(
    depth: int, states: States, train: Sequence[Record], held: States, validation: Sequence[Record]
) -> dict[str, Probe]:
    """One linear probe per token position (``probe@prompt_end`` …): where in the answer is the signal?"""
    right = labels(train)
    return {
        f"probe@{position}": best_probe(
            [Probe.fit(view, states, right) for view in candidate_views(depth, [position])], held, validation
        )
        for position in ("prompt_end", "answer_last", "closing")
    }
