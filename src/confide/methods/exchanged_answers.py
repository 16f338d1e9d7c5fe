"""Answers to read beside a record's own: sampled ones, the same answer to another question, another model's.

Each is a record whose token scores are left empty, so that the pass that reads it measures them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from confide.records import Record

UNMEASURED: dict[str, Any] = {"logprobs": [], "entropies": [], "end_logprob": None}


def unmeasured(record: Record) -> Record:
    """A copy without token scores: whoever reads the answer measures its own.

    Options that were scored keep an empty list, which says that they are to be scored again.
    """
    return record.model_copy(update=UNMEASURED | {"option_logprobs": None if record.option_logprobs is None else []})


def swapped(records: Sequence[Record], seed: int = 0) -> list[Record | None]:
    """The same answers, each with the question of another record of its domain that has another reference.

    An answer that was chosen among options keeps them: they are as foreign to the question as it is. None where the
    domain holds no such record.
    """
    rng = np.random.default_rng(seed)
    domains: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        domains[record.domain].append(record)
    found: list[Record | None] = []
    for record in records:
        others = domains[record.domain]
        start = int(rng.integers(len(others)))
        turned = (others[(start + step) % len(others)] for step in range(len(others)))
        other = next((o for o in turned if o.reference != record.reference and o.messages != record.messages), None)
        update: dict[str, Any] = {"id": f"{record.id}#swapped", "samples": None}
        if other is not None:
            update |= {"messages": other.messages}
            update |= {"choices": other.choices} if record.option_logprobs is None else {}
        found.append(None if other is None else unmeasured(record).model_copy(update=update))
    return found


@dataclass
class SampledAnswers:
    """The distinct sampled answers of some records, each to be read once.

    ``places`` maps (row, sample) to an index into ``records``, or to None where the sample is the row's own answer.
    """

    records: list[Record] = field(default_factory=list)
    places: dict[tuple[int, int], int | None] = field(default_factory=dict)


def sampled_answers(records: Sequence[Record]) -> SampledAnswers:
    """Every sampled answer of ``records``; equal ones are read once, and one that equals the greedy answer never."""
    found = SampledAnswers()
    for row, record in enumerate(records):
        own: int | None = None
        known: dict[tuple[str, tuple[int, ...], str], int | None] = {
            (record.answer, tuple(record.answer_ids), record.finish): own
        }
        for number, sample in enumerate(record.samples or []):
            key = (sample.answer, tuple(sample.answer_ids), sample.finish)
            if key not in known:
                known[key] = len(found.records)
                update = {
                    "id": f"{record.id}#{number}",
                    "answer": sample.answer,
                    "answer_ids": sample.answer_ids,
                    "answered": sample.answered,
                    "finish": sample.finish,
                    "samples": None,
                }
                found.records.append(record.model_copy(update=UNMEASURED | update))
            found.places[row, number] = known[key]
    return found
