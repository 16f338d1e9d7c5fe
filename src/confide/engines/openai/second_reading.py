"""A server whose answers are read by a second request each."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from confide.engines.openai.asked import Asked
from confide.engines.openai.reading_check import ReadingCheck
from confide.engines.openai.reply import Delta, Model, Reply
from confide.engines.openai.second_request import READER, SecondRequest
from confide.numeric import sigmoid
from confide.policies.identities import identity_parts, identity_text


class SecondReading(Model):
    """Answers as ``server`` does; its replies have the confidence ``reader``, the lowest of their choices.

    Without a policy that is the one to use, where it is there. Nothing is asked for while the ``check`` does not find
    that the server runs the exported reader.
    """

    def __init__(self, name: str, server: Model, second: SecondRequest):
        self._server = server
        self._second = second
        self.check = ReadingCheck(name, second.problem)

    async def ask(self, asked: Asked) -> Reply:
        """The whole answer, read; raises `ModelError`."""
        return await self._read(asked, await self._server.ask(self._second.asked(asked)))

    async def stream(self, asked: Asked) -> AsyncGenerator[Delta | Reply]:
        """The answer as it comes, then the whole of it, read; raises `ModelError`."""
        async with aclosing(self._server.stream(self._second.asked(asked))) as pieces:
            async for piece in pieces:
                yield await self._read(asked, piece) if isinstance(piece, Reply) else piece

    async def _read(self, asked: Asked, reply: Reply) -> Reply:
        there = asked.read and self.check.problem is None
        z = await self._second.read(asked, reply) if there else [None] * len(reply.choices)
        known = [value for value in z if value is not None]
        confidence = float(sigmoid(min(known))) if len(known) == len(z) else None
        reply.sources = {READER: confidence, **reply.sources}
        if confidence is not None:
            reply.source = READER
            parts = identity_parts(reply.identity) | {"confidence": self._second.reader.scored_by}
            reply.identity = identity_text(parts)
        return reply
