"""Tasks: questions with references, how they are asked, and the grader that decides what is right."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from confide.errors import ConfideError
from confide.tasks.graders import Grade, Grader, grader_for
from confide.tasks.questions import FORMATS, Question, read_questions

__all__ = [
    "Grade",
    "Grader",
    "Question",
    "Task",
    "available_tasks",
    "grader_for",
    "load_task",
    "read_questions",
]

_SYSTEM = {
    "choice": "Answer with the letter of the right choice only.",
    "short": "Answer with the name only.",
    "number": "Answer with the number only.",
    "prompt": "",
}
_MAX_NEW_TOKENS = {"choice": 8, "short": 24, "number": 32, "prompt": 128}

_TASKS = {
    "geography": "cities, countries, capitals, currencies and continents, from the GeoNames gazetteer",
}


@dataclass(frozen=True)
class Task:
    """Questions, how each is asked and how its answers are graded.

    ``max_new_tokens`` is the room that an answer needs.
    """

    name: str
    questions: list[Question]
    grade: Callable[[Question, str], Grade]
    agrees: Callable[[Question, str, str], bool]
    prompt: Callable[[Question], list[dict[str, str]]]
    max_new_tokens: int


def available_tasks() -> list[tuple[str, str]]:
    """Name and description of every bundled task."""
    return list(_TASKS.items())


def load_task(name_or_path: str, *, limit: int | None = None, seed: int = 0) -> Task:
    """Load a bundled task or a question file.

    ``limit`` draws that many questions at random (by ``seed``); a file that has no more is taken whole.
    Raises `ConfideError` for an unknown name and for bad files.
    """
    if limit is not None and limit < 1:
        raise ConfideError(f"limit must be at least 1, not {limit}")
    if name_or_path == "geography":
        from confide.tasks import geography, phrasings

        return Task(
            "geography",
            geography.geography_questions(limit, seed),
            geography.grade,
            geography.agrees,
            geography.prompt,
            phrasings.MAX_NEW_TOKENS,
        )
    path = Path(name_or_path)
    if path.suffix not in FORMATS and not path.exists():
        known = ", ".join(_TASKS)
        raise ConfideError(
            f"no task {name_or_path!r}: there is {known}, or give a question file ({', '.join(FORMATS)})"
        )
    questions = read_questions(path)
    if limit is not None and limit < len(questions):
        kept = sorted(random.Random(seed).sample(range(len(questions)), limit))
        questions = [questions[index] for index in kept]
    return Task(
        path.stem,
        questions,
        grade,
        agrees,
        prompt,
        max(_MAX_NEW_TOKENS[kind] for kind in {question.kind for question in questions}),
    )


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
    system = _SYSTEM[question.kind]
    messages = [{"role": "system", "content": system}] if system else []
    return [*messages, {"role": "user", "content": text}]
