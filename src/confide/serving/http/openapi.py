"""The OpenAPI description: what the routes take and give back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, ConfigDict
from pydantic.json_schema import models_json_schema

from confide.serving.config import ServeConfig
from confide.serving.http.gate import OPEN
from confide.serving.http.request_bodies import ChatRequest, CompletionRequest, FeedbackRequest


class ErrorDetail(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """Every error."""

    error: ErrorDetail


class Extension(BaseModel):
    """The field ``confide``: how sure the small model is, what was decided, and who answered."""

    decision_id: str
    confidence: float | None
    raw: float | None
    source: str | None
    calibrated: bool
    format_mass: float | None
    decision: Literal["answer", "escalate", "abstain"]
    threshold: float | None
    policy_id: str | None
    answered_by: str | None
    served: Literal["small", "expert", "unverified", "abstained"]
    mode: Literal["act", "observe"]
    tokens_saved: int
    cost_saved: float
    verified: bool


class Usage(BaseModel):
    """Tokens read and written."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Message(BaseModel):
    """An answer; reasoning text and tool calls stand beside it."""

    model_config = ConfigDict(extra="allow")

    role: Literal["assistant"]
    content: str | None


class ChatChoice(BaseModel):
    """One answer of a chat completion."""

    index: int
    message: Message
    logprobs: dict[str, Any] | None
    finish_reason: str


class TextChoice(BaseModel):
    """One answer of a text completion."""

    index: int
    text: str
    logprobs: dict[str, Any] | None
    finish_reason: str


class ChatCompletion(BaseModel):
    """The answer to a chat request."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    confide: Extension


class TextCompletion(BaseModel):
    """The answer to a completion request."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[TextChoice]
    usage: Usage
    confide: Extension


class ModelCard(BaseModel):
    """One model."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelList(BaseModel):
    """The models that can be asked for: the router."""

    object: Literal["list"]
    data: list[ModelCard]


class FeedbackKept(BaseModel):
    """Feedback was stored."""

    decision_id: str
    stored: Literal[True]


class Health(BaseModel):
    """How the server is."""

    status: str


_ERRORS = {
    400: "The request is not understood, asks for too much, or every model refused it.",
    401: "No valid API key.",
    404: "There is no such decision.",
    408: "The body did not arrive in time.",
    413: "The body is too large.",
    415: "The body is not application/json.",
    421: "The server was called by a name that is not this machine's.",
    502: "An expert's answer broke off after it had begun (in a stream, as an event).",
    503: "Overloaded, no model could answer, or the decision could not be stored; see Retry-After.",
    504: "No answer within the deadline.",
}


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The ``responses`` of a route for these error statuses."""
    return {status: {"model": ErrorBody, "description": _ERRORS[status]} for status in statuses}


def takes(model: type[BaseModel]) -> dict[str, Any]:
    """The ``openapi_extra`` of a route whose body is ``model``."""
    schema = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def asks(choices: dict[str, list[str]]) -> dict[str, Any]:
    """The ``openapi_extra`` of a route with these query parameters, each with its values."""
    return {
        "parameters": [
            {"name": name, "in": "query", "required": False, "schema": {"type": "string", "enum": values}}
            for name, values in choices.items()
        ]
    }


def describe(app: FastAPI, config: ServeConfig) -> Callable[[], dict[str, Any]]:
    """A function for ``app.openapi``: FastAPI's description, with the bodies that the routes read themselves.

    Limits and the need for a key are those of ``config``.
    """

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            bodies = [(model, "validation") for model in (ChatRequest, CompletionRequest, FeedbackRequest)]
            _, found = models_json_schema(bodies, ref_template="#/components/schemas/{model}")  # type: ignore[arg-type]
            components = schema.setdefault("components", {})
            schemas = components.setdefault("schemas", {})
            schemas.update(found.get("$defs", {}))
            most = {"n": config.limits.choices, "max_tokens": config.limits.max_tokens}
            most["max_completion_tokens"] = config.limits.max_tokens
            for name in ("ChatRequest", "CompletionRequest"):
                for key, value in schemas[name]["properties"].items():
                    if key in most:
                        value["anyOf"][0]["maximum"] = most[key]
            if config.api_keys:
                components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
                schema["security"] = [{"key": []}]
                for path in OPEN:
                    schema["paths"][path]["get"]["security"] = []
            app.openapi_schema = schema
        return app.openapi_schema

    return openapi
