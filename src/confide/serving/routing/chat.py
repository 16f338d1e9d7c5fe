"""What models answer: choices with their reasoning text apart, whole or in pieces, in OpenAI's shape."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from confide.serving.http.api_errors import ModelError
from confide.serving.http.request_bodies import Asked
from confide.tasks.text import lowered, tokens

_OPEN, _CLOSE = "<think>", "</think>"
_THOUGHT = re.compile(rf"\s*{_OPEN}(.*?)(?:{_CLOSE}\s*|\Z)", re.DOTALL)

# What a message may carry besides its text; kept for the client as it came.
_KEPT = ("tool_calls", "refusal", "annotations", "audio", "function_call")


@dataclass(slots=True)
class Choice:
    """One answer: the text that is graded and read, and the reasoning text beside it."""

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
        """Whether this is an answer in words, of the kind that a confidence was calibrated on."""
        return bool(self.text.strip()) and not self.more.get("tool_calls") and not self.more.get("function_call")


@dataclass(slots=True)
class Reply:
    """What one model, server or tool answered.

    ``sources`` maps a confidence's source to its raw value, ``source`` names the one to use without a policy.
    """

    choices: list[Choice]
    prompt_tokens: int = 0
    completion_tokens: int = 0
    sources: dict[str, float | None] = field(default_factory=dict)
    source: str | None = None
    by: str = ""
    cost: float = 0.0
    ms: float = 0.0

    @property
    def text(self) -> str:
        """The first answer's text."""
        return self.choices[0].text

    @property
    def tokens(self) -> int:
        """Tokens read and written."""
        return self.prompt_tokens + self.completion_tokens

    def agrees(self, other: Reply) -> bool | None:
        """Whether the first answers say the same once folded (None: one of them is no text)."""
        if not (self.choices[0].readable and other.choices[0].readable):
            return None
        return folded(self.text) == folded(other.text)


@dataclass(slots=True, frozen=True)
class Delta:
    """A piece of an answer: what to add to choice ``index``, in the shape of OpenAI's ``delta``."""

    delta: dict[str, Any]
    index: int = 0
    logprobs: dict[str, Any] | None = None


def folded(text: str) -> str:
    """`confide.tasks.text.fold` without its cache, which would hold on to what clients and models wrote."""
    return " ".join(lowered(tokens(text)))


def split_reasoning(content: str) -> tuple[str | None, str]:
    """Reasoning text and answer of one message: what stands in ``<think>`` at its start, and the rest.

    Templates that open ``<think>`` in the prompt leave only the closing tag in the answer.

    >>> split_reasoning("<think>Kyoto, so Japan.</think> Japan")
    ('Kyoto, so Japan.', 'Japan')
    >>> split_reasoning("Japan")
    (None, 'Japan')
    """
    if match := _THOUGHT.match(content):
        return match[1].strip(), content[match.end() :]
    if _CLOSE in content:
        reasoning, _, answer = content.partition(_CLOSE)
        return reasoning.strip(), answer.lstrip()
    return None, content


class ReasoningSplitter:
    """`split_reasoning` for text that arrives in pieces: each piece comes back as (is reasoning, text)."""

    def __init__(self) -> None:
        self._held = ""
        self._state = "start"

    def feed(self, text: str) -> list[tuple[bool, str]]:
        """What can be told of the text so far; the beginning of a possible tag is held back."""
        found: list[tuple[bool, str]] = []
        self._held += text
        if self._state == "start":
            head = self._held.lstrip()
            if head.startswith(_OPEN):
                self._state, self._held = "thinking", head[len(_OPEN) :]
            elif _OPEN.startswith(head):
                return found
            else:
                self._state = "answering"
        if self._state == "thinking":
            thought, closed, rest = self._held.partition(_CLOSE)
            if closed:
                self._state, self._held = "closed", rest
            else:
                keep = next((n for n in range(len(_CLOSE) - 1, 0, -1) if thought.endswith(_CLOSE[:n])), 0)
                thought, self._held = thought[: len(thought) - keep], thought[len(thought) - keep :]
            found.append((True, thought))
        if self._state == "closed" and (rest := self._held.lstrip()):
            self._state, self._held = "answering", rest
        if self._state == "answering":
            found.append((False, self._held))
            self._held = ""
        return [(reasoning, piece) for reasoning, piece in found if piece]

    def finish(self) -> list[tuple[bool, str]]:
        """What was held back, at the end of the text."""
        held, self._held = self._held, ""
        return [(self._state == "thinking", held)] if held and self._state != "closed" else []


