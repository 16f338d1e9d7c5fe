"""Files of records: JSON lines that are appended as they are produced, and every table that other systems write.

A run that was killed leaves at most one half-written last line, which `RecordWriter` removes before it goes on.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Self

from pydantic import ValidationError

from confide.arguments import as_path
from confide.data_files import PARQUET, Table, check_unique, ends_half_written, json_lines, json_object, read_table
from confide.errors import ConfideError
from confide.files import check_output, is_stream, open_stream, read_bytes, write_text, written
from confide.records.plain_parquet import read_plain_parquet
from confide.records.record import Record, Sample
from confide.records.record_cells import RecordCells
from confide.records.record_table import RecordTable
from confide.sources import LOG_SPACE, log_space

_LOG = logging.getLogger(__name__)
_FREE = ("chat_template_kwargs", "reference", "sampled_with")
"""Fields that hold values of any kind."""


def parse_lines(text: str, name: str) -> list[Record]:
    """Parse JSON lines into records.

    Args:
        text: the lines.
        name: what errors call the file.

    Raises:
        ConfideError: a bad line, with ``name`` and the line's number; a ``logprob_sum`` of 0 whose scale is unclear.
    """
    return list(validated(json_lines(text, name), name))


def read_records(path: Path, *, prepared: Callable[[Table], Table] = lambda table: table) -> list[Record]:
    """Read records from JSON lines, a JSON array, CSV or Parquet (`confide.records.record_cells` for their columns).

    Args:
        path: the file; a half-written last line is left out, with a warning.
        prepared: what to make of its table before that is read as records.

    Returns:
        The records in the order of the file, at least one.

    Raises:
        ConfideError: a missing or broken file, a file without rows, or an id that occurs twice.
    """
    path = as_path(path)
    table = prepared(read_table(path, continued=True))
    records = list(_of_table(table, str(path)))
    _check_read(table, records, path)
    check_unique((record.id for record in records), str(path))
    return records


def read_record_table(path: Path, *, prepared: Callable[[Table], Table] = lambda table: table) -> RecordTable:
    """What `read_records` reads, as columns: for files of millions of rows."""
    path = as_path(path)
    plain = read_plain_parquet(path) if path.is_dir() or path.suffix.lower() in PARQUET else None
    if plain:
        plain.check_unique(str(path))
        return plain
    table = prepared(read_table(path, continued=True))
    records = RecordTable.of(_of_table(table, str(path)))
    _check_read(table, records, path)
    records.check_unique(str(path))
    return records


def _check_read(table: Table, records: Sequence[Record], path: Path) -> None:
    if table.cut is not None:
        _LOG.warning("%s: the half-written last line is left out", path)
    if not records:
        raise ConfideError(f"{path} has no records")


def half_written(path: Path) -> bool:
    """Whether the last line of a file of records was cut off in writing, so that it is not read."""
    return not is_stream(path) and ends_half_written(path)


def check_records_file(path: Path, *, appended: bool = False) -> None:
    """Raise `ConfideError` where records cannot be written to ``path``, or cannot be ``appended`` one by one."""
    ending = path.suffix.lower()
    if appended and ending in (".parquet", ".pq", ".csv", ".tsv"):
        raise ConfideError("records are appended as they are produced: give --out a .jsonl file")
    if ending in (".csv", ".tsv"):
        raise ConfideError(f"records are written as JSON lines or Parquet: {path} should end in .jsonl or .parquet")
    check_output(path)


def write_records(path: Path, records: Iterable[Record]) -> None:
    """Write all records at once, as JSON lines or Parquet by the file's ending."""
    path = as_path(path)
    check_records_file(path)
    rows = list(records)
    if path.suffix.lower() not in (".parquet", ".pq"):
        write_text(path, "".join(record.line() + "\n" for record in rows))
        return
    import pyarrow as pa
    import pyarrow.parquet as pq

    # Each record is one JSON text, which keeps every nested and unknown key as it is.
    table = pa.table({"id": [r.id for r in rows], "record": [r.line() for r in rows]})
    with written(path) as part:
        pq.write_table(table, part)


