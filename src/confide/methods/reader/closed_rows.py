"""Training rows: closed answers with a target and a weight, made from records.

A question gives its greedy answer and, where records carry samples, the sampled ones. Samples that the grader
takes for the same answer are one row whose weight is their share, so that K samples of one question weigh as
much as one question.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from confide.errors import ConfideError
from confide.records import Record

if TYPE_CHECKING:
    from confide.engines.transformers.transformers_engine import TransformersEngine

Target = Literal["correctness", "consistency"]


@dataclass(frozen=True)
class Row:
    """One closed answer: prompt and answer token ids, what the reader should say (in [0, 1]), and its weight."""

    id: str
    prompt: list[int]
    answer: list[int]
    target: float
    weight: float
    question: str
    answered: str | None


def check_labels(records: Sequence[Record]) -> None:
    """Raise `ConfideError` unless there are right and wrong answers among ``records``."""
    right = sum(r.correct is True for r in records)
    wrong = sum(r.correct is False for r in records)
    if not right or not wrong:
        raise ConfideError(
            f"training needs right and wrong answers; there are {right} right and {wrong} wrong "
            f"({len(records) - right - wrong} ungraded)"
        )


def check_answered_by(records: Sequence[Record], names: Sequence[str]) -> None:
    """Raise `ConfideError` when records say that another model than one of ``names`` answered them."""
    others = Counter(record.model for record in records if record.model and record.model not in names)
    if others:
        raise ConfideError(
            f"{others.total()} of {len(records)} records were answered by {', '.join(sorted(others))}, not by "
            f"{names[0]}; --other-model reads them all the same and names the sources so"
        )


def shuffle_labels(records: Sequence[Record], seed: int = 0) -> list[Record]:
    """Copies whose labels belong to other records; what learns from them must not rank. Samples are left out."""
    order = np.random.default_rng(seed).permutation(len(records))
    return [
        record.model_copy(update={"correct": other.correct, "consistency": other.consistency, "samples": None})
        for record, other in zip(records, (records[i] for i in order), strict=True)
    ]


def make_rows(
    engine: TransformersEngine,
    records: Sequence[Record],
    target: Target = "correctness",
    *,
    samples: bool = True,
) -> list[Row]:
    """Rows of graded records; with ``samples`` the sampled answers too, merged by graded answer.

    ``consistency`` takes the share of samples that agree with the greedy answer as a soft target; sampled
    answers are left out then, because their agreement is not in the records.
    """
    rows: list[Row] = []
    for record in records:
        if record.correct is None:
            continue
        prompt, answer = engine.spans(record)
        if target == "consistency":
            if record.consistency is None:
                raise ConfideError("the target consistency needs records with samples (annotate --samples K)")
            rows.append(Row(record.id, prompt, answer, record.consistency, 1.0, record.id, record.answered))
            continue
        groups: dict[tuple[str, bool], list[list[int]]] = {}
        greedy = (record.answered or record.answer, record.correct)
        groups[greedy] = [answer]
        for sample in (record.samples or []) if samples else []:
            if sample.correct is not None and sample.answered is not None:
                ids = sample.answer_ids or engine.encode_answer(sample.answer)
                groups.setdefault((sample.answered, sample.correct), []).append(ids)
        total = sum(map(len, groups.values()))
        for number, ((answered, correct), members) in enumerate(groups.items()):
            rows.append(
                Row(
                    f"{record.id}#{number}" if number else record.id,
                    prompt,
                    members[0],
                    float(correct),
                    len(members) / total,
                    record.id,
                    answered if number or record.answered else record.answered,
                )
            )
    return rows


def rows_sha256(records: Sequence[Record]) -> str:
    """A hash of everything in records that training a statement depends on: prompts, answers, samples, marks."""
    digest = hashlib.sha256()
    for record in records:
        told = [(sample.answer, sample.finish) for sample in record.samples or []]
        row = [record.id, [m.model_dump() for m in record.messages], record.answer, record.reference, told]
        digest.update(json.dumps(row, ensure_ascii=False, default=str).encode() + b"\n")
    return digest.hexdigest()
