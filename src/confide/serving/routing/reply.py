"""A reply: the choices that one model, server or tool answered, whole or as the pieces of a stream."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from confide.tasks.text import lowered, tokens

_PIECE = 64
_ENDS = frozenset({"stop", "stop_sequence", "end_turn", "eos", "eos_token"})
"""Finish reasons, as servers spell them, of an answer that ended by itself or at a stop sequence."""
_CALLS = frozenset({"tool_calls", "function_call"})


@dataclass(slots=True)
class Choice:
    """One answer: the text that is graded, the reasoning text beside it, and ``more`` (tool calls, a refusal)."""

    content: str | None
    reasoning: str | None = None
    finish: str = "stop"
    more: dict[str, Any] = field(default_factory=dict)
    logprobs: dict[str, Any] | None = None

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
        return self.finish.lower() in _ENDS | _CALLS and not self.more.get("refusal")


@dataclass(slots=True, frozen=True)
class Delta:
    """A piece of an answer: what to add to choice ``index``, in the shape of OpenAI's ``delta``."""

    delta: dict[str, Any]
    index: int = 0
    logprobs: dict[str, Any] | None = None


@dataclass(slots=True)
class Reply:
    """What one model, server or tool answered.

    ``sources`` maps the name of a confidence to its raw value; ``source`` names the one to use without a policy.
    ``by`` is the name of the model that answered, ``identity`` what is known of its weights, ``ms`` the time it took.
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

    @property
    def text(self) -> str:
        """The first answer's text."""
        return self.choices[0].text

    @property
    def tokens(self) -> int:
        """Tokens of the prompt and of the answer together."""
        return self.prompt_tokens + self.completion_tokens

    @property
    def whole(self) -> bool:
        """Whether every choice is whole."""
        return all(choice.whole for choice in self.choices)

    def agrees(self, other: Reply) -> bool | None:
        """Whether the first answers are equal once folded (None: one of them is no text)."""
        if not (self.choices[0].readable and other.choices[0].readable):
            return None
        return folded(self.text) == folded(other.text)

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


def folded(text: str) -> str:
    """`confide.tasks.text.fold` without its cache, which would hold on to what clients and models wrote."""
    return " ".join(lowered(tokens(text)))
