"""Annotation: a model answers a task's questions and the grader marks the answers.

Batches are fixed by the questions alone (sorted by length), and a batch that a killed run left unfinished is
answered again as a whole, so that a continued run ends with the same answers as an unbroken one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from confide.engines.transformers.prefixes import group_batches
from confide.errors import ConfideError
from confide.files import locked
from confide.records import Cost, Message, Record, RecordWriter, Sample
from confide.tasks.cloze import cloze_prompt

if TYPE_CHECKING:
    from confide.engines.options import Choice
    from confide.engines.transformers.token_scores import Completion
    from confide.engines.transformers.transformers_engine import TransformersEngine
    from confide.tasks import Task
    from confide.tasks.questions import Question

Progress = Callable[[int, int, str], None]
"""Called with (done, total, note) while long work runs."""

AnswerBy = Literal["options", "generation"]
"""How a choice is answered: the likeliest option's text, or a letter that the model writes."""

OPTIONS_A_QUESTION = 4
"""A batch of choices holds this many times fewer questions: each runs all of its options."""


def annotate(
    engine: TransformersEngine,
    task: Task,
    out: Path,
    *,
    splits: Mapping[str, str] | None = None,
    answer_by: AnswerBy | None = None,
    samples: int = 0,
    temperature: float = 1.0,
    batch_size: int = 64,
    seed: int = 0,
    progress: Progress | None = None,
) -> int:
    """Answer every question of ``task`` and append the records to ``out``; returns how many rows are new.

    Args:
        splits: question id → split; a question that is absent is not asked.
        answer_by: how choices are answered, by default by ``options``: a small model that writes letters guesses, and
            an option's own tokens are what every other source reads. Other questions are always generated.
        samples: K sampled answers beside the greedy one, at ``temperature``, all from the same prefill; only for
            answers that are generated.

    Raises:
        ConfideError: ``out`` holds another model's or task's records, is in use by another run, prompts do
            not fit the model's context (they are counted and named), or the answers cannot be given so.
    """
    questions = [_Asking.of(task, q, splits, answer_by) for q in task.questions if splits is None or q.id in splits]
    _check_wanted(task, questions, answer_by, samples, out)
    prompts = [engine.encode(q.messages) for q in questions]
    longest = [max((len(engine.encode_answer(text)) for text in q.options), default=0) for q in questions]
    rooms = [size + 1 if size else task.max_new_tokens for size in longest]
    check_context(
        {q.id: [*p, *[0] * room] for q, p, room in zip(questions, prompts, rooms, strict=True)}, 0, engine.context
    )
    with locked(out.parent), RecordWriter(out) as writer:
        _check_same_run(writer.done, engine, task, {q.id: q for q in questions}, out)
        done = {record.id for record in writer.done}
        groups = [2 * g + bool(q.options) for g, q in zip(engine.share_prefixes(prompts), questions, strict=True)]
        keys = [(len(p), q.id) for p, q in zip(prompts, questions, strict=True)]
        batches = []
        for batch in group_batches(groups, keys, batch_size):
            size = max(1, batch_size // OPTIONS_A_QUESTION) if questions[batch[0]].options else batch_size
            batches += [batch[start : start + size] for start in range(0, len(batch), size)]
        started, new, count = time.monotonic(), 0, 0
        for number, batch in enumerate(batches):
            count += len(batch)
            asked = [questions[i] for i in batch]
            if all(q.id in done for q in asked):
                continue
            batch_prompts = [prompts[i] for i in batch]
            if asked[0].options:
                records = _chosen(engine, task, asked, batch_prompts)
            else:
                began = time.monotonic()
                greedy, sampled, _ = engine.generate(
                    batch_prompts,
                    task.max_new_tokens,
                    samples=samples,
                    temperature=temperature,
                    seed=seed * 1_000_003 + number,
                )
                # A batch is one generation: each token written takes an equal share of its time.
                second = (time.monotonic() - began) / max(1, written(greedy) + sum(map(written, sampled)))
                records = [
                    _generated(engine.name, task, q, g, s, second)
                    for q, g, s in zip(asked, greedy, sampled, strict=True)
                ]
            writer.write(record for record in records if record.id not in done)
            new += sum(record.id not in done for record in records)
            if progress:
                progress(count, len(questions), f"{new / (time.monotonic() - started):.1f} questions/s")
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
    rows = [_Row(q.id, q.domain, q.entity) for q in questions]
    sizes = {name: int(share * len(rows)) for name, share in SHARES.items()}
    splits: dict[str, str] = dict(assign_splits(rows, by, sizes, seed=seed))
    entities = {row.entity for row in rows if row.id in splits and row.entity is not None}
    tested = {row.domain for row in rows if splits.get(row.id) == "test"} if by == "relation" else set()
    for row in rows:
        if row.id not in splits and row.entity not in entities and row.domain not in tested:
            splits[row.id] = "train"
    return splits


@dataclass(frozen=True)
class _Row:
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


@dataclass(frozen=True)
class _Asking:
    """A question as it is asked here; ``options`` are the texts to choose from ([]: the answer is generated)."""

    question: Question
    split: str | None
    messages: list[dict[str, str]]
    options: list[str]

    @classmethod
    def of(
        cls, task: Task, question: Question, splits: Mapping[str, str] | None, answer_by: AnswerBy | None
    ) -> _Asking:
        split = None if splits is None else splits[question.id]
        if question.kind == "choice" and answer_by != "generation":
            return cls(question, split, cloze_prompt(question), list(question.choices or []))
        return cls(question, split, task.prompt(question), [])

    @property
    def id(self) -> str:
        return self.question.id

    def asked_in(self, record: Record) -> bool:
        """Whether a record is of this question, asked in this way."""
        return (
            record.split == self.split
            and record.choices == (self.question.choices or None)
            and (record.option_logprobs is not None) == bool(self.options)
            and [message.model_dump() for message in record.messages] == self.messages
        )


def _check_wanted(
    task: Task, questions: Sequence[_Asking], answer_by: AnswerBy | None, samples: int, out: Path
) -> None:
    if out.suffix == ".parquet":
        raise ConfideError("records are appended as they are produced: give --out a .jsonl file")
    chosen = sum(bool(q.options) for q in questions)
    if answer_by == "options" and not chosen:
        raise ConfideError(f"{task.name} has no choice questions to answer by options")
    if chosen and samples:
        raise ConfideError(
            f"{chosen} questions of {task.name} are answered by the likelihood of their options, which is not sampled: "
            "sample letters with --answer-by generation, or leave --samples out"
        )


def _check_same_run(
    done: Sequence[Record], engine: TransformersEngine, task: Task, questions: Mapping[str, _Asking], out: Path
) -> None:
    for record in done:
        if record.model != engine.name or record.task != task.name:
            raise ConfideError(
                f"{out} already holds records of model {record.model!r} on task {record.task!r}; "
                "choose another file or delete it"
            )
        # Another draw of questions or splits would put an entity on two sides.
        if record.id not in questions or not questions[record.id].asked_in(record):
            raise ConfideError(
                f"{out} already holds a run with other questions or splits (limit, seed, by, reject or answer-by); "
                "choose another file or delete it"
            )


def _chosen(
    engine: TransformersEngine, task: Task, asked: Sequence[_Asking], prompts: Sequence[list[int]]
) -> list[Record]:
    from confide.engines.options import choose

    choices = choose(engine, prompts, [q.options for q in asked])
    return [_of_choice(engine.name, task, q, choice) for q, choice in zip(asked, choices, strict=True)]


def _of_choice(model: str, task: Task, asked: _Asking, choice: Choice) -> Record:
    index, right = choice.index, asked.question.answer
    if isinstance(right, int) and asked.options[right] == choice.completion.text:
        index = right  # the same text is there twice
    # The letter names the option beyond doubt; a text may occur in another.
    correct = task.grade(asked.question, chr(ord("A") + index)).correct
    more = {"correct": correct, "answered": choice.completion.text, "option_logprobs": choice.option_logprobs}
    return task.finish(Record.model_validate(_data(model, task, asked, choice.completion) | more))


def written(completions: Sequence[Completion]) -> int:
    """Tokens that were generated, closing ones included."""
    return sum(len(completion.ids) + (completion.finish == "stop") for completion in completions)


def _generated(
    model: str, task: Task, asked: _Asking, greedy: Completion, sampled: Sequence[Completion], second: float
) -> Record:
    """``second``: what one generated token took."""
    question = asked.question
    grade = task.grade(question, greedy.text)
    data = _data(model, task, asked, greedy) | {"correct": grade.correct, "answered": grade.answered}
    if sampled:
        data["samples"] = [_sample(task, question, completion) for completion in sampled]
        agreeing = [task.agrees(question, greedy.text, completion.text) for completion in sampled]
        data["consistency"] = sum(agreeing) / len(agreeing)
        data["cost"] = {"samples": Cost(tokens=written(sampled), seconds=round(second * written(sampled), 6))}
    return task.finish(Record.model_validate(data))


def _data(model: str, task: Task, asked: _Asking, answer: Completion) -> dict[str, object]:
    question = asked.question
    # What a question file says beyond the known keys (a subject, how popular an entity is) stays with the row.
    extra = {key: value for key, value in (question.model_extra or {}).items() if key not in Record.model_fields}
    data: dict[str, object] = extra | {
        "id": question.id,
        "task": task.name,
        "kind": question.kind,
        "domain": question.domain,
        "entity": question.entity,
        "messages": [Message(**m) for m in asked.messages],
        "answer": answer.text,
        "answer_ids": answer.ids,
        "logprobs": answer.logprobs,
        "entropies": answer.entropies,
        "end_logprob": answer.end_logprob,
        "finish": answer.finish,
        "reference": question.answer,
        "model": model,
    }
    if question.choices:
        data["choices"] = question.choices
    if asked.split is not None:
        data["split"] = asked.split
    return data


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