class RecordWriter:
    """Appends records to a JSON-lines file as they are produced; opening it again continues the file.

    ``done`` holds the records that were already there. A half-written last line is cut off before the first one is
    appended, with a warning: a file that turns out to be another run's is not touched.
    """

    def __init__(self, path: Path):
        check_records_file(path, appended=True)
        self.path, self.done = path, list[Record]()
        self._whole: int | None = None
        if is_stream(path):
            self._handle = open_stream(path)
            return
        real = Path(os.path.realpath(path))
        real.parent.mkdir(parents=True, exist_ok=True)
        if real.exists():
            self.done, self._whole = _continued(path)
        self._handle = self._opened()

    def _opened(self) -> BinaryIO:
        return open(os.path.realpath(self.path), "ab", buffering=0)

    def replace(self, records: Sequence[Record]) -> None:
        """Write the file anew with ``records`` in place of those that are ``done``; appending goes on behind them."""
        self._handle.close()
        write_records(self.path, records)
        self.done, self._whole = list(records), None
        self._handle = self._opened()

    def write(self, records: Iterable[Record]) -> None:
        """Append records and hand them to the operating system before returning."""
        rest = memoryview("".join(record.line() + "\n" for record in records).encode())
        try:
            if rest and self._whole is not None:
                self._mend(self._whole)
                self._whole = None
            while rest:
                rest = rest[self._handle.write(rest) :]
        except BrokenPipeError:
            raise
        except OSError as error:
            raise ConfideError(f"{self.path} cannot be written: {error.strerror}; what it holds stays") from error

    def _mend(self, whole: int) -> None:
        """Cut off what follows the first ``whole`` bytes, and end the last line of these."""
        data = read_bytes(self.path)
        if whole < len(data):
            _LOG.warning("%s: the half-written last line is cut off", self.path)
            self._handle.truncate(whole)
        if whole and data[whole - 1 : whole] != b"\n":
            self._handle.write(b"\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._handle.close()


def _continued(path: Path) -> tuple[list[Record], int]:
    """The records of a file that is appended to, and how many of its bytes are whole lines."""
    table = read_table(path, continued=True)
    records = list(_of_table(table, str(path)))
    if not table.lines:
        raise ConfideError(f"{path} holds no JSON lines, so nothing can be appended: choose another file")
    return records, path.stat().st_size if table.cut is None else table.cut


def _of_table(table: Table, name: str) -> Iterator[Record]:
    """The records of a table; cells are read as what their columns say."""
    if table.columns is None:
        return validated(table.rows, name)
    if table.columns == ["id", "record"]:  # a Parquet file of confide: each record is one JSON text
        return validated(((where, _whole(row, f"{name}, {where}")) for where, row in table.rows), name)
    cells = RecordCells(table.columns, name, decimal_comma=table.decimal_comma)
    return validated(((where, cells.fields(row, f"{name}, {where}")) for where, row in table.rows), name)


def _whole(row: dict[str, Any], where: str) -> dict[str, Any]:
    text = row.get("record")
    if not isinstance(text, str):
        raise ConfideError(f"{where}: record: a record as JSON text is wanted")
    return json_object(text, where)


def validated(rows: Iterable[tuple[str, dict[str, Any]]], name: str) -> Iterator[Record]:
    """Make records of rows, each with where it is; ``name`` is what errors call the file."""
    scale = _Scale(name)
    for where, row in rows:
        try:
            record = Record.model_validate(row)
        except ValidationError as error:
            problem = error.errors()[0]
            key = ".".join(str(part) for part in problem["loc"]) or "the row"
            message = problem["msg"].removeprefix("Value error, ")
            raise ConfideError(f"{name}, {where}: {key}: {message}") from None
        free = [(key, row[key]) for key in _FREE if key in row]
        for key, value in [*free, *(record.model_extra or {}).items()]:
            if any(math.isinf(number) for number in _numbers(value)):
                raise ConfideError(f"{name}, {where}: {key}: an infinite number")
        scale.see(row, record)
        yield record
    scale.check()


def _numbers(value: Any) -> Iterator[float]:
    """Every float in nested lists and dictionaries."""
    if isinstance(value, float):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _numbers(inner)


class _Scale:
    """Refuses a log-probability of 0 in a file that does not tell its scale.

    It means certain, or in an older file a probability too small to be written. Values below 0 and none above tell
    that the file is none of the older ones, and the token log-probabilities of the answer tell its value.
    """

    def __init__(self, name: str):
        self.name = name
        self.unclear = ""
        self.above = self.below = False

    def see(self, row: dict[str, Any], record: Record) -> None:
        """Note the log-probabilities of a row as it was written, and of its samples."""
        answers: list[Record | Sample] = [record, *(record.samples or [])]
        for answer, data in zip(answers, [row, *(row.get("samples") or [])], strict=True):
            given = data.get("confidence")
            for source in answer.confidence if isinstance(given, dict) else ():
                if not log_space(source) or given[source] is None or math.isnan(value := float(given[source])):
                    continue
                self.above, self.below = self.above or value > 0, self.below or value < 0
                if value == 0 and not self.unclear and not (source in LOG_SPACE and answer.logprobs):
                    self.unclear = f"{source} of row {record.id}"

    def check(self) -> None:
        """Raise `ConfideError` for what is unclear once all rows are seen."""
        if self.unclear and (self.above or not self.below):
            raise ConfideError(
                f"{self.name}: {self.unclear} is 0, which may be certain or, as older files hold it, a probability too "
                "small to write; no `logprobs` tell, so score the answers again (`confide score`)"
            )
