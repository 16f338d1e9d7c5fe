"""Server-sent events, and work that ends when its client hangs up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from typing import Any, TypeVar

from pydantic_core import to_json
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from confide.serving.http.api_errors import ApiError

T = TypeVar("T")

STALL_S = 30.0
"""How long a client may leave a piece of a stream unread before it counts as gone."""


class ClientGoneError(Exception):
    """The client hung up before its answer was ready."""


async def while_connected(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """The result of ``work``, which is cancelled (`ClientGoneError`) when the client hangs up.

    The request's body must have been read.
    """
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


def event(data: dict[str, Any]) -> bytes:
    """One server-sent event."""
    return b"data: " + to_json(data) + b"\n\n"


class EventStream(Response):
    """A response that sends chunks as they come; an error halfway is an event of its own, and no ``[DONE]`` follows."""

    media_type = "text/event-stream"

    def __init__(self, chunks: AsyncGenerator[dict[str, Any]], headers: dict[str, str]):
        super().__init__(None, headers={**headers, "X-Accel-Buffering": "no"})
        # The body's length is not known.
        self.raw_headers = [pair for pair in self.raw_headers if pair[0] != b"content-length"]
        self._chunks = chunks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the chunks until they end or the client hangs up."""
        try:
            await while_connected(receive, self._send(send))
        except ClientGoneError:
            return

    async def _send(self, send: Send) -> None:
        async def put(body: bytes, more: bool = True) -> None:
            try:
                async with asyncio.timeout(STALL_S):
                    await send({"type": "http.response.body", "body": body, "more_body": more})
            except TimeoutError:
                raise ClientGoneError from None

        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        last = b"data: [DONE]\n\n"
        try:
            async with aclosing(self._chunks) as chunks:
                async for chunk in chunks:
                    await put(event(chunk))
        except ApiError as error:
            last = event(error.body)
        await put(last, more=False)
