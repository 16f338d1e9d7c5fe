"""What clients send: OpenAI's request bodies, checked; and what the router makes of them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import to_json

from confide.engines.openai.asked import Asked
from confide.engines.openai.request_fields import CHAT_FIELDS, TEXT_FIELDS, allowed
from confide.serving.api_errors import ApiError
from confide.serving.config import Limits
from confide.serving.routing.question_hash import question_hash
from confide.serving.store.tables import About

# JSON has one kind of number: 1.0 is an integer too.
_whole = BeforeValidator(lambda value: int(value) if isinstance(value, float) and value.is_integer() else value)
Count = Annotated[int, Field(ge=1), _whole]
Temperature = Annotated[float, Field(ge=0, le=2)]
Share = Annotated[float, Field(ge=0, le=1)]
TopLogprobs = Annotated[int, Field(ge=0, le=20), _whole]

AnyBody = TypeVar("AnyBody", bound=BaseModel)


class Body(BaseModel):
    """A body whose further fields are looked at by hand."""

    # What stands inside messages goes to the servers as it is; types are not guessed ("5" is no number).
    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)


class StrictPart(BaseModel):
    """A part of a body that has no further fields."""

    model_config = ConfigDict(extra="forbid", strict=True)


class ContentPart(Body):
    """One part of a message; parts other than text are for servers that take them."""

    type: str
    text: str | None = None


class ChatMessage(Body):
    """One turn of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[ContentPart] | None = None


class StreamOptions(StrictPart):
    """What a stream ends with; nothing is ever added to it to hide the length of pieces."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class _Sampling(Body):
    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Count | None = None
    n: Count | None = None
    temperature: Temperature | None = None
    top_p: Share | None = None
    stop: str | list[str] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    logit_bias: dict[str, float] | None = None
    seed: Annotated[int, _whole] | None = None
    user: str | None = None


class ChatRequest(_Sampling):
    """The body of ``POST /v1/chat/completions``; ``model`` may name anything, the router decides who answers."""

    messages: list[ChatMessage] = Field(min_length=1)
    max_completion_tokens: Count | None = None
    logprobs: bool | None = None
    top_logprobs: TopLogprobs | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    response_format: dict[str, Any] | None = None


class CompletionRequest(_Sampling):
    """The body of ``POST /v1/completions``; the prompt becomes one user turn."""

    prompt: str | Annotated[list[str], Field(min_length=1, max_length=1)]


class FeedbackRequest(StrictPart):
    """The body of ``POST /v1/feedback``: was the answer of a decision right?"""

    decision_id: str = Field(pattern=r"^dec_[0-9a-f]{32}$")
    correct: bool
    about: About = "served"
    note: str | None = Field(default=None, max_length=1000)


_NAME = re.compile(r"[\x21-\x7e]{1,64}")
_PLACE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_NOT_KNOWN = "not known to any model behind this router"
# Fields that the router answers for itself; every other one goes to servers as it came.
_OURS = ("model", "messages", "prompt", "stream", "stream_options", "logprobs", "top_logprobs")
_JSON_TYPES = {
    "list_type": "Input should be a valid array",
    "dict_type": "Input should be an object",
    "model_type": "Input should be an object",
    "model_attributes_type": "Input should be an object",
}


def problem_of(problem: Mapping[str, Any], above: str = "") -> ApiError:
    """What pydantic found wrong with what stands at the place ``above``; it never repeats what was sent."""
    parts = [str(part) for part in problem["loc"] if not isinstance(part, str) or _PLACE.fullmatch(part)]
    where = ".".join(filter(None, (above, *parts)))
    message = _JSON_TYPES.get(problem["type"], problem["msg"])
    return ApiError(400, f"{where + ': ' if where else ''}{message}", param=where or None)


def checked(model: type[AnyBody], data: Any, where: str = "") -> AnyBody:
    """``data``, which stands at the place ``where`` of a body, as a ``model``; raises `ApiError` (400)."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise problem_of(error.errors(include_url=False, include_input=False)[0], where) from None


def text_content(texts: Sequence[str]) -> str | list[dict[str, Any]]:
    """Texts as the content of a message: one is its text, several are its parts."""
    return texts[0] if len(texts) == 1 else [{"type": "text", "text": text} for text in texts]


def shown(name: Any, otherwise: str) -> str:
    """A name that a client sent, in so far as it can be repeated."""
    return name if isinstance(name, str) and _NAME.fullmatch(name) else otherwise


def unknown(name: str) -> ApiError:
    """A field that does not belong into a request."""
    told = shown(name, "")
    elsewhere = name in CHAT_FIELDS | TEXT_FIELDS
    why = "no field of this path" if elsewhere else _NOT_KNOWN
    return ApiError(400, f"{told or 'the request has a field that'} is {why}", param=told or None)


def further_fields(body: Body, fields: frozenset[str], refused: Mapping[str, str]) -> dict[str, Any]:
    """The fields of another API's body that servers behind the router take beyond OpenAI's.

    Args:
        body: the body.
        fields: what these servers take.
        refused: fields of that API which are not supported here, each with what the client is told.

    Raises:
        ApiError: 400, for any other field; a refused one may say that it asks for nothing (null, false, empty).
    """
    found = {}
    for name, value in (body.model_extra or {}).items():
        if name in fields - CHAT_FIELDS:
            found[name] = value
        elif name not in refused:
            raise unknown(name)
        elif value:
            raise ApiError(400, f"{name} {refused[name]}", param=name)
    return found


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
    try:
        data = body.model_dump(exclude_unset=True)
        to_json([[data]])  # an answer that repeats a part of it has it a little deeper
    except ValueError:
        raise ApiError(400, "the body holds values that cannot be passed on") from None
    known = allowed(CHAT_FIELDS if isinstance(body, ChatRequest) else TEXT_FIELDS, fields)
    if (stranger := next((name for name in data if name not in known), None)) is not None:
        raise unknown(stranger)
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
