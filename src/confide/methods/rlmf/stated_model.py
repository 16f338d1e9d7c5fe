"""A model that states its confidence as it closes its answers, and what it says of answers that already exist."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from confide.engines.engine import Completion, Gone, check_context, prompt_and_answer
from confide.errors import ConfideError
from confide.methods.checkpoint import CheckpointInfo
from confide.methods.confidence_model import Answer, ConfidenceModel, Conversation
from confide.methods.method import Column, Method, Scope
from confide.methods.rlmf.stating import Graded, Stating, Tagged, tagged_task
from confide.records import Cost, Message, Record

if TYPE_CHECKING:
    from confide.engines.transformers.transformers_engine import TransformersEngine
    from confide.tasks import Task

SELF_JUDGEMENT = "f_pred"
BATCH = 128
ROOM = 64
"""Tokens that a statement and its judgement may take beside an answer."""


class StatedModel(ConfidenceModel):
    """A model that was trained by ``confide train rlmf``; its answers are its own."""

    @classmethod
    def _answered_by(cls, info: CheckpointInfo, path: str) -> str:
        return path

    @cached_property
    def stating(self) -> Stating:
        """How the model states its confidence."""
        return stating_for(self.info.confidence.statement, self.engine)

    @classmethod
    def ask_as(cls, info: CheckpointInfo, task: Task) -> Task:
        """``task`` in the prompt that asks for tagged text, where the model states its confidence so."""
        return tagged_task(task) if info.confidence.statement == "tagged" else task

    def as_asked(self, question: Conversation) -> list[Message]:
        """The conversation that the model reads: the format of its statement is asked for."""
        return self.stating.messages(super().as_asked(question))

    @property
    def room(self) -> int:
        """Tokens of the statement."""
        return self.stating.room

    def _answer(
        self,
        conversations: Sequence[list[Message]],
        prompts: Sequence[list[int]],
        max_new_tokens: int,
        gone: Gone | None,
        stop: Mapping[str, float],
    ) -> list[Answer]:
        asked = [self.engine.encode(self.stating.messages(messages)) for messages in conversations]
        written = self.engine.answer(asked, max_new_tokens + self.stating.room, gone=gone)
        return self._stated([p + c.reasoning_ids for p, c in zip(asked, written, strict=True)], written)

    def _read(self, conversation: list[Message], prompt: list[int], completion: Completion) -> Answer:
        return self._stated([prompt], [completion])[0]

    def _sampling_prompt(self, conversation: list[Message], max_new_tokens: int) -> tuple[list[int], int]:
        return self.engine.encode(self.stating.messages(conversation)), max_new_tokens + self.stating.room

    def _text(self, completion: Completion) -> str:
        return self.stating.answer(completion)

    def _stated(self, prompts: Sequence[list[int]], completions: Sequence[Completion]) -> list[Answer]:
        name = self.stating.name
        values = self.stating.state(prompts, completions).tolist()
        stated = [None if np.isnan(value) else float(value) for value in values]
        return [
            Answer(
                self.stating.answer(c),
                value,
                name,
                None,
                c.finish,
                {name: value},
                c.ids,
                completion_tokens=c.tokens,
                reasoning=c.reasoning,
            )
            for c, value in zip(completions, stated, strict=True)
        ]


def stating_for(statement: str | None, engine: TransformersEngine) -> Stating:
    """The way to state a confidence that a checkpoint names; raises `ConfideError` for a model that knows none."""
    if statement is None:
        raise ConfideError(f"{engine.name} was not trained to state its confidence")
    return {"graded": Graded, "tagged": Tagged}[statement](engine)


class StatedMethod(Method):
    """What a model states of its answers (``graded``, ``tagged``), and how it judges that (``f_pred``)."""

    name = "stated"
    sources = ("graded", "tagged", SELF_JUDGEMENT)
    needs = ("next_tokens",)
    by_model = True

    def available(self, scope: Scope) -> Sequence[str]:
        """The way in which the model was trained to state, and its self-judgement."""
        if not isinstance(scope.model, StatedModel):
            return ()
        return (str(scope.model.info.confidence.statement), SELF_JUDGEMENT)

    def read(self, records: Sequence[Record]) -> Mapping[str, Column]:
        """What is stated after each answer [n], and the judgement of the grade nearest to it; NaN: none can be read.

        Raises:
            ConfideError: records that do not fit the model's context, counted and named.
        """
        model = self.scope_.model
        assert isinstance(model, StatedModel)
        engine, stating = model.engine, model.stating
        spans = [prompt_and_answer(engine, record) for record in records]
        lengths = [len(prompt) + len(answer) for prompt, answer in spans]
        check_context({r.id: length for r, length in zip(records, lengths, strict=True)}, engine.context, ROOM)
        prompts = [prompt for prompt, _ in spans]
        completions = [
            Completion(record.answer, answer, [], [], None, record.finish)
            for record, (_, answer) in zip(records, spans, strict=True)
        ]
        stated, judged = np.full(len(records), np.nan), np.full(len(records), np.nan)
        seconds = {stating.name: 0.0, SELF_JUDGEMENT: 0.0}
        engine.forget_prefixes()
        note = "reading what is stated"
        for rows in engine.batches(prompts, keys=lengths, size=BATCH, progress=self.scope_.progress, note=note):
            began = time.monotonic()
            stated[rows] = stating.state([prompts[i] for i in rows], [completions[i] for i in rows])
            seconds[stating.name] += time.monotonic() - began
            known = [i for i in rows if np.isfinite(stated[i])]
            if SELF_JUDGEMENT in self.wanted_ and known:
                began = time.monotonic()
                closed = [stating.close(completions[i], float(stated[i])) for i in known]
                judged[known] = stating.judge([prompts[i] for i in known], closed)
                seconds[SELF_JUDGEMENT] += time.monotonic() - began
        columns = {
            name: Column(values, Cost(tokens=tokens, seconds=seconds[name] / max(1, len(records))))
            for name, values, tokens in ((stating.name, stated, 1), (SELF_JUDGEMENT, judged, len(stating.query)))
        }
        return {source: columns[source] for source in self.wanted_}
