"""How many requests are worked on at once, and what happens to the rest."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class OverloadError(Exception):
    """Too many requests are waiting already, or (``late``) no place became free in time."""

    def __init__(self, *, late: bool):
        super().__init__()
        self.late = late


class Slots:
    """``concurrency`` requests at once; ``queue`` more wait in order of arrival; others are turned away."""

    def __init__(self, concurrency: int, queue: int):
        self._free = asyncio.Semaphore(concurrency)
        self._queue = queue
        self.waiting = 0
        self.active = 0

    @asynccontextmanager
    async def hold(self, deadline: float) -> AsyncIterator[None]:
        """Hold a slot; raises `OverloadError` when the queue is full or ``deadline`` (loop time) comes first."""
        if self._free.locked():
            if self.waiting >= self._queue:
                raise OverloadError(late=False)
            self.waiting += 1
            try:
                async with asyncio.timeout_at(deadline):
                    await self._free.acquire()
            except TimeoutError:
                raise OverloadError(late=True) from None
            finally:
                self.waiting -= 1
        else:
            await self._free.acquire()
        self.active += 1
        try:
            yield
        finally:
            self.active -= 1
            self._free.release()
