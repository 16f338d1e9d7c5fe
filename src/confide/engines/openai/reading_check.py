"""Whether a server gives the learned reading of one export: asked at the start, every minute, and whenever it looks
otherwise, since a server that is started again may have other weights, or no plug-in.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any

from confide.engines.openai.learned_reading import LearnedReading
from confide.engines.openai.model_error import ModelError
from confide.engines.openai.start_check import QUESTION

log = logging.getLogger("confide.serving")

NOT_ASKED = "was not asked yet whether it gives its learned reading"

_EVERY_S, _FIRST_WAIT_S, _LEAST_S = 60.0, 1.0, 1.0
_REFUSED = frozenset({"rejected", "unsupported"})

AskOne = Callable[[dict[str, Any]], Awaitable[list[Any]]]
"""Sends a request's body, and returns what is told of each token of the answer; raises `ModelError`."""

Find = Callable[[], Awaitable[str | None]]
"""Why a server does not serve an export (None: it does); raises `ModelError` where there is no answer."""

Look = Callable[[], Awaitable[bool]]
"""Whether something can be seen of the server; raises `ModelError` where it does not answer."""


class ReadingCheck:
    """Asks one server whether it serves an export.

    Args:
        name: what logs call the server.
        find: asks it, and returns the problem; raises `ModelError` where there is no answer.

    Attributes:
        problem: why no reading is asked for, as the end of a sentence that begins with the server (None: it is).
        failure: why the last look got no answer (None: it got one).
    """

    def __init__(self, name: str, find: Find):
        self.name = name
        self.problem: str | None = NOT_ASKED
        self.failure: ModelError | None = None
        self._find = find
        self._looked = -_LEAST_S
        self._looking: asyncio.Task[str | None] | None = None
        self._odd = asyncio.Event()

    async def run(self) -> None:
        """Look for as long as the router runs; a look that is under way ends with it."""
        try:
            await self._keep_looking()
        finally:
            if self._looking is not None:
                self._looking.cancel()

    async def _keep_looking(self) -> None:
        wait = _FIRST_WAIT_S
        while True:
            before = self.problem
            await self.look()
            if self.problem != before:
                _tell(self.name, self.problem)
            wait = _EVERY_S if self.problem is None else min(2 * wait, _EVERY_S)
            try:
                async with asyncio.timeout(wait):
                    await self._odd.wait()
                wait = _FIRST_WAIT_S
            except TimeoutError:
                pass
            self._odd.clear()

    def doubt(self) -> None:
        """A reply was another export's: nothing is asked for until it was looked at."""
        self._suspect("answered without the reading of its export")

    def away(self, failure: ModelError) -> None:
        """It could not be reached: when it is there again, it may be another one, or speculate."""
        if self.problem is None:
            self.failure = failure
        self._suspect(_unanswered(failure))

    def _suspect(self, problem: str) -> None:
        if self.problem is None:
            self.problem = problem
            _tell(self.name, problem)
            self._odd.set()

    async def look(self) -> str | None:
        """Look at the server, and return the problem; many who ask in one second get one answer."""
        fresh = self.failure is None and monotonic() - self._looked < _LEAST_S
        if not fresh and self._looking is None:
            self._looking = asyncio.create_task(self._look())
        if self._looking is not None:
            await asyncio.shield(self._looking)
        return self.problem

    async def _look(self) -> str | None:
        try:
            self.problem = await self._found()
        finally:
            self._looked, self._looking = monotonic(), None
        return self.problem

    async def _found(self) -> str | None:
        self.failure = None
        try:
            return await self._find()
        except ModelError as failure:
            self.failure = failure
            return _unanswered(failure)


class LearnedCheck(ReadingCheck):
    """The check of a vLLM with the plug-in.

    Args:
        reading: the export's.
        ask: asks the server one question.
        speculates: whether its metrics show speculative decoding, which a request for ids would end (vLLM issue 42592).
        adapted: whether it lists the model as an adapter of another one.
    """

    def __init__(self, name: str, reading: LearnedReading, ask: AskOne, speculates: Look, adapted: Look):
        super().__init__(name, self._problem)
        self.reading = reading
        self._ask = ask
        self._speculates = speculates
        self._adapted = adapted

    async def _problem(self) -> str | None:
        if await self._speculates():
            return "decodes speculatively, and asking such a vLLM for the reading would end it"
        if await self._adapted():  # the fingerprint is that of the weights below it
            return "answers with a LoRA adapter, whose states the exported reading was never fitted on"
        body = {"messages": QUESTION, "max_tokens": 1, "temperature": 0, **self.reading.fields(check=True)}
        try:
            wrong = self.reading.wrong(await self._ask(body))
        except ModelError as failure:
            if failure.kind in _REFUSED:
                return "refuses the ids of the reading: it serves without confide's plug-in, or another model"
            raise
        return None if wrong is None else f"gives no learned reading: {wrong}"


def _unanswered(failure: ModelError) -> str:
    return f"does not answer whether it gives its learned reading ({failure.kind})"


def _tell(name: str, problem: str | None) -> None:
    if problem is None:
        log.warning("%s gives its learned reading", name)
    else:
        log.warning("%s %s: its free confidences are used", name, problem)


def speculates(metrics: bytes) -> bool:
    """Whether vLLM's metrics show that it decodes speculatively."""
    return b"vllm:spec_decode" in metrics
