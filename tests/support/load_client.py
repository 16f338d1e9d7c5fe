"""A light load generator: keep-alive connections on a raw protocol, so that it takes little of the machine.

    python tests/support/load_client.py open --port 9100 --rate 50 --seconds 20 --out open.json
    python tests/support/load_client.py closed --port 9100 --clients 64 --seconds 10 --out closed.json

``open`` sends at the times of a Poisson process, whatever comes back, and counts latency from the time at which a
request was due (no coordinated omission). ``closed`` keeps so many clients busy. Every request carries a mark of
its own that the answer must repeat.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)


class BrokenError(ConnectionError):
    """The connection ended before the response did."""


class Protocol(asyncio.Protocol):
    """The far end writes HTTP/1.1 responses; `exchange` sends one request and waits for the whole response."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.data = bytearray()
        self.open = True
        self.whole: asyncio.Future[tuple[int, bytes, bytes]] | None = None
        self.extra = 0  # bytes that nobody asked for
        self._forget()

    def _forget(self) -> None:
        self.head: bytes | None = None
        self.need = -1  # body bytes; -1: chunked

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        self.open = False
        if self.whole and not self.whole.done():
            self.whole.set_exception(BrokenError("connection lost inside a response"))

    def data_received(self, data: bytes) -> None:
        if self.whole is None or self.whole.done():
            self.extra += len(data)
            return
        self.data += data
        if self.head is None:
            end = self.data.find(b"\r\n\r\n")
            if end < 0:
                return
            self.head = bytes(self.data[:end])
            del self.data[: end + 4]
            length = _LENGTH.search(self.head)
            self.need = -1 if _CHUNKED.search(self.head) else int(length[1]) if length else 0
        if self.need >= 0:
            if len(self.data) >= self.need:
                self._finish(bytes(self.data[: self.need]), self.need)
        elif self.data.endswith(b"0\r\n\r\n") and (body := unchunked(self.data)) is not None:
            self._finish(body, len(self.data))

    def _finish(self, body: bytes, used: int) -> None:
        assert self.head is not None
        assert self.whole is not None
        self.extra += len(self.data) - used
        self.data.clear()
        head = self.head
        self._forget()
        if _CLOSE.search(head):
            self.open = False
        self.whole.set_result((int(head[9:12]), head, body))

    async def exchange(self, request: bytes) -> tuple[int, bytes, bytes]:
        """Status, head and body of the response to ``request``; `BrokenError` where the connection ended first."""
        if not self.open:
            raise BrokenError("connection closed")
        self.whole = self.loop.create_future()
        self.transport.write(request)
        return await self.whole


def unchunked(data: bytes | bytearray) -> bytes | None:
    """The body inside a chunked one; None while it is not whole."""
    parts: list[bytes] = []
    at = 0
    while True:
        line = data.find(b"\r\n", at)
        if line < 0:
            return None
        size = int(data[at:line].split(b";")[0], 16)
        if size == 0:
            return b"".join(parts)
        parts.append(bytes(data[line + 2 : line + 2 + size]))
        at = line + 4 + size
        if at > len(data):
            return None


@dataclass(frozen=True)
class Target:
    """Where requests go, and what is the same in all of them."""

    port: int
    model: str = "small"
    key: str = ""
    path: str = "/v1/chat/completions"

    def request(self, mark: str, *, unsure: bool = False, stream: bool = False) -> bytes:
        """The bytes of one chat request, ending in ``mark``."""
        asked: dict[str, Any] = {
            "model": self.model,
            "messages": [
                {"role": "system", "content": "Answer with the name only."},
                {"role": "user", "content": f"In which country is the city {'unsure ' if unsure else ''}{mark}"},
            ],
            "temperature": 0,
            "max_tokens": 32,
        }
        if stream:
            asked["stream"] = True
        body = json.dumps(asked).encode()
        head = f"POST {self.path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nContent-Type: application/json\r\n"
        head += f"Authorization: Bearer {self.key}\r\n" if self.key else ""
        return f"{head}X-Request-Id: {mark}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body

    async def connect(self) -> Protocol:
        """A new connection."""
        loop = asyncio.get_running_loop()
        _, protocol = await loop.create_connection(Protocol, "127.0.0.1", self.port)
        return protocol


