"""Errors as clients see them (OpenAI's shape), and failures of the models behind the router."""

from __future__ import annotations

from typing import Any

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "invalid_request_error",
    405: "invalid_request_error",
    413: "invalid_request_error",
    415: "invalid_request_error",
    421: "invalid_request_error",
}


class ApiError(Exception):
    """An error response: status, one sentence, and what a client may need to act on it."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after: float | None = None,
        headers: dict[str, str] | None = None,
    ):
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param
        self.headers = dict(headers or {})
        if retry_after is not None:
            self.headers["Retry-After"] = str(max(1, round(retry_after)))

    @property
    def body(self) -> dict[str, Any]:
        """The response's body."""
        kind = _TYPES.get(self.status, "server_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


class ModelError(Exception):
    """A model, server or tool gave no usable answer.

    ``kind`` is one word for logs, rows and metrics; nothing that the other side wrote is kept, since it may echo a
    key. ``again``: asking once more may help. ``counts``: a sign of a sick server, not of a bad request.
    ``retry_after`` is what the server asked for, in seconds.
    """

    def __init__(self, kind: str, *, again: bool = False, counts: bool = True, retry_after: float | None = None):
        super().__init__(kind)
        self.kind = kind
        self.again = again
        self.counts = counts
        self.retry_after = retry_after
