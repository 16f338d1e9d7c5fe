"""Self-REF as a model and as a method of scoring."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from confide.engines.engine import Completion, Gone
from confide.methods.confidence_model import Answer, ConfidenceModel
from confide.methods.method import Column, Method, Scope
from confide.methods.self_ref.verdict_reading import emit, read_verdict, read_verdicts
from confide.policies.identities import weights_identity
from confide.records import Cost, Message, Record

SOURCE = "self_ref"


class SelfRefModel(ConfidenceModel):
    """A model that writes its verdict after its answer, in the same generation."""

    @property
    def answerers(self) -> list[str]:
        """Its own weights, and those whose answers it was trained on."""
        return [*super().answerers, weights_identity(self.info.base_sha256)]

    def _answer(
        self,
        conversations: Sequence[list[Message]],
        prompts: Sequence[list[int]],
        max_new_tokens: int,
        gone: Gone | None,
        stop: Mapping[str, float],
    ) -> list[Answer]:
        return [
            Answer(
                e.answer,
                e.confidence,
                SOURCE,
                None,
                e.finish,
                {SOURCE: e.confidence},
                e.answer_ids,
                completion_tokens=e.tokens,
                reasoning=e.reasoning,
            )
            for e in emit(self.engine, conversations, max_new_tokens=max_new_tokens, gone=gone)
        ]

    def _read(self, conversation: list[Message], prompt: list[int], completion: Completion) -> Answer:
        value = read_verdict(self.engine, prompt, completion.ids)
        sources: dict[str, float | None] = {SOURCE: value}
        return Answer(
            completion.text, value, SOURCE, None, "stop", sources, completion.ids, reasoning=completion.reasoning
        )


class SelfRefMethod(Method):
    """``self_ref``: the verdict of a model that ``confide train self-ref`` left."""

    name = "self_ref"
    sources = (SOURCE,)
    needs = ("next_tokens",)
    by_model = True

    def available(self, scope: Scope) -> Sequence[str]:
        """Where the model was trained so."""
        return self.sources if isinstance(scope.model, SelfRefModel) else ()

    def read(self, records: Sequence[Record]) -> Mapping[str, Column]:
        """P(confident) [n], by one token per answer."""
        assert isinstance(self.scope_.model, SelfRefModel)
        began = time.monotonic()
        values = read_verdicts(self.scope_.model.engine, records, progress=self.scope_.progress)
        seconds = (time.monotonic() - began) / max(1, len(records))
        return {SOURCE: Column(values, Cost(tokens=1, seconds=seconds))}
