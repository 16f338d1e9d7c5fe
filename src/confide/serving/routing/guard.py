"""Models behind retries with backoff, a circuit breaker and a deadline."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from confide.serving.api_errors import ModelError
from confide.serving.config import Price
from confide.serving.routing.asked import Asked
from confide.serving.routing.reply import ALIVE, Delta, Reply

log = logging.getLogger("confide.serving")

PATIENCE_S = 2.0
"""A Retry-After up to this long is waited for; a longer one sends the request to the next expert."""
MOST_REST_S = 60.0
_BACKOFF_S, _MOST_BACKOFF_S = 0.1, 2.0
_FAIR_S = 5.0
"""A time-out counts against the server when it had this long, or as long as its own time-out."""
_ANSWERED = frozenset({"rejected", "empty", "no_answer"})
"""Failures of a healthy server: it answered, only not with what was wanted."""


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


class Breaker:
    """Stops asking a server that keeps failing, then tries it again with one request at a time.

    After ``failures`` in a row the server rests for ``rest_s`` seconds, and twice as long after each trial that
    fails, up to `MOST_REST_S`.
    """

    def __init__(
        self, name: str, *, failures: int = 5, rest_s: float = 2.0, clock: Callable[[], float] = time.monotonic
    ):
        self.name = name
        self._most = failures
        self._first_rest = rest_s
        self._clock = clock
        self._failures = 0
        self._rest = rest_s
        self._until = 0.0
        self._trial = False

    @property
    def state(self) -> str:
        """``closed`` (asked), ``open`` (resting) or ``half_open`` (to be tried)."""
        if self._clock() < self._until:
            return "open"
        return "half_open" if self._failures >= self._most else "closed"

    def enter(self) -> None:
        """Call before asking; raises `ModelError` ("resting") when the server is not to be asked now."""
        state = self.state
        if state == "open" or (state == "half_open" and self._trial):
            raise ModelError("resting", counts=False, retry_after=max(0.0, self._until - self._clock()))
        self._trial = state == "half_open"

    def leave(self, failure: ModelError | None) -> None:
        """Call after asking, with the failure if there was one."""
        self._trial = False
        if failure is None or failure.kind in _ANSWERED:
            self._failures, self._rest = 0, self._first_rest
            return
        # Requests that were under way when the breaker opened fail with it; they are no reason to rest longer.
        if failure.counts and self.state != "open":
            self._failures += 1
            if self._failures >= self._most:
                self._rest_for(self._rest)
                self._rest = min(2 * self._rest, MOST_REST_S)
        if failure.retry_after is not None and failure.retry_after > PATIENCE_S:
            self._rest_for(failure.retry_after)

    def abandon(self) -> None:
        """Call after a request that ended for another reason (its client hung up): it says nothing of the server."""
        self._trial = False

    def _rest_for(self, seconds: float) -> None:
        seconds = min(seconds, MOST_REST_S)
        if self.state != "open":
            log.warning("%s rests for %.0f s", self.name, seconds)
        self._until = max(self._until, self._clock() + seconds)


class Guarded:
    """A model under its name and price, asked with retries, a circuit breaker and a deadline.

    ``retries`` repeat failures that may pass (refused, broken off, overloaded, 5xx, malformed), after a random
    part of a doubling wait. A server that took too long is not asked again.
    """

    def __init__(self, name: str, model: Model, *, price: Price, retries: int = 0, timeout_s: float | None = None):
        self.name = name
        self.price = price
        self.breaker = Breaker(name)
        self._model = model
        self._retries = retries
        self._timeout = timeout_s

    async def ask(self, asked: Asked) -> Reply:
        """The answer, with who gave it, its cost and its time; raises `ModelError`."""
        (reply,) = [item async for item in self._attempts(asked, self._answer_whole)]
        assert isinstance(reply, Reply)
        return reply

    def stream(self, asked: Asked) -> AsyncGenerator[Delta | Reply]:
        """The answer in pieces, then the whole of it; retried until the first piece, after that a failure is final."""
        return self._attempts(asked, self._model.stream)

    async def _answer_whole(self, asked: Asked) -> AsyncGenerator[Delta | Reply]:
        yield await self._model.ask(asked)

    async def _attempts(
        self, asked: Asked, answer: Callable[[Asked], AsyncGenerator[Delta | Reply]]
    ) -> AsyncGenerator[Delta | Reply]:
        began = time.perf_counter()
        for attempt in range(self._retries + 1):
            started = False
            if asked.late:
                raise ModelError("timeout", counts=False)
            self.breaker.enter()
            try:
                async with aclosing(answer(asked)) as items:
                    # A timeout surrounds one step only: around a yield it would strike whoever consumes this.
                    while (item := await self._next(items, asked)) is not None:
                        if item is ALIVE:
                            continue
                        started = True
                        if isinstance(item, Reply):
                            item.by = self.name
                            item.ms = 1000 * (time.perf_counter() - began)
                            item.cost = self.price.of(item.prompt_tokens, item.completion_tokens)
                            self.breaker.leave(None)
                        yield item
                return
            except ModelError as failure:
                self.breaker.leave(failure)
                wait = self._wait(attempt, failure, asked)
                if started or wait is None:
                    raise
            except BaseException:
                self.breaker.abandon()
                raise
            await asyncio.sleep(wait)

    async def _next(self, items: AsyncGenerator[Delta | Reply], asked: Asked) -> Delta | Reply | None:
        now = asyncio.get_running_loop().time()
        seconds = asked.deadline - now if self._timeout is None else min(asked.deadline - now, self._timeout)
        try:
            async with asyncio.timeout_at(now + seconds):
                return await anext(items, None)
        except TimeoutError:
            fair = seconds >= min(_FAIR_S, self._timeout or _FAIR_S)
            raise ModelError("timeout", counts=fair) from None

    def _wait(self, attempt: int, failure: ModelError, asked: Asked) -> float | None:
        """Seconds until the next attempt (None: there is none)."""
        asked_for = failure.retry_after or 0.0
        if not failure.again or attempt == self._retries or asked_for > PATIENCE_S:
            return None
        # A random part of the whole wait, so that clients that failed together do not come back together.
        wait = max(asked_for, random.uniform(0, min(_BACKOFF_S * 2**attempt, _MOST_BACKOFF_S)))
        return wait if asyncio.get_running_loop().time() + wait < asked.deadline else None
