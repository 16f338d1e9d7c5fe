"""Annotation: a model answers a task's questions and the grader marks the answers.

Batches are fixed by the questions alone (sorted by length), and a batch that a killed run left unfinished is
answered again as a whole, so that a continued run ends with the same answers as an unbroken one.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from confide.engines.engine import Completion, Engine, check_context, encode_at_once
from confide.engines.options import Choice, choose_options
from confide.errors import ConfideError
from confide.files import locked_file
from confide.policies.identities import identity_of, same_model, same_name
from confide.policies.requests import request_options
from confide.progress import Progress
from confide.records import Cost, Message, Record, RecordWriter, RequestShape, Sample, check_records_file
from confide.settings import check_settings
from confide.tasks.marking import OWN, check_marked, mark
from confide.tasks.task import cloze_prompt

if TYPE_CHECKING:
    from confide.tasks import Task
    from confide.tasks.questions import Question

_By = dict[str, str]
"""Name and identity of the model that answers, as records hold them."""

AnswerBy = Literal["options", "generation"]
"""How a choice is answered: the likeliest option's text, or a letter that the model writes."""

OPTIONS_PER_QUESTION = 4
"""A batch of choices holds this many times fewer questions: each runs all of its options."""


def annotate(
    engine: Engine,
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
    """Answer every question of ``task`` and append the records to ``out``.

    Args:
        splits: question id → split; a question that is absent is not asked.
        answer_by: how choices are answered, by default by ``options``: a small model that writes letters guesses, and
            an option's own tokens are what every other source reads. Other questions are always generated.
        samples: sampled answers beside the greedy one; only for answers that are generated.
        temperature: of the samples.

    Returns:
        How many records are new.

    Raises:
        ConfideError: ``out`` holds another model's or another task's records or was made with other settings, is in use
            by another run, prompts do not fit the model's context (they are counted and named), the answers cannot be
            given so, or the grader failed: what is answered is kept, and the next run grades it first.
    """
    named = [q for q in task.questions if splits is None or q.id in splits]
    asked = [_Asking.of(engine, task, q, splits, answer_by) for q in named]
    _check_wanted(task, asked, answer_by, samples, out)
    by = {"model": engine.name, "identity": engine.identity}  # hashed once, not for every record
    check_context({q.id: len(q.prompt) + q.room for q in asked}, engine.context)
    sampling = _Sampling(samples, temperature, seed)
    with locked_file(out), RecordWriter(out) as writer:
        by_id = {q.id: q for q in asked}
        by = _check_same_run(writer.done, by, task, by_id, sampling, out)
        if any(r.grade_error for r in writer.done):
            marked = [mark(task, by_id[r.id].question, r) if r.grade_error else r for r in writer.done]
            writer.replace(marked)
        failed = [record for record in writer.done if record.grade_error]
        done = {record.id for record in writer.done}
        new = seen = 0
        began = time.monotonic()
        for some, answer in _answers(engine, by, task, asked, batch_size, sampling):
            seen += len(some)
            if all(q.id in done for q in some):
                continue
            fresh = [record for record in answer() if record.id not in done]
            writer.write(fresh)
            failed += [record for record in fresh if record.grade_error]
            new += len(fresh)
            if progress:
                progress(seen, len(asked), f"{new / (time.monotonic() - began):.1f} questions/s")
    check_marked(failed, out)
    return new


SPLIT = "split (--seed, --by, --limit)"
"""What an error calls the split, which these flags decide."""

SHARES = {"validation": 0.1, "calibration": 0.2, "test": 0.2}
"""How annotated questions are shared out; training gets the rest."""


def split_questions(questions: Sequence[Question], by: str = "standard", seed: int = 0) -> dict[str, str]:
    """Question id → split, whole entities at a time, in the shares of `SHARES`; the last entity of a split exceeds it.

    A question that asks about nothing named is an entity of its own. Only ``relation`` leaves questions out: those of
    the tested domain whose entity other splits ask about, and those of other domains whose entity is tested.
    ``answered-country`` needs answers, so it is made afterwards from records (``confide split``).
    """
    from confide.tasks.splits import assign_splits

    if by == "answered-country":
        raise ConfideError("answered-country splits need answers: annotate first, then run confide split")
    sizes = {name: int(share * len(questions)) for name, share in SHARES.items()}
    splits: dict[str, str] = dict(assign_splits(questions, by, sizes, seed=seed))
    sides = {q.entity: splits[q.id] for q in questions if q.id in splits and q.entity is not None}
    tested = {q.domain for q in questions if splits.get(q.id) == "test"} if by == "relation" else set()
    for q in questions:
        if q.id in splits:
            continue
        held_out, side = q.domain in tested, sides.get(q.entity) if q.entity is not None else None
        if tested and side is not None and held_out != (side == "test"):
            continue
        splits[q.id] = side or ("test" if held_out else "train")
        if q.entity is not None:
            sides[q.entity] = splits[q.id]
    return splits


@dataclass(frozen=True)
class _Asking:
    """A question as it is asked here.

    ``options`` are the texts to choose from ([]: the answer is generated), ``room`` the tokens an answer may take.
    ``template`` is what the chat template was given besides the messages: an option is read right behind them, so a
    model that thinks first is not let to.
    """

    question: Question
    split: str | None
    messages: list[dict[str, Any]]
    options: list[str]
    prompt: list[int]
    room: int
    template: dict[str, Any]

    @classmethod
    def of(
        cls,
        engine: Engine,
        task: Task,
        question: Question,
        splits: Mapping[str, str] | None,
        answer_by: AnswerBy | None,
    ) -> _Asking:
        split = None if splits is None else splits[question.id]
        chosen = question.kind == "choice" and answer_by != "generation"
        messages = cloze_prompt(question) if chosen else task.prompt(question)
        options = list(question.choices or []) if chosen else []
        longest = max((len(engine.encode_answer(text)) for text in options), default=0)
        room = longest + 1 if longest else task.max_new_tokens
        try:
            template, prompt = engine.chat_template_kwargs, engine.encode(messages)
        except ConfideError as error:
            raise ConfideError(f"question {question.id}: {error}") from None
        if options and (at_once := encode_at_once(engine, messages)) != prompt:
            template, prompt = template | {"enable_thinking": False}, at_once
        return cls(question, split, messages, options, prompt, room, template)

    @property
    def id(self) -> str:
        return self.question.id

    @property
    def settings(self) -> dict[str, Any]:
        """What an answer and its grade depend on besides the model and how samples are drawn."""
        return {
            SPLIT: self.split,
            "choices": self.question.choices or None,
            "answer-by": "options" if self.options else "generation",
            "prompt": _written(self.messages),
            "chat template": self.template,
            "max-new-tokens": self.room,
            "reference": self.question.answer,
            "kind": self.question.kind,
            "domain": self.question.domain,
            "entity": self.question.entity,
        }


@dataclass(frozen=True)
class _Sampling:
    """How many answers are sampled beside the greedy one, and how they are drawn."""

    count: int
    temperature: float
    seed: int

    @property
    def settings(self) -> dict[str, Any]:
        drawn = {"temperature": self.temperature, "seed": self.seed} if self.count else {}
        return {"samples": self.count, **drawn}


def _answers(
    engine: Engine,
    by: _By,
    task: Task,
    asked: Sequence[_Asking],
    batch_size: int,
    sampling: _Sampling,
) -> Iterator[tuple[list[_Asking], Callable[[], list[Record]]]]:
    """Batches of questions, each with a function that answers it.

    Batches are sorted by length and id, so that they are the same ones whenever the run is continued.
    """
    for number, some in enumerate(_batches(engine, [q for q in asked if not q.options], batch_size)):
        yield some, partial(_generate, engine, by, task, some, sampling, number)
    for some in _batches(engine, [q for q in asked if q.options], max(1, batch_size // OPTIONS_PER_QUESTION)):
        yield some, partial(_choose, engine, by, task, some)


def _batches(engine: Engine, asked: Sequence[_Asking], size: int) -> Iterator[list[_Asking]]:
    keys = [(len(q.prompt), q.id) for q in asked]
    for rows in engine.batches([q.prompt for q in asked], keys=keys, size=size):
        yield [asked[i] for i in rows]


def _generate(
    engine: Engine, by: _By, task: Task, some: Sequence[_Asking], sampling: _Sampling, number: int
) -> list[Record]:
    """Answer the questions of a batch by generation, with sampled answers besides."""
    prompts, room, began = [q.prompt for q in some], task.max_new_tokens, time.monotonic()
    sampled: list[list[Completion]] = [[] for _ in prompts]
    if sampling.count:
        seed = sampling.seed * 1_000_003 + number
        sampled = engine.sample(prompts, room, sampling.count, temperature=sampling.temperature, seed=seed)
    greedy = engine.answer(prompts, room)
    # A batch is one generation: each token written takes an equal share of its time.
    tokens = sum(c.tokens for c in greedy) + sum(c.tokens for row in sampled for c in row)
    second = (time.monotonic() - began) / max(1, tokens)
    return [_generated(by, task, q, g, s, second, sampling) for q, g, s in zip(some, greedy, sampled, strict=True)]


def _choose(engine: Engine, by: _By, task: Task, some: Sequence[_Asking]) -> list[Record]:
    """Answer choice questions by the likeliest of their options."""
    choices = choose_options(engine, [q.prompt for q in some], [q.options for q in some])
    return [_chosen(by, task, q, choice) for q, choice in zip(some, choices, strict=True)]


def _check_wanted(
    task: Task, questions: Sequence[_Asking], answer_by: AnswerBy | None, samples: int, out: Path
) -> None:
    check_records_file(out, appended=True)
    chosen = sum(bool(q.options) for q in questions)
    if answer_by == "options" and not chosen:
        raise ConfideError(f"{task.name} has no choice questions to answer by options")
    if chosen and samples:
        raise ConfideError(
            f"{chosen} questions of {task.name} are answered by the likelihood of their options, which is not sampled: "
            "sample letters with --answer-by generation, or leave --samples out"
        )


def _check_same_run(
    done: Sequence[Record],
    by: _By,
    task: Task,
    questions: Mapping[str, _Asking],
    sampling: _Sampling,
    out: Path,
) -> _By:
    """Raise `ConfideError` unless this run may continue ``done``; who new records say has answered."""
    for record in done:
        known = {"task": record.task, "grader": record.graded_by or OWN}
        check_settings(str(out), known, {"task": task.name, "grader": task.grader or OWN})
        same = same_model(identity_of(record, ""), by["identity"])
        if not (same_name(record.model, by["model"]) if same is None else same):
            held, ours = (f"{name!r} ({identity})" for name, identity in ((record.model, record.identity), by.values()))
            raise ConfideError(
                f"{out} already holds answers of another model, {held}, than {ours}: choose another file"
            )
        if record.id not in questions:
            raise ConfideError(
                f"{out} already holds the question {record.id}, which is not asked now: go on with the same task, "
                "limit, seed and splits, or choose another file"
            )
        asking = questions[record.id]
        check_settings(
            f"{out}, row {record.id},",
            _settings(record),
            asking.settings | ({} if asking.options else sampling.settings),
        )
    # One model has one name in a file, however its path is spelt.
    return by | {"model": done[0].model} if done else by


def _settings(record: Record) -> dict[str, Any]:
    """How a record was asked, in the words of `_Asking.settings`, as far as it says."""
    known: dict[str, Any] = {
        SPLIT: record.split,
        "choices": record.choices,
        "answer-by": "generation" if record.option_logprobs is None else "options",
        "prompt": _written([message.model_dump() for message in record.messages]),
        "chat template": record.chat_template_kwargs,
        "reference": record.reference,
        "kind": record.kind,
        "domain": record.domain,
        "entity": record.entity,
        "samples": len(record.samples or []),
        **record.sampled_with,
    }
    if record.request_shape is not None and record.request_shape.max_tokens is not None:
        known["max-new-tokens"] = record.request_shape.max_tokens
    return known


def _written(messages: Sequence[Mapping[str, Any]]) -> str:
    return "\n".join(json.dumps(message, ensure_ascii=False, sort_keys=True) for message in messages)


def _chosen(by: _By, task: Task, asked: _Asking, choice: Choice) -> Record:
    # Nobody who asks a router gets an answer in this way.
    shape = RequestShape(options=request_options({"temperature": 0, "answer_by": "options"}))
    more = {"option_logprobs": choice.option_logprobs, "request_shape": shape}
    return mark(task, asked.question, Record.model_validate(_data(by, task, asked, choice.completion) | more))


def _generated(
    by: _By,
    task: Task,
    asked: _Asking,
    greedy: Completion,
    sampled: Sequence[Completion],
    second: float,
    sampling: _Sampling,
) -> Record:
    """``second``: what one generated token took."""
    data = _data(by, task, asked, greedy)
    if sampled:
        data["samples"] = [_sample(completion) for completion in sampled]
        tokens = sum(completion.tokens for completion in sampled)
        data["sampled_with"] = {"temperature": sampling.temperature, "seed": sampling.seed}
        data["cost"] = {"samples": Cost(tokens=tokens, seconds=round(second * tokens, 6))}
    return mark(task, asked.question, Record.model_validate(data))


def _data(by: _By, task: Task, asked: _Asking, answer: Completion) -> dict[str, object]:
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
        **by,
        "request_shape": RequestShape(options=request_options({"temperature": 0}), max_tokens=asked.room),
    }
    if asked.template:
        data["chat_template_kwargs"] = asked.template
    if answer.reasoning_ids:
        data |= {"reasoning": answer.reasoning, "reasoning_ids": answer.reasoning_ids}
    if question.choices:
        data["choices"] = question.choices
    if question.messages:
        data["own_turns"] = len(question.messages)
    if asked.split is not None:
        data["split"] = asked.split
    return data


def _sample(completion: Completion) -> Sample:
    return Sample(
        answer=completion.text,
        answer_ids=completion.ids,
        reasoning_ids=completion.reasoning_ids,
        finish=completion.finish,
        logprobs=completion.logprobs,
    )
