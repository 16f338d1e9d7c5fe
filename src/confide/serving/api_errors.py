"""Errors as clients see them, in OpenAI's shape."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field, replace
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

    def renamed(self, names: Mapping[str, str]) -> ApiError:
        """The same error in the words of an API that has other names for fields: OpenAI's chat name → its own."""
        own = names.get(self.param) if self.param else None
        if self.param is None or own is None:
            return self
        return replace(self, message=re.sub(rf"\b{re.escape(self.param)}\b", own, self.message), param=own)

    def response(self, body: Mapping[str, Any] | None = None) -> Response:
        """The error as a response, with another ``body`` than OpenAI's where one is given."""
        wait = {} if self.retry_after is None else {"Retry-After": str(max(1, round(self.retry_after)))}
        return Response(to_json(body or self.body), self.status, {**self.headers, **wait}, "application/json")
