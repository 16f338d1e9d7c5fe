"""What clients send: OpenAI's request bodies, checked; and what the router makes of them."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import to_json

from confide.engines.openai.asked import Asked
from confide.engines.openai.request_fields import CHAT_FIELDS, TEXT_FIELDS, allowed
from confide.serving.api_errors import ApiError
from confide.serving.config import Limits
from confide.serving.routing.question_hash import question_hash
from confide.serving.store.tables import About

# JSON has one kind of number: 1.0 is an integer too.
_whole = BeforeValidator(lambda value: int(value) if isinstance(value, float) and value.is_integer() else value)
_Count = Annotated[int, Field(ge=1), _whole]


class _Body(BaseModel):
    # What stands inside messages goes to the servers as it is; types are not guessed ("5" is no number).
    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)


class ContentPart(_Body):
    """One part of a message; parts other than text are for servers that take them."""

    type: str
    text: str | None = None


class ChatMessage(_Body):
    """One turn of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[ContentPart] | None = None


class StreamOptions(BaseModel):
    """What a stream ends with; nothing is ever added to it to hide the length of pieces."""

    model_config = ConfigDict(extra="forbid", strict=True)

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class _Sampling(_Body):
    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: _Count | None = None
    n: _Count | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    stop: str | list[str] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    logit_bias: dict[str, float] | None = None
    seed: Annotated[int, _whole] | None = None
    user: str | None = None


class ChatRequest(_Sampling):
    """The body of ``POST /v1/chat/completions``; ``model`` may name anything, the router decides who answers."""

    messages: list[ChatMessage] = Field(min_length=1)
    max_completion_tokens: _Count | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20), _whole] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    response_format: dict[str, Any] | None = None


class CompletionRequest(_Sampling):
    """The body of ``POST /v1/completions``; the prompt becomes one user turn."""

    prompt: str | Annotated[list[str], Field(min_length=1, max_length=1)]


class FeedbackRequest(BaseModel):
    """The body of ``POST /v1/feedback``: was the answer of a decision right?"""

    model_config = ConfigDict(extra="forbid", strict=True)

    decision_id: str = Field(pattern=r"^dec_[0-9a-f]{32}$")
    correct: bool
    about: About = "served"
    note: str | None = Field(default=None, max_length=1000)


_NAME = re.compile(r"[\x21-\x7e]{1,64}")
_NOT_KNOWN = "not known to any model behind this router"
# Fields that the router answers for itself; every other one goes to servers as it came.
_OURS = ("model", "messages", "prompt", "stream", "stream_options", "logprobs", "top_logprobs")


def _unknown(name: str) -> ApiError:
    """A field that does not belong into a request."""
    shown = name if _NAME.fullmatch(name) else None
    told = f"{shown} is" if shown else "the request has a field that is"
    elsewhere = name in CHAT_FIELDS | TEXT_FIELDS
    return ApiError(400, f"{told} {'no field of this path' if elsewhere else _NOT_KNOWN}", param=shown)


def asked(
    body: ChatRequest | CompletionRequest,
    limits: Limits,
    *,
    deadline: float,
    fields: frozenset[str] = frozenset(),
    domain: str | None = None,
    request_id: str | None = None,
    key: str | None = None,
) -> Asked:
    """What a checked body asks for.

    Raises `ApiError` (400) for more than ``limits`` allow, and for a field that is neither OpenAI's nor in ``fields``.
    """
    data = body.model_dump(exclude_unset=True)
    known = allowed(CHAT_FIELDS if isinstance(body, ChatRequest) else TEXT_FIELDS, fields)
    if (unknown := next((name for name in data if name not in known), None)) is not None:
        raise _unknown(unknown)
    sizes, logprobs, top_logprobs = [body.max_tokens], False, None
    if isinstance(body, ChatRequest):
        messages: list[dict[str, Any]] = [{"content": None, **message} for message in data["messages"]]
        sizes.append(body.max_completion_tokens)
        logprobs, top_logprobs = bool(body.logprobs), body.top_logprobs
    else:
        for option in ("suffix", "echo", "best_of", "logprobs"):
            if data.get(option):
                raise ApiError(400, f"{option} is not supported on /v1/completions", param=option)
            data.pop(option, None)
        messages = [{"role": "user", "content": body.prompt if isinstance(body.prompt, str) else body.prompt[0]}]
    if (n := body.n or 1) > limits.choices:
        raise ApiError(400, f"n is {n}, at most {limits.choices} choices are allowed here", param="n")
    wanted = [size for size in sizes if size is not None]
    if (most := max(wanted, default=0)) > limits.max_tokens:
        problem = f"max_tokens is {most}, at most {limits.max_tokens} are allowed here"
        raise ApiError(400, problem, param="max_tokens")
    options = {key: value for key, value in data.items() if key not in _OURS and value is not None}
    try:
        to_json([messages, options])
    except ValueError:
        raise ApiError(400, "the body holds values that cannot be passed on") from None
    return Asked(
        chat=isinstance(body, ChatRequest),
        messages=messages,
        options=options,
        deadline=deadline,
        n=n,
        max_tokens=min(wanted, default=None),
        stream=bool(body.stream),
        include_usage=bool(body.stream_options and body.stream_options.include_usage),
        logprobs=logprobs,
        top_logprobs=top_logprobs,
        domain=domain,
        request_id=request_id,
        key=key,
        question_hash=question_hash(messages),
    )
