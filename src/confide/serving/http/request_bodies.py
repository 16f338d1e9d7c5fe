"""What clients send: OpenAI's request bodies, checked; and what the router makes of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import to_json

from confide.serving.config import Limits
from confide.serving.http.api_errors import ApiError

# In JSON 1.0 is an integer too.
_whole = BeforeValidator(lambda value: int(value) if isinstance(value, float) and value.is_integer() else value)
_Count = Annotated[int, Field(ge=1), _whole]


class _Body(BaseModel):
    # Unknown keys go to the servers as they are; types are not guessed ("5" is no number).
    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)


class ContentPart(_Body):
    """One part of a message; parts other than text are for servers that take them."""

    type: str
    text: str | None = None


class ChatMessage(_Body):
    """One turn of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[ContentPart] | None = None


class StreamOptions(_Body):
    """What a stream ends with."""

    include_usage: bool | None = None


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
    about: Literal["served", "small", "expert"] = "served"
    note: str | None = Field(default=None, max_length=1000)


B = TypeVar("B", bound=BaseModel)


def parse(kind: type[B], body: bytes) -> B:
    """A request's body; raises `ApiError` (400) that names the first problem and never repeats the body."""
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part) for part in problem["loc"] if not isinstance(part, str) or part.isidentifier())
        message = "the body is not valid JSON" if problem["type"] == "json_invalid" else problem["msg"]
        raise ApiError(400, f"{where + ': ' if where else ''}{message}", param=where or None) from None


# Keys that the router answers for itself; every other one goes to servers as it came.
_OURS = ("model", "messages", "prompt", "stream", "stream_options", "logprobs", "top_logprobs")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request: its conversation, what else it asks of a server, and how it wants the answer.

    ``options`` are the remaining keys of its body. ``deadline`` is in seconds of the event loop's clock.
    """

    chat: bool
    messages: list[dict[str, Any]]
    options: dict[str, Any]
    deadline: float
    n: int = 1
    max_tokens: int | None = None
    stream: bool = False
    include_usage: bool = False
    logprobs: bool = False
    top_logprobs: int | None = None
    domain: str | None = None
    request_id: str | None = None

    @property
    def question(self) -> str:
        """The text of the last user turn ("" for none)."""
        return next((text_of(m["content"]) for m in reversed(self.messages) if m["role"] == "user"), "")

    @property
    def plain(self) -> bool:
        """Whether one answer in plain text is wanted: no tools, no format, no second choice."""
        tools = self.options.get("tools") or self.options.get("functions")
        return self.n == 1 and not self.formatted and not tools

    @property
    def formatted(self) -> bool:
        """Whether the answer is to have a format, such as JSON."""
        wanted: str = (self.options.get("response_format") or {}).get("type", "text")
        return wanted != "text"


def asked(
    body: ChatRequest | CompletionRequest,
    limits: Limits,
    *,
    deadline: float,
    domain: str | None = None,
    request_id: str | None = None,
) -> Asked:
    """What a checked body asks for; raises `ApiError` (400) for more than ``limits`` allow."""
    data = body.model_dump(exclude_unset=True)
    logprobs, top_logprobs = False, None
    if isinstance(body, ChatRequest):
        messages: list[dict[str, Any]] = [{"content": None, **message} for message in data["messages"]]
        wanted = [body.max_tokens, body.max_completion_tokens]
        logprobs, top_logprobs = bool(body.logprobs), body.top_logprobs
    else:
        for key in ("suffix", "echo", "best_of", "logprobs"):
            if data.get(key):
                raise ApiError(400, f"{key} is not supported on /v1/completions", param=key)
        prompt = body.prompt if isinstance(body.prompt, str) else body.prompt[0]
        messages, wanted = [{"role": "user", "content": prompt}], [body.max_tokens]
    if (n := body.n or 1) > limits.choices:
        raise ApiError(400, f"n is {n}, at most {limits.choices} choices are allowed here", param="n")
    room = [tokens for tokens in wanted if tokens is not None]
    if room and max(room) > limits.max_tokens:
        raise ApiError(
            400, f"max_tokens is {max(room)}, at most {limits.max_tokens} are allowed here", param="max_tokens"
        )
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
        max_tokens=min(room) if room else None,
        stream=bool(body.stream),
        include_usage=bool(body.stream_options and body.stream_options.include_usage),
        logprobs=logprobs,
        top_logprobs=top_logprobs,
        domain=domain,
        request_id=request_id,
    )


def text_of(content: Any) -> str:
    """The text of a message's content, parts joined by line ends."""
    if isinstance(content, str):
        return content
    return "\n".join(part.get("text") or "" for part in content or () if part.get("type") == "text")
