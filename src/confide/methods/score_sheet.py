"""The sheet: records that are being scored, and the columns that are written into them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from confide.methods.method import Column, Method, Scope
from confide.records import Cost, Record
from confide.sources import Source


class Sheet:
    """Writes columns into the records of a scope.

    Attributes:
        new: the rows that nothing was trained on.
        written: the sources that may be calibrated, in the order in which they were written.
    """

    def __init__(self, scope: Scope):
        self.scope = scope
        self.new = scope.new
        self.written: list[str] = []

    @property
    def tested(self) -> list[int]:
        """Which rows of `new` are reported on: the test split, or all without splits."""
        test = [i for i, record in enumerate(self.new) if record.split == "test"]
        return test if any(record.split for record in self.scope.records) else list(range(len(self.new)))

    def named(self, source: str) -> str:
        """The name of what the model at hand says: ``other_<source>`` of another model's answers."""
        return str(replace(Source.parse(source), other=True)) if self.scope.other_model else source

    def fill(self, method: Method, columns: Mapping[str, Column], *, costs: bool = True) -> None:
        """Write a method's columns, of all records or of `new` (all others get None)."""
        for source, column in columns.items():
            everywhere = len(column.values) == len(self.scope.records)
            rows = self.scope.records if everywhere else self.new
            name = self.named(source) if method.by_model else source
            self.put(name, column, rows, costs=costs)
            if costs:
                self.written.append(name)

    def signed(self, method: Method) -> Method:
        """``method``, with a note in the records of which checkpoint its confidences are from, if from one.

        What an earlier scoring left of a source that training gives, and what it derived from it, goes: another model
        may have given it.
        """
        model = self.scope.model
        if not method.needs and not method.scored_by:
            return method
        names = {self.named(source) if method.by_model else source for source in method.wanted_}
        for record in self.scope.records:
            samples = [sample.confidence for sample in record.samples or []]
            tables: list[dict[str, Any]] = [record.confidence, record.cost, record.scored_by, *samples]
            for table in tables:
                for name in [name for name in table if _plain(name) in names]:
                    del table[name]
            if by := method.scored_by or (model.scored_by if method.by_model and model is not None else ""):
                record.scored_by |= dict.fromkeys(names, by)
        return method

    def put(self, name: str, column: Column, rows: Sequence[Record], *, costs: bool = True) -> None:
        """Write a column for some ``rows``, and None for all others."""
        for record in self.scope.records:
            record.confidence[name] = None
        for place, (record, value) in enumerate(zip(rows, column.values.tolist(), strict=True)):
            record.confidence[name] = None if np.isnan(value) else value
            if costs:
                record.cost[name] = column.cost if isinstance(column.cost, Cost) else column.cost[place]


def _plain(name: str) -> str:
    """The source that a name says something about."""
    return str(replace(Source.parse(name), swapped=False, calibrated=False))
