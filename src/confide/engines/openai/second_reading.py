"""A server whose answers are read by a second request each."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager

from confide.engines.openai.asked import Asked
from confide.engines.openai.exported_reader import READER
from confide.engines.openai.model_error import ModelError
from confide.engines.openai.reading_check import ReadingCheck
from confide.engines.openai.reply import Delta, Model, Reply
from confide.engines.openai.second_request import SecondRequest
from confide.numeric import sigmoid
from confide.policies.identities import identity_parts, identity_text

log = logging.getLogger("confide.serving")


class SecondReading(Model):
    """Answers as ``server`` does; its replies have the confidence ``reader``, the lowest of their choices.

    Without a policy that is the one to use, where it is there. Nothing is asked for while the ``check`` does not find
    that the server runs the exported reader. A reading takes at most half of the time that is left of ``timeout_s``
    and of the request's deadline, so that a slow one costs itself alone, and not the answer.
    """

    def __init__(self, name: str, server: Model, second: SecondRequest, timeout_s: float):
        self._server = server
        self._second = second
        self._timeout = timeout_s
        self.check = ReadingCheck(name, second.problem)

    async def ask(self, asked: Asked) -> Reply:
        """The whole answer, read; raises `ModelError`."""
        began = _now()
        with self._watched():
            reply = await self._server.ask(self._second.asked(asked))
        return await self._read(asked, reply, began)

    async def stream(self, asked: Asked) -> AsyncGenerator[Delta | Reply]:
        """The answer as it comes, then the whole of it, read; raises `ModelError`."""
        began = _now()
        with self._watched():
            async with aclosing(self._server.stream(self._second.asked(asked))) as pieces:
                async for piece in pieces:
                    yield await self._read(asked, piece, began) if isinstance(piece, Reply) else piece
                    began = _now()  # the time-out begins anew with each piece

    @contextmanager
    def _watched(self) -> Iterator[None]:
        try:
            yield
        except ModelError as failure:
            if failure.kind == "refused":
                self.check.away(failure)
            raise

    async def _read(self, asked: Asked, reply: Reply, began: float) -> Reply:
        there = asked.read and self.check.problem is None
        z = await self._in_time(asked, reply, began) if there else [None] * len(reply.choices)
        known = [value for value in z if value is not None]
        confidence = float(sigmoid(min(known))) if len(known) == len(z) else None
        reply.sources = {READER: confidence, **reply.sources}
        if confidence is not None:
            reply.source = READER
            parts = identity_parts(reply.identity) | {"confidence": self._second.reader.scored_by}
            reply.identity = identity_text(parts)
        return reply

    async def _in_time(self, asked: Asked, reply: Reply, began: float) -> list[float | None]:
        left = min(asked.deadline, began + self._timeout) - _now()
        try:
            async with asyncio.timeout(max(left, 0.0) / 2):
                return await self._second.read(asked, reply)
        except TimeoutError:
            log.warning("an answer could not be read in time")
            return [None] * len(reply.choices)


def _now() -> float:
    return asyncio.get_running_loop().time()
