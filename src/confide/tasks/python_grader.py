"""Grading by a function of the user's, named as ``module:function``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from confide.arguments import shown
from confide.errors import ConfideError
from confide.functions import load_function, look_in
from confide.tasks.graders import Grade, agrees, grade
from confide.tasks.questions import Question
from confide.tasks.task import Task

_KEPT = 1024
"""Grades that are kept, so that no answer is graded once for itself and again beside every sample."""

WANTED = "wanted is True, False or None, or a mapping with correct (one of these) and answered (a text or None)"


def graded_by(task: Task, spec: str | None) -> Task:
    """``task`` with the grades of a function, where one is named.

    The function is given the question as a dictionary, with everything that its file says of it, and the answer's text.
    It returns whether the answer is right (None: that cannot be said), or a `Grade`, or a mapping with ``correct`` and
    ``answered``; where it does not say what the answer names, the grader of the question's kind does.

    Args:
        spec: ``module:function``, or ``FOLDER/module:function``; without a folder the module is looked for in the
            working folder and in PYTHONPATH.

    Raises:
        ConfideError: there is no such function.
    """
    if spec is None:
        return task
    folder, _, name = spec.rpartition("/")
    look_in(Path(folder))
    grader = _PythonGrader(load_function(name, f"in the folder {folder}" if folder else "in the working folder"))
    return replace(task, grade=grader, agrees=partial(agrees, grade=grader), grader=name)


class _PythonGrader:
    """Grades by a function."""

    def __init__(self, function: Callable[[dict[str, Any], str], object]):
        self.function = function
        self.known: dict[tuple[str, str], Grade] = {}

    def __call__(self, question: Question, answer: str) -> Grade:
        place = (question.id, answer)
        if place not in self.known:
            if len(self.known) >= _KEPT:
                self.known.clear()
            self.known[place] = _read(question, answer, self.function(question.model_dump(), answer))
        return self.known[place]


def _read(question: Question, answer: str, returned: object) -> Grade:
    """The grade that a function means by what it returned; raises `ConfideError` for what is none."""
    if isinstance(returned, Grade):
        returned = {"correct": returned.correct, "answered": returned.answered}
    said = returned if isinstance(returned, Mapping) else {"correct": returned}
    correct = bool(said["correct"]) if isinstance(said.get("correct"), np.bool_) else said.get("correct")
    answered = said["answered"] if "answered" in said else grade(question, answer).answered
    known = "correct" in said and not set(said) - {"correct", "answered"}
    if not known or not isinstance(correct, bool | None) or not isinstance(answered, str | None):
        raise ConfideError(f"it returned {shown(returned)}; {WANTED}")
    return Grade(correct, answered)
