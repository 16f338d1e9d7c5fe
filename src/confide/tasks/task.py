"""A task: questions, the prompts that ask them, and the grader that decides what is right.

A choice can be asked in two ways: with lettered options, of which the model names one (`prompt`), or without options,
so that the likelihood of each option's text decides (`cloze_prompt`).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from confide.errors import ConfideError
from confide.records import Record
from confide.tasks.graders import Grade, Grader, agrees, grade
from confide.tasks.questions import Question

SYSTEM = {
    "choice": "Answer with the letter of the right choice only.",
    "short": "Answer with the name only.",
    "number": "Answer with the number only.",
    "fields": "Answer with one JSON object only.",
    "prompt": "",
}
MAX_NEW_TOKENS = {"choice": 8, "short": 24, "number": 32, "fields": 256, "prompt": 128}

CLOZE_SYSTEM = "Answer the question."
CLOZE = "Question: {}\nAnswer:"
CLOZE_EXAMPLES = (
    ("Which tool cuts wood?", "a saw"),
    ("Why do people wear coats in winter?", "A coat keeps the warmth of the body in."),
    ("Where do people keep milk fresh?", "in the refrigerator"),
    ("A person who repairs shoes is called a", "cobbler"),
    ("What happens when a glass falls on a stone floor?", "It breaks into pieces."),
)
"""Answers are plain phrases; the form was chosen on ARC-Easy's training questions (``docs/how-to/own-task.md``)."""


def prompt(question: Question) -> list[dict[str, Any]]:
    """The messages that ask a question: a system line by its kind, then the question with its lettered options."""
    text = question.question
    if question.kind == "choice":
        text += "\n" + "\n".join(f"{chr(65 + i)}) {choice}" for i, choice in enumerate(question.choices or []))
    return ask(question, SYSTEM[question.kind], text)


def cloze_prompt(question: Question) -> list[dict[str, Any]]:
    """The messages after which each option's text is measured.

    The options are not listed: with a list the bundled model does no better than guessing.
    """
    examples = [(CLOZE.format(asked), answer) for asked, answer in CLOZE_EXAMPLES]
    return ask(question, CLOZE_SYSTEM, CLOZE.format(question.question), examples)


def ask(
    question: Question, system: str, text: str = "", examples: Sequence[tuple[str, str]] = ()
) -> list[dict[str, Any]]:
    """The messages that ask a question, which end in ``text`` (by default the question's own).

    A conversation is asked as it is: without worked examples, and with the system line only where it has none.
    """
    if question.messages is None:
        return chat(system, examples, text or question.question)
    turns = [turn.model_dump() for turn in question.messages]
    turns[-1]["content"] = text or question.question
    own = not system or any(turn["role"] == "system" for turn in turns)
    return turns if own else [{"role": "system", "content": system}, *turns]


def chat(system: str, examples: Sequence[tuple[str, str]], text: str) -> list[dict[str, str]]:
    """Messages: a system line (none when empty), worked examples as (question, answer), then ``text``."""
    turns = [turn for asked, answer in examples for turn in (("user", asked), ("assistant", answer))]
    messages = [*([("system", system)] if system else []), *turns, ("user", text)]
    return [{"role": role, "content": content} for role, content in messages]


@dataclass(frozen=True)
class Task:
    """Questions, how each is asked and how its answers are graded.

    Args:
        name: what records call the task.
        questions: what is asked, with references.
        grade: whether an answer is right, and what it names.
        agrees: whether two answers to a question say the same.
        prompt: the messages that ask a question; those of a conversation end in its own turns.
        max_new_tokens: how many tokens an answer may have.
        finish: adds to a finished record what only this task knows.
        grader: the name of the function that grades in place of the task's own.
        without_reference: rows of its data set that are no questions, because nobody says what is right.
    """

    name: str
    questions: list[Question]
    grade: Grader = grade
    agrees: Callable[[Question, str, str], bool] = agrees
    prompt: Callable[[Question], list[dict[str, Any]]] = prompt
    max_new_tokens: int = 24
    finish: Callable[[Record], Record] = lambda record: record
    grader: str = ""
    without_reference: int = 0


def plain_task(name: str, questions: list[Question]) -> Task:
    """A task whose questions are asked and graded by their kinds, with tokens enough for the longest kind."""
    return Task(name, questions, max_new_tokens=max(MAX_NEW_TOKENS[question.kind] for question in questions))


def drawn(task: Task, limit: int | None, seed: int) -> Task:
    """The task with at most ``limit`` of its questions, drawn by the seed, in their order."""
    if limit is None or limit >= len(task.questions):
        return task
    places = sorted(random.Random(seed).sample(range(len(task.questions)), limit))
    return replace(task, questions=[task.questions[place] for place in places])


def without_right_options(task: Task, share: float, seed: int = 0) -> Task:
    """Take the right option from some choice questions, so that every answer to them is wrong.

    As in the Self-REF paper (arXiv 2410.13284, section 5), which asks whether a confidence tells these questions apart
    although nothing was trained for it. Rows get the extra key ``has_answer``; where it is false, ``removed`` keeps the
    text of the right option. A question with two options, or without a reference, stays as it is.

    Args:
        task: the task; it is left as it is.
        share: the share of its choice questions that lose their right option, in (0, 1].
        seed: decides which; the order of the questions does not.

    Returns:
        The changed task, named ``NAME-reject``.

    Raises:
        ConfideError: the share lies outside (0, 1], or no question has an option to lose.
    """
    if not 0 < share <= 1:
        raise ConfideError(f"the share of questions to lose their right option lies between 0 and 1, not {share:g}")
    open_ = sorted(q.id for q in task.questions if isinstance(q.answer, int) and len(q.choices or []) > 2)
    count = round(share * len(open_))
    if not count:
        raise ConfideError(f"{task.name} has {len(open_)} choice questions with three options or more: none to reject")
    drawn = set(random.Random(f"reject-{seed}").sample(open_, count))

    def changed(question: Question) -> Question:
        choices, right = question.choices or [], question.answer
        if question.id not in drawn or not isinstance(right, int):
            return question.model_copy(update={"has_answer": True})
        # The right text may be there twice.
        left = [choice for choice in choices if choice != choices[right]]
        update = {"choices": left, "answer": None, "has_answer": False, "removed": choices[right]}
        return question.model_copy(update=update)

    def grade_rejecting(question: Question, answer: str) -> Grade:
        given = task.grade(question, answer)
        return Grade(False, given.answered) if (question.model_extra or {}).get("has_answer") is False else given

    questions = [changed(question) for question in task.questions]
    return replace(task, name=f"{task.name}-reject", questions=questions, grade=grade_rejecting)
