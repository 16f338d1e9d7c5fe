"""Answers to read beside a record's own: sampled ones, the same answer to another question, another model's.

Each is a record whose token scores are left empty, so that the pass that reads it measures them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from confide.records import Record, Sample

UNMEASURED: dict[str, Any] = {"logprobs": [], "entropies": [], "end_logprob": None}


def unmeasured(record: Record) -> Record:
    """A copy without token scores: whoever reads the answer measures its own.

    Options that were scored keep an empty list, which says that they are to be scored again.
    """
    return record.model_copy(update=UNMEASURED | {"option_logprobs": None if record.option_logprobs is None else []})


def swapped(records: Sequence[Record], seed: int = 0) -> list[Record | None]:
    """The same answers, each with the question of another record of its domain that has another reference.

    An answer that was chosen among options keeps them: they are as foreign to the question as it is. None where the
    domain holds no such record, and for an answer that follows reasoning.
    """
    rng = np.random.default_rng(seed)
    domains: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        domains[record.domain].append(record)
    exchanged: list[Record | None] = []
    for record in records:
        others = domains[record.domain]
        start = int(rng.integers(len(others)))
        candidates = (others[(start + step) % len(others)] for step in range(len(others)))
        other = next((o for o in candidates if o.reference != record.reference and o.messages != record.messages), None)
        if other is None or record.reasoning_ids:  # reasoning tells the question that it was about
            exchanged.append(None)
            continue
        update: dict[str, Any] = {"id": f"{record.id}#swapped", "samples": None, "messages": other.messages}
        update |= {"own_turns": other.own_turns, "chat_template_kwargs": other.chat_template_kwargs}
        update |= {"choices": other.choices} if record.option_logprobs is None else {}
        exchanged.append(unmeasured(record).model_copy(update=update))
    return exchanged


def sampled_answers(records: Sequence[Record]) -> tuple[list[Record], dict[tuple[int, int], int | None]]:
    """Every sampled answer of ``records``; equal ones are read once, and one that equals the greedy answer never.

    Returns:
        The distinct answers as records, and (row, sample) → index into them, None where the sample is the row's own.
    """
    distinct: list[Record] = []
    places: dict[tuple[int, int], int | None] = {}
    for row, record in enumerate(records):
        known: dict[Any, int | None] = {_identity(record): None}
        for number, sample in enumerate(record.samples or []):
            if _identity(sample) not in known:
                known[_identity(sample)] = len(distinct)
                update = sample.model_dump(include={"answer", "answer_ids", "reasoning_ids", "answered", "finish"})
                update |= {"id": f"{record.id}#{number}", "samples": None}
                distinct.append(record.model_copy(update=UNMEASURED | update))
            places[row, number] = known[_identity(sample)]
    return distinct, places


def _identity(answer: Record | Sample) -> tuple[str, tuple[int, ...], tuple[int, ...], str]:
    return answer.answer, tuple(answer.reasoning_ids), tuple(answer.answer_ids), answer.finish
