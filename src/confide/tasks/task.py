"""A task: questions, how they are asked, and the grader that decides what is right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from confide.records import Record
from confide.tasks.graders import Grade, grader_for
from confide.tasks.questions import Question

SYSTEM = {
    "choice": "Answer with the letter of the right choice only.",
    "short": "Answer with the name only.",
    "number": "Answer with the number only.",
    "prompt": "",
}
MAX_NEW_TOKENS = {"choice": 8, "short": 24, "number": 32, "prompt": 128}


def grade(question: Question, answer: str) -> Grade:
    """Grade an answer by the question's kind."""
    return grader_for(question).grade(question, answer)


def agrees(question: Question, a: str, b: str) -> bool:
    """Whether two answers to ``question`` say the same."""
    return grader_for(question).agrees(question, a, b)


def prompt(question: Question) -> list[dict[str, str]]:
    """The messages that ask a question of a file: a system line by its kind, then the question."""
    text = question.question
    if question.kind == "choice":
        text += "\n" + "\n".join(f"{chr(65 + i)}) {choice}" for i, choice in enumerate(question.choices or []))
    system = SYSTEM[question.kind]
    messages = [{"role": "system", "content": system}] if system else []
    return [*messages, {"role": "user", "content": text}]


def room(questions: list[Question]) -> int:
    """The new tokens that an answer to the longest kind of question needs."""
    return max(MAX_NEW_TOKENS[kind] for kind in {question.kind for question in questions})


def unchanged(record: Record) -> Record:
    """The record as it is."""
    return record


@dataclass(frozen=True)
class Task:
    """Questions, how each is asked and how its answers are graded.

    ``max_new_tokens`` is the room that an answer needs; ``finish`` adds to a finished record what only this task
    knows.
    """

    name: str
    questions: list[Question]
    grade: Callable[[Question, str], Grade] = grade
    agrees: Callable[[Question, str, str], bool] = agrees
    prompt: Callable[[Question], list[dict[str, str]]] = prompt
    max_new_tokens: int = 24
    finish: Callable[[Record], Record] = unchanged
