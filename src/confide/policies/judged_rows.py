"""Rows that a judge model has graded: which goals may count them, and what is said of the judge's own error."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from confide.errors import ConfideError
from confide.policies.goals import Budget, Goal, MaxRisk
from confide.policies.guarantees import JudgeError
from confide.policies.thresholds.fallback_testing import Count
from confide.policies.thresholds.judged_bound import JudgedCount
from confide.records import Record, RecordTable

METHOD = "a judge's verdicts, its error by an exact paired bound"
"""How policy files say that verdicts were counted in place of labels."""


def check_goal(goal: Goal, records: Sequence[Record]) -> None:
    """Raise `ConfideError` where rows have a verdict and no label, and ``goal`` needs labels but counts no error."""
    table = RecordTable.of(records)
    bare = int((np.isnan(table.truth("correct")) & np.isfinite(table.truth("judged"))).sum())
    if bare and not isinstance(goal, MaxRisk | Budget):
        raise ConfideError(
            f"{bare} of the {len(records)} rows have a judge's verdict and no label, and only --max-risk counts the "
            "judge's own error: take that goal, or rows that are all labelled"
        )


def judges_of(*files: Sequence[Record]) -> str:
    """The judges of the records, joined by commas."""
    tables = [RecordTable.of(records) for records in files]
    judged = [table.take(np.isfinite(table.truth("judged"))) for table in tables]
    return ", ".join(sorted({name for table in judged for name in table.coded("judged_by").present()} - {""}))


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


def error_on(records: Sequence[Record]) -> JudgeError | None:
    """The error of the judge of ``records`` on all that are labelled (None: nothing was judged)."""
    table = RecordTable.of(records)
    judged = table.take(np.isfinite(table.truth("judged")))
    if not judged:
        return None
    said, right = judged.truth("judged"), judged.truth("correct")
    return JudgeError(
        by=judges_of(judged),
        judged=len(judged),
        labelled=int(np.isfinite(right).sum()),
        missed=int(((said == 1) & (right == 0)).sum()),
        false_alarms=int(((said == 0) & (right == 1)).sum()),
    )
