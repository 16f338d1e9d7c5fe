"""The Python API: load a trained model, get answers with a confidence, read answers that already exist."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from confide.checkpoint import Checkpoint, load_checkpoint
from confide.engines.transformers import Completion, Kept, TransformersEngine
from confide.errors import ConfideError
from confide.estimators.free import free_confidence
from confide.estimators.states import States, stacked
from confide.records import Message, Record
from confide.tasks.text import tokens

Conversation = str | Sequence[Message | dict[str, str]]


@dataclass(frozen=True)
class Answer:
    """An answer and how sure the model is of it.

    ``confidence`` is P(right) from ``source``; ``familiarity`` in [0, 1] tells how close answer and question are
    to what training saw (near 0 the confidence rests on the answer's own probability); ``sources`` holds every
    confidence that came with the same generation.
    """

    text: str
    confidence: float | None
    source: str
    familiarity: float | None
    finish: str = "stop"
    sources: dict[str, float | None] = field(default_factory=dict)
    ids: list[int] = field(default_factory=list)


class ConfidenceModel:
    """A model that answers and says how sure it is; make one with `confide.load`."""

    def __init__(self, engine: TransformersEngine, checkpoint: Checkpoint):
        self.engine = engine
        self.checkpoint = checkpoint

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers that the stack reads."""
        stack = self.checkpoint.stack
        return stack.layers if stack else ()

    def answer(self, question: Conversation, *, max_new_tokens: int = 64) -> Answer:
        """Answer one question; text and confidence come from one generation."""
        return self.answers([question], max_new_tokens=max_new_tokens)[0]

    def answers(self, questions: Sequence[Conversation], *, max_new_tokens: int = 64) -> list[Answer]:
        """Answer a batch of questions greedily, token for token as the base model would."""
        conversations = [self._conversation(question) for question in questions]
        prompts = [self.engine.encode(messages) for messages in conversations]
        for prompt in prompts:
            self._check(len(prompt) + max_new_tokens)
        if self.checkpoint.method == "self_ref":
            return self._emitted(conversations, max_new_tokens)
        completions, _, kept = self.engine.generate(prompts, max_new_tokens, layers=self.layers, keep=True)
        assert kept is not None
        return self._read(kept, conversations, completions)

    def confidence(self, messages: Conversation, answer: str) -> Answer:
        """Read an answer that already exists."""
        conversation = self._conversation(messages)
        prompt, ids = self.engine.encode(conversation), self.engine.encode_answer(answer)
        self._check(len(prompt) + len(ids))
        if self.checkpoint.method == "self_ref":
            from confide.signals import token_ids
            from confide.training.self_ref_reading import read_verdicts

            engine = self.engine
            record = Record(id="0", messages=conversation, answer=answer, answer_ids=ids)
            value = read_verdicts(engine.model, engine.tokenizer, [record], token_ids(engine.tokenizer))[0]
            return Answer(answer, value, "self_ref", None, "stop", {"self_ref": value}, ids)
        kept, measured = self.engine.forced([prompt], [ids], layers=self.layers, measure=True)
        return self._read(kept, [conversation], [replace(measured[0], text=answer)])[0]

    def _emitted(self, conversations: Sequence[list[Message]], max_new_tokens: int) -> list[Answer]:
        """Answers of a Self-REF model, which writes its verdict itself."""
        from confide.signals import token_ids
        from confide.training.self_ref_reading import emit

        engine = self.engine
        written = emit(
            engine.model, engine.tokenizer, conversations, token_ids(engine.tokenizer), max_new_tokens=max_new_tokens
        )
        return [
            Answer(e.answer, e.confidence, "self_ref", None, e.finish, {"self_ref": e.confidence}, e.answer_ids)
            for e in written
        ]

    def _conversation(self, question: Conversation) -> list[Message]:
        """Messages as they are; a bare question is put behind the training prompt whose examples are most like it.

        Confidence is learned for answers to prompts of a kind; asked bare, a small model answers otherwise.
        """
        if not isinstance(question, str):
            return [m if isinstance(m, Message) else Message.model_validate(m) for m in question]
        words = set(tokens(question.lower()))

        def likeness(prompt: list[dict[str, str]]) -> float:
            asked = [set(tokens(m["content"].lower())) for m in prompt if m["role"] == "user"]
            return max((len(words & a) / len(words | a) for a in asked if words | a), default=0.0)

        leading = max(self.checkpoint.prompts, key=likeness, default=[])
        return [*map(Message.model_validate, leading), Message(role="user", content=question)]

    def _read(
        self, kept: Kept, conversations: Sequence[list[Message]], completions: Sequence[Completion]
    ) -> list[Answer]:
        records = [
            Record(
                id=str(i),
                messages=messages,
                answer=c.text,
                answer_ids=c.ids,
                logprobs=c.logprobs,
                entropies=c.entropies,
                end_logprob=c.end_logprob,
                finish=c.finish,
            )
            for i, (messages, c) in enumerate(zip(conversations, completions, strict=True))
        ]
        sources: list[dict[str, float | None]] = [free_confidence(record) for record in records]
        familiarity: list[float | None] = [None] * len(records)
        with torch.no_grad():
            if (reader := self.checkpoint.reader) is not None:
                for values, z in zip(sources, reader.z(self.engine, kept).tolist(), strict=True):
                    values["reader"] = float(1 / (1 + np.exp(-z)))
            if (stack := self.checkpoint.stack) is not None:
                self.engine.read(kept, layers=self.layers)
                read = stack.read(States(self.layers, stacked(kept, self.layers)), records)
                for i, values in enumerate(sources):
                    for name, column in (
                        ("stack", read.confidence), ("probe", read.probe), ("probe_logprobs", read.ungated)
                    ):  # fmt: skip
                        values[name] = None if np.isnan(column[i]) else float(column[i])
                    familiarity[i] = float(read.familiarity[i])
        best = "stack" if self.checkpoint.stack else "reader" if self.checkpoint.reader else "logprob_sum"
        return [
            Answer(c.text, values[best], best, seen, c.finish, values, c.ids)
            for c, values, seen in zip(completions, sources, familiarity, strict=True)
        ]

    def _check(self, length: int) -> None:
        if length > self.engine.context:
            raise ConfideError(f"{length} tokens do not fit the model's context of {self.engine.context}")


def load(path: str | Path, *, dtype: str | None = None, device: str | None = None) -> ConfidenceModel:
    """Load a trained folder (`confide train reader`), or any model, whose confidence is then ``logprob_sum``.

    Raises `ConfideError` for a missing or broken folder.
    """
    checkpoint = load_checkpoint(Path(path)) if Path(path).is_dir() else Checkpoint()
    engine = TransformersEngine.load(str(path), dtype=dtype, device=device)
    if checkpoint.about:
        engine.name = str(checkpoint.about.get("base_model", path))
    return ConfidenceModel(engine, checkpoint.on(engine))
