"""The along-reading of a signal as a method of scoring: its source has the signal's name."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np

from confide.engines.closed_records import read_written
from confide.methods.along.along_reading import AlongReading
from confide.methods.along.stop_watch import traces
from confide.methods.method import Column, Scope, SignalMethod
from confide.records import Cost, Record


class AlongMethod(SignalMethod):
    """A signal that is read while an answer is written; trained by ``confide train signal``."""

    needs = ("states",)

    def available(self, scope: Scope) -> Sequence[str]:
        """Whether the model carries it."""
        return () if self._carried(scope) is None else self.sources

    def fit(self, scope: Scope) -> None:
        """Take what the model carries."""
        reading = self._carried(scope)
        assert reading is not None
        self.reading_, self.scored_by = reading, reading.rule.scored_by

    def read(self, records: Sequence[Record]) -> Mapping[str, Column]:
        """The lowest value along each answer, [n]; NaN for an answer without a token."""
        assert self.scope_.model is not None
        engine, reading = self.scope_.model.engine, self.reading_
        values = np.full(len(records), np.nan)
        began = time.monotonic()
        for rows, completions in read_written(engine, records, reading.directions, progress=self.scope_.progress):
            for i, completion in zip(rows, completions, strict=True):
                lowest = traces([reading], completion, engine.decode)[self.name].lowest
                values[i] = np.nan if lowest is None else lowest
        cost = Cost(seconds=(time.monotonic() - began) / max(1, len(records)))
        return {self.name: Column(values, cost)}

    def _carried(self, scope: Scope) -> AlongReading | None:
        carried = scope.model.signals if scope.model else {}
        return cast("AlongReading | None", carried.get(self.name))
