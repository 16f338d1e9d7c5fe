"""Annotation: a model answers a task's questions and the grader marks the answers.

Batches are fixed by the questions alone (sorted by length), and a batch that a killed run left unfinished is
answered again as a whole, so that a continued run ends with the same file as an unbroken one.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from confide.errors import ConfideError
from confide.files import locked
from confide.records import Message, Record, RecordWriter, Sample

if TYPE_CHECKING:
    from confide.engines.transformers import Completion, TransformersEngine
    from confide.tasks import Task
    from confide.tasks.questions import Question

Progress = Callable[[int, int, str], None]
"""Called with (done, total, note) while long work runs."""


def annotate(
    engine: TransformersEngine,
    task: Task,
    out: Path,
    *,
    splits: Mapping[str, str] | None = None,
    samples: int = 0,
    temperature: float = 1.0,
    batch_size: int = 64,
    seed: int = 0,
    progress: Progress | None = None,
) -> int:
    """Answer every question of ``task`` and append the records to ``out``; returns how many rows are new.

    Args:
        splits: question id → split; a question that is absent is not asked.
        samples: K sampled answers beside the greedy one, at ``temperature``, all from the same prefill.

    Raises:
        ConfideError: ``out`` holds another model's or task's records, is in use by another run, or prompts do
            not fit the model's context (they are counted and named).
    """
    questions = [q for q in task.questions if splits is None or q.id in splits]
    if out.suffix == ".parquet":
        raise ConfideError("records are appended as they are produced: give --out a .jsonl file")
    prompts = {q.id: engine.encode(task.prompt(q)) for q in questions}
    check_context(prompts, task.max_new_tokens, engine.context)
    with locked(out.parent), RecordWriter(out) as writer:
        _check_same_run(
            writer.done, engine, task, {q.id: None if splits is None else splits[q.id] for q in questions}, out
        )
        done = {record.id for record in writer.done}
        groups = dict(zip(prompts, engine.share_prefixes(list(prompts.values())), strict=True))
        order = sorted(questions, key=lambda q: (groups[q.id], len(prompts[q.id]), q.id))
        batches = []
        for _, group in itertools.groupby(order, key=lambda q: groups[q.id]):
            members = list(group)
            batches += [members[i : i + batch_size] for i in range(0, len(members), batch_size)]
        started, new, count = time.monotonic(), 0, 0
        for number, batch in enumerate(batches):
            count += len(batch)
            if all(q.id in done for q in batch):
                continue
            greedy, sampled, _ = engine.generate(
                [prompts[q.id] for q in batch],
                task.max_new_tokens,
                samples=samples,
                temperature=temperature,
                seed=seed * 1_000_003 + number,
            )
            records = [
                _record(engine.name, task, q, g, s, None if splits is None else splits[q.id])
                for q, g, s in zip(batch, greedy, sampled, strict=True)
            ]
            writer.write(record for record in records if record.id not in done)
            new += sum(record.id not in done for record in records)
            if progress:
                progress(count, len(order), f"{new / (time.monotonic() - started):.1f} questions/s")
    return new


SHARES = {"validation": 0.1, "calibration": 0.2, "test": 0.2}
"""How annotated questions are shared out; training gets the rest."""


def split_questions(questions: Sequence[Question], by: str = "standard", seed: int = 0) -> dict[str, str]:
    """Question id → split, whole entities at a time, in the shares of `SHARES`.

    A question that asks about nothing named is an entity of its own. ``answered-country`` needs answers, so
    it is made afterwards from records (``confide split``).
    """
    from confide.tasks.splits import assign_splits

    if by == "answered-country":
        raise ConfideError("answered-country splits need answers: annotate first, then run confide split")
    rows = [_Asked(q.id, q.domain, q.entity) for q in questions]
    sizes = {name: int(share * len(rows)) for name, share in SHARES.items()}
    splits: dict[str, str] = dict(assign_splits(rows, by, sizes, seed=seed))
    entities = {row.entity for row in rows if row.id in splits and row.entity is not None}
    tested = {row.domain for row in rows if splits.get(row.id) == "test"} if by == "relation" else set()
    for row in rows:
        if row.id not in splits and row.entity not in entities and row.domain not in tested:
            splits[row.id] = "train"
    return splits


@dataclass(frozen=True)
class _Asked:
    id: str
    domain: str
    entity: str | None
    answered: str | None = None


def check_context(prompts: Mapping[str, Sequence[int]], room: int, context: int) -> None:
    """Raise `ConfideError` with the count and ids of prompts that leave less than ``room`` tokens to answer."""
    too_long = [name for name, ids in prompts.items() if len(ids) + room > context]
    if too_long:
        shown = ", ".join(too_long[:5]) + (", …" if len(too_long) > 5 else "")
        raise ConfideError(f"{len(too_long)} rows do not fit the model's context of {context} tokens: {shown}")


def _check_same_run(
    done: Sequence[Record],
    engine: TransformersEngine,
    task: Task,
    splits: Mapping[str, str | None],
    out: Path,
) -> None:
    for record in done:
        if record.model != engine.name or record.task != task.name:
            raise ConfideError(
                f"{out} already holds records of model {record.model!r} on task {record.task!r}; "
                "choose another file or delete it"
            )
        # Another draw of questions or splits would put an entity on two sides.
        if record.id not in splits or record.split != splits[record.id]:
            raise ConfideError(
                f"{out} already holds a run with other questions or splits (limit, seed or by); "
                "choose another file or delete it"
            )


def _record(
    model: str,
    task: Task,
    question: Question,
    greedy: Completion,
    sampled: Sequence[Completion],
    split: str | None,
) -> Record:
    grade = task.grade(question, greedy.text)
    data: dict[str, object] = {
        "id": question.id,
        "task": task.name,
        "kind": question.kind,
        "domain": question.domain,
        "entity": question.entity,
        "messages": [Message(**m) for m in task.prompt(question)],
        "answer": greedy.text,
        "answer_ids": greedy.ids,
        "logprobs": greedy.logprobs,
        "entropies": greedy.entropies,
        "end_logprob": greedy.end_logprob,
        "finish": greedy.finish,
        "reference": question.answer,
        "correct": grade.correct,
        "answered": grade.answered,
        "model": model,
    }
    if question.choices:
        data["choices"] = question.choices
    if split is not None:
        data["split"] = split
    if sampled:
        data["samples"] = [_sample(task, question, completion) for completion in sampled]
        agreeing = [task.agrees(question, greedy.text, completion.text) for completion in sampled]
        data["consistency"] = sum(agreeing) / len(agreeing)
    return Record.model_validate(data)


def _sample(task: Task, question: Question, completion: Completion) -> Sample:
    grade = task.grade(question, completion.text)
    return Sample(
        answer=completion.text,
        answer_ids=completion.ids,
        finish=completion.finish,
        correct=grade.correct,
        answered=grade.answered,
        logprobs=completion.logprobs,
    )
