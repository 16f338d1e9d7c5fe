"""The records of a task's answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from confide.annotation.asked_question import BY_OPTIONS, AskedQuestion
from confide.engines.engine import Completion, Sampling
from confide.engines.options import Choice
from confide.policies.requests import request_options
from confide.records import Cost, Message, Record, RequestShape, Sample
from confide.tasks.marking import mark

if TYPE_CHECKING:
    from confide.tasks import Task
    from confide.tasks.questions import Question

AnsweredBy = dict[str, str]
"""Name and identity of the model that answers, as records hold them."""


def chosen_record(by: AnsweredBy, task: Task, asked: AskedQuestion, choice: Choice) -> Record:
    """The record of a choice that was answered by the likeliest option."""
    more = {"option_logprobs": choice.option_logprobs, "request_shape": RequestShape(options=BY_OPTIONS)}
    return mark(task, asked.question, Record.model_validate(_data(by, task, asked, choice.completion) | more))


def generated_record(
    by: AnsweredBy,
    task: Task,
    asked: AskedQuestion,
    greedy: Completion,
    sampled: Sequence[Completion],
    second: float,
    sampling: Sampling,
) -> Record:
    """``second``: what one generated token took."""
    data = _data(by, task, asked, greedy)
    if sampled:
        data["samples"] = [_sample(completion) for completion in sampled]
        tokens = sum(completion.tokens for completion in sampled)
        data["sampled_with"] = {"temperature": sampling.temperature, "seed": sampling.seed}
        data["cost"] = {"samples": Cost(tokens=tokens, seconds=round(second * tokens, 6))}
    record = mark(task, asked.question, Record.model_validate(data))
    letters = _letters(asked.question, greedy)
    return record if letters is None else record.model_copy(update={"option_logprobs": letters})


def _data(by: AnsweredBy, task: Task, asked: AskedQuestion, answer: Completion) -> dict[str, object]:
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
        "token_starts": answer.starts,
        "end_logprob": answer.end_logprob,
        "finish": answer.finish,
        "reference": question.answer,
        **by,
        "request_shape": RequestShape(options=request_options({"temperature": 0}), max_tokens=asked.room),
    }
    if asked.template:
        data["chat_template_kwargs"] = asked.template
    if answer.reasoning is not None:
        data |= {"reasoning": answer.reasoning, "reasoning_ids": answer.reasoning_ids}
    if question.opening:
        data |= {"opening": question.opening, "opening_ids": asked.opening}
    data |= answer.more
    if question.choices:
        data["choices"] = question.choices
    if question.messages:
        data["own_turns"] = len(question.messages)
    if asked.split is not None:
        data["split"] = asked.split
    return data


def _letters(question: Question, answer: Completion) -> list[float] | None:
    """Log-probabilities of the letters of all choices as the answer's first token, where the engine tells them."""
    letters = [answer.first.get(chr(ord("A") + i)) for i in range(len(question.choices or []))]
    return [value for value in letters if value is not None] if letters and None not in letters else None


def _sample(completion: Completion) -> Sample:
    return Sample(
        answer=completion.text,
        answer_ids=completion.ids,
        reasoning_ids=completion.reasoning_ids,
        finish=completion.finish,
        logprobs=completion.logprobs,
    )
