"""Asks a server many things at once and takes the time; what is asked may take several requests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp

from benchmarks.common import Json

LATEST_S = 120


class Client:
    """Connections to one server."""

    def __init__(self, session: aiohttp.ClientSession, url: str, key: str = ""):
        self._session = session
        self._url = url
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}

    async def post(self, path: str, body: Json) -> Json:
        """The reply to a request; raises `RuntimeError` for one that is refused."""
        async with self._session.post(self._url + path, json=body, headers=self._headers) as reply:
            if reply.status != 200:
                raise RuntimeError(f"{self._url}{path}: {reply.status} {(await reply.text())[:300]}")
            told: Json = await reply.json(content_type=None)
            return told

    async def chat(self, body: Json) -> Json:
        """A chat completion."""
        return await self.post("/v1/chat/completions", body)


Ask = Callable[[Client], Awaitable[Any]]
"""One thing to ask, in one request or several."""


@dataclass(frozen=True)
class Round:
    """What came back, in the order of what was asked; latency counts from when it was sent."""

    replies: list[Any]
    latency_ms: list[float]
    seconds: float


def ask_all(url: str, asks: Sequence[Ask], at_once: int, key: str = "") -> Round:
    """Ask everything, ``at_once`` of it at any time."""
    return asyncio.run(_run(url, key, asks, at_once))


async def _run(url: str, key: str, asks: Sequence[Ask], at_once: int) -> Round:
    places = asyncio.Semaphore(at_once)
    limit = aiohttp.ClientTimeout(total=LATEST_S)
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=60)
    async with aiohttp.ClientSession(timeout=limit, connector=connector) as session:
        client = Client(session, url, key)
        began = time.perf_counter()

        async def one(ask: Ask) -> tuple[Any, float]:
            async with places:
                asked = time.perf_counter()
                return await ask(client), 1000 * (time.perf_counter() - asked)

        found = await asyncio.gather(*map(one, asks))
        seconds = time.perf_counter() - began
    replies, latency = map(list, zip(*found, strict=True))
    return Round(replies, latency, seconds)
