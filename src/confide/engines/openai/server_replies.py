"""Reading what an OpenAI-compatible server answers, as a whole response or as the chunks of a stream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from pydantic_core import from_json

from confide.engines.openai.event_stream import BOM, EventReader
from confide.engines.openai.model_error import ModelError
from confide.engines.openai.reply import Choice, Delta, Reply
from confide.engines.openai.server_errors import failure_told
from confide.engines.reasoning import ReasoningSplitter, split_reasoning
from confide.policies.identities import identity_text

# What a message may carry besides text; it is passed on to the client unchanged.
_BESIDES_TEXT = ("tool_calls", "refusal", "annotations", "audio", "function_call")

# Finish reasons with which servers say, under status 200, that they failed.
_FAILED = frozenset({"error", "abort", "insufficient_system_resource"})
_MOST_TOKENS = 1 << 40
UNKNOWN = "unknown"
"""The finish reason of an answer whose server did not tell why it ended."""


def read_reply(data: Any) -> Reply:
    """Read a whole response.

    Raises ValueError for anything that is not a chat completion, `ModelError` for one that says nothing
    or that the server failed. Where no finish reason is given, it is `UNKNOWN`.
    """
    if not (choices := _read_choices(data)):
        raise ValueError("no choices")
    identity = _read_identity(data)
    told = data.get("prompt_logprobs")  # of vLLM, where they were asked for
    return Reply(
        [_read_choice(choice) for choice in choices],
        *_read_usage(data.get("usage")),
        identity=identity,
        prompt_logprobs=told if isinstance(told, list) else None,
        prompt_token_ids=_read_ids(data.get("prompt_token_ids")),
    )


def _read_choice(data: Any) -> Choice:
    message = _read_message(data.get("message") if isinstance(data, dict) else None)
    finish, logprobs = data.get("finish_reason") or UNKNOWN, data.get("logprobs")
    if not isinstance(finish, str):
        raise ValueError("a choice that ended in no words")
    logprobs = logprobs if isinstance(logprobs, dict) else None
    ids = _read_ids(data.get("token_ids"))
    choice = Choice(message.content, message.reasoning, finish, message.more, logprobs, token_ids=ids)
    _split_off_reasoning(choice)
    _check_usable(choice)
    return choice


class StreamReader:
    """Puts a reply together from the chunks of a server's stream."""

    def __init__(self) -> None:
        self._choices: dict[int, Choice] = {}
        self._splitters: dict[int, ReasoningSplitter] = {}
        self._apart: set[int] = set()  # choices whose reasoning the server tells apart
        self._usage = (0, 0)
        self._identity = ""
        self._prompt: list[int] | None = None
        self._finished: set[int] = set()

    def add(self, chunk: Any) -> list[Delta]:
        """Add one chunk; returns the pieces to pass on.

        What says nothing (null, no choices) adds nothing. Raises ValueError for what is no chunk, `ModelError` for an
        error.
        """
        if chunk is None:
            return []
        choices = _read_choices(chunk, optional=True)
        usage = _read_usage(chunk.get("usage"))  # some servers count along, some tell the prompt's tokens first
        self._usage = max(self._usage[0], usage[0]), max(self._usage[1], usage[1])
        self._identity = self._identity or _read_identity(chunk)
        self._prompt = self._prompt or _read_ids(chunk.get("prompt_token_ids"))
        return [delta for choice in choices if choice is not None for delta in self._add_choice(choice)]

    def finish(self) -> list[Delta]:
        """The server said that the stream is whole: a choice whose end it did not tell ended for an unknown reason."""
        return [delta for index in [*self._choices] for delta in self._end(index, UNKNOWN)]

    @property
    def told(self) -> list[Any]:
        """What is told so far of the tokens of the first choice."""
        first = self._choices.get(0)
        return [] if first is None or first.logprobs is None else list(first.logprobs["content"])

    def stop(self, finish: str, unsaid: Sequence[Delta]) -> Reply:
        """What came so far, without its last pieces, ended by ``finish``; raises ValueError where nothing came."""
        for delta in reversed(unsaid):
            choice = self._choices[delta.index]
            choice.content = (choice.content or "").removesuffix(delta.delta.get("content") or "")
            choice.reasoning = (choice.reasoning or "").removesuffix(delta.delta.get("reasoning_content") or "") or None
        for choice in self._choices.values():
            choice.finish, choice.more = finish, {}
        if not self._choices:
            raise ValueError("the stream broke off")
        choices = [self._choices[index] for index in sorted(self._choices)]
        return Reply(choices, *self._usage, identity=self._identity, prompt_token_ids=self._prompt, stopped=True)

    def _add_choice(self, data: Any) -> list[Delta]:
        if not isinstance(data, dict):
            raise ValueError("a choice that is none")
        index = data.get("index")
        index = index if isinstance(index, int) else 0
        delta = data.get("delta")
        if delta is None and index not in self._choices:
            delta = data.get("message")  # a whole answer as the only event
        message, logprobs = _read_message(delta or {}), data.get("logprobs")
        choice = self._choices.setdefault(index, Choice(None))
        splitter = self._splitters.setdefault(index, ReasoningSplitter())
        pieces = [(True, message.reasoning)] if message.reasoning else []
        if pieces:
            self._apart.add(index)
        if text := message.content:
            pieces += [(False, text)] if index in self._apart else splitter.feed(text)
        if isinstance(logprobs, dict) and isinstance(logprobs.get("content"), list):
            choice.logprobs = choice.logprobs or {"content": []}
            choice.logprobs["content"] += logprobs["content"]
        else:
            logprobs = None
        if (ids := _read_ids(data.get("token_ids"))) is not None:
            choice.token_ids = (choice.token_ids or []) + ids
        _append(choice.more, message.more)
        deltas = [*self._said(index, pieces), *([Delta(message.more, index)] if message.more else [])]
        if deltas:  # log-probabilities go with one piece only
            deltas[0] = replace(deltas[0], logprobs=logprobs)
        finish = data.get("finish_reason")
        return deltas + (self._end(index, finish) if isinstance(finish, str) and finish else [])

    def _end(self, index: int, finish: str) -> list[Delta]:
        if finish == UNKNOWN and index in self._finished:
            return []
        self._choices[index].finish = finish
        self._finished.add(index)
        return self._said(index, self._splitters[index].finish())

    def _said(self, index: int, pieces: list[tuple[bool, str]]) -> list[Delta]:
        """Add pieces of text, each with whether it is reasoning, to a choice."""
        choice = self._choices[index]
        for is_reasoning, piece in pieces:
            if is_reasoning:
                choice.reasoning = (choice.reasoning or "") + piece
            else:
                choice.content = (choice.content or "") + piece
        return [
            Delta({"reasoning_content" if is_reasoning else "content": piece}, index) for is_reasoning, piece in pieces
        ]

    def reply(self) -> Reply:
        """The whole reply; raises ValueError when a choice never ended, `ModelError` when one is unusable."""
        if not self._choices or set(self._choices) != self._finished:
            raise ValueError("the stream broke off")
        for choice in self._choices.values():
            _split_off_reasoning(choice)  # a lone closing tag can only be seen at the end
            _check_usable(choice)
            if "tool_calls" in choice.more:
                choice.more["tool_calls"] = _join_calls(choice.more["tool_calls"])
        choices = [self._choices[index] for index in sorted(self._choices)]
        return Reply(choices, *self._usage, identity=self._identity, prompt_token_ids=self._prompt)


