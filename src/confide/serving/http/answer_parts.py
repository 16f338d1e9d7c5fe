"""The parts of an answer (reasoning, text, refusal, calls), of which other APIs than chat make items or blocks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from pydantic_core import to_json

from confide.serving.api_errors import ApiError

Kind = Literal["reasoning", "text", "refusal", "call"]

_WORDED: tuple[tuple[Kind, str], ...] = (
    ("reasoning", "reasoning_content"),
    ("text", "content"),
    ("refusal", "refusal"),
)


class Wording(Protocol):
    """How another API words the answer to one request.

    ``names`` are its names for chat's fields, where they differ.
    """

    @property
    def names(self) -> Mapping[str, str]:
        """Chat's name of a field → this API's."""

    def whole(self, completion: dict[str, Any]) -> dict[str, Any]:
        """The body for a chat completion."""

    def feed(self, chunk: dict[str, Any]) -> list[dict[str, Any]]:
        """The events for a chunk of one."""

    def end(self) -> list[dict[str, Any]]:
        """The events that end a stream."""

    def fail(self, error: ApiError) -> list[dict[str, Any]]:
        """The events for a stream that breaks off."""


@dataclass(slots=True, eq=False)
class Part:
    """One part of an answer, the ``at``-th; the ``text`` of a call are its arguments."""

    kind: Kind
    at: int
    text: str = ""
    name: str = ""
    call_id: str = ""
    logprobs: list[Any] = field(default_factory=list)


@dataclass(slots=True, frozen=True)
class Step:
    """What happens to a part: it begins, grows by a ``piece``, or ends.

    ``mark`` says that what came before is not the answer.
    """

    what: Literal["begin", "grow", "end"]
    part: Part
    piece: str = ""
    logprobs: list[Any] = field(default_factory=list)
    mark: dict[str, Any] | None = None


class AnswerParts:
    """Puts the parts of the one answer together from the chunks of a chat completion, or from the whole of it.

    Words are written one part after the other; calls stay open until the end, since their pieces may alternate.
    ``id`` is without what says that it is one of chat's; ``finish``, ``usage`` and ``confide`` are there at the end.
    """

    def __init__(self) -> None:
        self.id = ""
        self.model = ""
        self.created = 0
        self.finish = ""
        self.usage: dict[str, int] = {}
        self.confide: dict[str, Any] | None = None
        self.parts: list[Part] = []
        self._words: Part | None = None
        self._calls: dict[int, Part] = {}

    def add(self, chunk: Mapping[str, Any]) -> Iterator[Step]:
        """Add a chunk; gives what happens to the parts."""
        self.id = chunk["id"].rpartition("-")[2]
        self.created, self.model = chunk["created"], chunk["model"] or self.model
        self.usage = chunk.get("usage") or self.usage
        self.confide = chunk.get("confide") or self.confide
        mark = chunk["confide"] if (chunk.get("confide") or {}).get("supersedes") else None
        for choice in chunk["choices"]:
            self.finish = choice["finish_reason"] or self.finish
            delta, logprobs = choice["delta"], (choice["logprobs"] or {}).get("content") or []
            for kind, key in _WORDED:
                if piece := _text(delta.get(key)):
                    yield from self._add_words(kind, piece, logprobs if kind == "text" else [], mark)
            for call in delta.get("tool_calls") or ():
                yield from self._add_call(call.get("index") or 0, call.get("function"), call.get("id"))
            if "function_call" in delta:  # of the kind that came before tools
                yield from self._add_call(-1, delta["function_call"])

    def add_whole(self, completion: Mapping[str, Any]) -> Iterator[Step]:
        """Add a whole chat completion, as the only chunk."""
        choice = completion["choices"][0]
        message = choice["message"]
        calls = [{"index": at, **call} for at, call in enumerate(message.get("tool_calls") or ())]
        return self.add({**completion, "choices": [{**choice, "delta": {**message, "tool_calls": calls}}]})

    def end(self) -> Iterator[Step]:
        """End the parts that are still open."""
        yield from self._end_words()
        for part in self._calls.values():
            yield Step("end", part)
        self._calls = {}

    def _add_words(self, kind: Kind, piece: str, logprobs: list[Any], mark: dict[str, Any] | None) -> Iterator[Step]:
        if self._words is None or self._words.kind != kind:
            yield from self._end_words()
            self._words = self._new(kind)
            yield Step("begin", self._words)
        self._words.text += piece
        self._words.logprobs += logprobs
        yield Step("grow", self._words, piece, logprobs, mark)

    def _add_call(self, index: int, function: Any, call_id: Any = None) -> Iterator[Step]:
        function = function if isinstance(function, dict) else {}
        yield from self._end_words()
        if (part := self._calls.get(index)) is None:
            part = self._calls[index] = self._new("call")
            part.call_id = _text(call_id) or f"call_{self.id}_{part.at}"
            part.name = _text(function.get("name"))
            yield Step("begin", part)
        if piece := _text(function.get("arguments")):
            part.text += piece
            yield Step("grow", part, piece)

    def _end_words(self) -> Iterator[Step]:
        part, self._words = self._words, None
        if part is not None:
            yield Step("end", part)

    def _new(self, kind: Kind) -> Part:
        self.parts.append(part := Part(kind, len(self.parts)))
        return part


def _text(value: Any) -> str:
    """What a server wrote where a text belongs; some write a call's arguments as an object."""
    if isinstance(value, str):
        return value
    return to_json(value).decode() if value else ""
