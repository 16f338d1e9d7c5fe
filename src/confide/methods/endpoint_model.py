"""A model behind an endpoint: it answers with the confidences that its server's log-probabilities give, and with the
learned ones where there is a portable file or the server's engine reads its states.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, cast

from confide.engines.engine import Completion, Gone
from confide.engines.openai.exported_reader import READER
from confide.errors import ConfideError
from confide.methods.answer_traffic import UnseenShare
from confide.methods.checkpoint import CheckpointInfo
from confide.methods.confidence_model import Answer, ConfidenceModel, Conversation
from confide.methods.free import free_confidence
from confide.methods.learned_confidences import LearnedConfidences
from confide.methods.method import Column, Method, Scope, SignalMethod, or_nan
from confide.methods.portable.portable_file import PORTABLE
from confide.methods.stack.served_stack import SERVED, served_confidences
from confide.numeric import sigmoid
from confide.policies.identities import identity_parts
from confide.records import Message, Record
from confide.sources import as_probability

if TYPE_CHECKING:
    from confide.engines.openai.exported_reader import ExportedReader
    from confide.engines.openai.openai_engine import OpenAIEngine
    from confide.methods.frozen.served_file import ServedFile
    from confide.methods.portable.portable_file import PortableFile

FREE_SOURCE = "logprob_sum"


class EndpointModel(ConfidenceModel):
    """The model that an `OpenAIEngine` asks; what was trained is in ``served``, the ``reader`` or ``portable``."""

    frozen = True

    def __init__(
        self,
        engine: OpenAIEngine,
        served: ServedFile | None = None,
        reader: ExportedReader | None = None,
        portable: PortableFile | None = None,
    ):
        super().__init__(cast(Any, engine), CheckpointInfo(), engine.name)
        self.served = served
        self.reader = reader
        self.portable = portable
        self._learned = LearnedConfidences(served.mixture if served else None, portable)
        if portable is not None:
            portable.check_server(engine.identity)
        self.signals = {rule.signal: rule for rule in served.signals} if served else {}
        self.names += [exported.model for exported in (served, reader) if exported is not None]

    @property
    def scored_by(self) -> str:
        """A hash of what gives the learned confidence ("" where there is none)."""
        if self.reader is not None:
            return self.reader.scored_by
        return "" if self.served is None else identity_parts(self.served.identity).get("confidence", "")

    @property
    def unseen(self) -> dict[str, UnseenShare]:
        """Of the latest answers, what training never saw; empty where nothing was trained."""
        return self._learned.unseen

    def _traffic_closed(self) -> AbstractContextManager[None]:
        return self._learned.closed()

    def confidence(self, messages: Conversation, answer: str) -> Answer:
        """Say how sure the model is of a given answer; `ConfideError` where its server tells nothing of given text."""
        if "given_answers" not in self.engine.capabilities:
            raise ConfideError("this endpoint tells no log-probabilities of an answer that it did not write")
        conversation = self.as_asked(messages)
        prompt = self.engine.encode(conversation)
        return self._read(
            conversation, prompt, Completion(answer, self.engine.encode_answer(answer), [], [], None, "stop")
        )

    def _answer(
        self,
        conversations: Sequence[list[Message]],
        prompts: Sequence[list[int]],
        max_new_tokens: int,
        gone: Gone | None,
        stop: Mapping[str, float],
    ) -> list[Answer]:
        found = self.engine.answer(prompts, max_new_tokens, gone=gone)
        told = zip(conversations, found, strict=True)
        return [self._told(conversation, completion) for conversation, completion in told]

    def _read(self, conversation: list[Message], prompt: list[int], completion: Completion) -> Answer:
        (read,) = self.engine.closed([prompt], [completion.ids], measure=True).completions
        return self._told(conversation, read)

    def _told(self, conversation: list[Message], completion: Completion) -> Answer:
        record = Record(
            id="",
            messages=conversation,
            answer=completion.text,
            answer_ids=completion.ids,
            logprobs=completion.logprobs,
            end_logprob=completion.end_logprob,
            finish=completion.finish,
            reading=completion.more.get("reading"),
            read_by=completion.more.get("read_by", ""),
        )
        z = None if self.served is None else _z(self.served, record)
        learned = self._learned.read([record], [z])
        sources = {source: value for source, (value,) in learned.items()} | free_confidence(record)
        sources |= completion.more.get("signals", {})
        if self.reader is not None:
            z = completion.more.get("verdict", {}).get("z")
            sources = {READER: None if z is None else float(sigmoid(z)), **sources}
        source = next((name for name in (READER, SERVED, PORTABLE) if sources.get(name) is not None), FREE_SOURCE)
        raw = sources[source]
        return Answer(
            completion.text,
            None if raw is None else float(as_probability(source, raw)),
            source,
            None,
            completion.finish,
            sources=sources,
            prompt_tokens=(completion.more.get("usage") or {}).get("prompt_tokens", 0),
            completion_tokens=completion.tokens,
            reasoning=completion.reasoning,
        )


def served_confidence(served: ServedFile, records: Sequence[Record]) -> list[float | None]:
    """The confidence ``stack_served`` of records that an engine has read; None where it has not, or by another export.

    The z of another export is on another scale.
    """
    return served_confidences(served.mixture, [_z(served, record) for record in records], records)


def _z(served: ServedFile, record: Record) -> float | None:
    return record.reading if record.read_by == served.reading.by else None


class ServedMethod(Method):
    """``stack_served`` of what an engine read while it answered; it costs nothing."""

    name = "served"
    sources = (SERVED,)
    needs = ("reading",)
    by_model = True

    def available(self, scope: Scope) -> Sequence[str]:
        """Where a served model is at hand, and at least one record has a reading by it."""
        served = scope.model.served if isinstance(scope.model, EndpointModel) else None
        mine = served is not None and any(record.read_by == served.reading.by for record in scope.records)
        return self.sources if mine else ()

    def read(self, records: Sequence[Record]) -> Mapping[str, Column]:
        """One column [n]."""
        model = self.scope_.model
        assert isinstance(model, EndpointModel)
        assert model.served is not None
        return {SERVED: Column(or_nan(served_confidence(model.served, records)))}


class ServedSignal(SignalMethod):
    """A signal that an engine read along its answers; it costs nothing."""

    needs = ("reading",)

    def available(self, scope: Scope) -> Sequence[str]:
        """Where the served model carries it, and at least one record has it by that export."""
        served = scope.model.served if isinstance(scope.model, EndpointModel) else None
        mine = served is not None and any(self.name in _signals(served, record) for record in scope.records)
        return self.sources if mine else ()

    def fit(self, scope: Scope) -> None:
        """Take which training gives it."""
        assert isinstance(scope.model, EndpointModel)
        assert scope.model.served is not None
        self.scored_by = next(rule.scored_by for rule in scope.model.served.signals if rule.signal == self.name)

    def read(self, records: Sequence[Record]) -> Mapping[str, Column]:
        """One column [n]."""
        model = self.scope_.model
        assert isinstance(model, EndpointModel)
        assert model.served is not None
        return {self.name: Column(or_nan([_signals(model.served, record).get(self.name) for record in records]))}


def _signals(served: ServedFile, record: Record) -> Mapping[str, float | None]:
    return record.signals if record.read_by == served.reading.by else {}
