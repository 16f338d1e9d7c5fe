"""The small model in this process: requests that arrive together are answered in one batch, in one worker thread."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from confide.errors import ConfideError
from confide.serving.config import SmallLocal
from confide.serving.http.api_errors import ApiError, ModelError
from confide.serving.http.request_bodies import Asked, text_of
from confide.serving.routing.chat import Choice, Delta, Reply, folded
from confide.serving.routing.guard import in_one_piece

Question = str | list[dict[str, str]]


class Answered(Protocol):
    """An answer of a model in this process (`confide.Answer` is one)."""

    @property
    def text(self) -> str: ...  # noqa: D102
    @property
    def confidence(self) -> float | None: ...  # noqa: D102
    @property
    def source(self) -> str: ...  # noqa: D102
    @property
    def finish(self) -> str: ...  # noqa: D102
    @property
    def sources(self) -> dict[str, float | None]: ...  # noqa: D102
    @property
    def ids(self) -> list[int]: ...  # noqa: D102
    @property
    def prompt_tokens(self) -> int: ...  # noqa: D102


class InProcess(Protocol):
    """What is needed of a model in this process (`confide.ConfidenceModel` has it)."""

    def answers(self, questions: Sequence[Any], *, max_new_tokens: int) -> Sequence[Answered]:
        """Answer a batch."""
        ...

    def samples(self, question: Any, count: int, *, max_new_tokens: int) -> Sequence[str]:
        """Sampled answers to one question."""
        ...


@dataclass(slots=True)
class _Job:
    question: Question
    max_tokens: int
    samples: int
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[Any]

    def finish(self, result: Any) -> None:
        """Hand the result over to the event loop (from the worker's thread)."""

        def deliver() -> None:
            if self.done.done():  # its client has gone
                return
            if isinstance(result, Exception):
                self.done.set_exception(result)
            else:
                self.done.set_result(result)

        self.loop.call_soon_threadsafe(deliver)


class Batcher:
    """One thread that owns the model and takes as many waiting requests at once as fit into a batch.

    While a batch runs the next one gathers, so nothing waits for company that does not come.
    """

    def __init__(self, model: InProcess, batch: int):
        self._model = model
        self._batch = batch
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="confide-small", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the thread still works."""
        return self._thread.is_alive()

    async def submit(self, question: Question, max_tokens: int, samples: int = 0) -> Any:
        """An answer, or with ``samples`` that many sampled texts."""
        loop = asyncio.get_running_loop()
        job = _Job(question, max_tokens, samples, loop, loop.create_future())
        self._jobs.put(job)
        return await job.done

    def close(self) -> None:
        """Finish what is waiting and end the thread."""
        self._jobs.put(None)
        self._thread.join(timeout=30)

    def _run(self) -> None:
        waiting: list[_Job] = []
        while True:
            if not waiting:
                if (job := self._jobs.get()) is None:
                    return
                waiting.append(job)
            while not self._jobs.empty():
                if (job := self._jobs.get()) is None:
                    self._jobs.put(None)
                    break
                waiting.append(job)
            waiting = [job for job in waiting if not job.done.done()]
            if not waiting:
                continue
            first = waiting[0]
            alike = [job for job in waiting if (job.max_tokens, job.samples) == (first.max_tokens, first.samples)]
            batch = alike[: 1 if first.samples else self._batch]
            waiting = [job for job in waiting if all(job is not chosen for chosen in batch)]
            self._work(batch)

    def _work(self, batch: list[_Job]) -> None:
        first = batch[0]
        try:
            if first.samples:
                found = self._model.samples(first.question, first.samples, max_new_tokens=first.max_tokens)
                first.finish(list(found))
                return
            answers = self._model.answers([job.question for job in batch], max_new_tokens=first.max_tokens)
            for job, answer in zip(batch, answers, strict=True):
                job.finish(answer)
        except Exception as error:
            if len(batch) == 1:
                first.finish(error)
            else:  # one bad request must not take its neighbours with it
                for job in batch:
                    self._work([job])


class Local:
    """The small model in this process, behind the same interface as a server."""

    def __init__(self, config: SmallLocal, batcher: Batcher):
        self._config = config
        self._batcher = batcher

    async def ask(self, asked: Asked) -> Reply:
        """A greedy answer with every confidence that came with it; raises `ModelError`."""
        answer: Answered = await self._submit(asked, 0)
        sources = answer.sources if answer.text.strip() else {}
        return Reply(
            [Choice(answer.text, finish=answer.finish)],
            answer.prompt_tokens,
            len(answer.ids),
            dict(sources),
            answer.source,
        )

    async def sample(self, asked: Asked, count: int) -> list[str]:
        """Sampled answers' texts; raises `ModelError`."""
        texts: list[str] = await self._submit(asked, count)
        return texts

    def stream(self, asked: Asked) -> AsyncGenerator[Delta | Reply]:
        """The answer in pieces: a batch is generated as a whole, so they come together."""
        return in_one_piece(self, asked)

    async def _submit(self, asked: Asked, samples: int) -> Any:
        try:
            check_local(asked)
        except ApiError:
            raise ModelError("unsupported", counts=False) from None
        max_tokens = asked.max_tokens or self._config.max_tokens
        try:
            return await self._batcher.submit(conversation(asked.messages), max_tokens, samples)
        except ConfideError:
            raise ModelError("too_long", counts=False) from None
        except Exception:
            raise ModelError("broken") from None


def conversation(messages: Sequence[dict[str, Any]]) -> Question:
    """Messages for a model in this process; a single user turn is a bare question.

    A bare question gets the worked examples of the training prompts, as `confide ask` gives them.
    """
    turns = [
        {"role": "system" if m["role"] == "developer" else m["role"], "content": text_of(m["content"])}
        for m in messages
    ]
    return turns[0]["content"] if len(turns) == 1 and turns[0]["role"] == "user" else turns


def check_local(asked: Asked) -> None:
    """Refuse what a model in this process cannot honour; raises `ApiError` (400) that names it."""
    options = asked.options
    no = " by a small model in this process"
    if (options.get("temperature") or 0) > 0:
        raise ApiError(400, f"answers are greedy{no}: leave temperature away or set it to 0", param="temperature")
    if asked.n > 1:
        raise ApiError(400, f"one answer is given{no}: n must be 1", param="n")
    for key in ("tools", "functions", "stop", "logit_bias", "presence_penalty", "frequency_penalty"):
        if options.get(key):
            raise ApiError(400, f"{key} is not supported{no}", param=key)
    if not asked.plain:
        raise ApiError(400, f"only plain text is written{no}", param="response_format")
    if asked.logprobs:
        raise ApiError(400, f"log-probabilities are not returned{no}", param="logprobs")
    for message in asked.messages:
        if message["role"] not in ("system", "developer", "user", "assistant"):
            raise ApiError(400, f"the role {message['role']} is not understood{no}", param="messages")
        content = message["content"]
        if isinstance(content, list) and any(part.get("type") != "text" for part in content):
            raise ApiError(400, f"only text is read{no}", param="messages")


def majority(texts: Sequence[str]) -> str:
    """The answer given most often once folded, as it was first written; of equally frequent ones the first.

    >>> majority(["Japan", "China", "japan."])
    'Japan'
    """
    counts: dict[str, int] = {}
    written: dict[str, str] = {}
    for text in texts:
        if key := folded(text):
            counts[key] = counts.get(key, 0) + 1
            written.setdefault(key, text.strip())
    if not counts:
        return ""
    return written[max(counts, key=lambda key: counts[key])]
