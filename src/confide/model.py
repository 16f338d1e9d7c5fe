"""The Python API: load a trained model, get answers with a confidence, read answers that already exist."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from confide.engines.transformers.kept import Kept
from confide.engines.transformers.token_scores import Completion
from confide.engines.transformers.transformers_engine import TransformersEngine
from confide.errors import ConfideError
from confide.methods.checkpoint import Checkpoint, load_checkpoint
from confide.methods.free import free_confidence
from confide.methods.stack.states import States, closing_states
from confide.records import Message, Record
from confide.tasks.text import tokens

if TYPE_CHECKING:
    from confide.methods.rlmf.rollouts import Stating

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
    prompt_tokens: int = 0


class ConfidenceModel:
    """A model that answers and says how sure it is; make one with `confide.load`."""

    def __init__(self, engine: TransformersEngine, checkpoint: Checkpoint, name: str = ""):
        self.engine = engine
        self.checkpoint = checkpoint
        self.names = list(dict.fromkeys([engine.name, name or engine.name]))
        """Who the answers may be from: the base model, where the answers are its own, and the folder loaded."""

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers that stack and probes read."""
        return self.checkpoint.layers

    def answer(self, question: Conversation, *, max_new_tokens: int = 64) -> Answer:
        """Answer one question; text and confidence come from one generation."""
        return self.answers([question], max_new_tokens=max_new_tokens)[0]

    def answers(self, questions: Sequence[Conversation], *, max_new_tokens: int = 64) -> list[Answer]:
        """Answer a batch of questions greedily; where the base model is frozen, token for token as it would."""
        conversations = [self._conversation(question) for question in questions]
        prompts = [self.engine.encode(messages) for messages in conversations]
        for prompt in prompts:
            self._check(len(prompt) + max_new_tokens)
        if self.checkpoint.method == "self_ref":
            answers = self._emitted(conversations, max_new_tokens)
        elif self.checkpoint.statement:
            answers = self._stated(conversations, max_new_tokens)
        else:
            completions, _, kept = self.engine.generate(prompts, max_new_tokens, layers=self.layers, keep=True)
            assert kept is not None
            answers = self._read(kept, conversations, completions)
        return [replace(a, prompt_tokens=len(prompt)) for a, prompt in zip(answers, prompts, strict=True)]

    def samples(self, question: Conversation, count: int, *, max_new_tokens: int = 64, seed: int = 0) -> list[str]:
        """Sampled answers (temperature 1) to one question; the same seed gives the same ones."""
        conversation = self._conversation(question)
        if self.checkpoint.statement:
            conversation, max_new_tokens = self.stating.messages(conversation), max_new_tokens + self.stating.room
        prompt = self.engine.encode(conversation)
        self._check(len(prompt) + max_new_tokens)
        _, sampled, _ = self.engine.generate([prompt], max_new_tokens, samples=count, seed=seed)
        said = self.stating.answer if self.checkpoint.statement else (lambda completion: completion.text)
        return [said(completion) for completion in sampled[0]]

    def confidence(self, messages: Conversation, answer: str) -> Answer:
        """Read an answer that already exists."""
        conversation = self._conversation(messages)
        prompt, ids = self.engine.encode(conversation), self.engine.encode_answer(answer)
        self._check(len(prompt) + len(ids))
        if self.checkpoint.method == "self_ref":
            value = self.verdicts([Record(id="0", messages=conversation, answer=answer, answer_ids=ids)])[0]
            return Answer(answer, value, "self_ref", None, "stop", {"self_ref": value}, ids)
        if self.checkpoint.statement:
            given = Completion(answer, ids, [], [], None, "stop")
            return self._said([prompt], [given])[0]
        kept, measured = self.engine.forced([prompt], [ids], layers=self.layers, measure=True)
        return self._read(kept, [conversation], [replace(measured[0], text=answer)])[0]

    def verdicts(self, records: Sequence[Record]) -> list[float]:
        """What a Self-REF model says of answers that already exist, in the records' order."""
        from confide.methods.self_ref.verdict_reading import read_verdicts
        from confide.signals import token_ids

        return read_verdicts(self.engine.model, self.engine.tokenizer, records, token_ids(self.engine.tokenizer))

    def _emitted(self, conversations: Sequence[list[Message]], max_new_tokens: int) -> list[Answer]:
        """Answers of a Self-REF model, which writes its verdict itself."""
        from confide.methods.self_ref.verdict_reading import emit
        from confide.signals import token_ids

        engine = self.engine
        written = emit(
            engine.model, engine.tokenizer, conversations, token_ids(engine.tokenizer), max_new_tokens=max_new_tokens
        )
        return [
            Answer(e.answer, e.confidence, "self_ref", None, e.finish, {"self_ref": e.confidence}, e.answer_ids)
            for e in written
        ]

    @cached_property
    def stating(self) -> Stating:
        """How the model states its confidence; raises `ConfideError` for one that was not trained to."""
        from confide.methods.rlmf.format_stage import STATEMENTS

        if self.checkpoint.statement is None:
            raise ConfideError(f"{self.names[-1]} was not trained to state its confidence")
        return STATEMENTS[self.checkpoint.statement](self.engine)

    def _stated(self, conversations: Sequence[list[Message]], max_new_tokens: int) -> list[Answer]:
        """Answers of a model that states its confidence as it closes them."""
        prompts = [self.engine.encode(self.stating.messages(messages)) for messages in conversations]
        written, _, _ = self.engine.generate(prompts, max_new_tokens + self.stating.room)
        return self._said(prompts, written)

    def _said(self, prompts: Sequence[list[int]], completions: Sequence[Completion]) -> list[Answer]:
        name = self.stating.name
        values = self.stating.state(prompts, completions).tolist()
        stated = [None if np.isnan(value) else float(value) for value in values]
        return [
            Answer(self.stating.answer(c), value, name, None, c.finish, {name: value}, c.ids)
            for c, value in zip(completions, stated, strict=True)
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
        checkpoint, suffix = self.checkpoint, self.checkpoint.suffix
        if checkpoint.reader is not None:
            with torch.no_grad():
                z = checkpoint.reader.z(self.engine, kept).tolist()
            for values, logit in zip(sources, z, strict=True):
                values["reader" + suffix] = float(1 / (1 + np.exp(-logit)))
        if self.layers:
            states = States(self.layers, closing_states(self.engine, kept, self.layers))
            read = checkpoint.read(states, records)
            familiarity = read.pop("familiarity").tolist()
            for name, column in read.items():
                for values, value in zip(sources, column.tolist(), strict=True):
                    values[name + suffix] = None if np.isnan(value) else value
        best = "stack" + suffix if checkpoint.stack else "reader" + suffix if checkpoint.reader else "logprob_sum"
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
    # A model that was trained to state its confidence gives answers of its own; all others give the base model's.
    if checkpoint.about and not checkpoint.statement:
        engine.name = str(checkpoint.about.get("base_model", path))
    return ConfidenceModel(engine, checkpoint.on(engine), str(path))