class ServerBody:
    """Reads an answer from the bytes of its body: one JSON object, or events, whichever the server sends.

    ``done`` is set when no more bytes are needed.
    """

    def __init__(self) -> None:
        self._head = b""
        self._whole: list[bytes] = []
        self._events: EventReader | None = None
        self._reader = StreamReader()

    @property
    def done(self) -> bool:
        """Whether the server said that the stream is whole."""
        return self._events is not None and self._events.done

    def feed(self, data: bytes) -> list[Delta]:
        """Add bytes; returns the pieces to pass on. Raises ValueError or `ModelError`, as `StreamReader.add` does."""
        if self._whole:
            self._whole.append(data)
            return []
        if self._events is None:
            self._head += data
            begun = self._head.removeprefix(BOM).lstrip()
            if begun[:1] in (b"", b"{"):
                self._head, self._whole = b"", [begun] if begun else []
                return []
            self._events, data = EventReader(), self._head
        return self._add(self._events.feed(data))

    def end(self) -> tuple[list[Delta], Reply]:
        """The bytes have ended: the last pieces, and the whole reply. Raises ValueError or `ModelError`."""
        if self._events is None:
            reply = read_reply(from_json(b"".join(self._whole)))
            return list(reply.pieces()), reply
        deltas = self._add(self._events.end())
        if self._events.done:
            deltas += self._reader.finish()
        return deltas, self._reader.reply()

    @property
    def told(self) -> list[Any]:
        """What is told so far of the tokens of the first choice."""
        return self._reader.told

    def stop(self, finish: str, unsaid: Sequence[Delta]) -> Reply:
        """What came of a stream that is not waited for any longer, without its last pieces, ended by ``finish``."""
        return self._reader.stop(finish, unsaid)

    def _add(self, chunks: list[Any]) -> list[Delta]:
        return [delta for chunk in chunks for delta in self._reader.add(chunk)]


