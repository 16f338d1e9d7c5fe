"""A linear reading: a probe as one number per position, which an engine can compute while it answers.

z = Σ over positions of (states · direction + offset). With the probe's mean μ, scale s, weight w and bias b (logistic
regression on standardised states), a position's direction is w / s and its offset −Σ μ w / s; the first one has b too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from confide.engines.directions import Directions
from confide.methods.portable.logistic import Logistic
from confide.methods.stack.probe import Probe, View
from confide.methods.stack.states import States
from confide.numeric import Floats

POSITIONS_BEFORE_CLOSING = ("prompt_end", "answer_mean", "answer_last")
"""Positions that an engine has passed when it writes the token that closes the answer."""


@dataclass(frozen=True)
class LinearReading:
    """A fitted linear probe, as directions and offsets.

    Attributes:
        layers: decoder layers (1 = the first).
        positions: of `POSITIONS_BEFORE_CLOSING`.
        weight: directions, float32 [layer, width, position].
        offset: float32 [position].
    """

    layers: tuple[int, ...]
    positions: tuple[str, ...]
    weight: NDArray[np.float32]
    offset: NDArray[np.float32]

    @classmethod
    def from_probe(cls, probe: Probe) -> LinearReading:
        """The reading that is a fitted linear probe."""
        view, model = probe.view, probe.model
        assert isinstance(model, Logistic), "a network is no linear reading"
        direction = model.weight / model.scale
        shape = len(view.layers), len(view.positions), -1
        offset = -(model.mean * direction).reshape(shape).sum((0, 2))
        offset[0] += model.bias[0]
        weight = direction.reshape(shape).transpose(0, 2, 1)
        arrays = (np.ascontiguousarray(array, dtype=np.float32) for array in (weight, offset))
        return cls(view.layers, view.positions, *arrays)

    @property
    def width(self) -> int:
        """How many numbers a state has."""
        return self.weight.shape[1]

    @property
    def directions(self) -> Directions:
        """What an engine reads of each token for it, a number a position."""
        return Directions(self.layers, self.weight, self.offset)

    def shares(self, states: States) -> Floats:
        """What each position gives of z, [n, position]."""
        view = View(self.layers, self.positions, 1.0)
        rows = view.select(states).reshape(len(states.values), len(self.layers), len(self.positions), self.width)
        picked = np.einsum("nlpw,lwp->np", rows.astype(np.float64), self.weight, optimize=True)
        return np.asarray(picked + self.offset, dtype=np.float64)

    def z(self, states: States) -> Floats:
        """Logit [n] that the answer is right."""
        return np.asarray(self.shares(states).sum(1), dtype=np.float64)

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """What is saved beside layers and positions, by the names that the plug-in knows."""
        return {"weight": self.weight, "offset": self.offset}

    @classmethod
    def from_arrays(cls, about: Mapping[str, Any], arrays: Mapping[str, NDArray[np.float32]]) -> LinearReading:
        """The reading with these layers and positions."""
        return cls(tuple(about["layers"]), tuple(about["positions"]), arrays["weight"], arrays["offset"])
