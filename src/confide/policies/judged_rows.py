"""Rows that a judge model has graded: which goals may count them, and what is said of the judge's own error."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from confide.errors import ConfideError
from confide.policies.goals import Budget, Goal, MaxRisk
from confide.policies.guarantees import JudgeError
from confide.policies.thresholds.fallback_testing import Count
from confide.policies.thresholds.judged_bound import JudgedCount
from confide.records import Record

METHOD = "a judge's verdicts, its error by an exact paired bound"
"""How policy files say that verdicts were counted in place of labels."""


def check_goal(goal: Goal, records: Sequence[Record]) -> None:
    """Raise `ConfideError` where rows have a verdict and no label, and ``goal`` needs labels but counts no error."""
    bare = sum(record.correct is None and record.judged is not None for record in records)
    if bare and not isinstance(goal, MaxRisk | Budget):
        raise ConfideError(
            f"{bare} of the {len(records)} rows have a judge's verdict and no label, and only --max-risk counts the "
            "judge's own error: take that goal, or rows that are all labelled"
        )


def judges_of(records: Iterable[Record]) -> str:
    """The judges of the records, joined by commas."""
    return ", ".join(sorted({record.judged_by for record in records if record.judged is not None} - {""}))


def error_of(counts: Iterable[Count], by: str) -> JudgeError | None:
    """The error of the judge ``by`` over all ``counts`` (None: there was no judge)."""
    judged = [count for count in counts if isinstance(count, JudgedCount)]
    if not judged:
        return None
    return JudgeError(
        by=by,
        judged=sum(count.judged for count in judged),
        labelled=sum(count.labelled for count in judged),
        missed=sum(count.missed for count in judged),
        false_alarms=sum(count.false_alarms for count in judged),
    )


def error_on(records: Iterable[Record]) -> JudgeError | None:
    """The error of the judge of ``records`` on all that are labelled (None: nothing was judged)."""
    judged = [record for record in records if record.judged is not None]
    if not judged:
        return None
    pairs = [(record.judged, record.correct) for record in judged if record.correct is not None]
    missed, alarms = pairs.count((True, False)), pairs.count((False, True))
    return JudgeError(by=judges_of(judged), judged=len(judged), labelled=len(pairs), missed=missed, false_alarms=alarms)
