"""A model behind an endpoint: it answers with the confidences that its server's log-probabilities give."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from confide.engines.engine import Completion, Gone
from confide.errors import ConfideError
from confide.methods.checkpoint import CheckpointInfo
from confide.methods.confidence_model import Answer, ConfidenceModel, Conversation
from confide.methods.free import free_confidence
from confide.records import Message, Record
from confide.sources import as_probability

if TYPE_CHECKING:
    from confide.engines.openai.openai_engine import OpenAIEngine

SOURCE = "logprob_sum"


class EndpointModel(ConfidenceModel):
    """The model that an `OpenAIEngine` asks; nothing of it was trained here."""

    frozen = True

    def __init__(self, engine: OpenAIEngine):
        super().__init__(cast(Any, engine), CheckpointInfo(), engine.name)

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
        gone: Gone | None = None,
    ) -> list[Answer]:
        found = self.engine.answer(prompts, max_new_tokens, gone=gone)
        return [_told(completion) for completion in found]

    def _read(self, conversation: list[Message], prompt: list[int], completion: Completion) -> Answer:
        (read,) = self.engine.closed([prompt], [completion.ids], measure=True).completions
        return _told(read)


def _told(completion: Completion) -> Answer:
    record = Record(id="", answer=completion.text, logprobs=completion.logprobs, finish=completion.finish)
    sources = free_confidence(record)
    raw = sources[SOURCE]
    return Answer(
        completion.text,
        None if raw is None else float(as_probability(SOURCE, raw)),
        SOURCE,
        None,
        completion.finish,
        sources=sources,
        prompt_tokens=(completion.more.get("usage") or {}).get("prompt_tokens", 0),
        completion_tokens=completion.tokens,
        reasoning=completion.reasoning,
    )
