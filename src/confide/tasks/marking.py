"""Marking: a record gets the grade of its answer and of its samples."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from confide.errors import ConfideError
from confide.records import Record, Sample
from confide.tasks.questions import Question
from confide.tasks.task import Task

OWN = "the task's own"
"""What settings call the grader of a task that was given no other."""


def mark(task: Task, question: Question, record: Record) -> Record:
    """A record with the grades of its answer and of its samples, and the share of these that agrees with it.

    A grader that fails costs no answer: the record has no grade then, and ``grade_error`` says why.
    """
    try:
        update = _grades(task, question, record)
        if record.grade_error:
            update["grade_error"] = None
    except (Exception, SystemExit) as error:  # a grader may be somebody else's
        told = "" if isinstance(error, ConfideError) else f"{type(error).__name__}: "
        update = {"correct": None, "answered": None, "grade_error": (told + " ".join(str(error).split()))[:300]}
    if task.grader:
        update["graded_by"] = task.grader
    return task.finish(record.model_copy(update=update))


def check_marked(records: Iterable[Record], out: Path) -> None:
    """Raise `ConfideError` where the grader failed on some of ``records``, whose answers are in ``out``."""
    if failed := [record for record in records if record.grade_error]:
        first = failed[0]
        raise ConfideError(
            f"the grader {first.graded_by or OWN} failed on {len(failed)} answers, first on that to the question "
            f"{first.id}: {first.grade_error}; {out} keeps them without a grade: mend the grader and run again, which "
            "grades them and asks nothing twice"
        )


def _grades(task: Task, question: Question, record: Record) -> dict[str, Any]:
    chosen = record.option_logprobs is not None and record.answer in (question.choices or [])
    # The letter names the option beyond doubt; a text may occur in another.
    own = task.grade(question, _letter(question, record.answer) if chosen and not task.grader else record.answer)
    update: dict[str, Any] = {"correct": own.correct, "answered": record.answer if chosen else own.answered}
    if not record.samples:
        return update
    samples = []
    for sample in record.samples:
        grade = task.grade(question, sample.answer)
        samples.append(sample.model_copy(update={"correct": grade.correct, "answered": grade.answered}))
    # What was cut before it said anything agrees with nothing.
    answers: list[Record | Sample] = [record, *samples]
    silent = [one.finish == "length" and not one.answer.strip() for one in answers]
    agreeing = [
        not (silent[0] or quiet) and task.agrees(question, record.answer, sample.answer)
        for sample, quiet in zip(samples, silent[1:], strict=True)
    ]
    return update | {"samples": samples, "consistency": sum(agreeing) / len(agreeing)}


def _letter(question: Question, text: str) -> str:
    """The letter of the option with this text; of the right one where several have it."""
    choices, right = question.choices or [], question.answer
    index = right if isinstance(right, int) and choices[right] == text else choices.index(text)
    return chr(ord("A") + index)
