"""Whatever answers is asked with patience and suspicion: retries with backoff, a circuit breaker, a deadline."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Protocol

from confide.serving.config import Price
from confide.serving.http.api_errors import ModelError
from confide.serving.http.request_bodies import Asked
from confide.serving.routing.chat import Delta, Reply, pieces_of

log = logging.getLogger("confide.serving")

PATIENCE_S = 2.0
"""A Retry-After up to this long is waited for; a longer one sends the request to the next expert."""
MOST_REST_S = 60.0
_BACKOFF_S, _MOST_BACKOFF_S = 0.1, 2.0
_FAIR_S = 5.0
_ANSWERED = frozenset({"rejected", "empty", "no_answer"})
"""Failures of a server that is well: it answered, only not with what was wanted."""


class Model(Protocol):
    """Something that answers; every failure is a `ModelError`."""

    async def ask(self, asked: Asked) -> Reply:
        """The whole answer."""
        ...

    def stream(self, asked: Asked) -> AsyncGenerator[Delta | Reply]:
        """The answer in pieces, then the whole of it as the last item."""
        ...


async def in_one_piece(model: Model, asked: Asked) -> AsyncGenerator[Delta | Reply]:
    """The stream of a model that cannot stream: the whole answer at once, cut into pieces."""
    reply = await model.ask(asked)
    for piece in pieces_of(reply):
        yield piece
    yield reply


class Breaker:
    """Stops asking a server that keeps failing, and tries it again with one request at a time.

    ``failures`` in a row open it for ``rest_s`` seconds, twice as long each time a trial fails, up to
    `MOST_REST_S`.
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
        """Before asking; raises `ModelError` ("resting") when the server is not to be asked now."""
        state = self.state
        if state == "open" or (state == "half_open" and self._trial):
            raise ModelError("resting", counts=False, retry_after=max(0.0, self._until - self._clock()))
        self._trial = state == "half_open"

    def leave(self, failure: ModelError | None) -> None:
        """After asking, with the failure if there was one that counts or a Retry-After."""
        self._trial = False
        if failure is None or failure.kind in _ANSWERED:
            self._failures, self._rest = 0, self._first_rest
            return
        # What was under way when the breaker opened fails with it, and is no reason to rest longer.
        if failure.counts and self.state != "open":
            self._failures += 1
            if self._failures >= self._most:
                self.rest(self._rest)
                self._rest = min(2 * self._rest, MOST_REST_S)
        if failure.retry_after is not None and failure.retry_after > PATIENCE_S:
            self.rest(failure.retry_after)

    def abandon(self) -> None:
        """After a request that ended for a reason of its own (its client hung up)."""
        self._trial = False

    def rest(self, seconds: float) -> None:
        """Do not ask for this long."""
        if self.state != "open":
            log.warning("%s rests for %.0f s", self.name, min(seconds, MOST_REST_S))
        self._until = max(self._until, self._clock() + min(seconds, MOST_REST_S))


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
        stream = self._attempts(asked, whole=True)
        async with aclosing(stream):
            async for item in stream:
                if isinstance(item, Reply):
                    return item
        raise ModelError("malformed")

    def stream(self, asked: Asked) -> AsyncGenerator[Delta | Reply]:
        """The answer in pieces, then the whole of it; retried until the first piece, after that a failure is final."""
        return self._attempts(asked, whole=False)

    async def _attempts(self, asked: Asked, *, whole: bool) -> AsyncGenerator[Delta | Reply]:
        began = time.perf_counter()
        for attempt in range(self._retries + 1):
            started = False
            if asyncio.get_running_loop().time() >= asked.deadline:
                raise ModelError("timeout", counts=False)
            self.breaker.enter()
            try:
                source = self._whole(asked) if whole else self._model.stream(asked)
                async with aclosing(source):
                    # Timeouts surround single steps: one around a yield would strike whoever consumes this.
                    while (item := await self._next(source, asked)) is not None:
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

    async def _whole(self, asked: Asked) -> AsyncGenerator[Delta | Reply]:
        yield await self._model.ask(asked)

    async def _next(self, source: AsyncGenerator[Delta | Reply], asked: Asked) -> Delta | Reply | None:
        now = asyncio.get_running_loop().time()
        room = asked.deadline - now if self._timeout is None else min(asked.deadline - now, self._timeout)
        try:
            async with asyncio.timeout_at(now + room):
                return await anext(source, None)
        except TimeoutError:
            # A server that got only what others had left of the deadline is not to blame.
            fair = room >= min(_FAIR_S, self._timeout or _FAIR_S)
            raise ModelError("timeout", counts=fair) from None

    def _wait(self, attempt: int, failure: ModelError, asked: Asked) -> float | None:
        """Seconds until the next attempt (None: there is none)."""
        if not failure.again or attempt == self._retries:
            return None
        # Full jitter: clients that failed together do not come back together.
        wait = random.uniform(0, min(_BACKOFF_S * 2**attempt, _MOST_BACKOFF_S))
        if failure.retry_after is not None:
            if failure.retry_after > PATIENCE_S:
                return None
            wait = max(wait, failure.retry_after)
        return wait if asyncio.get_running_loop().time() + wait < asked.deadline else None
