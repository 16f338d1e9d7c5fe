"""What clients get: the bodies of responses, as the OpenAPI description has them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from confide.serving.routing.turn import Extension


class Choice(BaseModel):
    """One answer: the ``message`` of a chat completion or the ``text`` of a text completion."""

    index: int
    message: dict[str, Any] | None = None
    text: str | None = None
    logprobs: dict[str, Any] | None
    finish_reason: str


class Completion(BaseModel):
    """The answer to a request, in OpenAI's shape, and the field ``confide``."""

    id: str
    object: Literal["chat.completion", "text_completion"]
    created: int
    model: str
    choices: list[Choice]
    usage: dict[Literal["prompt_tokens", "completion_tokens", "total_tokens"], int]
    confide: Extension


class ResponseBody(BaseModel):
    """The answer to a request, in the shape of OpenAI's Responses API, and the field ``confide``."""

    model_config = ConfigDict(extra="allow")  # what is repeated of the request

    id: str
    object: Literal["response"]
    created_at: int
    status: Literal["completed", "incomplete"]
    model: str
    output: list[dict[str, Any]]
    usage: dict[str, Any]
    confide: Extension


class MessageBody(BaseModel):
    """The answer to a request, in the shape of Anthropic's Messages API, and the field ``confide``."""

    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    model: str
    content: list[dict[str, Any]]
    stop_reason: Literal["end_turn", "max_tokens", "tool_use", "refusal"] | None
    stop_sequence: None
    usage: dict[Literal["input_tokens", "output_tokens"], int]
    confide: Extension


class ModelCard(BaseModel):
    """One model."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str


class ModelList(BaseModel):
    """The models that can be asked for: the router, and the one of the embeddings where there is one."""

    object: Literal["list"] = "list"
    data: list[ModelCard]


class FeedbackKept(BaseModel):
    """Feedback was stored."""

    decision_id: str
    stored: Literal[True] = True


class ErrorBody(BaseModel):
    """Every error: ``message``, ``type``, ``param`` and ``code``."""

    error: dict[Literal["message", "type", "param", "code"], str | None]


class MessagesErrorBody(BaseModel):
    """Every error on Anthropic's path."""

    type: Literal["error"]
    error: dict[Literal["type", "message"], str]


def errors(*statuses: int, model: type[BaseModel] = ErrorBody) -> dict[int | str, dict[str, Any]]:
    """The ``responses`` of a route for these error statuses."""
    return {status: {"model": model} for status in statuses}
