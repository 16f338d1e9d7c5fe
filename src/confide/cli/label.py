"""``confide label``: a sheet of answers for a person to label, and its labels back in the records."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from confide.cli.flags import Json
from confide.cli.last_lines import beside, tell_next
from confide.cli.printing import print_result
from confide.errors import ConfideError
from confide.files import write_text
from confide.hashing import sha256_of_text

if TYPE_CHECKING:
    from confide.records import Record

COLUMNS = ("id", "question", "right answer", "given answer", "correct")


def label(
    records: Annotated[Path, Argument(help="Records with a judge's verdicts (`confide annotate --judge`).")],
    out: Annotated[Path, Option(help="The sheet to write (.csv); with --labels the records with its labels.")],
    labels: Annotated[Path | None, Option(metavar="SHEET", help="Take the labels of this sheet.")] = None,
    seed: Annotated[int, Option(help="Another seed, another order; with --labels that of the sheet.")] = 0,
    json: Json = False,
) -> None:
    """Measure a judge: write its answers as a sheet in random order, then take in what a person wrote there.

    Label the sheet from the top, without a look at the verdicts: `yes` or `no` in its column `correct`. Leave no row
    out: what you cannot decide on counts as wrong, `no`. Label as many as you like, but settle how many before you see
    what `confide calibrate` makes of them. Where records carry splits, the sheet holds rows of calibration and test
    alone.

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
        words = f"{out}: {len(rows)} answers in random order; label them from the top, as many as you like"
        print_result(out, words, json, rows=len(rows))
        tell_next("confide label", records, "--labels", out, "--out", beside(out, "labelled.jsonl"))
        return
    check_records_file(out)
    labelled = with_labels(read_records(records), read_records(labels), str(labels), seed)
    write_records(out, labelled)
    error = error_on(labelled)
    count = sum(row.correct is not None for row in labelled)
    words = f"{out}: {count} of {len(labelled)} answers have a label"
    told = words if error is None else f"{words}\n{error.explain('answers')}"
    print_result(out, told, json, labelled=count, rows=len(labelled), error=error)
    tell_next("confide score", out, "--out", beside(out, "scored.jsonl"))


def _to_label(records: Sequence[Record], seed: int) -> list[Record]:
    """The judged rows without a label, in random order."""
    rows = [row for row in _in_order(records, seed) if row.correct is None]
    if not rows:
        raise ConfideError("there is no judged answer without a label: `confide annotate --judge` adds verdicts")
    return rows


def _in_order(records: Sequence[Record], seed: int) -> list[Record]:
    """The judged rows of the splits that are labelled, in a random order that does not depend on which have a label."""
    parts = (None,) if all(record.split is None for record in records) else ("calibration", "test")
    rows = [row for row in records if row.judged is not None and row.split in parts]
    return sorted(rows, key=lambda row: sha256_of_text(f"label-{seed}\t{row.id}"))


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


def with_labels(records: Sequence[Record], sheet: Sequence[Record], name: str, seed: int = 0) -> list[Record]:
    """``records`` with the labels of a ``sheet`` that was labelled from the top, and written with this ``seed``.

    Raises:
        ConfideError: ids that the records do not have, a label that contradicts one that is there, rows above a label
            that have none (which rows are labelled would not be chance), or no label.
    """
    known = {record.id: record for record in records}
    if unknown := [row.id for row in sheet if row.id not in known]:
        raise ConfideError(f"{name}: {len(unknown)} of its ids are not among the records, first {unknown[0]}")
    labels = {row.id: row.correct for row in sheet if row.correct is not None}
    if not labels:
        raise ConfideError(f"{name}: no row has a label in the column `correct`")
    if other := [i for i, value in labels.items() if known[i].correct not in (None, value)]:
        raise ConfideError(f"{name}: {len(other)} labels contradict those that the records have, first of {other[0]}")
    made = [row.model_copy(update={"correct": labels[row.id]}) if row.id in labels else row for row in records]
    order = _in_order(made, seed)
    last = max((place for place, row in enumerate(order) if row.id in labels), default=-1)
    if blank := [row.id for row in order[:last] if row.correct is None]:
        raise ConfideError(
            f"{name}: {len(blank)} rows above the last label of the sheet have none, first {blank[0]}: label from the "
            f"top, leave no row out, and an answer that you cannot decide on counts as wrong (--seed {seed} is taken "
            "for that of the sheet)"
        )
    return made
