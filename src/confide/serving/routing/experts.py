"""Experts that are no servers: tools (Python callables), and the small model again with more to go on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from confide.serving.config import ServeConfig, ServerModel, SmallLocal, ToolExpert, load_callable
from confide.serving.http.api_errors import ModelError
from confide.serving.http.request_bodies import Asked, text_of
from confide.serving.routing.chat import Choice, Delta, Reply
from confide.serving.routing.guard import Guarded, in_one_piece
from confide.serving.routing.in_process import Batcher, InProcess, Local, majority
from confide.serving.routing.upstream import Http, Server

Callback = Callable[[list[dict[str, Any]]], str | None]

_THREADS = 8


class Tool:
    """A callable from messages to a text, run in threads of its own so that a slow one holds up nobody else."""

    def __init__(self, spec: str):
        self._call: Callback = load_callable(spec)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="confide-tool")

    async def text(self, asked: Asked) -> str:
        """What the callable returns; raises `ModelError` when that is nothing, or it raises itself."""
        if not asked.plain:
            raise ModelError("unsupported", counts=False)
        try:
            found = await asyncio.get_running_loop().run_in_executor(self._threads, self._call, asked.messages)
        except Exception:
            raise ModelError("tool_error") from None
        if found is None:
            raise ModelError("no_answer", counts=False)
        if not isinstance(found, str) or not found.strip():
            raise ModelError("malformed")
        return found

    async def ask(self, asked: Asked) -> Reply:
        """The text as an answer."""
        return Reply([Choice(await self.text(asked))])

    def stream(self, asked: Asked) -> AsyncGenerator[Delta | Reply]:
        """The text in pieces."""
        return in_one_piece(self, asked)

    def close(self) -> None:
        """Let go of the threads; a call that hangs is left behind."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class WithPassage:
    """The small model, asked again with a passage in front of the question."""

    def __init__(self, small: Local | Server, passage: Tool):
        self._small = small
        self._passage = passage

    async def ask(self, asked: Asked) -> Reply:
        """The answer to the question with its passage; raises `ModelError` when there is none."""
        passage = await self._passage.text(asked)
        return await self._small.ask(replace(asked, messages=with_passage(asked.messages, passage)))

    def stream(self, asked: Asked) -> AsyncGenerator[Delta | Reply]:
        """The answer in pieces."""
        return in_one_piece(self, asked)


class WithSamples:
    """The small model's majority answer among several samples."""

    def __init__(self, small: Local | Server, count: int):
        self._small = small
        self._count = count

    async def ask(self, asked: Asked) -> Reply:
        """The answer given most often; raises `ModelError` when the server does not sample."""
        if not asked.plain:
            raise ModelError("unsupported", counts=False)
        if isinstance(self._small, Local):
            texts = await self._small.sample(asked, self._count)
            reply = Reply([Choice("")])
        else:
            options = {**asked.options, "n": self._count, "temperature": 1.0}
            reply = await self._small.ask(replace(asked, n=self._count, options=options, logprobs=False))
            texts = [choice.text for choice in reply.choices]
            if len(texts) < 2:
                raise ModelError("unsupported")
        if not (answer := majority(texts)):
            raise ModelError("no_answer", counts=False)
        return replace(reply, choices=[Choice(answer)])

    def stream(self, asked: Asked) -> AsyncGenerator[Delta | Reply]:
        """The answer in pieces."""
        return in_one_piece(self, asked)


def with_passage(messages: list[dict[str, Any]], passage: str) -> list[dict[str, Any]]:
    """The conversation with ``passage`` in front of the last user turn's text."""
    last = max((at for at, message in enumerate(messages) if message["role"] == "user"), default=-1)
    if last < 0:
        return messages
    asked = f"Context: {passage}\nQuestion: {text_of(messages[last]['content'])}"
    return [*messages[:last], {**messages[last], "content": asked}, *messages[last + 1 :]]


class Models:
    """Everything that answers, as the configuration has it: the small model and the experts in order.

    ``model`` is the small model in this process, if it runs there.
    """

    def __init__(self, config: ServeConfig, model: InProcess | None = None):
        self._http = Http()
        self._tools: list[Tool] = []
        self.batcher: Batcher | None = None
        small: Local | Server
        if isinstance(config.small, SmallLocal):
            if model is None:
                raise ValueError("the small model runs in this process and was not given")
            self.batcher = Batcher(model, config.small.batch)
            small = Local(config.small, self.batcher)
            self.small = Guarded(config.small.name, small, price=config.small.price)
        else:
            small = Server(config.small, self._http, read=True)
            self.small = self._server(config.small, small)
        self.experts = [self._expert(expert, config, small) for expert in config.experts]

    def _server(self, config: ServerModel, server: Server) -> Guarded:
        return Guarded(config.name, server, price=config.price, retries=config.retries, timeout_s=config.timeout_s)

    def _tool(self, spec: str) -> Tool:
        self._tools.append(tool := Tool(spec))
        return tool

    def _expert(self, expert: Any, config: ServeConfig, small: Local | Server) -> Guarded:
        if isinstance(expert, ServerModel):
            return self._server(expert, Server(expert, self._http))
        if isinstance(expert, ToolExpert):
            return Guarded(expert.name, self._tool(expert.tool), price=expert.price, timeout_s=expert.timeout_s)
        again: WithPassage | WithSamples
        if expert.again.passage is not None:
            again = WithPassage(small, self._tool(expert.again.passage))
        else:
            again = WithSamples(small, expert.again.samples)
        return Guarded(expert.name, again, price=config.small.price, timeout_s=expert.timeout_s)

    async def close(self) -> None:
        """Close connections and threads."""
        await self._http.close()
        for tool in self._tools:
            tool.close()
        if self.batcher is not None:
            await asyncio.to_thread(self.batcher.close)
