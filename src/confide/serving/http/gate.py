"""The gate in front of every route: who may come in, how much they may bring, and what goes out with each answer."""

from __future__ import annotations

import functools
from collections.abc import Callable
from urllib.parse import urlsplit

from pydantic_core import to_json
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from confide.serving.config import is_loopback
from confide.serving.http.api_errors import ApiError
from confide.serving.http.authentication import Keys

OPEN = frozenset({"/healthz", "/readyz"})
"""Paths for load balancers and service managers: they tell nothing, and need no key."""

SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_RAW = [(name.lower().encode(), value.encode()) for name, value in SECURITY_HEADERS.items()]


def error_response(error: ApiError) -> Response:
    """An error as a response."""
    return Response(to_json(error.body), error.status, error.headers, "application/json")


class Gate:
    """Middleware: host, key, content type and length of a request; security headers on every response.

    Without keys only this machine may come, under its own names: a page of another site that points its name at
    127.0.0.1 is refused. Bodies must say that they are JSON, which no page of another site can without leave.
    """

    def __init__(self, app: ASGIApp, *, keys: Keys, named: bool, body_bytes: int):
        self._app = app
        self._keys = keys
        self._named = named
        self._body_bytes = body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through to the application, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", ()))
                there = {name.lower() for name, _ in headers}
                message["headers"] = headers + [pair for pair in _RAW if pair[0] not in there]
            await send(message)

        headers: dict[bytes, bytes] = dict(reversed(scope["headers"]))
        error = self._refusal(scope["path"], scope["method"], lambda name: headers.get(name, b"").decode("latin-1"))
        if error is not None:
            await error_response(error)(scope, receive, guarded)
        else:
            await self._app(scope, receive, guarded)

    def _refusal(self, path: str, method: str, header: Callable[[bytes], str]) -> ApiError | None:
        if not self._named and not _is_local(header(b"host")):
            return ApiError(421, "without api_keys this server answers to 127.0.0.1 and localhost only", code="host")
        if path not in OPEN and not self._keys.allow(header(b"authorization")):
            # A browser asks for the key of the dashboard as a password.
            scheme = 'Basic realm="confide"' if path == "/" else "Bearer"
            return ApiError(
                401, "a valid API key is needed", code="invalid_api_key", headers={"WWW-Authenticate": scheme}
            )
        if method == "POST":
            if header(b"content-type").partition(";")[0].strip().lower() != "application/json":
                return ApiError(415, "the body must be application/json", code="content_type")
            length = header(b"content-length")
            if length.isdecimal() and (len(length) > 12 or int(length) > self._body_bytes):
                return too_large(self._body_bytes)
        return None


def too_large(most: int) -> ApiError:
    """The error for a body of more than ``most`` bytes."""
    return ApiError(413, f"the body is larger than {most} bytes", code="too_large")


@functools.lru_cache(maxsize=256)
def _is_local(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname
    except ValueError:
        return False
    return name is not None and is_loopback(name)
