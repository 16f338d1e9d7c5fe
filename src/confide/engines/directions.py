"""Directions: linear readings of hidden states, a few numbers a token, which an engine can give while it answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Shares = NDArray[np.float32]
"""What was read along an answer, [rows, k]: row 0 at the last token before it, row i at the i-th token written."""

Watch = Callable[[int, int | None, Shares], bool]
"""Whether an answer ends here: by its place among the prompts, the token that was read (None: the last one before the
answer) and what was read there, [k]. It is asked once a token and an answer, in order."""


@dataclass(frozen=True)
class Directions:
    """k linear readings of hidden states: the sum over layers of state · weight, plus an offset.

    Attributes:
        layers: decoder layers (1 = the first).
        weight: float32 [layers, width, k].
        offset: float32 [k].
    """

    layers: tuple[int, ...]
    weight: NDArray[np.float32]
    offset: NDArray[np.float32]

    @property
    def count(self) -> int:
        """k, how many numbers a token gives."""
        return len(self.offset)

    @classmethod
    def joined(cls, several: Sequence[Directions]) -> Directions:
        """All readings of ``several`` side by side, over the layers of all of them; a layer not read weighs 0."""
        layers = tuple(sorted({layer for one in several for layer in one.layers}))
        width = max(one.weight.shape[1] for one in several)
        weight = np.zeros((len(layers), width, sum(one.count for one in several)), np.float32)
        start = 0
        for one in several:
            places = [layers.index(layer) for layer in one.layers]
            weight[places, :, start : start + one.count] = one.weight
            start += one.count
        return cls(layers, weight, np.concatenate([one.offset for one in several]))
