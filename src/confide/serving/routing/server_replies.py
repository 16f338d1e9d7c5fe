"""Reading what an OpenAI-compatible server answers, as a whole response or as the chunks of a stream."""

from __future__ import annotations

from typing import Any

from confide.engines.reasoning import ReasoningSplitter, split_reasoning
from confide.policies.identities import identity_text
from confide.serving.api_errors import ModelError
from confide.serving.routing.reply import Choice, Delta, Reply
from confide.serving.routing.server_errors import failure_told

# What a message may carry besides text; it is passed on to the client unchanged.
_BESIDES_TEXT = ("tool_calls", "refusal", "annotations", "audio", "function_call")

# Finish reasons with which servers say, under status 200, that they failed.
_FAILED = frozenset({"error", "abort", "insufficient_system_resource"})
_UNKNOWN = "unknown"


def read_reply(data: Any) -> Reply:
    """Read a whole response.

    Raises ValueError for anything that is not a chat completion, `ModelError` for one that says nothing
    or that the server failed. Where no finish reason is given, it is ``unknown``.
    """
    if not (choices := _read_choices(data)):
        raise ValueError("no choices")
    identity = _read_identity(data)
    return Reply([_read_choice(choice) for choice in choices], *_read_usage(data.get("usage")), identity=identity)


def _read_choice(data: Any) -> Choice:
    message: Any = data.get("message") if isinstance(data, dict) else None
    reasoning, more = _read_parts(message)
    content, finish, logprobs = message.get("content"), data.get("finish_reason") or _UNKNOWN, data.get("logprobs")
    if not (content is None or isinstance(content, str)) or not isinstance(finish, str):
        raise ValueError("a choice that is not text")
    choice = Choice(content, reasoning, finish, more, logprobs if isinstance(logprobs, dict) else None)
    _split_off_reasoning(choice)
    _check_usable(choice)
    return choice


class StreamReader:
    """Puts a reply together from the chunks of a server's stream."""

    def __init__(self) -> None:
        self._choices: dict[int, Choice] = {}
        self._splitters: dict[int, ReasoningSplitter] = {}
        self._usage = (0, 0)
        self._identity = ""
        self._finished: set[int] = set()

    def add(self, chunk: Any) -> list[Delta]:
        """Add one chunk; returns the pieces to pass on. Raises ValueError for what is no chunk."""
        choices = _read_choices(chunk)
        if chunk.get("usage"):
            self._usage = _read_usage(chunk["usage"])
        self._identity = self._identity or _read_identity(chunk)
        return [delta for choice in choices for delta in self._add_choice(choice)]

    def _add_choice(self, data: Any) -> list[Delta]:
        delta: Any = (data.get("delta") or {}) if isinstance(data, dict) else None
        reasoning, more = _read_parts(delta)
        index = data.get("index", 0)
        index = index if isinstance(index, int) else 0
        choice = self._choices.setdefault(index, Choice(None))
        splitter = self._splitters.setdefault(index, ReasoningSplitter())
        pieces = [(True, reasoning)] if reasoning else []
        if isinstance(text := delta.get("content"), str):
            pieces += splitter.feed(text)
        if isinstance(finish := data.get("finish_reason"), str):
            choice.finish = finish
            self._finished.add(index)
            pieces += splitter.finish()
        logprobs = data.get("logprobs")
        if isinstance(logprobs, dict) and isinstance(logprobs.get("content"), list):
            choice.logprobs = choice.logprobs or {"content": []}
            choice.logprobs["content"] += logprobs["content"]
        else:
            logprobs = None
        for is_reasoning, piece in pieces:
            if is_reasoning:
                choice.reasoning = (choice.reasoning or "") + piece
            else:
                choice.content = (choice.content or "") + piece
        _append(choice.more, more)
        deltas = [{"reasoning_content" if is_reasoning else "content": piece} for is_reasoning, piece in pieces]
        deltas += [more] if more else []
        # Log-probabilities go with one piece only.
        return [Delta(d, index, logprobs if at == 0 else None) for at, d in enumerate(deltas)]

    def reply(self) -> Reply:
        """The whole reply; raises ValueError when a choice never ended, `ModelError` when one is unusable."""
        if not self._choices or set(self._choices) != self._finished:
            raise ValueError("the stream broke off")
        for choice in self._choices.values():
            _check_usable(choice)
            _split_off_reasoning(choice)  # a lone closing tag can only be seen at the end
            if "tool_calls" in choice.more:
                choice.more["tool_calls"] = _join_calls(choice.more["tool_calls"])
        choices = [self._choices[index] for index in sorted(self._choices)]
        return Reply(choices, *self._usage, identity=self._identity)


def _read_choices(data: Any) -> list[Any]:
    choices = data.get("choices") if isinstance(data, dict) else None
    if isinstance(data, dict) and (failure := failure_told(data.get("error"))):
        raise failure
    if not isinstance(choices, list):
        raise ValueError("no choices")
    return choices


def _read_parts(message: Any) -> tuple[str | None, dict[str, Any]]:
    """Reasoning text, and what else stands besides text, in a message or a delta; raises ValueError for neither."""
    if not isinstance(message, dict):
        raise ValueError("a choice without a message")
    reasoning = message.get("reasoning_content") or message.get("reasoning")
    more = {key: message[key] for key in _BESIDES_TEXT if message.get(key)}
    calls = more.get("tool_calls", [])
    if not isinstance(calls, list) or not all(
        isinstance(call, dict)
        and isinstance(call.get("function") or {}, dict)
        and isinstance(call.get("index", 0), int)
        for call in calls
    ):
        raise ValueError("a choice with a tool call that is none")
    return reasoning if isinstance(reasoning, str) else None, more


def _read_usage(usage: Any) -> tuple[int, int]:
    """Prompt and completion tokens of a ``usage`` object; what is missing or odd counts as 0."""
    counts = [usage.get(key) if isinstance(usage, dict) else 0 for key in ("prompt_tokens", "completion_tokens")]
    prompt, completion = (count if isinstance(count, int) and count > 0 else 0 for count in counts)
    return prompt, completion


def _read_identity(data: dict[str, Any]) -> str:
    """What the server reports of the model that answered."""
    return identity_text({"model": data.get("model"), "fingerprint": data.get("system_fingerprint")})


def _split_off_reasoning(choice: Choice) -> None:
    if choice.content and choice.reasoning is None:
        choice.reasoning, choice.content = split_reasoning(choice.content)


def _check_usable(choice: Choice) -> None:
    if choice.finish.lower() in _FAILED:
        raise ModelError("server_error", again=True)
    if not choice.content and not choice.more and choice.finish != "length":
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
        call = calls.setdefault(piece.get("index", 0), {"type": "function", "function": {"name": "", "arguments": ""}})
        call.update({key: value for key, value in piece.items() if key not in ("index", "function") and value})
        _append(call["function"], piece.get("function") or {})
    return list(calls.values())
