"""The confidence of parts as a method of scoring: its source has the signal's name."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np

from confide.methods.method import Column, Scope, SignalMethod, or_nan
from confide.methods.parts.part_reading import PartReading
from confide.methods.parts.part_states import collect_part_states
from confide.numeric import Floats
from confide.records import Cost, Record


class PartMethod(SignalMethod):
    """The confidence of records of parts; trained by ``confide train stack --signal field``."""

    needs = ("states",)

    def available(self, scope: Scope) -> Sequence[str]:
        """Whether the model carries it, and there are records of parts."""
        carried = self._carried(scope) is not None and any(record.part for record in scope.records)
        return self.sources if carried else ()

    def fit(self, scope: Scope) -> None:
        """Take what the model carries; the rows that are scored are each other's traffic, split by split."""
        reading = self._carried(scope)
        assert reading is not None
        self.reading_, self.scored_by = reading, reading.scored_by
        self.traffic_ = reading.portable.mixture.signals.traffic([record for record in scope.new if record.part])

    def read(self, records: Sequence[Record]) -> Mapping[str, Column]:
        """The confidence of each part, [n]; NaN for whole answers, and where no state says anything."""
        began, values = time.monotonic(), np.full(len(records), np.nan)
        rows = [row for row, record in enumerate(records) if record.part and record.logprobs]
        some = [records[row] for row in rows]
        if some:
            told = self.reading_.confidences(some, self._z(some), self.traffic_)
            trained = [value if source != "logprob_sum" else None for value, source in told]
            values[rows] = or_nan(trained)
        cost = Cost(seconds=(time.monotonic() - began) / max(1, len(records)))
        return {self.name: Column(values, cost)}

    def _z(self, records: Sequence[Record]) -> Floats | None:
        """What the states say of each part, [n]; None where the reading takes none."""
        served, model = self.reading_.served, self.scope_.model
        if served is None or model is None:
            return None
        z = np.full(len(records), np.nan)
        known = [row for row, record in enumerate(records) if record.answer_ids]
        some = [records[row] for row in known]
        if some:
            states = collect_part_states(model.engine, some, served.reading.layers, progress=self.scope_.progress)
            z[known] = served.reading.z(states)
        return z

    def _carried(self, scope: Scope) -> PartReading | None:
        carried = getattr(scope.model, "part_readings", {})
        return cast("PartReading | None", carried.get(self.name))
