"""Closed answers, read in one pass without gradient: their hidden states, and whatever else reads them there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from confide.annotation import check_context
from confide.engines.options import option_logprobs
from confide.engines.transformers.kept import POSITIONS, Kept
from confide.engines.transformers.prefixes import group_batches
from confide.engines.transformers.token_scores import Completion
from confide.engines.transformers.transformers_engine import TransformersEngine
from confide.records import Record

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class States:
    """Hidden states of n closed answers: ``values`` [n, layer, position, width] in float16, see `POSITIONS`."""

    layers: tuple[int, ...]
    values: NDArray[np.float16]

    def take(self, rows: NDArray[np.int64] | Sequence[int]) -> States:
        """The states of some rows."""
        return States(self.layers, self.values[np.asarray(rows)])


@dataclass(frozen=True)
class Batch:
    """Some closed answers on the engine: their row numbers, what can be read further, and their token scores.

    ``completions`` carry log-probabilities only where the pass was asked to measure them.
    """

    rows: list[int]
    kept: Kept
    completions: list[Completion]


def closed_answers(
    engine: TransformersEngine,
    records: Sequence[Record],
    layers: Sequence[int] = (),
    *,
    room: int = 1,
    measure: bool = False,
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> Iterator[Batch]:
    """Force every record's answer, in batches that share a prompt's start; answers to one prompt share its pass.

    Args:
        layers: decoder layers (1 = the first) whose states ``Batch.kept`` holds.
        room: tokens that will be fed after the answer (the closing one counts).
        measure: also give log p and entropy of the answers' tokens.
        batch_size: rows a pass; by default the engine's own.

    Raises:
        ConfideError: records that do not fit the context, counted and named, before any pass.
    """
    spans = [engine.spans(record) for record in records]
    check_context({r.id: [*p, *a] for r, (p, a) in zip(records, spans, strict=True)}, room, engine.context)
    groups = engine.share_prefixes([prompt for prompt, _ in spans])
    longest: dict[tuple[int, ...], int] = {}
    for prompt, answer in spans:
        longest[tuple(prompt)] = max(longest.get(tuple(prompt), 0), len(answer))
    # Answers to one prompt stay together, so that it runs once.
    lengths = [(len(p) + longest[tuple(p)], p, len(a)) for p, a in spans]
    done = 0
    for picked in group_batches(groups, lengths, batch_size or engine.batch_size):
        prompts, answers = zip(*(spans[i] for i in picked), strict=True)
        yield Batch(picked, *engine.forced(prompts, answers, layers=layers, measure=measure))
        done += len(picked)
        if progress:
            progress(done, len(records), "reading answers")


def closing_states(engine: TransformersEngine, kept: Kept, layers: Sequence[int]) -> NDArray[np.float16]:
    """Close the answers and return their states as [batch, layer, position, width]."""
    with torch.no_grad():
        engine.read(kept, layers=layers)
    values = torch.stack([kept.states[layer] for layer in layers], 1)
    # Some widths carry values past float16's range in a few dimensions; they carry no information there.
    return values.clamp(-60000, 60000).cpu().numpy().astype(np.float16)


def collect(
    engine: TransformersEngine,
    records: Sequence[Record],
    layers: Sequence[int],
    *,
    batch_size: int | None = None,
    room: int = 1,
    reader: Callable[[Kept], NDArray[np.float64]] | None = None,
    progress: Progress | None = None,
) -> tuple[States, NDArray[np.float64]]:
    """Read every record's closed answer; returns the states, and what ``reader`` says of each.

    ``reader`` gives [batch] or [batch, k] for a batch; the second result is [n] or [n, k] ([n] of NaN without it).
    """
    width = int(engine.model.config.get_text_config().hidden_size)
    values = np.zeros((len(records), len(layers), len(POSITIONS), width), np.float16)
    read = np.full(len(records), np.nan)
    for batch in closed_answers(engine, records, layers, room=room, batch_size=batch_size, progress=progress):
        if layers:
            values[batch.rows] = closing_states(engine, batch.kept, layers)
        if reader is not None:
            with torch.no_grad():
                said = reader(batch.kept)
            if read.shape[1:] != said.shape[1:]:
                read = np.full((len(records), *said.shape[1:]), np.nan)
            read[batch.rows] = said
    return States(tuple(layers), values), read


def measured_records(engine: TransformersEngine, records: Sequence[Record]) -> list[Record]:
    """Copies of ``records`` with the token scores that this engine gives their answers and their options."""
    found = measured_options(engine, records)
    for batch in closed_answers(engine, records, measure=True):
        for i, completion in zip(batch.rows, batch.completions, strict=True):
            found[i] = measured_record(found[i], completion)
    return found


def measured_options(engine: TransformersEngine, records: Sequence[Record]) -> list[Record]:
    """``records``, those with ``option_logprobs`` ([] counts) copied with what this engine gives their options."""
    found = list(records)
    rows = [i for i, record in enumerate(records) if record.option_logprobs is not None and record.choices]
    prompts = [engine.encode(records[i].messages) for i in rows]
    most = max((len(records[i].choices or []) for i in rows), default=1)
    groups = engine.share_prefixes(prompts)
    for picked in group_batches(groups, [len(prompt) for prompt in prompts], max(1, engine.batch_size // most)):
        texts = [records[rows[i]].choices or [] for i in picked]
        for i, values in zip(picked, option_logprobs(engine, [prompts[i] for i in picked], texts), strict=True):
            found[rows[i]] = records[rows[i]].model_copy(update={"option_logprobs": values})
    return found


def measured_record(record: Record, completion: Completion) -> Record:
    """A copy of ``record`` with the token scores that a forced pass measured; a cut answer closes with nothing."""
    finished = replace(completion, end_logprob=completion.end_logprob if record.finish == "stop" else None)
    return record.model_copy(
        update={
            "answer_ids": finished.ids,
            "logprobs": finished.logprobs,
            "entropies": finished.entropies,
            "end_logprob": finished.end_logprob,
        }
    )
