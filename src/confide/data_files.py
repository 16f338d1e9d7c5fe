"""Data files: the rows of JSON lines, a JSON array, CSV or Parquet, with errors that name them.

Questions and records are read from the same files by the same rules. NaN and null are values that are not available.
"""

from __future__ import annotations

import base64
import csv
import io
import json
import math
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from confide.errors import ConfideError
from confide.files import decoded, read_bytes

ENDINGS = (".jsonl", ".json", ".csv", ".tsv", ".parquet")
"""Endings of data files, which `confide` takes for one without looking."""

PARQUET = (".parquet", ".pq")
"""Endings of Parquet files."""

_BATCH = 4096
_DELIMITERS = ",;\t"
_OWN = '{"id": "'


@dataclass(frozen=True)
class Table:
    """The rows of a data file.

    Args:
        rows: where each row is (``line 3``) and its values by their keys, without those that are not available; a bad
            row raises `ConfideError`.
        columns: the names of all columns; None for JSON, where every row has its own keys.
        cut: how many bytes come before a last line that was cut off in writing and is left out; None: there is none.
        decimal_comma: whether a comma between digits can only be a decimal one, as commas do not separate the cells.
        lines: whether these are JSON lines, to which lines can be appended.
    """

    rows: Iterator[tuple[str, dict[str, Any]]]
    columns: list[str] | None = None
    cut: int | None = None
    decimal_comma: bool = False
    lines: bool = False


def read_table(path: Path, *, continued: bool = False) -> Table:
    """Read a data file: by its ending, and by its content where that says otherwise or the ending is no known one.

    A folder is read as its Parquet files in order of their names, which must have the same columns.

    Args:
        continued: the file is appended to, so that its last line may be cut off.

    Raises:
        ConfideError: a missing or broken file; the rows raise it for a bad one of theirs.
    """
    return _parquet(files_of(path), path) if path.is_dir() else table_in(read_bytes(path), path, continued=continued)


def files_of(path: Path) -> list[Path]:
    """The data files that ``path`` stands for: the Parquet files of a folder, or itself.

    Raises `ConfideError` for a folder without any.
    """
    if not path.is_dir():
        return [path]
    found = sorted(p for p in path.iterdir() if p.suffix.lower() in PARQUET and not p.name.startswith((".", "_")))
    if not found:
        raise ConfideError(f"{path} is a folder without Parquet files")
    return found


def ends_half_written(path: Path) -> bool:
    """Whether a file ends in a line that was cut off in writing."""
    return not path.is_dir() and path.suffix.lower() not in PARQUET and _cut_line(read_bytes(path)) is not None


def table_in(data: bytes, path: Path, *, continued: bool = False) -> Table:
    """The table that the ``data`` of a file hold, as `read_table` reads it."""
    ending = path.suffix.lower()
    if data.startswith(b"PAR1") or ending in PARQUET:
        return _parquet([data], path)
    cut = _cut_line(data) if continued else None
    text = decoded(data[:cut], path)
    start = text.lstrip()[:1]
    if start in ("", "{", "[") or ending in (".jsonl", ".ndjson", ".json"):
        if start == "[":
            return Table(_array_rows(text, str(path)), cut=cut)
        return Table(json_lines(text, str(path)), cut=cut, lines=True)
    return _csv(text, "\t" if ending == ".tsv" else None, path)


