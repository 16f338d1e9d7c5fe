"""An annotation through an endpoint that fails a fifth of all requests: is every question answered exactly once?

A proxy in front of vLLM turns requests away (429), fails (500), resets the connection, or says nothing until the
client gives up, each 5 % of them, drawn with a seed. `confide annotate` runs as users run it, and a second time, which
has nothing left to ask. What counts is how often a whole answer to each question went out.
"""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import aiohttp
from aiohttp import web

from app_thread import app_in_thread
from benchmarks.common import Json
from benchmarks.engines.prepared import Prepared
from confide.records import read_records

FAILURES = ("429", "500", "reset", "stall")
SHARE = 0.2
TIMEOUT_S = 10.0


@dataclass
class FailingProxy:
    """In front of the server at ``url``; ``failed`` and ``answered`` count what came of the requests."""

    url: str
    seed: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._draw = random.Random(self.seed)

    async def chat(self, request: web.Request) -> web.StreamResponse:
        """Pass a chat on, or fail."""
        body = await request.read()
        if self._draw.random() < SHARE:
            how = self._draw.choice(FAILURES)
            self.failed[how] += 1
            return await self.fail(request, how)
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{self.url}{request.path}", data=body, headers={"Content-Type": "application/json"}) as reply,
        ):
            told = await reply.read()
        response = web.Response(body=told, status=reply.status, content_type="application/json")
        await response.prepare(request)
        await response.write_eof()
        if reply.status == 200:
            self.answered[json.dumps(json.loads(body)["messages"])] += 1
        return response

    async def fail(self, request: web.Request, how: str) -> web.StreamResponse:
        """One way to fail."""
        if how == "stall":
            await asyncio.sleep(10 * TIMEOUT_S)
        if how in ("stall", "reset"):
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        headers = {"Retry-After": "0"} if how == "429" else {}
        return web.json_response({"error": {"message": how}}, status=int(how), headers=headers)

    async def page(self, request: web.Request) -> web.Response:
        """Pass a page on."""
        async with aiohttp.ClientSession() as session, session.get(f"{self.url}{request.path}") as reply:
            return web.Response(body=await reply.read(), status=reply.status, content_type="application/json")

    @contextmanager
    def running(self) -> Iterator[str]:
        """Serve in a thread of its own; yields the address."""
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self.chat)
        app.router.add_get("/{path:.*}", self.page)
        with app_in_thread(app) as (_, address):
            yield f"{address}/v1"


def measure(prepared: Prepared) -> Json:
    """One annotation."""
    return prepared.stage("failing-endpoint", partial(annotation, prepared))


def annotation(prepared: Prepared) -> Json:
    """Annotate, and count."""
    count = 30 if prepared.quick else 300
    out = prepared.folder / "failing.jsonl"
    out.unlink(missing_ok=True)
    with prepared.up("plain") as server:
        proxy = FailingProxy(server.url)
        with proxy.running() as address:
            command = [
                sys.executable,
                "-m",
                "confide.cli.main",
                "annotate",
                "--engine",
                "openai",
                "--base-url",
                address,
            ]
            command += ["--model", "m", "--task", "geography", "--limit", str(count), "--out", str(out)]
            command += ["--timeout-s", str(TIMEOUT_S), "--concurrency", "16"]
            began = time.monotonic()
            codes = [subprocess.run(command).returncode for _ in range(2)]
            seconds = time.monotonic() - began
    records = read_records(out)
    questions = Counter(json.dumps([m.model_dump(exclude_none=True) for m in r.messages]) for r in records)
    answered = {text: proxy.answered[text] for text in questions}
    return {
        "n": count,
        "records": len(records),
        "different": len({record.id for record in records}),
        "without_answer": sum(record.answer == "" for record in records),
        "answered_twice": sum(times > 1 for times in answered.values()),
        "exit_codes": codes,
        "failed": dict(proxy.failed),
        "requests": sum(proxy.failed.values()) + sum(proxy.answered.values()),
        "seconds": seconds,
    }
