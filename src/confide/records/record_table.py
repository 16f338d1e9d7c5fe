"""The record table: records as columns, a hundred bytes a row, for files of millions of rows.

It is a sequence of records: each is made when it is asked for, so changing one changes nothing in the table. What
reads one field of all rows reads its column. Values that may repeat are numbers into a list of values; what few steps
look at (messages, samples, tokens) is compressed JSON.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from hashlib import sha256
from itertools import islice
from typing import Any, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from confide.data_files import check_unique
from confide.numeric import Bools, Floats, Ints, as_finite
from confide.records.record import Cost, Record

ROWS = 4096
"""Rows that are read, and whose JSON is compressed, together."""

_CODED = (
    "task", "kind", "domain", "entity", "split", "answer", "part", "read_by", "finish", "correct", "signal",
    "answered", "judged", "judged_by", "graded_by", "grade_error", "model", "identity",
)  # fmt: skip
_NUMBERS = ("end_logprob", "reading", "consistency", "familiarity")
_DICTIONARIES = ("confidence", "cost", "scored_by")
_JSON = frozenset(Record.model_fields) - {"id", *_CODED, *_NUMBERS, *_DICTIONARIES}
_EXTRA = "extra."
_UNSET: dict[str, Any] = {
    name: "" if name == "id" else field.get_default(call_default_factory=True)
    for name, field in Record.model_fields.items()
}


class Coded(NamedTuple):
    """A column of values that repeat: a number for every row [n], and the value of each number."""

    codes: Ints
    values: list[Any]

    @classmethod
    def both(cls, one: Coded, other: Coded) -> Coded:
        """The column of pairs of two columns' values, in the order in which the rows have them."""
        pairs, first, codes = np.unique(
            one.codes * len(other.values) + other.codes, return_index=True, return_inverse=True
        )
        rank = np.argsort(np.argsort(first))
        found = [divmod(pair, len(other.values)) for pair in pairs[np.argsort(first)].tolist()]
        return cls(rank[codes], [(one.values[a], other.values[b]) for a, b in found])

    def where(self, *wanted: Any) -> Bools:
        """Which rows hold one of the ``wanted`` values [n]."""
        kinds = set(wanted)
        return self.mark(lambda value: isinstance(value, Hashable) and value in kinds)

    def mark(self, test: Callable[[Any], bool]) -> Bools:
        """For which rows the value passes a test [n]."""
        return np.array([test(value) for value in self.values], dtype=np.bool_)[self.codes]

    def of(self, marks: Sequence[Any]) -> NDArray[Any]:
        """For every row what ``marks`` says of its value [n]."""
        return np.asarray(marks)[self.codes]

    def present(self) -> list[Any]:
        """The values that occur, in the order in which the file has them."""
        return [self.values[code] for code in np.flatnonzero(np.bincount(self.codes, minlength=1)).tolist()]

    def counts(self) -> dict[Any, int]:
        """How many rows have each value that occurs."""
        found = enumerate(np.bincount(self.codes).tolist())
        return {self.values[code]: count for code, count in found if count}

    def each(self) -> list[Any]:
        """The value of every row [n]."""
        return [self.values[code] for code in self.codes.tolist()]


class _Store:
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


