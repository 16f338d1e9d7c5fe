"""Hidden states of parts of answers, from one pass over each whole answer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from confide.errors import ConfideError
from confide.methods.along.token_states import collect_token_states
from confide.methods.parts.part_reading import part_rows
from confide.methods.stack.states import States
from confide.numeric import Ints
from confide.progress import Progress
from confide.records import Record

if TYPE_CHECKING:
    from confide.engines.transformers.transformers_engine import TransformersEngine

AT_ONCE = 256
"""Answers whose tokens' states are in memory together."""


def collect_part_states(
    engine: TransformersEngine,
    records: Sequence[Record],
    layers: Sequence[int],
    *,
    progress: Progress | None = None,
) -> States:
    """States [n, layer, 3, width] of records of parts at the positions before a closing token.

    Parts of one answer are read in one pass, that of the part which ends last.

    Raises:
        ConfideError: a part without tokens, or whose tokens are none of its answer's.
    """
    answers: dict[str, list[int]] = defaultdict(list)
    for row, record in enumerate(records):
        if not record.answer_ids:
            raise ConfideError(f"row {record.id} has no tokens, so there are no states of it")
        answers[record.id.removesuffix(f"#{record.part}")].append(row)
    values = np.zeros((len(records), len(layers), 3, engine.width), np.float16)
    groups = list(answers.values())
    for start in range(0, len(groups), AT_ONCE):
        some = groups[start : start + AT_ONCE]
        _collect(engine, records, some, layers, values)
        if progress:
            progress(min(start + AT_ONCE, len(groups)), len(groups), "reading answers")
    return States(tuple(layers), values)


def _collect(
    engine: TransformersEngine,
    records: Sequence[Record],
    groups: Sequence[Sequence[int]],
    layers: Sequence[int],
    values: np.ndarray,
) -> None:
    """Fill in the values of the parts in ``groups``, the row numbers of one answer's each."""
    whole = [max((records[row] for row in rows), key=lambda record: part_rows(record)[1]) for rows in groups]
    due: list[Ints] = []
    for rows, longest in zip(groups, whole, strict=True):
        ids = [*longest.reasoning_ids, *longest.answer_ids]
        for row in rows:
            own = [*records[row].reasoning_ids, *records[row].answer_ids]
            if own != ids[: len(own)]:
                raise ConfideError(f"row {records[row].id} is no part of the answer that {longest.id} is a part of")
        spans = [np.arange(first, last + 1) for first, last in (part_rows(records[row]) for row in rows)]
        due.append(np.unique(np.concatenate(spans)))
    found = collect_token_states(engine, whole, due, due, layers)
    for place, rows in enumerate(groups):
        states = found.values[found.answer == place].astype(np.float32)
        for row in rows:
            first, last = np.searchsorted(due[place], part_rows(records[row]))
            values[row, :, 0], values[row, :, 2] = states[first], states[last]
            values[row, :, 1] = states[first + 1 : last + 1].mean(0)
