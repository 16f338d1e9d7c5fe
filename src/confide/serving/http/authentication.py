"""Who may use the router for what: API keys as hashes with scopes, and the gate in front of every route."""

from __future__ import annotations

import asyncio
import base64
import functools
import hmac
from collections.abc import Awaitable, Iterable, Mapping
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from confide.hashing import sha256_of_text
from confide.serving.api_errors import ApiError
from confide.serving.api_keys import ApiKey, KeyScope
from confide.serving.config import ServeConfig, is_loopback
from confide.serving.http.error_responses import MESSAGES, error_response, of_anthropic

OPEN = frozenset({"/healthz", "/readyz"})  # paths for load balancers and service managers: they need no key
SCOPES: Mapping[str, KeyScope] = {
    "/v1/chat/completions": "ask",
    "/v1/completions": "ask",
    "/v1/responses": "ask",
    "/v1/embeddings": "ask",
    MESSAGES: "ask",
    "/v1/feedback": "feedback",
    "/": "read",
    "/metrics": "read",
}
"""What a key needs to have for a path; for any other one it is enough to have a key."""
SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
SECURITY_FIELDS = [(name.lower().encode(), value.encode()) for name, value in SECURITY_HEADERS.items()]


class Keys:
    """The keys that may use the router."""

    def __init__(self, keys: Iterable[ApiKey]):
        self._keys = [(key.hash.encode(), key) for key in keys]

    def holder(self, authorization: str) -> ApiKey | None:
        """The key in an ``Authorization`` header (Bearer, or Basic with the key as password); None: no known one."""
        presented = _key_in(authorization)
        hashed = f"sha256:{sha256_of_text(presented)}".encode()
        # Every hash is compared, so the time taken does not tell which one was close.
        found = [key for known, key in self._keys if hmac.compare_digest(known, hashed)]
        return found[0] if found and presented else None


def _key_in(authorization: str) -> str:
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).partition(b":")[2].decode()
        except ValueError:
            return ""
    return value.strip() if scheme.lower() == "bearer" else ""


class Gate:
    """Middleware: checks host, key, content type and body size; adds security headers to every response.

    Without keys only this machine may come, under its own names: a page of another site that points its name at
    127.0.0.1 is refused. A body must say that it is JSON, which such a page cannot do either. It is read here, within
    the limits of size and time. ``request.state.key`` is whose request it is (None without keys),
    ``request.state.deadline`` the loop time at which the answer is due.
    """

    def __init__(self, app: ASGIApp, *, config: ServeConfig):
        self._app = app
        self._config = config
        self._keys = Keys(config.api_keys)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through to the application, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        def send_secured(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                named = {name for name, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    *(field for field in SECURITY_FIELDS if field[0] not in named),
                ]
            return send(message)

        try:
            headers = Headers(scope=scope)
            if not self._config.api_keys and not _is_local(headers.get("host", "")):
                told = "without api_keys this server answers to 127.0.0.1 and localhost only"
                raise ApiError(421, told, code="host")
            state = scope.setdefault("state", {})
            state["key"] = self._check(scope["path"], scope["method"], headers)
            if scope["method"] == "POST":
                state["deadline"] = deadline = asyncio.get_running_loop().time() + self._config.deadline_s
                receive = await self._read_body(receive, headers.get("content-length", ""), deadline)
        except ApiError as error:
            await error_response(error, scope["path"])(scope, receive, send_secured)
        else:
            await self._app(scope, receive, send_secured)

    def _check(self, path: str, method: str, headers: Headers) -> ApiKey | None:
        """Whose request this is (None: no key is needed); raises `ApiError` where its headers keep it out."""
        key = self._key(path, headers) if path not in OPEN else None
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if method == "POST" and kind != "application/json":
            raise ApiError(415, "the body must be application/json", code="content_type")
        return key

    def _key(self, path: str, headers: Headers) -> ApiKey | None:
        if not self._config.api_keys:
            return None
        given = headers.getlist("authorization")
        if of_anthropic(path):  # its clients send the bare key in a field of its own
            given = given + [f"Bearer {key}" for key in headers.getlist("x-api-key")]
        key = self._keys.holder(given[0]) if len(given) == 1 else None
        if key is None:
            # A browser asks for the key of the dashboard as a password.
            scheme = {"WWW-Authenticate": 'Basic realm="confide"' if path == "/" else "Bearer"}
            raise ApiError(401, "a valid API key is needed", code="invalid_api_key", headers=scheme)
        wanted = SCOPES.get(path)
        if wanted is not None and not key.may(wanted):
            told = f"the key {key.name} lacks the scope {wanted}; it is given in api_keys of the router's configuration"
            raise ApiError(403, told, code="missing_scope")
        return key

    async def _read_body(self, receive: Receive, length: str, deadline: float) -> Receive:
        """Read the whole body, which says to be of this ``length``; returns a ``receive`` that gives it again."""
        body, more, most = bytearray(), True, self._config.limits.body_bytes
        too_large = ApiError(413, f"the body is larger than {most} bytes", code="too_large")
        if length.isdecimal() and (len(length) > 12 or int(length) > most):
            raise too_large
        try:
            async with asyncio.timeout_at(deadline):
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ApiError(400, "the body broke off", code="broken_off")
                    body += message.get("body", b"")
                    if len(body) > most:
                        raise too_large
                    more = message.get("more_body", False)
        except TimeoutError:
            raise ApiError(408, "the body did not arrive in time", code="slow_body") from None
        pending: list[Message] = [{"type": "http.request", "body": bytes(body), "more_body": False}]

        async def receive_again() -> Message:
            return pending.pop() if pending else await receive()

        return receive_again


@functools.lru_cache(maxsize=256)
def _is_local(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname
    except ValueError:
        return False
    return name is not None and is_loopback(name)