class RecordTable(Sequence[Record]):
    """Records as columns; `RecordTable.of` makes one of records, which need not be in memory at once.

    >>> table = RecordTable.of([Record(id="a", correct=True, confidence={"stack": 0.9}), Record(id="b")])
    >>> table.confidence("stack").tolist(), table[1].id
    ([0.9, nan], 'b')
    """

    def __init__(
        self,
        store: _Store,
        rows: Ints,
        kept: frozenset[str] | None = None,
        changed: Mapping[str, Floats] | None = None,
    ):
        self._store, self._rows, self._kept, self._changed = store, rows, kept, changed or {}

    @classmethod
    def of(cls, records: Iterable[Record]) -> RecordTable:
        """The table of ``records``; a table as it is."""
        if isinstance(records, RecordTable):
            return records
        held, left, builder = records if isinstance(records, list) else None, iter(records), _Builder()
        while piece := list(islice(left, ROWS)):
            builder.add(piece, json=held is None)
        return RecordTable(builder.store(held), np.arange(builder.n))

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, at: int) -> Record: ...
    @overload
    def __getitem__(self, at: slice) -> RecordTable: ...
    def __getitem__(self, at: int | slice) -> Record | RecordTable:
        if isinstance(at, slice):
            return self.take(np.arange(len(self))[at])
        return next(self._made(self._rows[[at]]))

    def __iter__(self) -> Iterator[Record]:
        for start in range(0, len(self._rows), ROWS):
            yield from self._made(self._rows[start : start + ROWS])

    def take(self, rows: Ints | Bools) -> RecordTable:
        """The rows at these places, or where true [n]."""
        return RecordTable(self._store, self._rows[rows], self._kept, self._changed)

    def union(self, other: RecordTable) -> RecordTable:
        """The rows of this table and of ``other``, both taken from one, in order of the file."""
        return RecordTable(self._store, np.union1d(self._rows, other._rows), self._kept, self._changed)

    def only(self, sources: Iterable[str]) -> RecordTable:
        """The rows with these sources alone."""
        return RecordTable(self._store, self._rows, frozenset(sources), self._changed)

    def with_confidence(self, source: str, values: Floats) -> RecordTable:
        """The rows with these confidences of a source [n], NaN where there is none."""
        whole = np.full(len(self._store.ids), np.nan)
        whole[self._rows] = values
        return RecordTable(self._store, self._rows, self._kept, {**self._changed, source: whole})

    def check_unique(self, name: str) -> None:
        """Raise `ConfideError` naming the first ids that occur more than once; ``name`` is what it calls the file."""
        hashes = np.fromiter((hash(own) for own in self.ids), dtype=np.int64, count=len(self))
        order = np.argsort(hashes)
        same = hashes[order[1:]] == hashes[order[:-1]]
        check_unique(self.ids[np.sort(np.unique([order[1:][same], order[:-1][same]]))].tolist(), name)

    @cached_property
    def ids(self) -> NDArray[Any]:
        """The id of every row [n], as NumPy's strings of any length."""
        return np.asarray(self._store.ids[self._rows])

    def coded(self, name: str) -> Coded:
        """A field whose values repeat; ``prompt`` is a hash of the messages, ``given`` the fields that were set."""
        column = self._store.coded.get(name)
        if column is None:
            return Coded(np.zeros(len(self), dtype=np.int64), [_UNSET.get(name)])
        return Coded(column.codes[self._rows].astype(np.int64), column.values)

    def extra(self, key: str) -> Coded:
        """What rows hold under a key that is no field, None where they have none."""
        if key not in self._store.mixed:
            return self.coded(f"{_EXTRA}{key}")
        values = [(record.model_extra or {}).get(key) for record in self]
        return Coded(np.arange(len(values)), values)

    def numbers(self, name: str) -> Floats:
        """A field that is a number, or how many ``answer_ids`` or ``samples`` there are [n]; NaN where none."""
        column = self._store.numbers.get(name)
        return np.full(len(self), np.nan) if column is None else column[self._rows]

    def truth(self, name: str) -> Floats:
        """A field that is true or false, as 1 and 0 [n]; NaN where it is neither."""
        column = self.coded(name)
        return np.asarray(column.of([np.nan if v is None else float(v) for v in column.values]))

    def confidence(self, source: str) -> Floats:
        """The confidences of a source [n], NaN where there is none."""
        if source in self._changed:
            return self._changed[source][self._rows]
        return self.numbers(f"confidence.{source}" if self._keeps(source) else "")

    def naming(self, source: str) -> Bools:
        """Which rows name the source [n], with a value or without."""
        named = self.coded("confidence")
        return np.asarray(named.of([self._keeps(source) and source in (v or ()) for v in named.values]))

    @cached_property
    def sources(self) -> set[str]:
        """The sources that any row names."""
        return {source for v in self.coded("confidence").present() for source in v or () if self._keeps(source)}

    def clusters(self) -> list[str]:
        """What rows must share to count as dependent [n]: the entity, or the row itself."""
        values: list[str | None] = self.coded("entity").each()
        return [own if value is None else value for value, own in zip(values, self.ids.tolist(), strict=True)]

    def _keeps(self, source: str) -> bool:
        return self._kept is None or source in self._kept

    def _told(self, confidence: dict[str, float | None], row: int) -> dict[str, float | None]:
        """A row's confidences without sources that are not kept, and with those that were changed."""
        out = {source: value for source, value in confidence.items() if self._keeps(source)}
        changed = {source: as_finite(self._changed[source][row].item()) for source in out if source in self._changed}
        return out | changed

    def _made(self, rows: Ints) -> Iterator[Record]:
        """The records in these rows of the store."""
        store = self._store
        if store.held is not None:
            if self._kept is None and not self._changed:
                yield from (store.held[row] for row in rows.tolist())
                return
            for row in rows.tolist():
                own = store.held[row]
                yield own.model_copy(update={"confidence": self._told(own.confidence, row)})
            return
        names = [name for name in (*_CODED, *_NUMBERS) if name in store.coded or name in store.numbers]
        extras = [name for name in store.coded if name.startswith(_EXTRA)]
        columns = zip(*(store.each(name, rows) for name in ["given", *names, *extras]), strict=True)
        held = zip(*(store.dictionaries(name, rows) for name in _DICTIONARIES), strict=True)
        places = slice(1, 1 + len(names))
        for row, own, values, (confidence, cost, scored_by) in zip(
            rows.tolist(), store.ids[rows].tolist(), columns, held, strict=True
        ):
            given = values[0]
            data = _UNSET | {"id": own} | dict(zip(names, values[places], strict=True))
            plain = self._kept is None and not self._changed
            data["confidence"] = confidence if plain else self._told(confidence, row)
            data["cost"] = {s: Cost(tokens=t, seconds=x) for s, (t, x) in cost.items()}
            data["scored_by"] = scored_by
            further = {e.removeprefix(_EXTRA): v for e, v in zip(extras, values[1 + len(names) :], strict=True)}
            further = {name: value for name, value in further.items() if name in given}
            if json := store.json(row):
                filled = {name for name in _DICTIONARIES if data[name]}
                known = {name: data[name] for name in (given | filled) - _JSON if name in data}
                yield Record.model_validate(known | further | json)
            else:
                yield _record(data, given, further)


