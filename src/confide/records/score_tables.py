"""Scores of other systems: a table in which the columns of confidence, label and id have names of their own.

A label is true or false, yes or no, 1 or 0, correct or incorrect, right or wrong. A confidence is any finite number,
the higher the surer. Empty cells and NaN are not available.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from confide.arguments import as_path
from confide.data_files import Table, plain_number, read_table
from confide.errors import ConfideError
from confide.files import is_stream
from confide.hashing import sha256_of_rows
from confide.records.record import Record
from confide.records.record_cells import number, read_cell, truth
from confide.records.record_files import read_record_table, validated
from confide.records.record_table import RecordTable
from confide.score_columns import ScoreColumns

_TAKEN_OVER = ("domain", "entity", "split", "answer")
"""Further columns that are read, where a table has them under these names."""

_SHOWN = 20

_NAME_LENGTH = 8


def read_scores(path: Path, columns: ScoreColumns, *, source: str | None = None) -> RecordTable:
    """Read rows of confidences and labels: records, or a table of any system whose ``columns`` are named.

    Rows of a table without ids are numbered, where a confidence is known by its name or by ``columns``.

    Args:
        path: CSV, Parquet, JSON lines or a JSON array.
        columns: what holds what. Every column of confidences becomes a source of its name.
        source: what a single column of confidences is called in place of that.

    Raises:
        ConfideError: as `read_records` does; for columns that are not there the error lists those that are, and for a
            file that has other names the flags that name them.
    """
    path = as_path(path)
    if columns.named:
        return _read_table(path, columns, source)
    try:
        records = read_record_table(path, prepared=_with_numbers)
    except ConfideError as error:
        if (hint := _hint(path)) is None:
            raise
        raise ConfideError(f"{str(error).rstrip('.')}. {hint}") from None
    if not records.sources and not any(r.messages or r.answer for r in records) and (hint := _hint(path)) is not None:
        raise ConfideError(f"{path} holds no confidence that is known by its name. {hint}")
    return records


def numbered(records: Sequence[Record]) -> bool:
    """Whether `read_scores` made up the ids of a file's ``records``: they say which row each is, and no more."""
    name = records[0].id.rpartition("-")[0] if records else ""
    if len(name) != _NAME_LENGTH:
        return False
    return list(RecordTable.of(records).ids) == _made_up(name, len(records))


def _made_up(name: str, count: int) -> list[str]:
    return [f"{name}-{place}" for place in range(1, count + 1)]


def _numbers_for(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Ids for the rows of a file that has none, so that two files do not number their rows alike."""
    return _made_up(sha256_of_rows(rows)[:_NAME_LENGTH], len(rows))


def _with_numbers(table: Table) -> Table:
    """The table with numbered rows where it holds confidences but no ids; any other as it is."""
    first = next(table.rows, None)
    if first is None:
        return table
    there = table.columns if table.columns is not None else list(first[1])
    if "id" in there or not _scored(there):
        return replace(table, rows=chain([first], table.rows))
    rows = [first, *table.rows]
    if any("id" in row for _, row in rows):
        return replace(table, rows=iter(rows))
    ids = _numbers_for([row for _, row in rows])
    with_ids = ((where, {"id": one, **row}) for one, (where, row) in zip(ids, rows, strict=True))
    return replace(table, rows=with_ids, columns=table.columns and ["id", *table.columns])


def _scored(columns: Iterable[str]) -> bool:
    """Whether a column of confidences is there that needs no flag."""
    return any(name == "confidence" or name.startswith("confidence.") for name in columns)


def _hint(path: Path) -> str | None:
    """Which flags name the columns of a file, where it is no file of confide's."""
    if is_stream(path):
        return None
    try:
        table = read_table(path, continued=True)
        there = table.columns if table.columns is not None else list(next(iter(table.rows), ("", {}))[1])
    except ConfideError:
        return None
    if _scored(there) or "record" in there or "messages" in there or not set(there) - set(Record.model_fields):
        return None
    return (
        f"Its columns are {_list(there)}: name them with --confidence-column and --correct-column, and with "
        "--id-column where there are ids (rows are numbered otherwise)"
    )


def _read_table(path: Path, columns: ScoreColumns, source: str | None) -> RecordTable:
    table = read_table(path, continued=True)
    rows = list(table.rows)
    if not rows:
        raise ConfideError(f"{path} has no records")
    there = table.columns if table.columns is not None else list(dict.fromkeys(key for _, row in rows for key in row))
    confidence = columns.sources or ["confidence"]
    if twice := [name for name in confidence if confidence.count(name) > 1]:
        raise ConfideError(f"--confidence-column names {twice[0]} twice")
    wanted = {"--confidence-column": confidence, "--correct-column": [columns.correct_column or "correct"]}
    wanted |= {"--id-column": [columns.id_column]} if columns.id_column else {}
    for flag, names in wanted.items():
        # Labels that nobody named may be missing, as in rows that are to be decided on.
        asked = flag != "--correct-column" or columns.correct_column is not None
        if asked and (missing := [name for name in names if name not in there]):
            raise ConfideError(f"{path} has no column `{missing[0]}`, for {flag}; its columns are {_list(there)}")
    called = {name: source if source and len(confidence) == 1 else name for name in confidence}
    ids = columns.id_column or ("id" if "id" in there else None)
    numbers = _numbers_for([row for _, row in rows])
    read = partial(number, decimal_comma=table.decimal_comma)
    found = []
    for own, (where, row) in zip(numbers, rows, strict=True):
        at = f"{path}, {where}"
        fields: dict[str, Any] = {key: _text(row[key]) for key in _TAKEN_OVER if row.get(key) is not None}
        fields["id"] = own if ids is None else _id(row.get(ids), f"{at}: {ids}")
        fields["confidence"] = {called[name]: read_cell(read, row.get(name), f"{at}: {name}") for name in confidence}
        label = columns.correct_column or "correct"
        if row.get(label) is not None:
            fields["correct"] = read_cell(truth, row[label], f"{at}: {label}")
        found.append((where, fields))
    records = RecordTable.of(validated(found, str(path)))
    try:
        records.check_unique(str(path))
    except ConfideError as error:
        raise ConfideError(f"{error}; every row takes an id of its own: name another --id-column") from None
    return records


def _text(value: Any) -> str:
    return plain_number(value) if isinstance(value, int | float) and not isinstance(value, bool) else str(value).strip()


def _id(value: Any, where: str) -> str:
    if value is None or not (text := _text(value)):
        raise ConfideError(f"{where}: this row has no id")
    return text


def _list(names: Sequence[str] | Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:_SHOWN]) + (f", … ({len(names)} in all)" if len(names) > _SHOWN else "")