@dataclass
class Tally:
    """What came back; latencies in milliseconds, ``due`` in seconds since the start."""

    latency_ms: list[float] = field(default_factory=list)
    due_s: list[float] = field(default_factory=list)
    failed: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    extra_bytes: int = 0

    def fail(self, why: str) -> None:
        self.failed[why] = self.failed.get(why, 0) + 1

    def judge(self, status: int, body: bytes, mark: str) -> bool:
        """Whether the response is whole, 200 and the asker's own; a failure is counted."""
        right = status == 200 and mark.encode() in body
        if not right:
            self.fail(f"status {status}" if status != 200 else "not its own answer")
        return right


def marks() -> Iterator[str]:
    """Names for requests, never the same twice, also between runs."""
    run = f"{random.getrandbits(48):012x}"
    return (f"m{run}-{number}" for number in itertools.count())


async def open_loop(
    target: Target, rate: float, seconds: float, *, seed: int, unsure: float = 0.0, streams: float = 0.0
) -> Tally:
    """Requests at the times of a Poisson process of ``rate`` a second; latency counts from the time due.

    ``unsure`` and ``streams`` are the shares of questions that escalate and of streamed answers.
    """
    draw = random.Random(seed)
    loop = asyncio.get_running_loop()
    tally, idle, names = Tally(), [await target.connect() for _ in range(8)], marks()
    tasks: set[asyncio.Task[None]] = set()

    async def one(due: float, request: bytes, mark: str) -> None:
        while idle and not idle[-1].open:
            idle.pop()
        try:
            connection = idle.pop() if idle else await target.connect()
            status, _, body = await asyncio.wait_for(connection.exchange(request), 60)
        except (OSError, TimeoutError) as error:
            tally.fail(type(error).__name__)
            return
        took = loop.time() - due
        if tally.judge(status, body, mark):
            tally.latency_ms.append(took * 1000)
            tally.due_s.append(due - began)
        idle.append(connection)

    began = due = loop.time() + 0.05
    while (due := due + draw.expovariate(rate)) < began + seconds:
        mark = next(names)
        request = target.request(mark, unsure=draw.random() < unsure, stream=draw.random() < streams)
        if (wait := due - loop.time()) > 0:
            await asyncio.sleep(wait)
        task = loop.create_task(one(due, request, mark))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)
    tally.seconds = loop.time() - began
    for connection in idle:
        tally.extra_bytes += connection.extra
        connection.transport.close()
    return tally


async def closed_loop(target: Target, clients: int, seconds: float) -> Tally:
    """``clients`` connections, each with one request under way at any time."""
    loop = asyncio.get_running_loop()
    tally, names = Tally(), marks()
    connections = [await target.connect() for _ in range(clients)]
    began = loop.time()

    async def client(connection: Protocol) -> None:
        while (sent := loop.time()) < began + seconds:
            mark = next(names)
            try:
                status, _, body = await asyncio.wait_for(connection.exchange(target.request(mark)), 60)
            except (OSError, TimeoutError) as error:
                tally.fail(type(error).__name__)
                connection = await target.connect()
                continue
            if tally.judge(status, body, mark):
                tally.latency_ms.append((loop.time() - sent) * 1000)
                tally.due_s.append(sent - began)
            if not connection.open:
                connection = await target.connect()
        tally.extra_bytes += connection.extra
        connection.transport.close()

    await asyncio.gather(*(client(connection) for connection in connections))
    tally.seconds = loop.time() - began
    return tally


def main() -> None:
    import uvloop

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("how", choices=["open", "closed"])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--key", default="")
    parser.add_argument("--rate", type=float, default=50.0)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--unsure", type=float, default=0.0, help="share of questions that escalate")
    parser.add_argument("--streams", type=float, default=0.0, help="share of streamed answers")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    target = Target(given.port, key=given.key)
    began = time.process_time()
    work = (
        open_loop(target, given.rate, given.seconds, seed=given.seed, unsure=given.unsure, streams=given.streams)
        if given.how == "open"
        else closed_loop(target, given.clients, given.seconds)
    )
    tally = uvloop.run(work)
    made = vars(tally) | {"cpu_seconds": time.process_time() - began}
    given.out.write_text(json.dumps(made), encoding="utf-8")


if __name__ == "__main__":
    main()