def _record(data: dict[str, Any], given: frozenset[str], extra: dict[str, Any]) -> Record:
    """The record with these values: what `BaseModel.model_construct` makes, several times quicker."""
    record = Record.__new__(Record)
    object.__setattr__(record, "__dict__", data)
    object.__setattr__(record, "__pydantic_fields_set__", set(given))
    object.__setattr__(record, "__pydantic_extra__", extra)
    object.__setattr__(record, "__pydantic_private__", None)
    return record


class _Builder:
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
        for name in _CODED:
            if name in there:
                self._code(name, [getattr(record, name) for record in records], _UNSET[name])
        for name in _NUMBERS:
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
                self._code(f"{_EXTRA}{name}", [(type(value), value) for value in values], (type(None), None))
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

    def store(self, held: Sequence[Record] | None) -> _Store:
        """The columns of all pieces; ``held`` are the records where they stay in memory."""
        ids = np.concatenate(self._ids) if self._ids else np.array([], dtype=np.dtypes.StringDType())
        coded = {}
        for name in list(self._codes):
            values: list[Any] = list(self._known.pop(name))
            values = [value[1] for value in values] if name.startswith(_EXTRA) else values
            coded[name] = Coded(np.concatenate(self._codes.pop(name)), values)
        numbers = {name: np.concatenate(self._numbers.pop(name)) for name in list(self._numbers)}
        store = _Store(ids, coded, numbers, self._mixed)
        store.pieces, store.held = self._pieces, held
        return store


def _compressed(records: Sequence[Record], extras: set[str]) -> bytes | None:
    """What the records hold in fields without a column and in the keys ``extras``; None for nothing."""
    rows = []
    for record in records:
        wanted = (record.model_fields_set & _JSON) | (extras & (record.model_extra or {}).keys())
        rows.append(record.model_dump(mode="json", include=wanted) if wanted else {})
    return zlib.compress(json.dumps(rows, ensure_ascii=False).encode(errors="surrogatepass"), 1) if any(rows) else None


def _prompt(record: Record) -> bytes | None:
    """A hash by which the same messages are known, None without any."""
    if not record.messages:
        return None
    return sha256(repr([(m.role, m.content) for m in record.messages]).encode(errors="surrogatepass")).digest()[:16]
