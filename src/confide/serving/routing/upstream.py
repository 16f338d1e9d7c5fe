"""OpenAI-compatible servers behind the router: one request, whole or streamed, on one shared connection pool.

Only addresses of the configuration are called: redirects are not followed, proxies of the environment are not used,
and nothing in a request names an address. What a server writes in an error is dropped, since it may echo the key.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from email.utils import parsedate_to_datetime
from time import time
from typing import Any

import aiohttp
from pydantic_core import from_json, to_json

from confide.serving.config import ServerModel
from confide.serving.http.api_errors import ModelError
from confide.serving.http.request_bodies import Asked
from confide.serving.routing.chat import Delta, Gathered, Reply, pieces_of, read_reply
from confide.serving.routing.server_logprobs import server_sources

MOST_BYTES = 32_000_000
"""The longest answer that is read; more is no answer but a fault."""

_CONNECT_S = 5.0


class Http:
    """The connection pool that all servers share; opened on first use, inside the event loop."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    @property
    def session(self) -> aiohttp.ClientSession:
        """The shared session."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=15),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                auto_decompress=True,
            )
        return self._session

    async def close(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()
            self._session = None


class Server:
    """A model on an OpenAI-compatible server.

    With ``read`` the server is asked for log-probabilities, and replies carry the free confidences computed from
    them.
    """

    def __init__(self, config: ServerModel, http: Http, *, read: bool = False):
        self._config = config
        self._http = http
        self._read = read
        self._url = f"{config.base_url}/chat/completions"
        self._headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        if (key := config.api_key()) is not None:
            self._headers["Authorization"] = f"Bearer {key.get_secret_value()}"

    async def ask(self, asked: Asked) -> Reply:
        """The whole answer; raises `ModelError`."""
        async with self._post(asked, stream=False) as response:
            return self._reply(await _body(response))

    async def stream(self, asked: Asked) -> AsyncGenerator[Delta | Reply]:
        """The answer as it comes, then the whole of it; raises `ModelError`."""
        gathered = Gathered()
        async with self._post(asked, stream=True) as response:
            if response.content_type == "application/json":  # a server that cannot stream
                reply = self._reply(await _body(response))
                for piece in pieces_of(reply):
                    yield piece
                yield reply
                return
            try:
                async for data in _events(response):
                    for delta in gathered.add(from_json(data)):
                        yield delta
                reply = gathered.reply()
            except ValueError:
                raise ModelError("malformed", again=True) from None
        yield self._with_sources(reply)

    def _reply(self, body: bytes) -> Reply:
        try:
            return self._with_sources(read_reply(from_json(body)))
        except ValueError:
            raise ModelError("malformed", again=True) from None

    def _with_sources(self, reply: Reply) -> Reply:
        return replace(reply, sources=server_sources(reply), source="logprob_sum") if self._read else reply

    def _payload(self, asked: Asked, stream: bool) -> bytes:
        body: dict[str, Any] = {**asked.options, "model": self._config.model, "messages": asked.messages}
        if self._read or asked.logprobs:
            body["logprobs"] = True
            if asked.top_logprobs is not None:
                body["top_logprobs"] = asked.top_logprobs
        if stream:
            body["stream"] = True
            body["stream_options"] = {"include_usage": True}
        return to_json(body)

    @asynccontextmanager
    async def _post(self, asked: Asked, *, stream: bool) -> AsyncIterator[aiohttp.ClientResponse]:
        # The guard around this model watches the rest of the time.
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=min(_CONNECT_S, self._config.timeout_s))
        try:
            async with self._http.session.post(
                self._url,
                data=self._payload(asked, stream),
                headers=self._headers,
                allow_redirects=False,
                timeout=timeout,
            ) as response:
                if response.status != 200:
                    raise _failure(response)
                yield response
        except aiohttp.ServerTimeoutError:
            raise ModelError("timeout") from None
        except aiohttp.ClientConnectorError:
            raise ModelError("refused", again=True) from None
        except (aiohttp.ClientError, ConnectionError):
            raise ModelError("broken", again=True) from None


def _failure(response: aiohttp.ClientResponse) -> ModelError:
    status, retry_after = response.status, _retry_after(response.headers.get("Retry-After"))
    if 300 <= status < 400:
        return ModelError("redirected")
    if status in (401, 403):
        return ModelError("unauthorized")
    if status == 429:
        return ModelError("rate_limited", again=True, retry_after=retry_after)
    if status in (408, 425) or status >= 500:
        return ModelError("server_error", again=True, retry_after=retry_after)
    return ModelError("rejected", counts=False)


def _retry_after(value: str | None) -> float | None:
    """Seconds to wait, from a number or a date."""
    if value is None:
        return None
    if re.fullmatch(r"\d{1,9}(\.\d+)?", value.strip()):
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time())
    except (ValueError, OverflowError):
        return None


async def _body(response: aiohttp.ClientResponse) -> bytes:
    found: list[bytes] = []
    size = 0
    async for data in response.content.iter_any():
        size += len(data)
        if size > MOST_BYTES:
            raise ModelError("malformed")
        found.append(data)
    return b"".join(found)


async def _events(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """The data of each server-sent event up to ``[DONE]``."""
    held, size = b"", 0
    async for data in response.content.iter_any():
        size += len(data)
        if size > MOST_BYTES:
            raise ModelError("malformed")
        *lines, held = (held + data).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                event = line[5:].strip()
                if event == b"[DONE]":
                    return
                if event:
                    yield event
    # Some servers end without [DONE] or without the last line's end.
    if held.startswith(b"data:") and (event := held[5:].strip()) not in (b"", b"[DONE]"):
        yield event
