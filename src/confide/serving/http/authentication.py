"""Who may use the router: API keys as hashes, and the gate in front of every route that asks for one."""

from __future__ import annotations

import asyncio
import base64
import functools
import hmac
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from confide.errors import ConfideError
from confide.hashing import sha256_of_text
from confide.serving.api_errors import ApiError
from confide.serving.config import ServeConfig, is_loopback

MIN_LENGTH = 20  # of a key: a fast hash protects only what cannot be guessed
OPEN = frozenset({"/healthz", "/readyz"})  # paths for load balancers and service managers: they need no key
SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def hash_key(key: str) -> str:
    """The hash of a key, as it stands in ``api_keys``; raises `ConfideError` for one that could be guessed."""
    if len(key) < MIN_LENGTH or not key.isascii() or not key.isprintable() or " " in key:
        raise ConfideError(f"a key has {MIN_LENGTH} or more ASCII characters without spaces (openssl rand -hex 24)")
    return f"sha256:{sha256_of_text(key)}"


class Keys:
    """The hashes of the keys that may use the router; without any, every request may."""

    def __init__(self, hashes: Iterable[str]):
        self._hashes = [hashed.encode() for hashed in hashes]

    def allow(self, authorization: str | None) -> bool:
        """Whether an ``Authorization`` header (Bearer, or Basic with the key as password) carries a known key."""
        presented = f"sha256:{sha256_of_text(_key_in(authorization or ''))}".encode()
        # Every hash is compared, so the time taken does not tell which one was close.
        matches = [hmac.compare_digest(hashed, presented) for hashed in self._hashes]
        return any(matches) or not self._hashes


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
    the limits of size and time. ``request.state.deadline`` is the loop time at which the answer is due.
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

        async def send_secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            headers = Headers(scope=scope)
            self._check(scope["path"], scope["method"], headers)
            if scope["method"] == "POST":
                deadline = asyncio.get_running_loop().time() + self._config.deadline_s
                scope.setdefault("state", {})["deadline"] = deadline
                receive = await self._read_body(receive, headers.get("content-length", ""), deadline)
        except ApiError as error:
            await error.response()(scope, receive, send_secured)
        else:
            await self._app(scope, receive, send_secured)

    def _check(self, path: str, method: str, headers: Headers) -> None:
        """Raise `ApiError` for a request whose headers say that it may not come in."""
        if not self._config.api_keys and not _is_local(headers.get("host", "")):
            raise ApiError(421, "without api_keys this server answers to 127.0.0.1 and localhost only", code="host")
        if path not in OPEN and not self._keys.allow(headers.get("authorization")):
            # A browser asks for the key of the dashboard as a password.
            scheme = {"WWW-Authenticate": 'Basic realm="confide"' if path == "/" else "Bearer"}
            raise ApiError(401, "a valid API key is needed", code="invalid_api_key", headers=scheme)
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if method == "POST" and kind != "application/json":
            raise ApiError(415, "the body must be application/json", code="content_type")

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
