"""A server that many requests ask at once, within a limit, and again where that may help."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from confide.engines.openai.asked import Asked
from confide.engines.openai.learned_reading import LearnedReading
from confide.engines.openai.model_error import ModelError
from confide.engines.openai.reply import Reply
from confide.engines.openai.server_config import ServerModel
from confide.engines.openai.upstream import Http, Server

MOST_WAIT_S = 60.0
"""The longest wait between two attempts, also where the server asks for a longer one."""
_FIRST_WAIT_S = 0.5

_REASONS = {
    "refused": "cannot be reached",
    "broken": "broke off the connection",
    "timeout": "gave no answer in time",
    "rate_limited": "turns requests away (429)",
    "server_error": "fails (5xx)",
    "empty": "answers with nothing",
    "malformed": "answers with something that is no chat completion",
    "redirected": "redirects to another address, which is not followed",
    "unpaid": "wants to be paid",
    "misconfigured": "knows no such address or model: is the model's name right, and does the address end in /v1?",
    "rejected": "rejects the request: is the model's name right, and does the address end in /v1?",
    "unsupported": "does not take the request's options",
}


def wait_s(attempt: int, asked_for: float | None) -> float:
    """Seconds to wait after ``attempt`` (from 0 on): part of a doubling wait, or more where that is asked for."""
    wait = _FIRST_WAIT_S * 2**attempt * random.uniform(0.5, 1.0)
    return min(max(wait, asked_for or 0.0), MOST_WAIT_S)


class PatientServer:
    """The model that ``config`` names.

    Args:
        concurrency: requests that are under way together.
        retries: how often one is sent again that was refused, broken off, late, or met an overloaded server. Waits
            double from half a second, and are at least what the server asks for in ``Retry-After``. Where nobody has
            answered yet, an address that refuses connections is not tried again.
        reading: the learned reading that answers come with; ``export`` is the identity of what was exported.
        always: fields that the server is sent with every request.
    """

    def __init__(
        self,
        config: ServerModel,
        *,
        concurrency: int,
        retries: int,
        reading: LearnedReading | None = None,
        **learned: Any,
    ):
        self.config = config
        self.http = Http()
        self._server = Server(config, self.http, reading=reading, **learned)
        self._slots = asyncio.Semaphore(concurrency)
        self._retries = retries
        self._has_answered = False

    async def ask(self, asked: Asked) -> Reply:
        """The whole answer; raises `ModelError`, of the last attempt."""
        async with self._slots:
            for attempt in range(self._retries + 1):
                try:
                    async with asyncio.timeout(self.config.timeout_s):
                        await self._look_again(asked)
                        reply = await self._server.ask(asked)
                except TimeoutError:
                    failure = ModelError("timeout", again=True)
                except ModelError as error:
                    failure = error
                else:
                    self._has_answered = True
                    reply.cost = reply.price(self.config.price)
                    return reply
                never_there = failure.kind == "refused" and not self._has_answered
                if not failure.again or attempt == self._retries or never_there:
                    break
                await asyncio.sleep(wait_s(attempt, failure.retry_after))
        raise failure

    @property
    def problem(self) -> str | None:
        """Why answers come without the learned reading (None: nothing is known against it, or none is wanted)."""
        check = self._server.reading
        return None if check is None or check.failure is not None else check.problem

    async def _look_again(self, asked: Asked) -> None:
        """Where the last look at the server got no answer, look before an answer would come without its reading.

        Raises `ModelError` where there is none again.
        """
        check = self._server.reading
        if check is None or check.failure is None or not asked.read:
            return
        await check.look()
        if check.failure is not None:
            raise check.failure

    async def find_reading(self) -> str | None:
        """Look whether the server gives the learned reading, and return the `problem`."""
        check = self._server.reading
        if check is None:
            return None
        for attempt in range(self._retries + 1):
            await check.look()
            if check.failure is None or not check.failure.again or attempt == self._retries:
                break
            await asyncio.sleep(wait_s(attempt, check.failure.retry_after))
        return check.problem

    async def close(self) -> None:
        """Close the connections."""
        await self.http.close()

    def reason(self, failure: ModelError) -> str:
        """Why this server gave no answer, as the end of a sentence that begins with the server."""
        if failure.kind == "unauthorized":
            return f"refuses the key ({self.config.api_key_env})" if self.config.api_key_env else "wants a key"
        if failure.kind == "rejected" and self._has_answered:
            return "rejects the request: it may be too long for the model, or hold what is no text"
        return _REASONS.get(failure.kind, f"failed ({failure.kind})")
