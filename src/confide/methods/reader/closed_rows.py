"""Training rows: closed answers with a target and a weight, made from records.

A question gives its greedy answer and, where records carry samples, the sampled ones. Samples that the grader
takes for the same answer are one row whose weight is their share, so that K samples of one question weigh as
much as one question.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from confide.engines.engine import Engine, check_tokens, prompt_and_answer
from confide.errors import ConfideError
from confide.records import Record


@dataclass(frozen=True)
class ClosedRow:
    """One closed answer: prompt and answer token ids, what the reader should say (in [0, 1]), and its weight.

    ``id`` is the record's.
    """

    prompt: list[int]
    answer: list[int]
    target: float
    weight: float
    id: str


def shuffle_labels(records: Sequence[Record], seed: int = 0) -> list[Record]:
    """Copies whose labels belong to other records; what learns from them must not rank. Samples are left out."""
    order = np.random.default_rng(seed).permutation(len(records))
    return [
        record.model_copy(update={"correct": other.correct, "consistency": other.consistency, "samples": None})
        for record, other in zip(records, (records[i] for i in order), strict=True)
    ]


def make_rows(
    engine: Engine, records: Sequence[Record], target: str = "correctness", *, samples: bool = True
) -> list[ClosedRow]:
    """Rows of graded records; with ``samples`` the sampled answers too, merged by graded answer.

    ``consistency`` takes the share of samples that agree with the greedy answer as a soft target; sampled
    answers are left out then, because their agreement is not in the records.
    """
    rows: list[ClosedRow] = []
    for record in records:
        if record.correct is None:
            continue
        prompt, answer = prompt_and_answer(engine, record)
        if target == "consistency":
            if record.consistency is None:
                raise ConfideError("the target consistency needs records with samples (annotate --samples K)")
            rows.append(ClosedRow(prompt, answer, record.consistency, 1.0, record.id))
            continue
        asked = prompt[: len(prompt) - len(record.reasoning_ids)]
        groups = {(record.answered or record.answer, record.correct): [(prompt, answer)]}
        for sample in (record.samples or []) if samples else []:
            if sample.correct is not None and sample.answered is not None:
                check_tokens(record.id, [*sample.answer_ids, *sample.reasoning_ids], engine.vocabulary)
                ids = sample.answer_ids or engine.encode_answer(sample.answer)
                groups.setdefault((sample.answered, sample.correct), []).append((asked + sample.reasoning_ids, ids))
        total = sum(map(len, groups.values()))
        for (_, correct), members in groups.items():
            rows.append(ClosedRow(*members[0], float(correct), len(members) / total, record.id))
    return rows
