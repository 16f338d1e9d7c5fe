"""What is checked before a run of annotation: that its answers can be had, and that it may go on where one ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from confide.annotation.answer_record import AnsweredBy
from confide.annotation.asked_question import AnswerBy, AskedQuestion, settings_of
from confide.engines.engine import Sampling
from confide.errors import ConfideError
from confide.policies.identities import identity_of, same_model, same_name
from confide.records import Record
from confide.settings import check_settings
from confide.tasks.marking import OWN

if TYPE_CHECKING:
    from confide.tasks import Task


def check_wanted(task: Task, questions: Sequence[AskedQuestion], answer_by: AnswerBy | None, samples: int) -> None:
    """Raise `ConfideError` where questions cannot be answered so."""
    chosen = sum(bool(q.options) for q in questions)
    if answer_by == "options" and not chosen and any(q.question.kind == "choice" for q in questions):
        raise ConfideError(
            "this engine cannot tell how likely a given option is: let it write the letter, with --answer-by generation"
        )
    if answer_by == "options" and not chosen:
        raise ConfideError(f"{task.name} has no choice questions to answer by options")
    if chosen and samples:
        raise ConfideError(
            f"{chosen} questions of {task.name} are answered by the likelihood of their options, which is not sampled: "
            "sample letters with --answer-by generation, or leave --samples out"
        )


def check_same_run(
    done: Sequence[Record],
    by: AnsweredBy,
    task: Task,
    questions: Mapping[str, AskedQuestion],
    sampling: Sampling,
    out: Path,
) -> AnsweredBy:
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
            settings_of(record),
            asking.settings | ({} if asking.options else sampling.settings),
        )
    # One model has one name in a file, however its path is spelt.
    return by | {"model": done[0].model} if done else by
