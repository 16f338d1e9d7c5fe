"""Server-sent events, and work that ends when its client hangs up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing, suppress
from typing import Any, TypeVar

from pydantic_core import to_json
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from confide.serving.api_errors import ApiError
from confide.serving.http.answer_parts import Wording

T = TypeVar("T")


class ClientGoneError(Exception):
    """The client hung up before its answer was ready."""


async def while_connected(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """The result of ``work``, cancelled (`ClientGoneError`) when a client whose body was read hangs up."""
    task = asyncio.current_task()
    assert task is not None
    gone = False

    async def watch() -> None:
        nonlocal gone
        while (await receive())["type"] != "http.disconnect":
            pass
        gone = True
        task.cancel()

    watcher = asyncio.create_task(watch())
    try:
        return await work
    except asyncio.CancelledError:
        if gone:
            task.uncancel()
            raise ClientGoneError from None
        raise
    finally:
        watcher.cancel()


class EventStream(StreamingResponse):
    """A response that sends events as they come, until they end or the client hangs up."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[bytes], headers: dict[str, str]):
        self._events = events
        super().__init__(self._events, headers={**headers, "X-Accel-Buffering": "no"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events, as long as the client is there."""
        async with aclosing(self._events):
            with suppress(ClientGoneError):
                await while_connected(receive, self.stream_response(send))


async def chat_events(chunks: AsyncGenerator[dict[str, Any]]) -> AsyncGenerator[bytes]:
    """Chunks as server-sent events; an error halfway is an event of its own, and no ``[DONE]`` follows."""
    try:
        async with aclosing(chunks):
            async for chunk in chunks:
                yield b"data: " + to_json(chunk) + b"\n\n"
        yield b"data: [DONE]\n\n"
    except ApiError as error:
        yield b"data: " + to_json(error.body) + b"\n\n"


async def worded_events(chunks: AsyncGenerator[dict[str, Any]], wording: Wording) -> AsyncGenerator[bytes]:
    """Chunks as the server-sent events of another API, each under the name of its type."""
    try:
        async with aclosing(chunks):
            async for chunk in chunks:
                for event in wording.feed(chunk):
                    yield _named(event)
        last = wording.end()
    except ApiError as error:
        last = wording.fail(error.renamed(wording.names))
    for event in last:
        yield _named(event)


def _named(event: dict[str, Any]) -> bytes:
    return f"event: {event['type']}\n".encode() + b"data: " + to_json(event) + b"\n\n"
