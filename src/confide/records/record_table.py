"""The record table: records as columns, a hundred bytes a row, for files of millions of rows.

It is a sequence of records: each is made when it is asked for, so changing one changes nothing in the table. What
reads one field of all rows reads its column. Values that may repeat are numbers into a list of values; what few steps
look at (messages, samples, tokens) is compressed JSON.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from confide.data_files import check_unique
from confide.numeric import Bools, Floats, Ints, as_finite
from confide.records.coded_column import Coded
from confide.records.column_store import (
    CODED,
    DICTIONARIES,
    EXTRA,
    JSON_FIELDS,
    NUMBERS,
    ROWS,
    UNSET,
    ColumnStore,
    StoreBuilder,
)
from confide.records.record import Cost, Record


class RecordTable(Sequence[Record]):
    """Records as columns; `RecordTable.of` makes one of records, which need not be in memory at once.

    >>> table = RecordTable.of([Record(id="a", correct=True, confidence={"stack": 0.9}), Record(id="b")])
    >>> table.confidence("stack").tolist(), table[1].id
    ([0.9, nan], 'b')
    """

    def __init__(
        self,
        store: ColumnStore,
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
        held, left, builder = records if isinstance(records, list) else None, iter(records), StoreBuilder()
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
            return Coded(np.zeros(len(self), dtype=np.int64), [UNSET.get(name)])
        return Coded(column.codes[self._rows].astype(np.int64), column.values)

    def extra(self, key: str) -> Coded:
        """What rows hold under a key that is no field, None where they have none."""
        if key not in self._store.mixed:
            return self.coded(f"{EXTRA}{key}")
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
        names = [name for name in (*CODED, *NUMBERS) if name in store.coded or name in store.numbers]
        extras = [name for name in store.coded if name.startswith(EXTRA)]
        columns = zip(*(store.each(name, rows) for name in ["given", *names, *extras]), strict=True)
        held = zip(*(store.dictionaries(name, rows) for name in DICTIONARIES), strict=True)
        places = slice(1, 1 + len(names))
        for row, own, values, (confidence, cost, scored_by) in zip(
            rows.tolist(), store.ids[rows].tolist(), columns, held, strict=True
        ):
            given = values[0]
            data = UNSET | {"id": own} | dict(zip(names, values[places], strict=True))
            plain = self._kept is None and not self._changed
            data["confidence"] = confidence if plain else self._told(confidence, row)
            data["cost"] = {s: Cost(tokens=t, seconds=x) for s, (t, x) in cost.items()}
            data["scored_by"] = scored_by
            further = {e.removeprefix(EXTRA): v for e, v in zip(extras, values[1 + len(names) :], strict=True)}
            further = {name: value for name, value in further.items() if name in given}
            if json := store.json(row):
                filled = {name for name in DICTIONARIES if data[name]}
                known = {name: data[name] for name in (given | filled) - JSON_FIELDS if name in data}
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
