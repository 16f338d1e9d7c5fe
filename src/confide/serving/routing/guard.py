"""Models behind retries with backoff, a circuit breaker and a deadline."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import AsyncGenerator, Awaitable
from contextlib import aclosing
from typing import TypeVar

from confide.engines.openai.asked import Asked
from confide.engines.openai.model_error import ModelError
from confide.engines.openai.reply import ALIVE, Delta, Model, Reply
from confide.engines.openai.server_config import Price
from confide.serving.routing.breaker import Breaker

T = TypeVar("T")

PATIENCE_S = 2.0
"""A Retry-After up to this long is waited for; a longer one sends the request to the next expert."""
_BACKOFF_S, _MOST_BACKOFF_S = 0.1, 2.0
_FAIR_SHARE = 0.25
"""A time-out counts against a model that had its own time-out, or this share of the deadline that every request has.
Less is left of it where the client was slow to send its request, or another model to answer."""


class Guarded:
    """A model under its name and price, asked with retries, a circuit breaker and a deadline.

    ``retries`` repeat failures that may pass (refused, broken off, overloaded, 5xx, malformed), after a random
    part of a doubling wait. A server that took too long is not asked again. ``deadline_s`` is what every request has
    in all.
    """

    def __init__(
        self,
        name: str,
        model: Model,
        *,
        price: Price,
        retries: int = 0,
        timeout_s: float | None = None,
        deadline_s: float = math.inf,
    ):
        self.name = name
        self.price = price
        self.breaker = Breaker(name)
        self._model = model
        self.retries = retries
        self._timeout = timeout_s
        self._fair = min(timeout_s or math.inf, _FAIR_SHARE * deadline_s)

    async def ask(self, asked: Asked) -> Reply:
        """The answer, with who gave it, its cost and its time; raises `ModelError`."""
        attempts = _Attempts(self, asked)
        try:
            while True:
                try:
                    reply = await self._in_time(self._model.ask(asked), asked)
                    return attempts.end(reply)
                except ModelError as failure:
                    wait = attempts.fail(failure)
                await asyncio.sleep(wait)
        finally:
            attempts.visit.abandon()

    async def stream(self, asked: Asked) -> AsyncGenerator[Delta | Reply]:
        """The answer in pieces, then the whole of it; retried until the first piece, after that a failure is final."""
        attempts, started = _Attempts(self, asked), False
        try:
            while True:
                try:
                    async with aclosing(self._model.stream(asked)) as items:
                        # A time limit surrounds one step only: around a yield it would strike whoever consumes this.
                        while (item := await self._in_time(anext(items, None), asked)) is not None:
                            if item is ALIVE:
                                continue
                            started = True
                            attempts.visit.heard()
                            yield attempts.end(item) if isinstance(item, Reply) else item
                    return
                except ModelError as failure:
                    wait = attempts.fail(failure, final=started)
                await asyncio.sleep(wait)
        finally:
            attempts.visit.abandon()

    async def _in_time(self, step: Awaitable[T], asked: Asked) -> T:
        now = asyncio.get_running_loop().time()
        seconds = asked.deadline - now if self._timeout is None else min(asked.deadline - now, self._timeout)
        try:
            async with asyncio.timeout_at(now + seconds):
                return await step
        except TimeoutError:
            raise ModelError("timeout", counts=seconds >= self._fair) from None


class _Attempts:
    """The attempts to get one answer from a model; raises `ModelError` where it is not to be asked."""

    def __init__(self, guarded: Guarded, asked: Asked):
        if asked.late:
            raise ModelError("timeout", counts=False)
        self._guarded = guarded
        self._asked = asked
        self._began = time.perf_counter()
        self._count = 0
        self._sick = False  # whether an attempt failed in a way that counts against the model
        self.visit = guarded.breaker.enter(asked)

    def end(self, reply: Reply) -> Reply:
        """``reply`` is the answer: note who gave it, its cost and its time."""
        reply.by = self._guarded.name
        reply.ms = 1000 * (time.perf_counter() - self._began)
        reply.cost = reply.price(self._guarded.price)
        self.visit.leave(None)
        return reply

    def fail(self, failure: ModelError, *, final: bool = False) -> float:
        """An attempt failed: the seconds until the next one; raises the failure where there is none or it is final."""
        if failure.kind == "timeout":  # one that the deadline ends also failed as it did before
            failure.counts |= self._sick
        self._sick |= failure.counts
        wait = None if final or self.visit.barred else self._wait(failure)
        if wait is None:
            self.visit.leave(failure)
            raise failure
        self._count += 1
        return wait

    def _wait(self, failure: ModelError) -> float | None:
        asked_for = failure.retry_after or 0.0
        if not failure.again or self._count == self._guarded.retries or asked_for > PATIENCE_S:
            return None
        # A random part of the whole wait, so that clients that failed together do not come back together.
        wait = max(asked_for, random.uniform(0, min(_BACKOFF_S * 2**self._count, _MOST_BACKOFF_S)))
        return wait if asyncio.get_running_loop().time() + wait < self._asked.deadline else None
