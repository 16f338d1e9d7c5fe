"""The rows: what of a file of records is judged, as arrays, and what is left out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from confide.errors import ConfideError
from confide.metrics.metric import BoolArray, FloatArray, IntArray
from confide.metrics.sources import in_order
from confide.records import Record


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
    def sources(self) -> list[str]:
        """The sources that any row names, in table order."""
        return in_order({source for record in self.records for source in record.confidence})

    def confidence(self, source: str) -> FloatArray:
        """A source's confidences [n]; NaN where missing (None, absent, or not a finite number)."""
        values = [record.confidence.get(source) for record in self.records]
        out = np.array([np.nan if value is None else value for value in values], dtype=np.float64)
        out[~np.isfinite(out)] = np.nan
        return out


def select(records: list[Record]) -> Rows:
    """The rows to report on: the test split where records carry splits, and only graded ones.

    Raises `ConfideError` when nothing is left, or when the rest is all right or all wrong.
    """
    if not records:
        raise ConfideError("there are no records to evaluate")
    splits = {record.split for record in records if record.split is not None}
    tested = [record for record in records if record.split == "test"] if splits else records
    if not tested:
        raise ConfideError(f"no record is in the split 'test'; the file holds {', '.join(sorted(splits))}")
    graded = [record for record in tested if record.correct is not None]
    if not graded:
        raise ConfideError(f"none of the {len(tested)} records says whether its answer is correct")
    right = sum(bool(record.correct) for record in graded)
    if right in (0, len(graded)):
        raise ConfideError(
            f"all answers are {'right' if right else 'wrong'} ({right} right, {len(graded) - right} wrong): "
            "a confidence can only be judged where there are both"
        )
    left_out = {"other_splits": len(records) - len(tested), "ungraded": len(tested) - len(graded)}
    rows = Rows(graded, left_out, "test" if splits else None)
    if not any(np.isfinite(rows.confidence(source)).any() for source in rows.sources):
        raise ConfideError("no record holds a confidence: run `confide score` first")
    return rows
