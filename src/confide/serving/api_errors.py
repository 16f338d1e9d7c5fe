"""Errors as clients see them, in OpenAI's shape, and failures of the models behind the router."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

from pydantic_core import to_json
from starlette.responses import Response

_TYPES = dict.fromkeys((400, 404, 405, 409, 413, 414, 415, 421, 431), "invalid_request_error") | {
    401: "authentication_error",
    403: "permission_error",
}


@dataclass(eq=False)
class ApiError(Exception):
    """An error response: its status, one sentence, and what a client may need to act on it."""

    status: int
    message: str
    _: KW_ONLY
    code: str | None = None
    param: str | None = None
    retry_after: float | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def body(self) -> dict[str, Any]:
        """The response's body."""
        kind = _TYPES.get(self.status, "server_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> Response:
        """The error as a response."""
        wait = {} if self.retry_after is None else {"Retry-After": str(max(1, round(self.retry_after)))}
        return Response(to_json(self.body), self.status, {**self.headers, **wait}, "application/json")


@dataclass(eq=False)
class ModelError(Exception):
    """A model, server or tool gave no usable answer.

    ``kind`` is one word for logs, rows and metrics; nothing that the other side wrote is kept, since it may echo a
    key. ``again``: asking once more may help. ``counts``: a sign of a sick server, not of a bad request.
    ``retry_after`` is what the server asked for, in seconds. ``sentence`` is what the client is told of a request that
    was refused, and ``param`` the field of it that is not taken; both are confide's own. ``abstains``: it did not fail,
    it says that it has no answer.
    """

    kind: str
    _: KW_ONLY
    again: bool = False
    counts: bool = True
    retry_after: float | None = None
    sentence: str | None = None
    param: str | None = None
    abstains: bool = False
