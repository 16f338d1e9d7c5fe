"""Errors in the shape of the API that was asked: Anthropic's on its path, OpenAI's everywhere else."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from confide.serving.api_errors import ApiError

MESSAGES = "/v1/messages"
"""The path of Anthropic's API."""

# https://docs.anthropic.com/en/api/errors
_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
}


def of_anthropic(path: str) -> bool:
    """Whether a path is of Anthropic's API."""
    return path == MESSAGES or path.startswith(f"{MESSAGES}/")


def anthropic_error(error: ApiError) -> dict[str, Any]:
    """The body of an error in Anthropic's shape."""
    kind = _TYPES.get(error.status, "api_error" if error.status >= 500 else "invalid_request_error")
    if error.code == "overloaded":
        kind = "overloaded_error"
    return {"type": "error", "error": {"type": kind, "message": error.message}}


def error_response(error: ApiError, path: str) -> Response:
    """The response to a request for ``path`` that ended in an error."""
    return error.response(anthropic_error(error) if of_anthropic(path) else None)
