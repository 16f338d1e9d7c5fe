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
from collections.abc import Iterable, Iterator
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

    Args:
        continued: the file is appended to, so that its last line may be cut off.

    Raises:
        ConfideError: a missing or broken file; the rows raise it for a bad one of theirs.
    """
    return table_in(read_bytes(path), path, continued=continued)


def table_in(data: bytes, path: Path, *, continued: bool = False) -> Table:
    """The table that the ``data`` of a file hold, as `read_table` reads it."""
    ending = path.suffix.lower()
    if data.startswith(b"PAR1") or ending in (".parquet", ".pq"):
        return _parquet(data, path)
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
    # split("\n"), not splitlines(): a text may hold U+2028, which JSON allows inside a line.
    for number, line in enumerate(text.split("\n"), 1):
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


def _parquet(data: bytes, path: Path) -> Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        _check_columns(pq.read_schema(pa.BufferReader(data)).names, str(path))
        table = pq.read_table(pa.BufferReader(data))
    except (pa.ArrowException, OSError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ConfideError(f"{path} is not a Parquet file that can be read ({reason})") from None

    def rows() -> Iterator[tuple[str, dict[str, Any]]]:
        number = 0
        for batch in table.to_batches():
            columns = {name: _values(batch.column(name), f"{path}: {name}") for name in table.column_names}
            for values in zip(*columns.values(), strict=True):
                number += 1
                where = f"row {number}"
                row = ((k, _plain(v, f"{path}, {where}: {k}")) for k, v in zip(columns, values, strict=True))
                yield where, {key: value for key, value in row if value is not None}

    return Table(rows(), table.column_names)


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
