"""Anthropic's Messages API: its requests as the chat requests that ask the same.

https://docs.anthropic.com/en/api/messages. ``cache_control`` and earlier ``thinking`` say nothing of the answer and are
left out. What a server behind the router could not honour is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, WithJsonSchema

from confide.serving.api_errors import ApiError
from confide.serving.http.request_bodies import (
    Body,
    ChatRequest,
    Count,
    Share,
    StrictPart,
    checked,
    further_fields,
    shown,
    text_content,
)

NAMES: Mapping[str, str] = {
    "stop": "stop_sequences",
    "user": "metadata.user_id",
    "parallel_tool_calls": "tool_choice.disable_parallel_tool_use",
}
"""Chat's name of a field → the name that it has here, where they differ."""

_SAME = ("model", "max_tokens", "stream", "temperature", "top_p")
_REFUSED = dict.fromkeys(
    ("container", "context_management", "diagnostics", "inference_geo", "mcp_servers", "output_config",
     "output_format", "speed", "user_profile_id", "workspace_id"),
    "is not supported on /v1/messages",
)  # fmt: skip
_CHOICES = {"auto": "auto", "any": "required", "none": "none"}

TextOrBlocks = Annotated[
    Any, WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "object"}}]})
]


class TurnOfMessages(StrictPart):
    """One turn of a conversation."""

    role: Literal["user", "assistant"]
    content: TextOrBlocks


class MessagesMetadata(StrictPart):
    """Who asks."""

    user_id: str | None = None


class NoThinking(StrictPart):
    """How a request may say that no thinking is wanted; how much is, servers are not told in this way."""

    type: Literal["disabled"]


class MessagesRequest(Body):
    """The body of ``POST /v1/messages``; ``model`` may name anything, the router decides who answers."""

    messages: list[TurnOfMessages] = Field(min_length=1)
    max_tokens: Count
    model: str | None = None
    system: TextOrBlocks | None = None
    stop_sequences: list[str] | None = None
    stream: bool | None = None
    temperature: Share | None = None
    top_p: Share | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: dict[str, Any] | None = None
    metadata: MessagesMetadata | None = None
    thinking: NoThinking | None = None
    service_tier: Literal["auto", "standard_only"] | None = None
    cache_control: Any = None


class _Block(StrictPart):
    cache_control: Any = None


class _TextBlock(_Block):
    type: Literal["text"]
    text: str = Field(min_length=1)
    citations: Any = None


class _UseBlock(_Block):
    type: Literal["tool_use"]
    id: str
    name: str
    input: dict[str, Any]
    caller: Any = None


class _ResultBlock(_Block):
    type: Literal["tool_result"]
    tool_use_id: str
    content: Any = None
    is_error: bool | None = None


class _Tool(_Block):
    type: Literal["custom"] | None = None
    name: str
    description: str | None = None
    input_schema: dict[str, Any]
    strict: bool | None = None
    eager_input_streaming: Any = None  # about the pieces of the arguments, which come in one


