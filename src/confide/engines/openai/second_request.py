"""A second request of one token, by which a reader in a server's model says how sure it is of an answer.

The prompt's and the answer's tokens are those of the first request, the closing token follows, and the two verdict
tokens are compared. What differs among servers is in `vllm_verdict` and `llama_cpp_verdict`.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, Protocol

from confide.engines.engine import Completion
from confide.engines.openai.asked import Asked
from confide.engines.openai.bare_requests import BareRequests
from confide.engines.openai.exported_reader import ExportedReader, difference
from confide.engines.openai.llama_cpp_verdict import LlamaCppVerdict
from confide.engines.openai.model_error import ModelError
from confide.engines.openai.patient_server import wait_s
from confide.engines.openai.reply import Choice, Reply
from confide.engines.openai.second_verdict import Verdict
from confide.engines.openai.server_config import ServerModel
from confide.engines.openai.upstream import Http
from confide.engines.openai.vllm_verdict import VllmVerdict

log = logging.getLogger("confide")

SecondEngine = Literal["vllm", "llama.cpp"]


class _Shapes(Protocol):
    """What a kind of server is asked, and in which shapes."""

    @property
    def fields(self) -> Mapping[str, Any]: ...
    async def prompt(self, messages: Sequence[Any], options: Mapping[str, Any], reply: Reply | None) -> list[int]: ...
    async def written(self, choice: Choice, reply: Reply, options: Mapping[str, Any]) -> list[int]: ...
    async def answer(self, text: str) -> list[int]: ...
    async def verdict(self, ids: Sequence[int], pair: tuple[int, int]) -> Verdict: ...


class SecondRequest:
    """Reads answers of one server.

    Args:
        config: the server, asked for the model that answers.
        reader: what was exported.
        engine: the kind of server.
        adapter: the LoRA adapter that reads: its name on vLLM, its number on llama.cpp's server.
        chosen_ids: whether the server bears ``logprob_token_ids`` (vLLM).
        concurrency: how many answers are read at once.
        retries: how often a request is sent again that the server could not take.
    """

    def __init__(
        self,
        config: ServerModel,
        http: Http,
        reader: ExportedReader,
        engine: SecondEngine,
        adapter: str,
        *,
        chosen_ids: bool = False,
        concurrency: int = 64,
        retries: int = 0,
    ):
        self.reader = reader
        self._engine = engine
        self._retries = retries
        self._slots = asyncio.Semaphore(concurrency)
        requests = BareRequests(config, http)
        self._shapes: _Shapes
        if engine == "llama.cpp":
            self._shapes = LlamaCppVerdict(requests, reader.closing_id, reader.end_ids, adapter)
        else:
            self._shapes = VllmVerdict(requests, adapter, config.model, chosen_ids=chosen_ids)

    def asked(self, asked: Asked) -> Asked:
        """The request for an answer with what tells its tokens."""
        fields = dict(self._shapes.fields)
        logprobs = bool(fields.pop("logprobs", False)) or asked.logprobs
        return replace(asked, logprobs=logprobs, options=asked.options | fields)

    async def read(self, asked: Asked, reply: Reply) -> list[float | None]:
        """z of every choice; None for what is no whole answer in words, or where the server does not tell it.

        What that took is added to the reply.
        """
        found = await asyncio.gather(*(self._of_choice(asked, reply, choice) for choice in reply.choices))
        reply.read_tokens += sum(verdict.read for verdict in found)
        reply.verdict_tokens += sum(verdict.written for verdict in found)
        return [verdict.difference for verdict in found]

    async def measured(self, asked: Asked, reply: Reply) -> dict[str, Any]:
        """z of the one answer of a reply, as records keep it: by which reader, and what that took."""
        began = time.monotonic()
        (z,) = await self.read(asked, reply)
        seconds, tokens = round(time.monotonic() - began, 6), reply.read_tokens + reply.verdict_tokens
        return {"z": z, "by": self.reader.scored_by, "tokens": tokens, "seconds": seconds}

    async def read_given(self, messages: Sequence[Any], options: Mapping[str, Any], answer: str) -> tuple[float, int]:
        """z of an answer of which the text alone is known, and the tokens that took; raises `ModelError`.

        NaN where the server does not tell it.
        """

        async def ask() -> Verdict:
            prompt, ids = await self._shapes.prompt(messages, options, None), await self._shapes.answer(answer)
            return await self._verdict(prompt, ids)

        verdict = await self._patiently(ask)
        z = verdict.difference
        return math.nan if z is None else z, verdict.read + verdict.written

    async def problem(self) -> str | None:
        """Why the server is none that runs the exported reader, as the end of a sentence that begins with it.

        None: it is. Raises `ModelError` where it does not answer.
        """
        found: list[float | None] = []
        for example in self.reader.examples:
            try:
                verdict = await self._verdict(example.ids, ())
            except ModelError as failure:
                if failure.kind not in ("rejected", "misconfigured"):
                    raise
                return f"does not take the second request of {self._engine}: it is another kind of server, or model"
            found.append(verdict.difference)
        wrong = difference(self.reader, found)
        return None if wrong is None else f"gives no reading: {wrong}"

    async def _of_choice(self, asked: Asked, reply: Reply, choice: Choice) -> Verdict:
        if not choice.readable:
            return Verdict()

        async def ask() -> Verdict:
            answer = self.reader.closed(await self._shapes.written(choice, reply, asked.options))
            if answer is None:
                return Verdict()
            return await self._verdict(await self._shapes.prompt(asked.messages, asked.options, reply), answer)

        try:
            return await self._patiently(ask)
        except ModelError as failure:
            log.warning("an answer could not be read: the server's second request failed (%s)", failure.kind)
            return Verdict()

    async def _patiently(self, ask: Callable[[], Awaitable[Verdict]]) -> Verdict:
        """What ``ask`` returns, asked again where that may help; raises `ModelError`, of the last attempt."""
        for attempt in range(self._retries):
            try:
                return await ask()
            except ModelError as failure:
                if not failure.again and failure.kind != "timeout":
                    raise
                await asyncio.sleep(wait_s(attempt, failure.retry_after))
        return await ask()

    async def _verdict(self, prompt: Sequence[int], answer: Sequence[int]) -> Verdict:
        if not prompt:
            return Verdict()
        async with self._slots:
            return await self._shapes.verdict(self.reader.asked(prompt, answer), self.reader.verdict_ids)


MakeSecond = Callable[[ServerModel, Http], SecondRequest]
"""Makes the second request for a server."""


def with_verdict(completion: Completion, found: dict[str, Any]) -> Completion:
    """``completion`` with what `SecondRequest.measured` found, where it found z."""
    more = completion.more if found["z"] is None else completion.more | {"verdict": found}
    return replace(completion, more=more)
