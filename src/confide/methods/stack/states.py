"""Hidden states of closed answers, and the pass that collects them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from confide.engines.closed_records import read_closed
from confide.engines.engine import POSITIONS
from confide.methods import processes
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
    progress: Progress | None = None,
) -> States:
    """Read the states of every record's closed answer at ``layers`` (1 = the first).

    Several processes share the batches, and each gets the states of all.
    """
    values = np.zeros((len(records), len(layers), len(POSITIONS), engine.width), np.float16)
    share = (processes.rank(), processes.count())
    for rows, closed in read_closed(engine, records, layers, progress=progress, share=share):
        values[rows] = closed.states()
    processes.merge(values)
    return States(tuple(layers), values)
