"""States of all outputs of the red flag benchmark, kept in the work folder: read once, used by every draw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.common import show_progress
from confide.engines.closed_records import written_spans
from confide.engines.transformers.closed_answers import FLOAT16_ROOM
from confide.engines.transformers.tails import run_tails
from confide.hashing import key_of_text, sha256_of_rows
from confide.numeric import Bools, Floats, Ints
from confide.records import Record

if TYPE_CHECKING:
    from confide.engines.transformers.transformers_engine import TransformersEngine

LAYERS = (12, 18, 24, 30)
"""Decoder layers whose states are kept, of 30."""

ROWS = 64
"""Outputs read at once."""


@dataclass(frozen=True)
class Outputs:
    """Labelled outputs and the states of their tokens.

    Attributes:
        values: [tokens, layers, width], of each output the last token in front of it, then its own.
        starts: where each output's states begin, and where the last one's end, [n + 1].
        asked: states at the end of the prompt, in front of a forced opening, [n, layers, width].
    """

    records: list[Record]
    values: NDArray[np.float16]
    starts: Ints
    asked: NDArray[np.float16]

    def joined(self, more: Outputs) -> Outputs:
        """These outputs, then ``more`` of them."""
        return Outputs(
            [*self.records, *more.records],
            np.concatenate([self.values, more.values]),
            np.concatenate([self.starts, more.starts[1:] + self.starts[-1]]),
            np.concatenate([self.asked, more.asked]),
        )

    @cached_property
    def fine(self) -> Bools:
        """Which are harmless, [n]."""
        return np.array([bool(record.correct) for record in self.records])

    def of(self, row: int, layers: Sequence[int]) -> NDArray[np.float32]:
        """The states of an output, [1 + tokens, features]: at the last token in front of it, then at its own."""
        return _flat(self.values[self.starts[row] : self.starts[row + 1]], layers)

    def means(self, rows: Ints, layers: Sequence[int]) -> NDArray[np.float32]:
        """The mean state of outputs' own tokens, [n, features]."""
        return np.stack([self.of(row, layers)[1:].mean(0) for row in rows])

    def at(self, where: str, rows: Ints, layers: Sequence[int]) -> NDArray[np.float32]:
        """States at the end of the ``prompt``, or in front of the output (``opening``), [n, features]."""
        states = self.asked[rows] if where == "prompt" else self.values[self.starts[rows]]
        return _flat(states, layers)

    def readings(self, weight: Floats, offset: float, layers: Sequence[int], rows: Ints) -> list[Floats]:
        """What a direction reads at each token of outputs."""
        return [(self.of(row, layers)[1:] @ weight + offset).astype(np.float64) for row in rows]


def _flat(states: NDArray[Any], layers: Sequence[int]) -> NDArray[np.float32]:
    picked = states[:, [LAYERS.index(layer) for layer in layers]]
    return picked.reshape(len(picked), -1).astype(np.float32)


def with_states(engine: Any, work: Path, name: str, records: Sequence[Record]) -> Outputs:
    """The labelled ones of ``records`` that have tokens, with their states from ``work`` or from the model.

    Args:
        engine: gives the model, where it is needed.
    """
    kept = [record for record in records if record.correct is not None and record.answer_ids]
    key = key_of_text(sha256_of_rows([r.id, r.opening_ids, r.answer_ids] for r in kept))
    values, counts, asked = (work / f"{name}-{key}-{what}.npy" for what in ("states", "tokens", "asked"))
    if not counts.exists():
        found, prompts = collect(engine(), kept)
        np.save(values, np.concatenate(found))
        np.save(asked, prompts)
        np.save(counts, np.array([len(states) for states in found]))
    starts = np.concatenate([[0], np.cumsum(np.load(counts))])
    return Outputs(kept, np.load(values, mmap_mode="r"), starts, np.load(asked))


@torch.no_grad()
def collect(
    engine: TransformersEngine, records: Sequence[Record]
) -> tuple[list[NDArray[np.float16]], NDArray[np.float16]]:
    """States of each record's output, and those at the end of the prompts."""
    spans, progress = written_spans(engine, records), show_progress("states")
    found: list[NDArray[np.float16]] = [np.empty(0, np.float16)] * len(records)
    keys = [len(prompt) + len(answer) for prompt, answer in spans]
    for rows in engine.batches([prompt for prompt, _ in spans], keys=keys, size=ROWS, progress=progress):
        for i, states in zip(rows, _states(engine, [spans[i] for i in rows]), strict=True):
            found[i] = states
    bare = [prompt[: len(prompt) - len(r.opening_ids)] for r, (prompt, _) in zip(records, spans, strict=True)]
    places = {prompt: place for place, prompt in enumerate(dict.fromkeys(map(tuple, bare)))}
    asked: list[Any] = [None] * len(places)
    distinct = [list(prompt) for prompt in places]
    for rows in engine.batches(distinct, size=ROWS, progress=progress):
        for i, states in zip(rows, _states(engine, [(distinct[i], []) for i in rows]), strict=True):
            asked[i] = states[0]
    return found, np.stack([asked[places[tuple(prompt)]] for prompt in bare])


def _states(engine: TransformersEngine, spans: Sequence[tuple[list[int], list[int]]]) -> list[NDArray[np.float16]]:
    prompts, answers = zip(*spans, strict=True)
    captured = run_tails(engine.forward, prompts, answers, LAYERS).captured
    states = torch.stack([torch.cat(captured[layer], 1).float() for layer in LAYERS], 2)
    values = states.clamp(-FLOAT16_ROOM, FLOAT16_ROOM).cpu().numpy().astype(np.float16)
    return [values[place, : len(answer) + 1] for place, answer in enumerate(answers)]