def read_reply(data: Any) -> Reply:
    """A server's response as a reply.

    Raises ValueError for anything that is not a chat completion, `ModelError` for one that says nothing.
    """
    choices = data.get("choices") if isinstance(data, dict) else None
    if not isinstance(choices, list) or not choices:
        raise ValueError("no choices")
    return Reply([_read_choice(choice) for choice in choices], *read_usage(data.get("usage")))


def _read_choice(choice: Any) -> Choice:
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(message, dict):
        raise ValueError("a choice without a message")
    content, more = message.get("content"), {key: message[key] for key in _KEPT if message.get(key)}
    finish = choice.get("finish_reason") or "stop"
    if not (content is None or isinstance(content, str)) or not isinstance(finish, str):
        raise ValueError("a choice that is not text")
    _check_calls(more)
    reasoning = message.get("reasoning_content") or message.get("reasoning")
    if isinstance(content, str) and not isinstance(reasoning, str):
        reasoning, content = split_reasoning(content)
    if not content and not more and finish != "length":
        raise ModelError("empty", counts=False)
    logprobs = choice.get("logprobs")
    return Choice(
        content,
        reasoning if isinstance(reasoning, str) else None,
        finish,
        more,
        logprobs if isinstance(logprobs, dict) else None,
    )


def _check_calls(more: dict[str, Any]) -> None:
    """Raise ValueError for tool calls, whole or in pieces, that are none."""
    calls = more.get("tool_calls", [])
    if not isinstance(calls, list) or not all(
        isinstance(call, dict)
        and isinstance(call.get("function") or {}, dict)
        and isinstance(call.get("index", 0), int)
        for call in calls
    ):
        raise ValueError("a tool call that is none among the choices")


def read_usage(usage: Any) -> tuple[int, int]:
    """Prompt and completion tokens of a ``usage`` object; what is missing or odd counts as 0."""
    counts = [usage.get(key) if isinstance(usage, dict) else 0 for key in ("prompt_tokens", "completion_tokens")]
    prompt, completion = (count if isinstance(count, int) and count > 0 else 0 for count in counts)
    return prompt, completion


class Gathered:
    """A reply that is put together from a server's chunks."""

    def __init__(self) -> None:
        self._choices: dict[int, Choice] = {}
        self._splitters: dict[int, ReasoningSplitter] = {}
        self._usage = (0, 0)
        self._finished: set[int] = set()

    def add(self, chunk: Any) -> list[Delta]:
        """Take in one chunk; returns the pieces to pass on. Raises ValueError for what is no chunk."""
        choices = chunk.get("choices") if isinstance(chunk, dict) else None
        if not isinstance(choices, list):
            raise ValueError("no choices")
        if chunk.get("usage"):
            self._usage = read_usage(chunk["usage"])
        deltas: list[Delta] = []
        for choice in choices:
            if not isinstance(choice, dict) or not isinstance(delta := choice.get("delta") or {}, dict):
                raise ValueError("a choice without a delta")
            index = choice.get("index", 0)
            deltas += self._take(index if isinstance(index, int) else 0, delta, choice)
        return deltas

    def _take(self, index: int, delta: dict[str, Any], choice: dict[str, Any]) -> list[Delta]:
        gathered = self._choices.setdefault(index, Choice(None))
        splitter = self._splitters.setdefault(index, ReasoningSplitter())
        pieces: list[tuple[bool, str]] = []
        for key in ("reasoning_content", "reasoning"):
            if isinstance(text := delta.get(key), str) and text:
                pieces.append((True, text))
                break
        if isinstance(text := delta.get("content"), str):
            pieces += splitter.feed(text)
        found = {key: delta[key] for key in _KEPT if delta.get(key)}
        _check_calls(found)
        logprobs = choice.get("logprobs")
        if isinstance(logprobs, dict) and isinstance(logprobs.get("content"), list):
            gathered.logprobs = gathered.logprobs or {"content": []}
            gathered.logprobs["content"] += logprobs["content"]
        else:
            logprobs = None
        if isinstance(finish := choice.get("finish_reason"), str):
            gathered.finish = finish
            self._finished.add(index)
            pieces += splitter.finish()
        for reasoning, piece in pieces:
            if reasoning:
                gathered.reasoning = (gathered.reasoning or "") + piece
            else:
                gathered.content = (gathered.content or "") + piece
        _merge(gathered.more, found)
        deltas = [{"reasoning_content" if reasoning else "content": piece} for reasoning, piece in pieces]
        deltas += [found] if found else []
        # Log-probabilities go with one piece only.
        return [Delta(d, index, logprobs if at == 0 else None) for at, d in enumerate(deltas)]

    def reply(self) -> Reply:
        """The whole reply; raises ValueError when a choice never ended, `ModelError` when one says nothing."""
        if not self._choices or set(self._choices) != self._finished:
            raise ValueError("the stream broke off")
        for choice in self._choices.values():
            if not choice.content and not choice.more and choice.finish != "length":
                raise ModelError("empty", counts=False)
            if choice.content and choice.reasoning is None:  # only the closing tag was written
                choice.reasoning, choice.content = split_reasoning(choice.content)
            choice.more.update(_joined_calls(choice.more))
        return Reply([self._choices[index] for index in sorted(self._choices)], *self._usage)