def json_lines(text: str, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of JSON lines; ``name`` is what errors call the file."""
    # Line ends are found one by one: all lines of a large file at once would take its size again. Other line ends, such
    # as U+2028, may stand inside a line of JSON.
    number = start = 0
    while start <= len(text):
        end = text.find("\n", start)
        line, start = text[start : None if end < 0 else end], len(text) + 1 if end < 0 else end + 1
        number += 1
        if line.strip():
            yield f"line {number}", json_object(line, f"{name}, line {number}")


def json_object(text: str, where: str) -> dict[str, Any]:
    """The JSON object that a text holds; ``where`` is what errors call its place."""
    return _object(_parsed(text, where), where)


def check_unique(ids: Iterable[str], name: str) -> None:
    """Raise `ConfideError` naming the first ids that occur more than once."""
    if twice := [identifier for identifier, count in Counter(ids).items() if count > 1]:
        shown = ", ".join(twice[:3])
        raise ConfideError(f"{name}: {len(twice)} duplicate ids ({shown}{', …' if len(twice) > 3 else ''})")


def cell_list(text: str) -> list[str] | None:
    """The strings that a cell holds as a JSON list; None where it holds no list.

    Raises `ValueError` for what looks like a list and is none, such as ``['a', 'b']``.
    """
    text = text.strip()
    if not (text.startswith("[") and text.endswith("]")):
        return None
    try:
        values = json_value(text)
    except ValueError:
        values = None
    if not isinstance(values, list) or any(isinstance(value, list | dict | bool | None) for value in values):
        raise ValueError(f'{text[:60]} is no JSON list of strings, such as ["a", "b"]')
    return [plain_number(value) if isinstance(value, float) else str(value) for value in values]


def bar_list(text: str) -> list[str]:
    """The strings of a cell, separated by bars; a text that holds a bar is written in a JSON list (`cell_list`).

    >>> bar_list("William Shakespeare | Shakespeare"), bar_list('["a|b"]')
    (['William Shakespeare', 'Shakespeare'], ['a|b'])
    """
    listed = cell_list(text)
    return [part.strip() for part in text.split("|")] if listed is None else listed


def plain_number(value: int | float) -> str:
    """A number as text; a whole one without its point, which a column with gaps adds to all of its numbers.

    >>> plain_number(1990.0), plain_number(0.5)
    ('1990', '0.5')
    """
    return str(int(value)) if isinstance(value, float) and value.is_integer() and abs(value) < 1e15 else str(value)


def no_name(value: Any) -> bool:
    """Whether a cell where a name is wanted only says that there is none, as other systems write it."""
    return value in ("NaN", "nan", "null", "NULL")


def _cut_line(data: bytes) -> int | None:
    """Where a half-written last line of a records file begins.

    It has no line end, starts as `Record.line` does, and is the start of valid JSON, or cut inside a character.
    """
    begin = data.rfind(b"\n") + 1
    line = data[begin:]
    text = line.decode("utf-8", errors="ignore")
    if not line or not (text.startswith(_OWN) or _OWN.startswith(text)):
        return None
    try:
        from_json(line)
        return None
    except ValueError:
        pass
    try:
        _DECODER.raw_decode(text)
        return None  # a whole value, and more behind it
    except (ValueError, RecursionError):
        pass
    try:
        from_json(text, allow_partial=True)
    except ValueError:
        return None
    return begin


def json_value(text: str) -> Any:
    """The value of a JSON text.

    Raises `ValueError` that says what is wrong, also for keys that occur twice, infinity and halves of characters.
    """
    try:
        value = _DECODER.decode(text)
        if "\\u" in text:
            _check_characters(text)
        return value
    except json.JSONDecodeError as error:
        reason = error.msg + (f", line {error.lineno}" if "\n" in text else "")
    except RecursionError:
        reason = "nested too deeply"
    except ValueError as error:
        reason = "a number has too many digits" if "digits" in str(error) else str(error)
    raise ValueError(reason)


def _parsed(text: str, where: str) -> Any:
    try:
        return json_value(text)
    except ValueError as error:
        raise ConfideError(f"{where}: not valid JSON ({error})") from None


def _check_characters(text: str) -> None:
    try:
        from_json(text)
    except ValueError:
        raise ValueError("half of a character, such as \\ud83d alone, which no file could hold") from None


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {twice} occurs twice")
    return found


def _constant(name: str) -> None:
    if name != "NaN":
        raise ValueError(f"{name} is no number")


_DECODER = json.JSONDecoder(object_pairs_hook=_pairs, parse_constant=_constant)  # json.loads makes one for every line


_KINDS = {"int": "a number", "float": "a number", "str": "a string", "list": "a list", "NoneType": "null"}


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        kind = _KINDS.get(type(value).__name__, "true or false")
        raise ConfideError(f"{where}: a JSON object is wanted, not {kind}")
    return value


def _array_rows(text: str, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    values = _parsed(text, name)
    for number, value in enumerate(values, 1):
        yield f"item {number}", _object(value, f"{name}, item {number}")


def _csv(text: str, delimiter: str | None, path: Path) -> Table:
    if delimiter is None:
        first = next((line for line in text.split("\n") if line.strip()), "")
        delimiter = max(_DELIMITERS, key=re.sub('"[^"]*"', "", first).count)
    lines = _csv_lines(text, delimiter, path)
    number, columns = next(lines, (1, []))
    columns = [name.strip() for name in columns]
    _check_columns(columns, f"{path}, line {number}")

    def rows() -> Iterator[tuple[str, dict[str, Any]]]:
        for number, cells in lines:
            if len(cells) != len(columns):
                more = "more" if len(cells) > len(columns) else "fewer"
                counts = f"{len(cells)} and {len(columns)}"
                raise ConfideError(f"{path}, line {number}: {more} values than columns ({counts})")
            yield f"line {number}", {k: cell for k, cell in zip(columns, cells, strict=True) if cell.strip()}

    return Table(rows(), columns, decimal_comma=delimiter != ",")


def _csv_lines(text: str, delimiter: str, path: Path) -> Iterator[tuple[int, list[str]]]:
    """The lines of a CSV file with their numbers, without empty ones."""
    csv.field_size_limit(sys.maxsize)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter)
    try:
        yield from ((reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells))
    except csv.Error as error:
        raise ConfideError(f"{path}, line {reader.line_num}: not valid CSV ({error})") from None


def _check_columns(columns: list[str], where: str) -> None:
    if "" in columns:
        raise ConfideError(f"{where}: column {columns.index('') + 1} has no name")
    if twice := [name for name, count in Counter(columns).items() if count > 1]:
        raise ConfideError(f"{where}: the column {twice[0]} occurs twice")


def _parquet(files: Sequence[Path | bytes], path: Path) -> Table:
    """The table in files, or bytes, that have the same columns; it is read some rows at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    def opened(file: Path | bytes, name: Path) -> Any:
        try:
            return pq.ParquetFile(pa.BufferReader(file) if isinstance(file, bytes) else file)
        except (pa.ArrowException, OSError) as error:
            raise _unreadable(name, error) from None

    names = [path if isinstance(file, bytes) else file for file in files]
    columns: list[str] = opened(files[0], names[0]).schema_arrow.names
    _check_columns(columns, str(names[0]))
    for file, name in zip(files[1:], names[1:], strict=True):
        if other := set(opened(file, name).schema_arrow.names) ^ set(columns):
            raise ConfideError(
                f"{path} holds tables of different columns: {names[0].name} and {name.name} do not both have "
                f"{', '.join(sorted(other))}"
            )

    def rows() -> Iterator[tuple[str, dict[str, Any]]]:
        for file, name in zip(files, names, strict=True):
            inside = f"{name.name}, " if len(files) > 1 else ""
            number = 0
            for batch in _batches(opened(file, name), name):
                for values in batch:
                    number += 1
                    where = f"{inside}row {number}"
                    row = ((k, _plain(v, f"{path}, {where}: {k}")) for k, v in zip(columns, values, strict=True))
                    yield where, {key: value for key, value in row if value is not None}

    def _batches(file: Any, name: Path) -> Iterator[Iterator[tuple[Any, ...]]]:
        try:
            for batch in file.iter_batches(_BATCH):
                yield zip(*(_values(batch.column(column), f"{name}: {column}") for column in columns), strict=True)
        except (pa.ArrowException, OSError) as error:
            raise _unreadable(name, error) from None

    return Table(rows(), columns)


def _unreadable(path: Path, error: Exception) -> ConfideError:
    reason = str(error).strip().partition("\n")[0]
    return ConfideError(f"{path} is not a Parquet file that can be read ({reason})")


def _values(column: Any, where: str) -> list[Any]:
    """The values of a column; of times finer than a microsecond, what Python can hold."""
    import pyarrow as pa

    if pa.types.is_timestamp(column.type) and column.type.unit == "ns":
        column = column.cast(pa.timestamp("us", column.type.tz), safe=False)
    try:
        values: list[Any] = column.to_pylist()
    except (ValueError, OverflowError, pa.ArrowException) as error:
        raise ConfideError(f"{where} holds values that cannot be read ({error})") from None
    return values


def _plain(value: Any, where: str) -> Any:
    """A value as JSON has it: whole decimals as integers, times in ISO 8601, bytes as text; NaN is not available."""
    if isinstance(value, float | Decimal):
        if math.isnan(value):
            return None
        if math.isinf(value):
            raise ConfideError(f"{where}: {value} is no number")
        if isinstance(value, Decimal):
            return int(value) if value == value.to_integral_value() else float(value)
        return value
    if isinstance(value, dict):
        return {str(key): _plain(inner, where) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner, where) for inner in value]
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return base64.b64encode(value).decode()
    return value if isinstance(value, str | int | bool | None) else str(value)
