"""OpenAI's Responses API: its requests as the chat requests that ask the same.

https://platform.openai.com/docs/api-reference/responses. Nothing is kept for a later request, so whatever refers to an
earlier response is refused.
"""

from __future__ import annotations

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
    Temperature,
    TopLogprobs,
    checked,
    further_fields,
    shown,
    text_content,
)

NAMES: Mapping[str, str] = {
    "messages": "input",
    "max_tokens": "max_output_tokens",
    "response_format": "text.format",
    "verbosity": "text.verbosity",
    "reasoning_effort": "reasoning.effort",
    "logprobs": "include",
}
"""Chat's name of a field → the name that it has here, where they differ."""

_LOGPROBS = "message.output_text.logprobs"
# Fields that mean in a chat request what they mean here.
_SAME = (
    "model", "stream", "temperature", "top_p", "top_logprobs", "parallel_tool_calls", "user", "safety_identifier",
    "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention", "service_tier",
)  # fmt: skip
_NOT_KEPT = "is not supported: no responses are kept here, so send the earlier turns in input"
_NOT_HERE = "is not supported on /v1/responses"
_REFUSED = {
    "previous_response_id": _NOT_KEPT,
    "conversation": _NOT_KEPT,
    "prompt": "is not supported: no prompts are kept here, so send its text in instructions and input",
    "background": "is not supported: no responses are kept here to be fetched later",
    **dict.fromkeys(
        ("access_programs", "background_options", "context_management", "image", "max_tool_calls", "moderation"),
        _NOT_HERE,
    ),
}  # fmt: skip


class ResponseStreamOptions(StrictPart):
    """How a stream is written; nothing is ever added to it to hide the length of pieces."""

    include_obfuscation: bool | None = None


class TextOptions(StrictPart):
    """The form of the text."""

    format: dict[str, Any] | None = None
    verbosity: str | None = None


class ReasoningOptions(StrictPart):
    """How much the model is to reason; nothing here writes a summary of it."""

    effort: str | None = None
    summary: None = None


class ResponsesRequest(Body):
    """The body of ``POST /v1/responses``; ``model`` may name anything, the router decides who answers."""

    input: Annotated[
        Any, WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "object"}}]})
    ]
    instructions: str | None = None
    model: str | None = None
    max_output_tokens: Count | None = None
    temperature: Temperature | None = None
    top_p: Share | None = None
    top_logprobs: TopLogprobs | None = None
    include: list[str] | None = None
    stream: bool | None = None
    stream_options: ResponseStreamOptions | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    text: TextOptions | None = None
    reasoning: ReasoningOptions | None = None
    metadata: dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]] | None = Field(
        default=None, max_length=16
    )
    store: bool | None = None
    truncation: Literal["disabled"] | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_options: dict[str, Any] | None = None
    prompt_cache_retention: str | None = None
    service_tier: str | None = None


# -- items of the input ----------------------------------------------------------------------------------


class _Item(StrictPart):
    """What items have that says nothing to a model."""

    id: Any = None
    status: Any = None


class _MessageItem(_Item):
    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: Any
    phase: Any = None


class _CallItem(_Item):
    type: Literal["function_call"]
    call_id: str
    name: str
    arguments: str


class _OutputItem(_Item):
    type: Literal["function_call_output"]
    call_id: str
    output: Any


class _TextPart(StrictPart):
    type: Literal["input_text", "output_text"]
    text: str
    annotations: Any = None
    logprobs: Any = None


class _RefusalPart(StrictPart):
    type: Literal["refusal"]
    refusal: str


class _FunctionTool(StrictPart):
    type: Literal["function"]
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class _FormatSchema(StrictPart):
    type: Literal["json_schema"]
    name: str
    schema_: dict[str, Any] = Field(alias="schema")
    description: str | None = None
    strict: bool | None = None


def as_chat(body: ResponsesRequest, fields: frozenset[str]) -> ChatRequest:
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
    if body.max_output_tokens is not None:
        chat["max_tokens"] = body.max_output_tokens
    if body.stream:
        chat["stream_options"] = {"include_usage": True}
    for at, name in enumerate(body.include or ()):
        if name != _LOGPROBS:
            raise ApiError(400, f"include.{at}: only {_LOGPROBS} can be included", param=f"include.{at}")
        chat["logprobs"] = True
    if body.tools:
        chat["tools"] = [_tool(tool, f"tools.{at}") for at, tool in enumerate(body.tools)]
    if body.tool_choice is not None:
        chat["tool_choice"] = _tool_choice(body.tool_choice)
    if body.text is not None:
        chat |= {"verbosity": body.text.verbosity} if body.text.verbosity is not None else {}
        chat |= _response_format(body.text.format or {"type": "text"})
    if body.reasoning is not None and body.reasoning.effort is not None:
        chat["reasoning_effort"] = body.reasoning.effort
    try:
        return checked(ChatRequest, chat)
    except ApiError as error:
        raise error.renamed(NAMES) from None