def _merge(more: dict[str, Any], found: dict[str, Any]) -> None:
    for key, value in found.items():
        before = more.get(key)
        more[key] = before + value if _grow(before, value) else value


def _grow(before: Any, value: Any) -> bool:
    """Whether ``value`` goes on where ``before`` ended; anything but text and lists comes as a whole."""
    return isinstance(value, str | list) and type(before) is type(value)


def _joined_calls(more: dict[str, Any]) -> dict[str, Any]:
    """Tool calls whose arguments came in pieces, each as a whole."""
    calls: dict[Any, dict[str, Any]] = {}
    for piece in more.get("tool_calls", []):
        call = calls.setdefault(piece.get("index", 0), {"type": "function", "function": {"name": "", "arguments": ""}})
        call.update({key: value for key, value in piece.items() if key not in ("index", "function") and value})
        for key, value in (piece.get("function") or {}).items():
            before = call["function"].get(key)
            call["function"][key] = before + value if _grow(before, value) else value or before
    return {"tool_calls": list(calls.values())} if calls else {}


def pieces_of(reply: Reply, size: int = 64) -> Iterator[Delta]:
    """A whole reply as the pieces of a stream."""
    for index, choice in enumerate(reply.choices):
        logprobs = choice.logprobs
        for key, text in (("reasoning_content", choice.reasoning), ("content", choice.content)):
            for start in range(0, len(text or ""), size):
                with_logprobs = logprobs if key == "content" and start == 0 else None
                yield Delta({key: (text or "")[start : start + size]}, index, with_logprobs)
        if choice.more:
            more = dict(choice.more)
            if "tool_calls" in more:
                more["tool_calls"] = [{"index": at, **call} for at, call in enumerate(more["tool_calls"])]
            yield Delta(more, index)


def message_of(choice: Choice) -> dict[str, Any]:
    """A choice as OpenAI's ``message``; reasoning text stands in ``reasoning_content``."""
    message: dict[str, Any] = {"role": "assistant", "content": choice.content, **choice.more}
    if choice.reasoning:
        message["reasoning_content"] = choice.reasoning
    return message


def response_body(asked: Asked, reply: Reply, *, id: str, created: int) -> dict[str, Any]:
    """A reply as the body of a response that is not streamed."""
    choices: list[dict[str, Any]] = []
    for index, choice in enumerate(reply.choices):
        logprobs = choice.logprobs if asked.logprobs else None
        said = {"message": message_of(choice)} if asked.chat else {"text": choice.text}
        choices.append({"index": index, **said, "logprobs": logprobs, "finish_reason": choice.finish})
    return {
        "id": id,
        "object": "chat.completion" if asked.chat else "text_completion",
        "created": created,
        "model": reply.by,
        "choices": choices,
        "usage": usage_of(reply),
    }


def usage_of(reply: Reply) -> dict[str, int]:
    """OpenAI's ``usage`` object."""
    return {
        "prompt_tokens": reply.prompt_tokens,
        "completion_tokens": reply.completion_tokens,
        "total_tokens": reply.tokens,
    }


def chunk_body(
    asked: Asked, by: str, piece: Delta, *, id: str, created: int, finish: str | None = None
) -> dict[str, Any]:
    """One chunk of a stream; each carries one choice, since many clients read no further than the first."""
    said = {"delta": piece.delta} if asked.chat else {"text": piece.delta.get("content") or ""}
    logprobs = piece.logprobs if asked.logprobs else None
    return {
        "id": id,
        "object": "chat.completion.chunk" if asked.chat else "text_completion",
        "created": created,
        "model": by,
        "choices": [{"index": piece.index, **said, "logprobs": logprobs, "finish_reason": finish}],
    }
