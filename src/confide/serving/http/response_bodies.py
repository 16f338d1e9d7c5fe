"""What clients get: the bodies of responses, as the OpenAPI description has them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel

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


class ModelCard(BaseModel):
    """One model."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str


class ModelList(BaseModel):
    """The models that can be asked for: the router alone."""

    object: Literal["list"] = "list"
    data: list[ModelCard]


class FeedbackKept(BaseModel):
    """Feedback was stored."""

    decision_id: str
    stored: Literal[True] = True


class ErrorBody(BaseModel):
    """Every error: ``message``, ``type``, ``param`` and ``code``."""

    error: dict[Literal["message", "type", "param", "code"], str | None]


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The ``responses`` of a route for these error statuses."""
    return {status: {"model": ErrorBody} for status in statuses}