def _read_choices(data: Any, *, optional: bool = False) -> list[Any]:
    """The choices of a response, or of a chunk, which may have none (``optional``); raises ValueError."""
    choices = data.get("choices") if isinstance(data, dict) else None
    if isinstance(data, dict) and (data.get("error") or data.get("object") == "error"):
        raise failure_told(data.get("error") or data)
    if isinstance(data, dict) and choices is None and optional:
        return []
    if not isinstance(choices, list):
        raise ValueError("no choices")
    return choices


class _Said(NamedTuple):
    """What a message or a delta says: its text, its reasoning, and what stands besides."""

    content: str | None
    reasoning: str | None
    more: dict[str, Any]


def _read_message(message: Any) -> _Said:
    """Read a message or a delta; raises ValueError for what is neither."""
    if not isinstance(message, dict):
        raise ValueError("a choice without a message")
    apart = message.get("reasoning_content") or message.get("reasoning")
    content, thought, refusal = _read_content(message.get("content"))
    more = {key: message[key] for key in _BESIDES_TEXT if message.get(key)}
    if refusal:
        more.setdefault("refusal", refusal)
    calls = more.get("tool_calls", [])
    if not isinstance(calls, list) or not all(
        isinstance(call, dict)
        and isinstance(call.get("function") or {}, dict)
        and isinstance(call.get("index") or 0, int)
        for call in calls
    ):
        raise ValueError("a choice with a tool call that is none")
    return _Said(content, apart if isinstance(apart, str) else thought, more)


def _read_content(content: Any) -> tuple[str | None, str | None, str]:
    """Text, reasoning and refusal in a message's content, which is a text or a list of parts; raises ValueError."""
    if content is None or isinstance(content, str):
        return content, None, ""
    found: dict[str, str] = {}
    for part in content if isinstance(content, list) else [content]:
        kind, text = ("text", part) if isinstance(part, str) else _read_part(part)
        found[kind] = found.get(kind, "") + text
    return found.get("text"), found.get("thinking"), found.get("refusal", "")


def _read_part(part: Any) -> tuple[str, str]:
    """The kind of one part of a content, and its text; raises ValueError for what is neither text nor reasoning."""
    kind = part.get("type") if isinstance(part, dict) else None
    kind = {"output_text": "text", "reasoning": "thinking", None: "text"}.get(kind, kind)
    text = part.get(kind, part.get("text")) if isinstance(part, dict) and isinstance(kind, str) else None
    if kind == "thinking" and isinstance(text, list):  # parts again
        text = _read_content(text)[0]
    if kind not in ("text", "thinking", "refusal") or not isinstance(text, str):
        raise ValueError("a choice that is not text")
    return kind, text


def _read_usage(usage: Any) -> tuple[int, int]:
    """Prompt and completion tokens of a ``usage`` object; what is missing or odd counts as 0."""
    counts = [usage.get(key) if isinstance(usage, dict) else 0 for key in ("prompt_tokens", "completion_tokens")]
    prompt, completion = (count if isinstance(count, int) and 0 < count < _MOST_TOKENS else 0 for count in counts)
    return prompt, completion


def _read_ids(told: Any) -> list[int] | None:
    """Token ids, where a server tells them as vLLM does (``return_token_ids``)."""
    ids = [id for id in told if type(id) is int and id >= 0] if isinstance(told, list) else []
    return ids if ids and len(ids) == len(told) else None


def _read_identity(data: dict[str, Any]) -> str:
    """What the server reports of the model that answered."""
    return identity_text({"model": data.get("model"), "fingerprint": data.get("system_fingerprint")})


def _split_off_reasoning(choice: Choice) -> None:
    if choice.content and choice.reasoning is None:
        choice.reasoning, choice.content = split_reasoning(choice.content)


def _check_usable(choice: Choice) -> None:
    if choice.finish.lower() in _FAILED:
        raise ModelError("server_error", again=True)
    if not choice.content and not choice.more and not choice.cut:
        raise ModelError("empty", counts=False)


def _append(total: dict[str, Any], piece: dict[str, Any]) -> None:
    """Add a piece to each key: text and lists grow, a function call does inside, anything else is replaced."""
    for key, value in piece.items():
        before = total.get(key)
        if key == "function_call" and isinstance(before, dict) and isinstance(value, dict):
            _append(before, value)
            continue
        grows = isinstance(value, str | list) and type(before) is type(value)
        total[key] = before + value if grows else value or before


def _join_calls(pieces: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Tool calls whose arguments came in pieces, each as a whole."""
    calls: dict[int, dict[str, Any]] = {}
    for piece in pieces:
        call = calls.setdefault(
            piece.get("index") or 0, {"type": "function", "function": {"name": "", "arguments": ""}}
        )
        call.update({key: value for key, value in piece.items() if key not in ("index", "function") and value})
        _append(call["function"], piece.get("function") or {})
    return list(calls.values())
