"""The one pass over closed answers that all reading sources share, batch by batch."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from confide.methods.catalogue import MEASURED, POSITIONED, STATE
from confide.methods.free import free_confidence
from confide.methods.stack.states import States, closed_answers, closing_states, measured_record
from confide.records import Cost, Record

if TYPE_CHECKING:
    from confide.model import ConfidenceModel

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Reading:
    """What a pass over n closed answers gave: confidences [n] by source (NaN: not available) and what each cost.

    ``records`` carry measured token scores where they had none; with a stack, ``values`` has ``familiarity`` too.
    """

    records: list[Record]
    values: dict[str, NDArray[np.float64]]
    costs: dict[str, Cost]


def read_answers(
    model: ConfidenceModel, records: Sequence[Record], wanted: Sequence[str], *, progress: Progress | None = None
) -> Reading:
    """Read every record's closed answer with the sources ``wanted`` (of `READ` and `MEASURED`).

    A cost is what reading adds to an answer that this engine has just written: tokens fed after it, and seconds.
    """
    engine, checkpoint = model.engine, model.checkpoint
    layers = checkpoint.layers if {*STATE, *POSITIONED} & set(wanted) else ()
    found = list(records)
    values: dict[str, NDArray[np.float64]] = defaultdict(lambda: np.full(len(records), np.nan))
    tokens, seconds = dict.fromkeys(wanted, 0), dict.fromkeys(wanted, 0.0)
    with checkpoint.readers(engine, wanted) as readers:
        room = max([1, *(reader.tokens for reader in readers.values())])
        measure = any(not record.logprobs for record in records)
        for batch in closed_answers(engine, records, layers, room=room, measure=measure, progress=progress):
            if measure:
                for i, completion in zip(batch.rows, batch.completions, strict=True):
                    found[i] = found[i] if found[i].logprobs else measured_record(found[i], completion)
            some = [found[i] for i in batch.rows]
            engine.wait()
            if layers:
                began = time.monotonic()
                states = States(layers, closing_states(engine, batch.kept, layers))
                for name, column in checkpoint.read(states, some).items():
                    values[name][batch.rows] = column
                for name in {*STATE, *POSITIONED} & set(wanted):
                    tokens[name], seconds[name] = 1, seconds[name] + time.monotonic() - began
            for name, reader in readers.items():
                began = time.monotonic()
                with torch.no_grad():
                    z = reader.z(engine, batch.kept).cpu().numpy().astype(np.float64)
                values[name][batch.rows] = 1 / (1 + np.exp(-z))
                tokens[name], seconds[name] = reader.tokens, seconds[name] + time.monotonic() - began
    for name in set(MEASURED) & set(wanted):
        free = [free_confidence(record)[name] for record in found]
        values[name] = np.array([np.nan if value is None else value for value in free], dtype=np.float64)
    n = max(1, len(records))
    kept = {name: column for name, column in values.items() if name in wanted or name == "familiarity"}
    return Reading(found, kept, {name: Cost(tokens=tokens[name], seconds=seconds[name] / n) for name in wanted})
