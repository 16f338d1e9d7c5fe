"""How many requests are worked on at once, how many more may wait, and the error for the rest."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from confide.serving.api_errors import ApiError


class Slots:
    """``concurrency`` requests at once; ``queue`` more wait in order of arrival; others are turned away.

    ``count_overload`` is called for each that is turned away.
    """

    def __init__(self, concurrency: int, queue: int, count_overload: Callable[[], None]):
        self._free = asyncio.Semaphore(concurrency)
        self._queue = queue
        self._count_overload = count_overload
        self.waiting = 0
        self.active = 0

    @asynccontextmanager
    async def hold(self, deadline: float) -> AsyncIterator[None]:
        """Hold a slot; raises `ApiError` when the queue is full or ``deadline`` (loop time) comes first."""
        if self._free.locked() and self.waiting >= self._queue:
            self._count_overload()
            raise ApiError(503, "too many requests are waiting", code="overloaded", retry_after=1)
        if self._free.locked():
            await self._wait(deadline)
        else:
            await self._free.acquire()
        self.active += 1
        try:
            yield
        finally:
            self.active -= 1
            self._free.release()

    async def _wait(self, deadline: float) -> None:
        """Take a slot when one becomes free."""
        self.waiting += 1
        try:
            async with asyncio.timeout_at(deadline):
                await self._free.acquire()
        except TimeoutError:
            self._count_overload()
            message = "no place became free within the deadline"
            raise ApiError(504, message, code="deadline", retry_after=1) from None
        finally:
            self.waiting -= 1
