"""A reply: the choices that one model, server or tool answered, whole or as the pieces of a stream."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from confide.engines.openai.asked import Asked
from confide.engines.openai.learned_reading import ReadAnswer
from confide.engines.openai.server_config import Price
from confide.parts.answer_part import AnswerPart

_PIECE = 64
_ENDS = frozenset({"stop", "stop_sequence", "end_turn", "eos", "eos_token"})
"""Finish reasons, as servers spell them, of an answer that ended by itself or at a stop sequence."""
_CALLS = frozenset({"tool_calls", "function_call"})
_CUTS = frozenset({"length", "max_tokens", "max_length", "model_length"})


def ended(finish: str) -> bool:
    """Whether a finish reason says that the model ended the answer, or the call, itself."""
    return finish.lower() in _ENDS | _CALLS


@dataclass(slots=True)
class Choice:
    """One answer: the text that is graded, the reasoning text beside it, and ``more`` (tool calls, a refusal).

    ``read`` is what came with it where the engine's learned reading was asked for, ``token_ids`` are those of all that
    was written, where the server tells them as vLLM does.
    """

    content: str | None
    reasoning: str | None = None
    finish: str = "stop"
    more: dict[str, Any] = field(default_factory=dict)
    logprobs: dict[str, Any] | None = None
    read: ReadAnswer | None = None
    token_ids: list[int] | None = None

    @property
    def text(self) -> str:
        """The answer's text ("" when it only calls tools)."""
        return self.content or ""

    @property
    def readable(self) -> bool:
        """Whether this is a whole answer in words, of the kind that a confidence was calibrated on."""
        other = any(self.more.get(key) for key in (*_CALLS, "refusal"))
        return self.finish.lower() in _ENDS and bool(self.text.strip()) and not other

    @property
    def whole(self) -> bool:
        """Whether the model ended this answer or call itself: it is not cut, not filtered, no refusal."""
        return ended(self.finish) and not self.more.get("refusal")

    @property
    def kind(self) -> Literal["text", "call", "refusal", "nothing"]:
        """What this is, for comparisons; a text that a filter withheld in part counts as a refusal."""
        if self.more.get("tool_calls") or self.more.get("function_call"):
            return "call"
        if self.more.get("refusal") or self.finish == "content_filter":
            return "refusal"
        return "text" if self.text.strip() else "nothing"

    @property
    def cut(self) -> bool:
        """Whether the answer ended because no more tokens were allowed."""
        return self.finish.lower() in _CUTS


@dataclass(slots=True, frozen=True)
class Delta:
    """A piece of an answer: what to add to choice ``index``, in the shape of OpenAI's ``delta``."""

    delta: dict[str, Any]
    index: int = 0
    logprobs: dict[str, Any] | None = None


ALIVE = Delta({})
"""A sign of life of a server that is not ready to say more: the wait for it begins anew."""


@dataclass(slots=True)
class Reply:
    """What one model, server or tool answered.

    ``sources`` maps the name of a confidence to its raw value; ``source`` names the one to use without a policy.
    ``by`` is the name of the model that answered, ``identity`` what is known of its weights, ``ms`` the time it took,
    ``prompt_logprobs`` what a server tells of the prompt's tokens, in its own shape, ``prompt_token_ids`` which they
    are.
    ``signals`` maps each signal that was read along it to its lowest value, ``stopped`` says that one of them ended it.
    ``parts`` are the fields of all choices, where they are told.
    ``read_tokens`` and ``verdict_tokens`` count what further requests read and wrote to find how sure the model is.
    """

    choices: list[Choice]
    prompt_tokens: int = 0
    completion_tokens: int = 0
    sources: dict[str, float | None] = field(default_factory=dict)
    source: str | None = None
    by: str = ""
    identity: str = ""
    cost: float = 0.0
    ms: float = 0.0
    prompt_logprobs: list[Any] | None = None
    prompt_token_ids: list[int] | None = None
    read_tokens: int = 0
    verdict_tokens: int = 0
    signals: dict[str, float | None] = field(default_factory=dict)
    stopped: bool = False
    parts: list[AnswerPart] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The first answer's text."""
        return self.choices[0].text

    @property
    def tokens(self) -> int:
        """Tokens of the prompt and of the answer together."""
        return self.prompt_tokens + self.completion_tokens

    @property
    def spent_tokens(self) -> int:
        """The same and those of further requests."""
        return self.tokens + self.read_tokens + self.verdict_tokens

    def price(self, price: Price) -> float:
        """What all of them cost."""
        return price.of(self.prompt_tokens + self.read_tokens, self.completion_tokens + self.verdict_tokens)

    @property
    def whole(self) -> bool:
        """Whether every choice is whole."""
        return all(choice.whole for choice in self.choices)

    def pieces(self) -> Iterator[Delta]:
        """The reply cut into the pieces of a stream."""
        for index, choice in enumerate(self.choices):
            for key, text in (("reasoning_content", choice.reasoning or ""), ("content", choice.text)):
                for start in range(0, len(text), _PIECE):
                    logprobs = choice.logprobs if key == "content" and start == 0 else None
                    yield Delta({key: text[start : start + _PIECE]}, index, logprobs)
            if choice.more:
                more = dict(choice.more)
                if "tool_calls" in more:
                    more["tool_calls"] = [{"index": at, **call} for at, call in enumerate(more["tool_calls"])]
                yield Delta(more, index)


class Model(ABC):
    """Something that answers: a server, a tool, or the model in this process. Every failure is a `ModelError`."""

    @abstractmethod
    async def ask(self, asked: Asked) -> Reply:
        """The whole answer."""

    async def stream(self, asked: Asked) -> AsyncGenerator[Delta | Reply]:
        """The answer in pieces, then the whole of it as the last item; all at once unless the model can stream."""
        reply = await self.ask(asked)
        for piece in reply.pieces():
            yield piece
        yield reply
