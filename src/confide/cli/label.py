"""``confide label``: a sheet of answers for a person to label, and its labels back in the records."""

from __future__ import annotations

import csv
import io
import random
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from confide.cli.outputs import say
from confide.errors import ConfideError
from confide.files import write_text

if TYPE_CHECKING:
    from confide.records import Record

COLUMNS = ("id", "question", "right answer", "given answer", "correct")


def label(
    records: Annotated[Path, Argument(help="Records with a judge's verdicts (`confide annotate --judge`).")],
    out: Annotated[Path, Option(help="The sheet to write (.csv); with --labels the records with its labels.")],
    labels: Annotated[Path | None, Option(metavar="SHEET", help="Take the labels of this sheet.")] = None,
    seed: Annotated[int, Option(help="Another seed, another order of the sheet.")] = 0,
) -> None:
    """Measure a judge: write its answers as a sheet in random order, then take in what a person wrote there.

    Label the sheet from the top, as far as you like, without a look at the verdicts: `yes` or `no` in its column
    `correct`. What you cannot decide on counts as wrong, `no`. Where records carry splits, the sheet holds rows of
    calibration and test alone.

    Example: `confide label records.jsonl --out sheet.csv`

    Example: `confide label records.jsonl --labels sheet.csv --out labelled.jsonl`
    """
    from confide.policies.judged_rows import error_on
    from confide.records import check_records_file, read_records, write_records

    if labels is None:
        if out.suffix.lower() != ".csv":
            raise ConfideError(f"the sheet is a CSV file: --out {out} should end in .csv")
        rows = _to_label(read_records(records), seed)
        write_text(out, _sheet(rows))
        say(out, f"{out}: {len(rows)} answers in random order; label them from the top, as many as you like")
        return
    check_records_file(out)
    labelled = with_labels(read_records(records), read_records(labels), str(labels))
    write_records(out, labelled)
    error = error_on(labelled)
    say(out, f"{out}: {sum(row.correct is not None for row in labelled)} of {len(labelled)} answers have a label")
    if error is not None:
        say(out, error.explain("answers"))


def _to_label(records: Sequence[Record], seed: int) -> list[Record]:
    """The judged rows without a label, in random order."""
    parts = (None,) if all(record.split is None for record in records) else ("calibration", "test")
    rows = [r for r in records if r.judged is not None and r.correct is None and r.split in parts]
    if not rows:
        raise ConfideError("there is no judged answer without a label: `confide annotate --judge` adds verdicts")
    return random.Random(f"label-{seed}").sample(rows, len(rows))


def _sheet(rows: Sequence[Record]) -> str:
    """A table of what a person needs to say whether an answer is right; the verdict is not shown."""
    from confide.methods.answer_judge import reference_shown
    from confide.methods.asking import question_shown

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow([row.id, question_shown(row), reference_shown(row), row.answer, ""])
    return text.getvalue()


def with_labels(records: Sequence[Record], sheet: Sequence[Record], name: str) -> list[Record]:
    """``records`` with the labels of a ``sheet`` that was labelled from the top.

    Raises:
        ConfideError: ids that the records do not have, a label that contradicts one that is there, blanks above a
            label (which rows are labelled would not be chance), or no label.
    """
    known = {record.id: record for record in records}
    if unknown := [row.id for row in sheet if row.id not in known]:
        raise ConfideError(f"{name}: {len(unknown)} of its ids are not among the records, first {unknown[0]}")
    last = max((place for place, row in enumerate(sheet) if row.correct is not None), default=None)
    if last is None:
        raise ConfideError(f"{name}: no row has a label in the column `correct`")
    if blank := [row.id for row in sheet[:last] if row.correct is None]:
        raise ConfideError(
            f"{name}: {len(blank)} rows above the last label have none, first {blank[0]}: label from the top, and an "
            "answer that you cannot decide on counts as wrong"
        )
    labels = {row.id: row.correct for row in sheet[: last + 1]}
    if other := [i for i, value in labels.items() if known[i].correct not in (None, value)]:
        raise ConfideError(f"{name}: {len(other)} labels contradict those that the records have, first of {other[0]}")
    return [row.model_copy(update={"correct": labels[row.id]}) if row.id in labels else row for row in records]