class _Choice(StrictPart):
    type: Literal["auto", "any", "none", "tool"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


def as_chat(body: MessagesRequest, fields: frozenset[str]) -> ChatRequest:
    """The chat request that asks the same.

    Args:
        body: a request of this API.
        fields: those beyond OpenAI's that some server behind the router takes.

    Raises:
        ApiError: 400, for what is not supported here; it names the field.
    """
    chat: dict[str, Any] = {name: value for name in _SAME if (value := getattr(body, name)) is not None}
    chat |= further_fields(body, fields, _REFUSED)
    chat["messages"] = _messages(body)
    if body.stream:
        chat["stream_options"] = {"include_usage": True}
    if body.stop_sequences:
        chat["stop"] = body.stop_sequences
    if body.metadata is not None and body.metadata.user_id is not None:
        chat["user"] = body.metadata.user_id
    if body.tools:
        chat["tools"] = [_tool(tool, f"tools.{at}") for at, tool in enumerate(body.tools)]
    if body.tool_choice is not None:
        chat |= _tool_choice(body.tool_choice)
    try:
        return checked(ChatRequest, chat)
    except ApiError as error:
        raise error.renamed(NAMES) from None


def _messages(body: MessagesRequest) -> list[dict[str, Any]]:
    """The conversation: results of tools are messages of their own, in front of the words of their turn."""
    messages: list[dict[str, Any]] = []
    if body.system is not None and body.system not in ("", []):
        texts, _ = _blocks(body.system, "system", ())
        messages.append({"role": "system", "content": text_content(texts)})
    called: set[str] = set()
    for at, turn in enumerate(body.messages):
        where = f"messages.{at}.content"
        if turn.role == "assistant":
            messages.append(_assistant(turn.content, where, called))
            continue
        texts, results = _blocks(turn.content, where, ("tool_result",))
        for place, result in results:
            if result.tool_use_id not in called:
                raise ApiError(400, f"{place}: no tool_use before it has this id", param=f"{place}.tool_use_id")
            said = _blocks(result.content, f"{place}.content", ())[0] if result.content else [""]
            messages.append({"role": "tool", "tool_call_id": result.tool_use_id, "content": text_content(said)})
        if texts:
            messages.append({"role": "user", "content": text_content(texts)})
    if body.messages[-1].role == "assistant":
        told = "messages: the last turn is the user's; an answer that is begun cannot be continued here"
        raise ApiError(400, told, param="messages")
    return messages


def _assistant(content: Any, where: str, called: set[str]) -> dict[str, Any]:
    """A turn of the assistant; the calls in it are added to ``called``."""
    texts, uses = _blocks(content, where, ("tool_use",))
    message: dict[str, Any] = {"role": "assistant", "content": text_content(texts) if texts else None}
    if uses:
        called |= {use.id for _, use in uses}
        message["tool_calls"] = [
            {"id": use.id, "type": "function", "function": {"name": use.name, "arguments": _arguments(use, place)}}
            for place, use in uses
        ]
    return message


def _arguments(use: _UseBlock, place: str) -> str:
    try:
        return json.dumps(use.input, ensure_ascii=False, allow_nan=False)
    except (ValueError, RecursionError):
        raise ApiError(400, f"{place}.input cannot be passed on", param=f"{place}.input") from None


_BLOCKS: Mapping[str, type[Any]] = {"tool_use": _UseBlock, "tool_result": _ResultBlock}


def _blocks(content: Any, where: str, others: tuple[str, ...]) -> tuple[list[str], list[tuple[str, Any]]]:
    """The texts of a content, and its blocks of the types ``others``, each with its place."""
    if isinstance(content, str) and content:
        return [content], []
    if not isinstance(content, list) or not content:
        raise ApiError(400, f"{where} is a text or a list of blocks, and not empty", param=where)
    texts: list[str] = []
    found: list[tuple[str, Any]] = []
    for at, block in enumerate(content):
        place = f"{where}.{at}"
        kind = block.get("type") if isinstance(block, dict) else None
        if kind == "text":
            texts.append(checked(_TextBlock, block, place).text)
        elif kind in others:
            found.append((place, checked(_BLOCKS[kind], block, place)))
        elif kind not in ("thinking", "redacted_thinking") or "tool_use" not in others:
            told = f"{place}: {shown(kind, 'a block of this type')} is not supported here"
            raise ApiError(400, f"{told}; supported are {', '.join(('text', *others))}", param=f"{place}.type")
    return texts, found


def _tool(tool: dict[str, Any], where: str) -> dict[str, Any]:
    if (kind := tool.get("type")) not in (None, "custom"):
        why = f"{where}: only tools that the client describes and runs are supported"
        raise ApiError(400, f"{why}, not {shown(kind, 'this type')}", param=f"{where}.type")
    told = checked(_Tool, tool, where)
    function = {
        "name": told.name,
        "description": told.description,
        "parameters": told.input_schema,
        "strict": told.strict,
    }
    return {"type": "function", "function": {name: value for name, value in function.items() if value is not None}}


def _tool_choice(choice: dict[str, Any]) -> dict[str, Any]:
    wanted = checked(_Choice, choice, "tool_choice")
    parallel = {"parallel_tool_calls": False} if wanted.disable_parallel_tool_use else {}
    if wanted.type != "tool":
        return {"tool_choice": _CHOICES[wanted.type], **parallel}
    if wanted.name is None:
        raise ApiError(400, "tool_choice.name says which tool is to be used", param="tool_choice.name")
    return {"tool_choice": {"type": "function", "function": {"name": wanted.name}}, **parallel}
