"""A judge model grades the answers that no grader could: it is asked whether each is right, and may err.

Its verdict goes to `Record.judged`, never to ``correct``, which is the truth. How often it is wrong is measured where
the truth is known, too (`confide.policies.thresholds.judged_bound`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from confide.errors import ConfideError
from confide.files import locked_file
from confide.methods.asking import ask_about, share_of_yes
from confide.numeric import Floats
from confide.progress import Progress
from confide.records import Record, RecordWriter

if TYPE_CHECKING:
    from confide.engines.engine import Engine

WORDING = "Is the proposed answer right? Answer Yes or No."
AT_ONCE = 256
"""So many answers are judged between two writes of the file."""


def reference_shown(record: Record) -> str:
    """The right answer as a text, "" where the record knows none."""
    right = record.reference
    if isinstance(right, int) and not isinstance(right, bool) and record.choices and 0 <= right < len(record.choices):
        return record.choices[right]
    return " or ".join(map(str, right)) if isinstance(right, list) else "" if right is None else str(right)


def verdicts_of(engine: Engine, records: Sequence[Record], progress: Progress | None = None) -> list[bool | None]:
    """Whether ``engine`` calls each answer right: p(yes) ≥ 0.5; None where it said nothing."""

    def share(_: int, prompts: list[list[int]]) -> tuple[Floats, int]:
        return share_of_yes(engine, " Yes", " No", prompts), 0

    shares, _ = ask_about(
        engine, records, [WORDING], [0], share, room=1, note="judging", reference=reference_shown, progress=progress
    )
    return [None if np.isnan(value) else bool(value >= 0.5) for value in shares[:, 0]]


def needs_judge(record: Record) -> bool:
    """Whether nobody has graded or judged the answer."""
    return record.correct is None and record.judged is None and not record.grade_error


def judge_file(engine: Engine, out: Path, progress: Progress | None = None) -> int:
    """Add the verdicts of ``engine`` to the records in ``out`` that need one.

    What is judged stays when the run ends early, and is not asked for again.

    Returns:
        How many answers got no verdict.

    Raises:
        ConfideError: another model judged answers in this file.
    """
    with locked_file(out), RecordWriter(out) as writer:
        rows = list(writer.done)
        if others := {row.judged_by for row in rows if row.judged is not None} - {engine.name}:
            raise ConfideError(
                f"{out} holds verdicts of {', '.join(sorted(others))}, not of {engine.name}: one judge judges a file"
            )
        left = [place for place, row in enumerate(rows) if needs_judge(row)]
        silent = 0
        for start in range(0, len(left), AT_ONCE):
            some = left[start : start + AT_ONCE]
            told = partial(_told, progress, start, len(left)) if progress else None
            verdicts = verdicts_of(engine, [rows[place] for place in some], told)
            for place, verdict in zip(some, verdicts, strict=True):
                if verdict is not None:
                    rows[place] = rows[place].model_copy(update={"judged": verdict, "judged_by": engine.name})
            silent += verdicts.count(None)
            writer.replace(rows)
    return silent


def _told(progress: Progress, start: int, total: int, done: int, _: int, note: str) -> None:
    progress(start + done, total, note)
