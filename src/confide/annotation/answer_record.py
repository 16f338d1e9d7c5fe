"""The records of a task's answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from confide.annotation.asked_question import BY_OPTIONS, AskedQuestion
from confide.engines.engine import Completion, Sampling
from confide.engines.options import Choice
from confide.policies.requests import request_options
from confide.records import Cost, Message, Record, RequestShape, Sample

if TYPE_CHECKING:
    from confide.tasks import Task
    from confide.tasks.questions import Question

AnsweredBy = dict[str, str]
"""Name and identity of the model that answers, as records hold them."""


def chosen_record(by: AnsweredBy, task: Task, asked: AskedQuestion, choice: Choice) -> Record:
    """The record of a choice that was answered by the likeliest option."""
    index, right = choice.index, asked.question.answer
    if isinstance(right, int) and asked.options[right] == choice.completion.text:
        index = right  # the same text is there twice
    # The letter names the option beyond doubt; a text may occur in another.
    correct = task.grade(asked.question, chr(ord("A") + index)).correct
    more = {"correct": correct, "answered": choice.completion.text, "option_logprobs": choice.option_logprobs}
    # Nobody who asks a router gets an answer in this way.
    shape = RequestShape(options=BY_OPTIONS)
    return task.finish(
        Record.model_validate(_data(by, task, asked, choice.completion) | more | {"request_shape": shape})
    )


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
    question = asked.question
    grade = task.grade(question, greedy.text)
    data = _data(by, task, asked, greedy) | {"correct": grade.correct, "answered": grade.answered}
    if sampled:
        data["samples"] = [_sample(task, question, completion) for completion in sampled]
        # What was cut before it said anything agrees with nothing.
        silent = [c.finish == "length" and not c.text.strip() for c in (greedy, *sampled)]
        agreeing = [
            not (silent[0] or quiet) and task.agrees(question, greedy.text, completion.text)
            for completion, quiet in zip(sampled, silent[1:], strict=True)
        ]
        tokens = sum(completion.tokens for completion in sampled)
        data["consistency"] = sum(agreeing) / len(agreeing)
        data["sampled_with"] = {"temperature": sampling.temperature, "seed": sampling.seed}
        data["cost"] = {"samples": Cost(tokens=tokens, seconds=round(second * tokens, 6))}
    return task.finish(Record.model_validate(data))


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
    data |= answer.more
    if (letters := _letters(question, answer)) is not None:
        data["option_logprobs"] = letters
    if question.choices:
        data["choices"] = question.choices
    if asked.split is not None:
        data["split"] = asked.split
    return data


def _letters(question: Question, answer: Completion) -> list[float] | None:
    """Log-probabilities of the letters of all choices as the answer's first token, where the engine tells them."""
    letters = [answer.first.get(chr(ord("A") + i)) for i in range(len(question.choices or []))]
    return [value for value in letters if value is not None] if letters and None not in letters else None


def _sample(task: Task, question: Question, completion: Completion) -> Sample:
    grade = task.grade(question, completion.text)
    return Sample(
        answer=completion.text,
        answer_ids=completion.ids,
        reasoning_ids=completion.reasoning_ids,
        finish=completion.finish,
        correct=grade.correct,
        answered=grade.answered,
        logprobs=completion.logprobs,
    )
