"""``reader`` of a model on an endpoint: a second request of one token reads each answer."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from confide.engines.engine import prompt_and_answer
from confide.engines.openai.exported_reader import READER
from confide.methods.endpoint_model import EndpointModel
from confide.methods.method import Column, Method, Scope
from confide.numeric import sigmoid
from confide.records import Cost, Record

if TYPE_CHECKING:
    from confide.engines.openai.openai_engine import OpenAIEngine


class EndpointReader(Method):
    """The method; what was read when an answer was written is not asked for again.

    The tokens of any other answer are those that the server makes of its text. Where there was reasoning before it,
    its tokens are not known, and there is no confidence.
    """

    name = "endpoint_reader"
    sources = (READER,)
    needs = ("second_request",)
    by_model = True

    def available(self, scope: Scope) -> Sequence[str]:
        """Where the endpoint runs an exported reader."""
        there = isinstance(scope.model, EndpointModel) and scope.model.reader is not None
        return self.sources if there else ()

    def read(self, records: Sequence[Record]) -> Mapping[str, Column]:
        """One column [n]."""
        model = self.scope_.model
        assert isinstance(model, EndpointModel)
        engine = cast("OpenAIEngine", model.engine)
        values, costs = np.full(len(records), np.nan), [Cost() for _ in records]
        asked: list[int] = []
        for row, record in enumerate(records):
            if (told := _kept(record, model.scored_by)) is not None:
                values[row] = told["z"]
                costs[row] = Cost(tokens=told["tokens"], seconds=told["seconds"])
            elif record.reasoning is None and record.finish == "stop":
                asked.append(row)
        if asked:
            pairs = [prompt_and_answer(model.engine, records[row]) for row in asked]
            began = time.monotonic()
            values[asked], tokens = engine.verdicts([p for p, _ in pairs], [a for _, a in pairs], self.scope_.progress)
            seconds = (time.monotonic() - began) / len(asked)
            for row, count in zip(asked, tokens.tolist(), strict=True):
                costs[row] = Cost(tokens=count, seconds=seconds)
        return {READER: Column(sigmoid(values), costs)}


def _kept(record: Record, scored_by: str) -> dict[str, Any] | None:
    """What a record holds of the second request by which its answer was read, by the reader at hand."""
    told = (record.model_extra or {}).get("verdict")
    return told if isinstance(told, dict) and told.get("by") == scored_by else None
