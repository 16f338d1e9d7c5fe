"""Plain Parquet: files whose columns are all of simple types, read column by column, a million rows a second.

What is read is what `confide.records.record_cells` says of the same cells. Where a cell would take a closer look (a
text with spaces around it, a log-probability of 0, an infinite number) nothing is read here, and the rows are read one
by one, with errors that name them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from confide.data_files import files_of, no_name
from confide.errors import ConfideError
from confide.numeric import Bools, Floats
from confide.records.coded_column import Coded
from confide.records.column_store import CODED, UNSET, ColumnStore
from confide.records.record import Split
from confide.records.record_cells import RecordCells
from confide.records.record_table import RecordTable
from confide.sources import log_space

_TRUTHS = ("correct", "judged")
_TEXTS = tuple(name for name in CODED if name not in (*_TRUTHS, "part", "read_by", "signal"))
_KNOWN = {"split": get_args(Split), "finish": ("stop", "length")}
_FREE = ("answer", "answered", "grade_error")


class _CloserLookError(Exception):
    """A column or a cell that is not plain."""


def read_plain_parquet(path: Path) -> RecordTable | None:
    """The records in a Parquet file, or a folder of them; None where not every column and cell is plain."""
    try:
        return _read([_opened(file) for file in files_of(path)], str(path))
    except (_CloserLookError, ConfideError):
        return None


def _opened(file: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(file)
    except (pa.ArrowException, OSError):
        raise _CloserLookError from None


def _read(files: list[Any], name: str) -> RecordTable:
    schemas = [file.schema_arrow for file in files]
    names: list[str] = schemas[0].names
    if any(schema.names != names for schema in schemas) or len(set(names)) < len(names):
        raise _CloserLookError
    cells = RecordCells(names, name)
    ids = np.concatenate([_ids(file) for file in files])
    coded: dict[str, Coded] = {}
    numbers: dict[str, Floats] = {}
    given: list[tuple[str, Bools]] = []
    for column in [column for column in names if column != "id"]:
        source, field = cells.sources.get(column), "correct" if column == cells.label else column
        if source is not None:
            numbers[f"confidence.{source}"] = np.concatenate([_numbers(file, column, source) for file in files])
        elif field in (*_TRUTHS, *_TEXTS) and column not in coded:
            coded[field] = _coded(files, column, field)
            given.append((field, coded[field].codes != 0))
        else:
            raise _CloserLookError
    sources = tuple(cells.sources.values())
    coded["confidence"] = Coded(np.zeros(len(ids), dtype=np.int32), [sources])
    coded["given"] = _given(given, ["id", *["confidence"] * bool(sources)], len(ids))
    return RecordTable(ColumnStore(ids, coded, numbers, set()), np.arange(len(ids)))


def _column(file: Any, name: str) -> Any:
    return file.read(columns=[name]).column(0)


def _ids(file: Any) -> NDArray[Any]:
    import pyarrow as pa
    import pyarrow.compute as pc

    column = _column(file, "id")
    if pa.types.is_integer(column.type):
        column = column.cast(pa.string())
    if not pa.types.is_string(column.type) or column.null_count:
        raise _CloserLookError
    if pc.any(pc.or_(pc.not_equal(pc.utf8_trim_whitespace(column), column), pc.equal(column, ""))).as_py():
        raise _CloserLookError
    return np.concatenate(
        [np.array([], dtype=np.dtypes.StringDType())]
        + [np.array(chunk.to_pylist(), dtype=np.dtypes.StringDType()) for chunk in column.chunks]
    )


def _numbers(file: Any, name: str, source: str) -> Floats:
    import pyarrow as pa

    column = _column(file, name)
    if not pa.types.is_float64(column.type):
        raise _CloserLookError
    values: Floats = column.to_numpy()
    if np.isinf(values).any() or (log_space(source) and (values >= 0).any()):
        raise _CloserLookError
    return values


def _coded(files: list[Any], name: str, field: str) -> Coded:
    """A column of texts, or of true and false, as codes; what is missing has the code 0."""
    import pyarrow as pa

    known: dict[tuple[Any, ...], int] = {(): 0}
    codes = []
    for file in files:
        for chunk in _column(file, name).chunks:
            if not (pa.types.is_boolean(chunk.type) if field in _TRUTHS else pa.types.is_string(chunk.type)):
                raise _CloserLookError
            words = chunk.dictionary_encode()
            values = words.dictionary.to_pylist()
            if field not in _TRUTHS and any(_needs_a_look(value, field) for value in values):
                raise _CloserLookError
            # A value like that of a field that is not set was still given: it has a number of its own.
            own = [known.setdefault((value,), len(known)) for value in values]
            codes.append(np.array([*own, 0], dtype=np.int32)[_indices(words, len(own))])
    return Coded(np.concatenate(codes or [np.array([], dtype=np.int32)]), [UNSET[field], *(v for (v,) in [*known][1:])])


def _indices(words: Any, missing: int) -> NDArray[np.int64]:
    return np.asarray(words.indices.fill_null(missing).to_numpy(zero_copy_only=False), dtype=np.int64)


def _needs_a_look(value: str, field: str) -> bool:
    if field in _FREE:
        return False
    return value != value.strip() or no_name(value) or not value or value not in _KNOWN.get(field, (value,))


def _given(fields: list[tuple[str, Bools]], always: list[str], n: int) -> Coded:
    """Which fields are set, for every row."""
    bits = np.zeros(n, dtype=np.int64)
    for place, (_, there) in enumerate(fields):
        bits |= there.astype(np.int64) << place
    found, codes = np.unique(bits, return_inverse=True)
    sets = [
        frozenset([*always, *(name for place, (name, _) in enumerate(fields) if int(bit) >> place & 1)])
        for bit in found
    ]
    return Coded(codes.astype(np.int32), sets)
