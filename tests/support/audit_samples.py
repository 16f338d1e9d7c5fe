"""What the running totals of audits must show, worked out from the rows themselves."""

from __future__ import annotations

import numpy as np

from confide.serving.monitor.eras import Steps
from confide.serving.store.audits import AuditRow

_DAY = 86_400


def once_a_day(rows: list[AuditRow]) -> list[AuditRow]:
    """The first labelled row of each question and day (UTC), or the first where none has a label, in order.

    Whoever asks one question a hundred times in a burst learns nothing new from the last ninety-nine answers, and a
    sequence that counted them would be wrong more often than promised. A question that comes back on another day counts
    again, so that a model that changes is noticed where few questions are asked.
    """
    chosen: dict[object, int] = {}
    for number, row in enumerate(rows):
        # A row without a hash is a question of its own.
        key = number if row.question_hash is None else (row.question_hash, row.created // _DAY)
        if key not in chosen or (rows[chosen[key]].correct is None and row.correct is not None):
            chosen[key] = number
    return [rows[number] for number in sorted(chosen.values())]


def audited_steps(rows: list[AuditRow], goal: str = "max_risk", *, each: bool = False) -> Steps:
    """A step for each row that a promise of ``goal`` is about; questions count once a day, or ``each`` row counts."""
    rows = rows if goal == "match_expert" else [row for row in rows if row.decision == "answer"]
    rows = rows if each else once_a_day(rows)
    kept = np.array([row.decision == "answer" for row in rows], dtype=bool)
    wrong = np.array([row.correct is False for row in rows], dtype=bool)
    right = np.array([row.correct is True for row in rows], dtype=bool)
    return Steps(
        times=np.array([row.created for row in rows], dtype=float),
        n=np.ones(len(rows)),
        least=(kept & wrong).astype(float),
        most=(kept & ~right).astype(float),
        share=np.array([row.probability for row in rows], dtype=float),
    )
