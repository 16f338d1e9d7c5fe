"""Requests whose answers are looked at as they come, status and body, and not read as a reply of a model."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import aiohttp
from pydantic_core import from_json, to_json

from confide.engines.openai.model_error import ModelError
from confide.engines.openai.request_fields import as_sent
from confide.engines.openai.server_config import ServerModel
from confide.engines.openai.upstream import Http, connection_failures, retry_after

ATTEMPTS = 3
"""How often a request that the server has no time for is sent."""

_LATER = frozenset({429, 503})
_FIRST_WAIT_S, _MOST_WAIT_S = 1.0, 20.0
_MOST_BYTES = 4_000_000
_LONGEST_NAME = 128
_CONNECT_S = 5.0
_LOOK_S = 5.0
"""How long a page beside the API may take."""


@dataclass(frozen=True)
class Told:
    """What a server answered: its status, the body as bytes, and how long it wants to be left alone, in seconds."""

    status: int
    body: bytes
    retry_after: float | None = None

    @cached_property
    def data(self) -> dict[str, Any]:
        """The JSON object in the body ({} where it is none)."""
        try:
            data = from_json(self.body)
        except ValueError:
            return {}
        return data if isinstance(data, dict) else {}

    @property
    def taken(self) -> bool:
        """Whether the request was answered and not refused; some servers tell an error under status 200."""
        return self.status == 200 and not self.data.get("error") and self.data.get("object") != "error"


class BareRequests:
    """Asks one server; raises `ModelError` for what gets no answer (``refused``, ``broken``, ``timeout``).

    Redirects are not followed, and the key goes to nothing but the server of the base URL. Raises `ConfideError` for a
    key that is missing or cannot be sent.
    """

    def __init__(self, config: ServerModel, http: Http):
        self._config = config
        self._http = http
        self._headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        key = config.api_key()
        self._key = "" if key is None else key.get_secret_value()

    async def post(self, path: str, body: dict[str, Any]) -> Told:
        """Send ``body`` to a path below the base URL, again where the server has no time for it."""
        return await self._send(f"{self._config.base_url}/{path}", as_sent(self._config, body))

    async def post_beside(self, path: str, body: dict[str, Any]) -> Told:
        """The same with a path of the server's own, beside the API and not below ``/v1``."""
        return await self._send(f"{self._config.root}/{path}", body)

    async def _send(self, url: str, body: dict[str, Any]) -> Told:
        data, wait = to_json(body), _FIRST_WAIT_S
        for attempt in range(1, ATTEMPTS + 1):
            told = await self._ask("POST", url, self._config.timeout_s, data)
            if told.status not in _LATER or attempt == ATTEMPTS:
                break
            await asyncio.sleep(min(max(wait, told.retry_after or 0.0), _MOST_WAIT_S))
            wait *= 2
        return told

    async def look(self, url: str) -> Told:
        """Read a page, with the key where it lies below the base URL."""
        return await self._ask("GET", url, min(_LOOK_S, self._config.timeout_s))

    async def _ask(self, method: str, url: str, timeout_s: float, data: bytes | None = None) -> Told:
        ours = data is not None or f"{url}/".startswith(f"{self._config.base_url}/")
        headers = self._headers | ({"Authorization": f"Bearer {self._key}"} if self._key and ours else {})
        limits = aiohttp.ClientTimeout(total=None, sock_connect=min(_CONNECT_S, timeout_s))
        try:
            async with asyncio.timeout(timeout_s):
                with connection_failures():
                    async with self._http.session.request(
                        method, url, data=data, headers=headers, allow_redirects=False, timeout=limits
                    ) as response:
                        body = b""
                        async for piece in response.content.iter_any():
                            body += piece
                            if len(body) > _MOST_BYTES:
                                break
                        return Told(response.status, body, retry_after(response.headers.get("Retry-After")))
        except TimeoutError:
            raise ModelError("timeout") from None

    def shown(self, value: Any) -> str:
        """A name that the server gave as it may be shown: without the key, on one line, of a bounded length.

        What is no text is "".
        """
        text = value if isinstance(value, str) else ""
        text = text.replace(self._key, "***") if self._key else text
        return "".join(char if char.isprintable() else "?" for char in text)[:_LONGEST_NAME]
