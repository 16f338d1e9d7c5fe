"""Along-readings as a method of scoring: each signal that a model carries is a source of the signal's name."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np

from confide.engines.closed_records import read_written, written_spans
from confide.engines.directions import Directions
from confide.methods.along.along_reading import AlongReading
from confide.methods.method import Column, Method, Scope
from confide.records import Cost, Record
from confide.signals import along_signals


class AlongMethod(Method):
    """``red_flag`` and what else is read while an answer is written; trained by ``confide train signal``."""

    name = "along"
    sources = tuple(along_signals())
    needs = ("states",)
    by_model = True

    def available(self, scope: Scope) -> Sequence[str]:
        """The signals that the checkpoint carries."""
        carried = _carried(scope)
        return [*(name for name in self.sources if name in carried)]

    def read(self, records: Sequence[Record]) -> Mapping[str, Column]:
        """The lowest value along each answer, [n], by signal; NaN for an answer without a token."""
        assert self.scope_.model is not None
        engine, carried = self.scope_.model.engine, _carried(self.scope_)
        readings = [carried[name] for name in self.wanted_]
        spans = [ids for _, ids in written_spans(engine, records)]
        values = np.full((len(readings), len(records)), np.nan)
        began = time.monotonic()
        directions = Directions.joined([reading.directions for reading in readings])
        for rows, completions in read_written(engine, records, directions, progress=self.scope_.progress):
            for i, completion in zip(rows, completions, strict=True):
                assert completion.shares is not None
                for place, reading in enumerate(readings):
                    due = reading.due(spans[i], len(completion.shares), engine.decode)
                    lowest = reading.trace(completion.shares[:, place], due).lowest
                    values[place, i] = np.nan if lowest is None else lowest
        cost = Cost(seconds=(time.monotonic() - began) / max(1, len(records)))
        return {name: Column(column, cost) for name, column in zip(self.wanted_, values, strict=True)}


def _carried(scope: Scope) -> dict[str, AlongReading]:
    return cast("dict[str, AlongReading]", scope.model.signals) if scope.model else {}
