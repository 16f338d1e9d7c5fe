"""The column store: what was read of a file's records, taken piece by piece into columns."""

from __future__ import annotations

import json
import zlib
from collections.abc import Hashable, Sequence
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from confide.numeric import Floats, Ints
from confide.records.coded_column import Coded
from confide.records.record import Record

ROWS = 4096
"""Rows that are read, and whose JSON is compressed, together."""

CODED = (
    "task", "kind", "domain", "entity", "split", "answer", "part", "read_by", "finish", "correct", "signal",
    "answered", "judged", "judged_by", "graded_by", "grade_error", "model", "identity",
)  # fmt: skip
"""Fields whose values may repeat."""

NUMBERS = ("end_logprob", "reading", "consistency", "familiarity")
"""Fields that are numbers."""

DICTIONARIES = ("confidence", "cost", "scored_by")
"""Fields that hold something for each source."""

JSON_FIELDS = frozenset(Record.model_fields) - {"id", *CODED, *NUMBERS, *DICTIONARIES}
"""Fields that have no column."""

EXTRA = "extra."
"""What the names of columns begin with that hold keys beyond the fields."""

UNSET: dict[str, Any] = {
    name: "" if name == "id" else field.get_default(call_default_factory=True)
    for name, field in Record.model_fields.items()
}
"""What a field that is not set holds."""


class ColumnStore:
    """The columns of all rows that were read, and what they hold beyond.

    That is JSON in ``pieces`` of `ROWS` rows, or the records themselves where these were in memory (``held``).
    ``mixed`` are keys beyond the fields whose values are not all simple, so that they have no column.
    """

    def __init__(self, ids: NDArray[Any], coded: dict[str, Coded], numbers: dict[str, Floats], mixed: set[str]):
        self.ids, self.coded, self.numbers, self.mixed = ids, coded, numbers, mixed
        self.pieces: list[bytes | None] = []
        self.held: Sequence[Record] | None = None
        self._read: tuple[int, list[dict[str, Any]]] = (-1, [])

    def json(self, row: int) -> dict[str, Any]:
        """What a row holds beyond columns; rows that follow each other are read together."""
        if not self.pieces:
            return {}
        number, place = divmod(row, ROWS)
        piece = self.pieces[number]
        if piece is None:
            return {}
        if self._read[0] != number:
            self._read = number, json.loads(zlib.decompress(piece))
        return self._read[1][place]

    def each(self, name: str, rows: Ints) -> list[Any]:
        """The values of a column in these rows."""
        if name in self.coded:
            column = self.coded[name]
            return [column.values[code] for code in column.codes[rows].tolist()]
        return [None if value != value else value for value in self.numbers[name][rows].tolist()]

    def dictionaries(self, name: str, rows: Ints) -> list[dict[str, Any]]:
        """The dictionaries of a field in these rows, each a new one."""
        if name not in self.coded:
            return [{} for _ in rows]
        keys = self.each(name, rows)
        if name == "scored_by":
            return [dict(pairs) for pairs in keys]
        of = {key: self._of(name, key, rows) for key in {key for some in keys for key in some}}
        return [{key: of[key][place] for key in some} for place, some in enumerate(keys)]

    def _of(self, name: str, key: str, rows: Ints) -> list[Any]:
        if name == "confidence":
            return self.each(f"confidence.{key}", rows)
        return list(zip(*(self.each(f"cost.{key}.{unit}", rows) for unit in ("tokens", "seconds")), strict=True))


