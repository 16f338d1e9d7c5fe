"""Hidden states of closed answers, and the pass that collects them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from confide.engines.closed_records import read_closed
from confide.engines.engine import POSITIONS
from confide.progress import Progress
from confide.records import Record

if TYPE_CHECKING:
    from confide.engines.transformers.transformers_engine import TransformersEngine


@dataclass(frozen=True)
class States:
    """Hidden states of n answers: ``values`` [n, layer, position, width], see `POSITIONS`; float16 where they are kept.

    Those of answers that are not closed lack the last position.
    """

    layers: tuple[int, ...]
    values: NDArray[np.float16] | NDArray[np.float32]

    def take(self, rows: NDArray[np.int64] | Sequence[int]) -> States:
        """The states of some rows."""
        return States(self.layers, self.values[np.asarray(rows)])


def collect_states(
    engine: TransformersEngine,
    records: Sequence[Record],
    layers: Sequence[int],
    *,
    room: int = 1,
    beside: Callable[[Any], NDArray[np.float64]] | None = None,
    progress: Progress | None = None,
) -> tuple[States, NDArray[np.float64]]:
    """Read every record's closed answer.

    Args:
        layers: decoder layers (1 = the first).
        room: tokens that will be fed after the answer (the closing one counts).
        beside: what else is read of each batch of closed answers, [batch].

    Returns:
        The states, and what ``beside`` gave for all records, [n] (NaN without it).
    """
    values = np.zeros((len(records), len(layers), len(POSITIONS), engine.width), np.float16)
    more: NDArray[np.float64] = np.full(len(records), np.nan)
    for rows, closed in read_closed(engine, records, layers, room=room, progress=progress):
        if layers:
            values[rows] = closed.states()
        if beside is not None:
            more[rows] = beside(closed)
    return States(tuple(layers), values), more
