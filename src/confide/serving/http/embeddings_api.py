"""OpenAI's embeddings: which requests pass to the server that the configuration names, and how its failures are told.

https://platform.openai.com/docs/api-reference/embeddings
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import WithJsonSchema
from pydantic_core import to_json

from confide.engines.openai.asked import Asked
from confide.engines.openai.model_error import ModelError
from confide.hashing import sha256_of_text
from confide.serving.api_errors import ApiError
from confide.serving.config import Embeddings
from confide.serving.http.request_bodies import Body, Count, unknown
from confide.serving.routing.router import RETRY_S

_FIELDS = frozenset({"input", "model", "dimensions", "encoding_format", "user"})
_TEXTS = {"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}
_TOKENS = {"type": "array", "items": {"type": "integer"}, "minItems": 1}


class EmbeddingsRequest(Body):
    """The body of ``POST /v1/embeddings``."""

    input: Annotated[Any, WithJsonSchema({"anyOf": [*_TEXTS, _TOKENS, {"type": "array", "items": _TOKENS}]})]
    model: str
    dimensions: Count | None = None
    encoding_format: str | None = None
    user: str | None = None


def asked_embeddings(body: EmbeddingsRequest, config: Embeddings | None, *, deadline: float, key: str | None) -> Asked:
    """What a checked body asks of the configured server, with the whole body in the options.

    Raises:
        ApiError: no server is configured, the body asks for another model, or the server would not take it.
    """
    if config is None:
        told = "no embeddings here: name their server under embeddings in the router's configuration"
        raise ApiError(404, told, code="not_configured")
    if body.model != config.model:
        told = f"embeddings here are made by {config.model}; vectors of two models cannot be compared"
        raise ApiError(404, told, code="model_not_found", param="model")
    taken = _FIELDS.union(config.fields, config.rename, config.drop)
    if (stranger := next((name for name in body.model_extra or () if name not in taken), None)) is not None:
        raise unknown(stranger)
    if not _is_input(body.input):
        told = "input is a text, a list of texts, a list of tokens or a list of such lists, and not empty"
        raise ApiError(400, told, param="input")
    try:
        sent = body.model_dump(exclude_unset=True)
        asks_the_same = sha256_of_text(to_json(sent).decode())
    except ValueError:
        raise ApiError(400, "the body holds values that cannot be passed on") from None
    return Asked(chat=False, messages=[], options=sent, deadline=deadline, key=key, question_hash=asks_the_same)


def _is_input(value: Any) -> bool:
    if isinstance(value, str):
        return bool(value)
    if not isinstance(value, list) or not value:
        return False
    return any(all(is_one(one) for one in value) for is_one in (_is_text, _is_token, _is_tokens))


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _is_token(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_tokens(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_token, value))


def error_of(failure: ModelError, asked: Asked) -> ApiError:
    """What the client is told of a server that failed, as of an expert that did."""
    if failure.kind in ("rejected", "unsupported"):
        return ApiError(400, "the server of the embeddings refused this request as invalid", code="rejected")
    if asked.late:
        return ApiError(504, "no embeddings within the deadline", code="deadline")
    return ApiError(503, "the server of the embeddings could not answer", code="no_answer", retry_after=RETRY_S)
