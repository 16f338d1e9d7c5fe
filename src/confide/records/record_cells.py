"""Records in tables: what the columns of a CSV or Parquet file of any system mean, and what their cells hold.

| column | read as |
|---|---|
| ``id`` | the id, which every row needs |
| ``confidence``, or else ``score`` | the confidence ``given`` |
| ``confidence.NAME``, or a source's own name (``stack``, ``logprob_sum``, …) | the confidence NAME |
| ``correct``, or else ``label`` | whether it is right: true or false, yes or no, 1 or 0, (in)correct, right or wrong |
| ``judged`` | whether a judge calls it right, in the same words |
| ``choices``, ``reference`` of a short question | texts separated by ``|``, or a JSON list |
| ``reference`` of a question for fields | a JSON object |
| other fields of a record | as they are; a list or a mapping as JSON |
| any other | kept as it is |

An empty cell and NaN are not available.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from confide.data_files import bar_list, json_value, no_name, plain_number
from confide.errors import ConfideError
from confide.records.record import Record
from confide.sources import FAMILIES, Source

_KNOWN = {name for names in FAMILIES.values() for name in names}
_SCORES = ("option_logprobs", "reasoning_ids", "answer_ids", "logprobs", "entropies", "token_starts")
_LISTS = ("messages", *_SCORES, "samples")
_MAPPINGS = ("chat_template_kwargs", "scored_by", "request_shape", "cost", "signals")
_NUMBERS = ("end_logprob", "reading", "consistency", "familiarity", "own_turns")
_NAMES = (
    "id",
    "task",
    "kind",
    "domain",
    "entity",
    "split",
    "finish",
    "model",
    "identity",
    "graded_by",
    "judged_by",
    "read_by",
    "part",
    "signal",
)
_TEXTS = (*_NAMES, "answer", "answered", "reasoning", "grade_error")
_MISSING = ("", "nan", "null", "none", "na", "n/a")
RIGHT = ("true", "yes", "1", "1.0", "correct", "right")
WRONG = ("false", "no", "0", "0.0", "incorrect", "wrong")
"""Labels, in any case."""
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)


class RecordCells:
    """Reads rows of a table as the fields of records.

    Args:
        columns: the names of all columns.
        name: what errors call the file.
        decimal_comma: whether 0,93 is a number.

    Raises:
        ConfideError: there is no column of ids, or two columns say the same.
    """

    def __init__(self, columns: Sequence[str], name: str, *, decimal_comma: bool = False):
        if "id" not in columns:
            there = ", ".join(columns[:6]) + (", …" if len(columns) > 6 else "")
            raise ConfideError(f"{name} has no column `id`" + (f"; there is {there}" if columns else ""))
        self.decimal_comma = decimal_comma
        self.label = "correct" if "correct" in columns else "label"
        scored = any(column == "confidence" or column.startswith("confidence.") for column in columns)
        self.sources = {column: source for column in columns if (source := _source(column, scored)) is not None}
        seen: dict[str, str] = {}
        for column, source in self.sources.items():
            if source in seen:
                raise ConfideError(f"{name}: the columns {seen[source]} and {column} both hold the confidence {source}")
            seen[source] = column

    def fields(self, row: dict[str, Any], where: str) -> dict[str, Any]:
        """The fields of a record from a row of the table; ``where`` is what errors call the row."""
        other = {*self.sources, self.label}
        data = {k: v for k, v in row.items() if k not in other and not (k in _NAMES[1:] and no_name(v))}
        for key in [key for key in data if key in Record.model_fields]:
            data[key] = self._cell(key, data[key], data, where)
        if self.label in row and (correct := read_cell(truth, row[self.label], f"{where}: {self.label}")) is not None:
            data["correct"] = correct
        confidence: dict[str, Any] = {}
        for column, source in self.sources.items():
            value = row.get(column)
            if isinstance(value, dict):  # a nested column of Parquet: source to value
                confidence |= value
            else:
                confidence[source] = read_cell(self._number, value, f"{where}: {column}")
        if confidence:
            data["confidence"] = confidence
        return data

    def _cell(self, key: str, value: Any, row: dict[str, Any], where: str) -> Any:
        """The value of a record's field from its cell."""
        if isinstance(value, int | float) and not isinstance(value, bool) and key in _TEXTS:
            return plain_number(value)
        if not isinstance(value, str):
            return value
        if key in _NAMES:
            return value.strip()
        if key in _NUMBERS:
            return read_cell(self._number, value, f"{where}: {key}")
        if key == "judged":
            return read_cell(truth, value, f"{where}: {key}")
        if key in (*_LISTS, *_MAPPINGS) or (key == "reference" and str(row.get("kind")).strip() == "fields"):
            return read_cell(_json, value, f"{where}: {key}")
        if key == "choices" or (key == "reference" and str(row.get("kind", "short")).strip() == "short"):
            return read_cell(bar_list, value, f"{where}: {key}")
        return value

    def _number(self, value: Any) -> float | None:
        return number(value, decimal_comma=self.decimal_comma)


def number(value: Any, *, decimal_comma: bool = False) -> float | None:
    """The number of a cell, None where it is not available; raises `ValueError` for anything else.

    >>> number("0,93", decimal_comma=True), number("n/a")
    (0.93, None)
    """
    if not isinstance(value, str):
        if isinstance(value, bool) or not isinstance(value, int | float | None):
            raise ValueError(f"{value!r} is no number")
        return value
    text = value.strip()
    if text.lower() in _MISSING:
        return None
    if decimal_comma and text.count(",") == 1:
        text = text.replace(",", ".")
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"{value!r} is no number")
    return float(text)


def truth(value: Any) -> bool | None:
    """Whether a cell says true or false, None where it is not available; raises `ValueError` for anything else.

    >>> truth("yes"), truth(0.0), truth("")
    (True, False, None)
    """
    text = (plain_number(value) if isinstance(value, float) else str(value)).strip().lower()
    if text in _MISSING:
        return None
    if text in RIGHT:
        return True
    if text in WRONG:
        return False
    raise ValueError(f"{value!r} is neither true nor false (yes, no, 1, 0, correct, incorrect, right, wrong)")


def _source(column: str, scored: bool) -> str | None:
    """The source whose confidences a column holds; None: it holds none."""
    if column == "confidence" or (column == "score" and not scored):
        return "given"
    if column.startswith("confidence."):
        return column.removeprefix("confidence.")
    return column if Source.parse(column).base in _KNOWN else None


def _json(text: str) -> Any:
    try:
        return json_value(text)
    except ValueError as error:
        raise ValueError(f"not valid JSON ({error})") from None


def read_cell(reader: Callable[[Any], Any], value: Any, where: str) -> Any:
    """What ``reader`` makes of a cell; its `ValueError` becomes a `ConfideError` that says ``where``."""
    try:
        return reader(value)
    except ValueError as error:
        raise ConfideError(f"{where}: {error}") from None
