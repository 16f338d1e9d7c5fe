"""Rejection: choice questions that have lost their right option, so that every answer to them is wrong.

As in the Self-REF paper (arXiv 2410.13284, section 5): half of the questions, nothing is trained for it; can a
confidence tell which ones?
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

from confide.errors import ConfideError
from confide.tasks.graders import Grade
from confide.tasks.questions import Question
from confide.tasks.task import Task


def without_right_options(task: Task, share: float, seed: int = 0) -> Task:
    """The task with the right option taken from a ``share`` of its choice questions, drawn by ``seed``.

    Rows get the extra key ``has_answer``; where it is false ``removed`` keeps the text of the right option and every
    answer is wrong. A question with two options, or without a reference, stays as it is.

    Raises `ConfideError` for a share outside (0, 1] and for a task in which no option can be removed.
    """
    if not 0 < share <= 1:
        raise ConfideError(f"the share of questions to lose their right option lies between 0 and 1, not {share:g}")
    open_ = sorted(q.id for q in task.questions if isinstance(q.answer, int) and len(q.choices or []) > 2)
    count = round(share * len(open_))
    if not count:
        raise ConfideError(f"{task.name} has {len(open_)} choice questions with three options or more: none to reject")
    chosen = set(random.Random(f"reject-{seed}").sample(open_, count))
    questions = [_without(q) if q.id in chosen else q.model_copy(update={"has_answer": True}) for q in task.questions]
    return replace(task, name=f"{task.name}-reject", questions=questions, grade=_graded_by(task.grade))


def _without(question: Question) -> Question:
    choices, right = list(question.choices or []), question.answer
    assert isinstance(right, int)
    removed = choices[right]
    # The right text may be there twice.
    left = [choice for choice in choices if choice != removed]
    return question.model_copy(update={"choices": left, "answer": None, "has_answer": False, "removed": removed})


def _graded_by(grade: Callable[[Question, str], Grade]) -> Callable[[Question, str], Grade]:
    def rejecting(question: Question, answer: str) -> Grade:
        found = grade(question, answer)
        lost = (question.model_extra or {}).get("has_answer") is False
        return Grade(False, found.answered) if lost else found

    return rejecting