class StoreBuilder:
    """Takes records piece by piece into columns; a column begins with the first piece that has something in it."""

    def __init__(self) -> None:
        self.n = 0
        self._ids: list[NDArray[Any]] = []
        self._codes: dict[str, list[NDArray[np.int32]]] = {}
        self._known: dict[str, dict[Hashable, int]] = {}
        self._numbers: dict[str, list[Floats]] = {}
        self._pieces: list[bytes | None] = []
        self._mixed: set[str] = set()

    def add(self, records: Sequence[Record], *, json: bool) -> None:
        """Take the next piece, with what has no column as ``json`` or without it."""
        given = [frozenset(record.model_fields_set) for record in records]
        there = frozenset().union(*given)
        self._ids.append(np.array([record.id for record in records], dtype=np.dtypes.StringDType()))
        self._code("given", given, frozenset())
        for name in CODED:
            if name in there:
                self._code(name, [getattr(record, name) for record in records], UNSET[name])
        for name in NUMBERS:
            if name in there:
                self._number(name, [getattr(record, name) for record in records])
        self._take_confidences(records)
        extras = self._take_extras(records)
        if "messages" in there:
            self._code("prompt", [_prompt(record) for record in records], None)
        for name in ("answer_ids", "samples"):
            if name in there:
                self._number(name, [len(getattr(record, name) or ()) or None for record in records])
        if json:
            self._pieces.append(_compressed(records, extras))
        self.n += len(records)
        for column in self._codes.values():
            if missing := self.n - sum(map(len, column)):
                column.append(np.zeros(missing, dtype=np.int32))
        for numbers in self._numbers.values():
            if missing := self.n - sum(map(len, numbers)):
                numbers.append(np.full(missing, np.nan))

    def _take_confidences(self, records: Sequence[Record]) -> None:
        """Take the dictionaries of confidence, cost and who gave which."""
        self._code("confidence", [tuple(record.confidence) for record in records], ())
        for source in {source for record in records for source in record.confidence}:
            self._number(f"confidence.{source}", [record.confidence.get(source) for record in records])
        if any(record.scored_by for record in records):
            self._code("scored_by", [tuple(record.scored_by.items()) for record in records], ())
        if any(record.cost for record in records):
            self._code("cost", [tuple(record.cost) for record in records], ())
            for source in {source for record in records for source in record.cost}:
                costs = [record.cost.get(source) for record in records]
                for unit in ("tokens", "seconds"):
                    self._number(f"cost.{source}.{unit}", [None if c is None else getattr(c, unit) for c in costs])

    def _take_extras(self, records: Sequence[Record]) -> set[str]:
        """Take the keys that are no fields and have simple values; returns the others."""
        extras = [record.model_extra or {} for record in records]
        others = set()
        for name in dict.fromkeys(name for extra in extras for name in extra):
            values = [extra.get(name) for extra in extras]
            if all(isinstance(value, str | int | float | None) for value in values):
                self._code(f"{EXTRA}{name}", [(type(value), value) for value in values], (type(None), None))
            else:
                others.add(name)
        self._mixed |= others
        return others

    def _code(self, name: str, values: Sequence[Hashable], unset: Hashable) -> None:
        known = self._known.setdefault(name, {unset: 0})
        column = self._codes.setdefault(name, [np.zeros(self.n, dtype=np.int32)])
        column.append(np.array([known.setdefault(value, len(known)) for value in values], dtype=np.int32))

    def _number(self, name: str, values: Sequence[float | None]) -> None:
        column = self._numbers.setdefault(name, [np.full(self.n, np.nan)])
        column.append(np.array([np.nan if value is None else value for value in values], dtype=np.float64))

    def store(self, held: Sequence[Record] | None) -> ColumnStore:
        """The columns of all pieces; ``held`` are the records where they stay in memory."""
        ids = np.concatenate(self._ids) if self._ids else np.array([], dtype=np.dtypes.StringDType())
        coded = {}
        for name in list(self._codes):
            values: list[Any] = list(self._known.pop(name))
            values = [value[1] for value in values] if name.startswith(EXTRA) else values
            coded[name] = Coded(np.concatenate(self._codes.pop(name)), values)
        numbers = {name: np.concatenate(self._numbers.pop(name)) for name in list(self._numbers)}
        store = ColumnStore(ids, coded, numbers, self._mixed)
        store.pieces, store.held = self._pieces, held
        return store


def _compressed(records: Sequence[Record], extras: set[str]) -> bytes | None:
    """What the records hold in fields without a column and in the keys ``extras``; None for nothing."""
    rows = []
    for record in records:
        wanted = (record.model_fields_set & JSON_FIELDS) | (extras & (record.model_extra or {}).keys())
        rows.append(record.model_dump(mode="json", include=wanted) if wanted else {})
    return zlib.compress(json.dumps(rows, ensure_ascii=False).encode(errors="surrogatepass"), 1) if any(rows) else None


def _prompt(record: Record) -> bytes | None:
    """A hash by which the same messages are known, None without any."""
    if not record.messages:
        return None
    return sha256(repr([(m.role, m.content) for m in record.messages]).encode(errors="surrogatepass")).digest()[:16]