def _messages(body: ResponsesRequest) -> list[dict[str, Any]]:
    """The conversation: what was said in one turn, text and calls, is one message."""
    if not isinstance(body.input, str | list) or not body.input:
        raise ApiError(400, "input is a text or a list of items, and not empty", param="input")
    messages: list[dict[str, Any]] = []
    if body.instructions is not None:
        messages.append({"role": "system", "content": body.instructions})
    if isinstance(body.input, str):
        return [*messages, {"role": "user", "content": body.input}]
    called: set[str] = set()
    for at, item in enumerate(body.input):
        where = f"input.{at}"
        kind = item.get("type", "message") if isinstance(item, dict) else None
        if kind == "message":
            messages.append(_message(checked(_MessageItem, item, where), where))
        elif kind == "function_call":
            call = checked(_CallItem, item, where)
            called.add(call.call_id)
            if not messages or messages[-1]["role"] != "assistant":
                messages.append({"role": "assistant", "content": None})
            function = {"name": call.name, "arguments": call.arguments}
            calls = messages[-1].setdefault("tool_calls", [])
            calls.append({"id": call.call_id, "type": "function", "function": function})
        elif kind == "function_call_output":
            output = checked(_OutputItem, item, where)
            if output.call_id not in called:
                raise ApiError(400, f"{where}: no call before it has this call_id", param=f"{where}.call_id")
            texts, _ = _texts(output.output, f"{where}.output")
            messages.append({"role": "tool", "tool_call_id": output.call_id, "content": text_content(texts)})
        elif kind != "reasoning":  # earlier reasoning is not read again
            told = f"{where}: an item is a message, a function_call, a function_call_output or reasoning"
            raise ApiError(400, f"{told}, not {shown(kind, 'anything else')}", param=f"{where}.type")
    return messages


def _message(item: _MessageItem, where: str) -> dict[str, Any]:
    texts, refusals = _texts(item.content, f"{where}.content", refusals=item.role == "assistant")
    message: dict[str, Any] = {"role": item.role, "content": text_content(texts) if texts else None}
    return {**message, "refusal": "".join(refusals)} if refusals else message


def _texts(content: Any, where: str, *, refusals: bool = False) -> tuple[list[str], list[str]]:
    """The texts of a content, and the refusals among its parts where these may be."""
    if isinstance(content, str):
        return [content], []
    if not isinstance(content, list) or not content:
        raise ApiError(400, f"{where} is a text or a list of parts, and not empty", param=where)
    texts, refused = [], []
    for at, part in enumerate(content):
        place = f"{where}.{at}"
        kind = part.get("type") if isinstance(part, dict) else None
        if kind in ("input_text", "output_text"):
            texts.append(checked(_TextPart, part, place).text)
        elif kind == "refusal" and refusals:
            refused.append(checked(_RefusalPart, part, place).refusal)
        else:
            told = f"{place}: only text is supported on /v1/responses, not {shown(kind, 'anything else')}"
            raise ApiError(400, told, param=f"{place}.type")
    return texts, refused


def _tool(tool: dict[str, Any], where: str) -> dict[str, Any]:
    if (kind := tool.get("type")) != "function":
        why = f"{where}: only tools of type function are supported, which the client runs"
        raise ApiError(400, f"{why}, not {shown(kind, 'anything else')}", param=f"{where}.type")
    checked(_FunctionTool, tool, where)
    told = {name: value for name, value in tool.items() if name != "type" and value is not None}
    return {"type": "function", "function": told}


def _tool_choice(choice: str | dict[str, Any]) -> Any:
    if choice in ("auto", "none", "required"):
        return choice
    if isinstance(choice, dict) and choice.get("type") == "function" and isinstance(choice.get("name"), str):
        return {"type": "function", "function": {"name": choice["name"]}}
    told = "tool_choice is auto, none, required or a function by its name"
    raise ApiError(400, told, param="tool_choice")


def _response_format(wanted: dict[str, Any]) -> dict[str, Any]:
    kind = wanted.get("type")
    if kind == "text":
        return {}
    if kind == "json_object":
        return {"response_format": {"type": kind}}
    if kind != "json_schema":
        told = f"text.format: its type is text, json_object or json_schema, not {shown(kind, 'anything else')}"
        raise ApiError(400, told, param="text.format.type")
    checked(_FormatSchema, wanted, "text.format")
    schema = {name: value for name, value in wanted.items() if name != "type" and value is not None}
    return {"response_format": {"type": kind, "json_schema": schema}}
