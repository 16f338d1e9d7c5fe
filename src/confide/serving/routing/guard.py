"""Models behind retries with backoff, a circuit breaker and a deadline."""

from __future__ import annotations

import asyncio
import math
import random
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from confide.serving.api_errors import ModelError
from confide.serving.config import Price
from confide.serving.routing.asked import Asked
from confide.serving.routing.breaker import Breaker, Visit
from confide.serving.routing.reply import ALIVE, Delta, Reply

PATIENCE_S = 2.0
"""A Retry-After up to this long is waited for; a longer one sends the request to the next expert."""
_BACKOFF_S, _MOST_BACKOFF_S = 0.1, 2.0
_FAIR_SHARE = 0.25
"""A time-out counts against a model that had its own time-out, or this share of the deadline that every request has.
Less is left of it where the client was slow to send its request, or another model to answer."""


class Model(ABC):
    """Something that answers: a server, a tool, or the model in this process. Every failure is a `ModelError`."""

    @abstractmethod
    async def ask(self, asked: Asked) -> Reply:
        """The whole answer."""

    async def stream(self, asked: Asked) -> AsyncGenerator[Delta | Reply]:
        """The answer in pieces, then the whole of it as the last item; all at once unless the model can stream."""
        reply = await self.ask(asked)
        for piece in reply.pieces():
            yield piece
        yield reply


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
        self._retries = retries
        self._timeout = timeout_s
        self._fair = min(timeout_s or math.inf, _FAIR_SHARE * deadline_s)

    async def ask(self, asked: Asked) -> Reply:
        """The answer, with who gave it, its cost and its time; raises `ModelError`."""
        (reply,) = [item async for item in self._visit(asked, self._answer_whole)]
        assert isinstance(reply, Reply)
        return reply

    def stream(self, asked: Asked) -> AsyncGenerator[Delta | Reply]:
        """The answer in pieces, then the whole of it; retried until the first piece, after that a failure is final."""
        return self._visit(asked, self._model.stream)

    async def _answer_whole(self, asked: Asked) -> AsyncGenerator[Delta | Reply]:
        yield await self._model.ask(asked)

    async def _visit(
        self, asked: Asked, answer: Callable[[Asked], AsyncGenerator[Delta | Reply]]
    ) -> AsyncGenerator[Delta | Reply]:
        if asked.late:
            raise ModelError("timeout", counts=False)
        began = time.perf_counter()
        visit = self.breaker.enter(asked)
        try:
            async with aclosing(self._attempts(asked, answer, visit)) as items:
                async for item in items:
                    visit.heard()
                    if isinstance(item, Reply):
                        item.by = self.name
                        item.ms = 1000 * (time.perf_counter() - began)
                        item.cost = self.price.of(item.prompt_tokens, item.completion_tokens)
                        visit.leave(None)
                    yield item
        except ModelError as failure:
            visit.leave(failure)
            raise
        finally:
            visit.abandon()

    async def _attempts(
        self, asked: Asked, answer: Callable[[Asked], AsyncGenerator[Delta | Reply]], visit: Visit
    ) -> AsyncGenerator[Delta | Reply]:
        counts = False
        for attempt in range(self._retries + 1):
            started = False
            try:
                async with aclosing(answer(asked)) as items:
                    # A timeout surrounds one step only: around a yield it would strike whoever consumes this.
                    while (item := await self._next(items, asked)) is not None:
                        if item is ALIVE:
                            continue
                        started = True
                        yield item
                return
            except ModelError as failure:
                if failure.kind == "timeout":  # one that the deadline ends also failed as it did before
                    failure.counts |= counts
                counts |= failure.counts
                wait = self._wait(attempt, failure, asked)
                if started or wait is None or visit.barred:
                    raise
            await asyncio.sleep(wait)

    async def _next(self, items: AsyncGenerator[Delta | Reply], asked: Asked) -> Delta | Reply | None:
        now = asyncio.get_running_loop().time()
        seconds = asked.deadline - now if self._timeout is None else min(asked.deadline - now, self._timeout)
        try:
            async with asyncio.timeout_at(now + seconds):
                return await anext(items, None)
        except TimeoutError:
            raise ModelError("timeout", counts=seconds >= self._fair) from None

    def _wait(self, attempt: int, failure: ModelError, asked: Asked) -> float | None:
        """Seconds until the next attempt (None: there is none)."""
        asked_for = failure.retry_after or 0.0
        if not failure.again or attempt == self._retries or asked_for > PATIENCE_S:
            return None
        # A random part of the whole wait, so that clients that failed together do not come back together.
        wait = max(asked_for, random.uniform(0, min(_BACKOFF_S * 2**attempt, _MOST_BACKOFF_S)))
        return wait if asyncio.get_running_loop().time() + wait < asked.deadline else None
