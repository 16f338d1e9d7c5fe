"""The rows: what of a file of records is judged, as arrays, and what is left out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from confide.errors import ConfideError
from confide.metrics.metric import BoolArray, FloatArray, IntArray
from confide.records import Record
from confide.sources import AT, SWAPPED, auxiliary, in_order


@dataclass(frozen=True)
class Rows:
    """The records that count, as arrays over their ``n`` rows, and how many were left out and why."""

    records: list[Record]
    left_out: dict[str, int]
    split: str | None

    @cached_property
    def correct(self) -> BoolArray:
        """Right or wrong [n]."""
        return np.array([bool(record.correct) for record in self.records])

    @cached_property
    def ended(self) -> BoolArray:
        """Whether the answer was finished, not cut [n]."""
        return np.array([record.finish == "stop" for record in self.records])

    @cached_property
    def answered(self) -> IntArray:
        """A number for the candidate that each answer names [n]; -1 where it names none."""
        codes: dict[str, int] = {}
        return np.array(
            [
                -1 if record.answered is None else codes.setdefault(record.answered, len(codes))
                for record in self.records
            ],
            dtype=np.int64,
        )

    @cached_property
    def consistency(self) -> FloatArray:
        """Agreement among samples [n], NaN where it was not measured."""
        return np.array([np.nan if (c := r.consistency) is None else c for r in self.records])

    @cached_property
    def samples(self) -> FloatArray:
        """How many samples the agreement rests on [n], NaN where the records do not say."""
        return np.array([len(r.samples) if r.samples else np.nan for r in self.records])

    @cached_property
    def sources(self) -> list[str]:
        """The sources to judge that any row names, in table order."""
        return in_order(source for source in self._named if not auxiliary(source))

    @cached_property
    def auxiliary(self) -> list[str]:
        """The sources that only serve a comparison with another one."""
        return in_order(source for source in self._named if auxiliary(source))

    @cached_property
    def _named(self) -> set[str]:
        return {source for record in self.records for source in record.confidence}

    def confidence(self, source: str) -> FloatArray:
        """A source's confidences [n]; NaN where missing (None, absent, or not a finite number)."""
        values = [record.confidence.get(source) for record in self.records]
        out = np.array([np.nan if value is None else value for value in values], dtype=np.float64)
        out[~np.isfinite(out)] = np.nan
        return out


def extra(record: Record, name: str) -> Any:
    """A key of the record beyond the known ones, None where it is absent."""
    return (record.model_extra or {}).get(name)


def tested(records: list[Record]) -> list[Record]:
    """The test split where records carry splits, else all of them."""
    return [r for r in records if r.split == "test"] if any(r.split is not None for r in records) else records


def select(records: list[Record]) -> Rows:
    """The rows to report on: the test split where records carry splits, and only graded ones.

    Questions whose right option was removed (``has_answer`` is false) are for the rejection table alone.

    Raises `ConfideError` when nothing is left, or when the rest is all right or all wrong.
    """
    if not records:
        raise ConfideError("there are no records to evaluate")
    splits = {record.split for record in records if record.split is not None}
    held_out = tested(records)
    if not held_out:
        raise ConfideError(f"no record is in the split 'test'; the file holds {', '.join(sorted(splits))}")
    answerable = [record for record in held_out if extra(record, "has_answer") is not False]
    graded = [record for record in answerable if record.correct is not None]
    if not graded:
        raise ConfideError(f"none of the {len(held_out)} records says whether its answer is correct")
    right = sum(bool(record.correct) for record in graded)
    if right in (0, len(graded)):
        raise ConfideError(
            f"all answers are {'right' if right else 'wrong'} ({right} right, {len(graded) - right} wrong): "
            "a confidence can only be judged where there are both"
        )
    left_out = {
        "other_splits": len(records) - len(held_out),
        "ungraded": len(answerable) - len(graded),
        "without_answer": len(held_out) - len(answerable),
    }
    rows = Rows(graded, left_out, "test" if splits else None)
    if not any(np.isfinite(rows.confidence(source)).any() for source in rows.sources):
        raise ConfideError("no record holds a confidence: run `confide score` first")
    return rows


def only(records: list[Record], sources: Iterable[str]) -> list[Record]:
    """The records with these sources alone (and what only serves them); raises `ConfideError` for one nobody has."""
    wanted = list(sources)
    named = {source for record in records for source in record.confidence}
    if unknown := [source for source in wanted if source not in named]:
        there = ", ".join(sorted(named)) or "none"
        raise ConfideError(f"no record has a confidence of the source {unknown[0]!r}; there are: {there}")
    kept = {s for s in named if s in wanted or any(s == b + SWAPPED or s.startswith(b + AT) for b in wanted)}
    return [
        record.model_copy(update={"confidence": {s: v for s, v in record.confidence.items() if s in kept}})
        for record in records
    ]
