"""An event loop in a thread of its own, for code that waits for many requests at once and is not asynchronous."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")
_END = object()


class BackgroundLoop:
    """Runs coroutines while its thread lives; `close` ends it."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="confide-endpoint", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of ``work``; it is cancelled where whoever waits is interrupted."""
        running = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return running.result()
        except BaseException:
            running.cancel()
            raise

    def each(self, works: Iterable[Callable[[], Coroutine[Any, Any, T]]], at_once: int) -> Iterator[T]:
        """The results of ``works`` as they come, ``at_once`` of them under way; the first error ends the others.

        No more than twice as many wait to be taken or are under way: what a killed process has not taken is lost.
        Whoever leaves the iteration cancels what is under way.
        """
        waiting, found, room = iter(works), queue.Queue[Any](), asyncio.Semaphore(2 * at_once)

        async def work() -> None:
            while True:
                await room.acquire()
                if (make := next(waiting, None)) is None:
                    break
                found.put(await make())
            room.release()

        async def all_of_them() -> None:
            async with asyncio.TaskGroup() as group:
                for _ in range(at_once):
                    group.create_task(work())

        running = asyncio.run_coroutine_threadsafe(all_of_them(), self._loop)
        running.add_done_callback(lambda _: found.put(_END))
        try:
            while (item := found.get()) is not _END:
                yield item
                self._loop.call_soon_threadsafe(room.release)
            _result(running)
        finally:
            running.cancel()

    def close(self, last: Coroutine[Any, Any, None]) -> None:
        """Run ``last``, then end the thread; once that is done, nothing."""
        if not self._thread.is_alive():
            last.close()
            return
        with contextlib.suppress(Exception):
            asyncio.run_coroutine_threadsafe(last, self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)


def _result(running: Future[None]) -> None:
    """Raise what ended the work, by itself where it is one error."""
    error = running.exception()
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if error is not None:
        raise error
