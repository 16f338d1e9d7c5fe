"""Hidden states of closed answers: what the probe reads, collected in one pass without gradient."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from confide.engines.transformers import POSITIONS, Kept, TransformersEngine
from confide.records import Record


@dataclass(frozen=True)
class States:
    """Hidden states of n closed answers: ``values`` [n, layer, position, width] in float16, see `POSITIONS`."""

    layers: tuple[int, ...]
    values: NDArray[np.float16]

    def take(self, rows: NDArray[np.int64] | Sequence[int]) -> States:
        """The states of some rows."""
        return States(self.layers, self.values[np.asarray(rows)])


def stacked(kept: Kept, layers: Sequence[int]) -> NDArray[np.float16]:
    """The states of one reading as [batch, layer, position, width]."""
    values = torch.stack([kept.states[layer] for layer in layers], 1)
    # Some widths carry values past float16's range in a few dimensions; they carry no information there.
    return values.clamp(-60000, 60000).cpu().numpy().astype(np.float16)


def collect(
    engine: TransformersEngine,
    records: Sequence[Record],
    layers: Sequence[int],
    *,
    batch_size: int = 64,
    reader: Callable[[Kept], NDArray[np.float64]] | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> tuple[States, NDArray[np.float64]]:
    """Read every record's closed answer; returns the states, and what ``reader`` says of each.

    ``reader`` gives [batch] or [batch, k] for a batch; the second result is [n] or [n, k] ([n] of NaN without it).
    """
    prompts = [engine.encode(record.messages) for record in records]
    answers = [record.answer_ids or engine.encode_answer(record.answer) for record in records]
    groups = engine.share_prefixes(prompts)
    order = sorted(range(len(records)), key=lambda i: (groups[i], len(prompts[i]) + len(answers[i])))
    width = int(engine.model.config.hidden_size)
    values = np.zeros((len(records), len(layers), len(POSITIONS), width), np.float16)
    read = np.full(len(records), np.nan)
    done = 0
    for _, group in itertools.groupby(order, key=lambda i: groups[i]):
        members = list(group)
        for start in range(0, len(members), batch_size):
            picked = members[start : start + batch_size]
            kept, _ = engine.forced([prompts[i] for i in picked], [answers[i] for i in picked], layers=layers)
            with torch.no_grad():
                if layers:
                    engine.read(kept, layers=layers)
                if reader is not None:
                    said = reader(kept)
                    if read.shape[1:] != said.shape[1:]:
                        read = np.full((len(records), *said.shape[1:]), np.nan)
                    read[picked] = said
            if layers:
                values[picked] = stacked(kept, layers)
            done += len(picked)
            if progress:
                progress(done, len(records), "reading states")
    return States(tuple(layers), values), read
