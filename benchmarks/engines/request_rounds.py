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
    """What came back, in the order of what was asked; ``due_s`` counts from the start of the round."""

    replies: list[Any]
    due_s: list[float]
    latency_ms: list[float]
    seconds: float


def ask_all(url: str, asks: Sequence[Ask], at_once: int, key: str = "") -> Round:
    """Ask everything, ``at_once`` of it at any time."""
    return asyncio.run(_run(url, key, asks, None, at_once))


def ask_at(url: str, asks: Sequence[Ask], due_s: Sequence[float], key: str = "") -> Round:
    """Ask each at its time, whatever comes back; latency counts from when it was due."""
    return asyncio.run(_run(url, key, asks, due_s, len(asks)))


async def _run(url: str, key: str, asks: Sequence[Ask], due_s: Sequence[float] | None, at_once: int) -> Round:
    places = asyncio.Semaphore(at_once)
    limit = aiohttp.ClientTimeout(total=LATEST_S)
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=60)
    async with aiohttp.ClientSession(timeout=limit, connector=connector) as session:
        client = Client(session, url, key)
        began = time.perf_counter()

        async def one(number: int) -> tuple[Any, float, float]:
            if due_s is not None:
                await asyncio.sleep(max(0.0, began + due_s[number] - time.perf_counter()))
            async with places:
                asked = time.perf_counter() if due_s is None else began + due_s[number]
                reply = await asks[number](client)
                return reply, asked - began, 1000 * (time.perf_counter() - asked)

        found = await asyncio.gather(*(one(number) for number in range(len(asks))))
        seconds = time.perf_counter() - began
    replies, due, latency = map(list, zip(*found, strict=True))
    return Round(replies, due, latency, seconds)
