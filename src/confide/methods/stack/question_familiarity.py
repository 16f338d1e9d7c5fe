"""Familiarity of questions: how close one is to those that training saw, by the model's states.

A learned readout carries a prior over what it was trained on. Where the question is of a kind that training did not
contain, that prior is noise; the stack must know.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from confide.numeric import Floats


@dataclass(frozen=True)
class QuestionFamiliarity:
    """How like the training questions a question is, by its nearest ones in a middle layer.

    Read at the last prompt token, where a causal model has seen the question and nothing of the answer. States
    are standardised; nearness is measured twice, by direction (cosine) and by distance (root mean square), and
    the lower familiarity counts: kinds of questions differ in direction, freaks in distance. Each is 1 up to the
    nearness that 98 % of training questions have to the others, falls linearly, and is 0 half as far again from
    the median.
    """

    layer: int
    mean: Floats
    scale: Floats
    seen: NDArray[np.float16]
    ramps: Sequence[Sequence[float]]

    NEAREST = 5
    KEPT = 4000

    @classmethod
    def fit(
        cls, layer: int, states: NDArray[np.float32], entities: Sequence[str], seed: int = 0
    ) -> QuestionFamiliarity:
        """Fit on the states [n, width] of training questions; an entity is not compared with itself."""
        picked = np.random.default_rng(seed).permutation(len(states))[: cls.KEPT]
        mean, scale = states.mean(0), states.std(0) + 1e-3
        seen = ((states[picked] - mean) / scale).astype(np.float16)
        names = np.asarray(entities, dtype=object)[picked]
        compared = min(1500, len(picked))
        own = names[:compared, None] == names[None]
        ramps = [_ramp(near) for near in _nearness(seen[:compared], seen, cls.NEAREST, own)]
        return cls(layer, mean.astype(float), scale.astype(float), seen, ramps)

    def predict(self, states: NDArray[np.float32]) -> Floats:
        """Familiarity [n] in [0, 1] of questions with ``states`` [n, width]."""
        rows = (states - self.mean) / self.scale
        parts = [_nearness(rows[i : i + 1024], self.seen, self.NEAREST) for i in range(0, len(rows), 1024)]
        if not parts:
            return np.empty(0)
        both = np.concatenate([np.stack(part) for part in parts], axis=1)
        falls = [np.clip((near - low) / (high - low), 0, 1) for near, (low, high) in zip(both, self.ramps, strict=True)]
        return np.minimum(*falls).astype(np.float64)


def _nearness(
    rows: NDArray[np.floating], seen: NDArray[np.float16], count: int, own: NDArray[np.bool_] | None = None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean cosine to, and minus the mean distance from, each row's ``count`` nearest seen rows ([n] each)."""
    a, b = rows.astype(np.float32), seen.astype(np.float32)
    product = a @ b.T
    squares = (a**2).sum(1)[:, None], (b**2).sum(1)[None]
    cosine = product / (np.sqrt(squares[0] * squares[1]) + 1e-9)
    distance = np.sqrt(np.maximum(squares[0] + squares[1] - 2 * product, 0) / a.shape[1])
    if own is not None:
        cosine[own], distance[own] = -1.0, np.inf
    count = min(count, cosine.shape[1] - 1)
    nearest = np.partition(cosine, -count, axis=1)[:, -count:].mean(1)
    return nearest, -np.partition(distance, count, axis=1)[:, :count].mean(1)


def _ramp(near: NDArray[np.float32]) -> tuple[float, float]:
    """``(low, high)``: where familiarity reaches 0 and 1."""
    near = near[np.isfinite(near)]
    high, median = (float(v) for v in np.quantile(near, [0.02, 0.5]))
    return high - max(1e-6, (median - high) / 2), high
