"""The small model in this process: requests that arrive together are answered in one batch, in one worker thread."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from confide.engines.openai.asked import Asked, text_of
from confide.engines.openai.model_error import ModelError
from confide.engines.openai.reply import Choice, Model, Reply
from confide.errors import ConfideError
from confide.policies.requests import telling_options
from confide.serving.api_errors import ApiError
from confide.serving.config import SmallLocal

if TYPE_CHECKING:
    from confide.model import ConfidenceModel

Question = str | list[dict[str, str]]

_GREEDY = {"temperature": 0}


FULL_BATCH, LONGEST = 512, 32
"""Tokens of the prompts with which a batch may be full, and characters of a token in any text (far fewer in most)."""


@dataclass(slots=True, eq=False)
class _Job:
    question: Question
    max_tokens: int
    samples: int
    counts: bool
    result: Future[Any] = field(default_factory=Future)
    width: int = 0  # tokens to which its prompt is rounded up
    gone: bool = False  # nobody waits for it any more

    @property
    def kind(self) -> tuple[int, int, bool, int]:
        """What jobs of one batch have in common."""
        return self.max_tokens, self.samples, self.counts, self.width


class Batcher:
    """One thread that owns the model and answers as many waiting requests at once as fit into a batch.

    While a batch runs the next one gathers, so no request waits for others to arrive. A batch holds prompts of about
    the same length, and the fewer the longer they are: a short one is neither padded to a long one nor waits for more
    than one batch of them that came before it. An answer for which nobody waits any more is given up.

    Args:
        batch: the most requests in a batch.
        longest: the most tokens of a prompt; a longer one is refused.
        stop: signal to the value under which an answer ends while it is written.
        fields: whether the fields of answers are told.
    """

    def __init__(
        self,
        model: ConfidenceModel,
        batch: int,
        longest: int,
        stop: Mapping[str, float] | None = None,
        *,
        fields: bool = False,
    ):
        self._model = model
        self._fields = fields
        self._batch = batch
        self._longest = longest
        self._stop = dict(stop or {})
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="confide-small", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the thread still works."""
        return self._thread.is_alive()

    async def submit(self, question: Question, max_tokens: int, samples: int = 0, counts: bool = True) -> Any:
        """An answer, or with ``samples`` a list of that many sampled ones.

        Args:
            counts: whether the answer is traffic in which later ones are read.
        """
        job = _Job(question, max_tokens, samples, counts)
        self._jobs.put(job)
        try:
            return await asyncio.wrap_future(job.result)
        except asyncio.CancelledError:
            job.gone = True
            raise

    def close(self) -> None:
        """Finish what is waiting and end the thread."""
        self._jobs.put(None)
        self._thread.join(timeout=30)

    def _run(self) -> None:
        waiting: list[_Job] = []
        closing = False
        while waiting or not closing:
            while not closing and not (waiting and self._jobs.empty()):
                job = self._jobs.get()
                if job is None:
                    closing = True
                elif self._fits(job):
                    waiting.append(job)
            waiting = [job for job in waiting if not job.gone]
            if not waiting:
                continue
            first = waiting[0]
            most = 1 if first.samples else max(1, self._batch * FULL_BATCH // max(FULL_BATCH, first.width))
            batch = [job for job in waiting if job.kind == first.kind][:most]
            waiting = [job for job in waiting if job not in batch]
            self._work(batch)

    def _fits(self, job: _Job) -> bool:
        """Whether a job can be worked on; one that cannot has failed, and keeps no other from being worked on."""
        if job.gone:
            return False
        told = f"the prompt is longer than {self._longest} tokens (max_prompt_tokens)"
        try:
            if len(_text(job.question)) > LONGEST * self._longest:  # to count its tokens would take long
                raise ConfideError(told)
            tokens = self._model.prompt_tokens(job.question, max_new_tokens=job.max_tokens)
            if tokens > self._longest:
                raise ConfideError(told)
        except Exception as error:
            _settle(job, error=error)
            return False
        job.width = max(FULL_BATCH // 2, 1 << (tokens - 1).bit_length())
        return True

    def _work(self, batch: list[_Job]) -> None:
        first = batch[0]
        results: Sequence[Any]
        try:
            if first.samples:
                sampled = self._model.sampled(
                    first.question, first.samples, max_new_tokens=first.max_tokens, gone=lambda _: first.gone
                )
                results = [sampled]
            else:
                with nullcontext() if first.counts else self._model.uncounted():
                    results = self._model.answers(
                        [job.question for job in batch],
                        max_new_tokens=first.max_tokens,
                        gone=lambda n: batch[n].gone,
                        stop=self._stop,
                        fields=self._fields,
                    )
            answered = list(zip(batch, results, strict=True))
        except Exception as error:
            if len(batch) == 1:
                _settle(first, error=error)
            else:  # one bad request must not take its neighbours with it
                for job in batch:
                    if not job.gone:
                        self._work([job])
            return
        for job, result in answered:
            _settle(job, result)


def _settle(job: _Job, result: Any = None, *, error: Exception | None = None) -> None:
    """End a job, unless its client has gone meanwhile."""
    if not job.result.set_running_or_notify_cancel():
        return
    if error is not None:
        job.result.set_exception(error)
    else:
        job.result.set_result(result)


def _text(question: Question) -> str:
    return question if isinstance(question, str) else "".join(turn["content"] for turn in question)


class Local(Model):
    """The small model in this process, behind the same interface as a server."""

    def __init__(self, config: SmallLocal, batcher: Batcher, identity: str = ""):
        self.identity = identity
        self._config = config
        self._batcher = batcher

    async def ask(self, asked: Asked) -> Reply:
        """A greedy answer with every confidence that came with it, none when it was cut; raises `ModelError`."""
        answer = await self._submit(asked, 0)
        choice = Choice(answer.text, answer.reasoning, answer.finish)
        sources = dict(answer.sources) if choice.readable else {}
        counts = answer.prompt_tokens, answer.completion_tokens
        signals = {name: trace.lowest for name, trace in answer.along.items()}
        stopped = answer.stopped_by is not None
        told: dict[str, Any] = {"signals": signals, "stopped": stopped, "parts": answer.fields}
        return Reply([choice], *counts, sources, answer.source, identity=self.identity, **told)

    async def sample(self, asked: Asked, count: int) -> Reply:
        """Sampled answers, one per choice; raises `ModelError`."""
        answers = await self._submit(asked, count)
        choices = [Choice(answer.text, answer.reasoning, answer.finish) for answer in answers]
        written = sum(answer.completion_tokens for answer in answers)
        return Reply(choices, answers[0].prompt_tokens, written, identity=self.identity)

    async def _submit(self, asked: Asked, samples: int) -> Any:
        try:
            check_local(asked)
        except ApiError as error:
            raise ModelError("unsupported", counts=False, sentence=error.message, param=error.param) from None
        max_tokens = asked.max_tokens or self._config.max_tokens
        try:
            return await self._batcher.submit(conversation(asked.messages), max_tokens, samples, asked.read)
        except ConfideError as error:  # too long, or a chat template that refuses the conversation
            raise ModelError("rejected", counts=False, sentence=str(error)) from None
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
    options, by = asked.options, "by a small model in this process"
    if (options.get("temperature") or 0) > 0:
        raise ApiError(400, f"answers are greedy {by}: leave temperature away or set it to 0", param="temperature")
    if asked.n > 1:
        raise ApiError(400, f"one answer is given {by}: n must be 1", param="n")
    # Greedy answers are the same whatever else is said of how to draw.
    if found := next(
        (name for name in telling_options({**options, **_GREEDY}) if name not in ("temperature", "n")), None
    ):
        raise ApiError(400, f"{found} is not supported {by}", param=found)
    for key in ("tool_choice", "function_call"):
        if options.get(key) not in (None, "none", "auto"):
            raise ApiError(400, f"{key} is not supported {by}", param=key)
    if asked.top_logprobs:
        raise ApiError(400, f"log-probabilities are not returned {by}", param="top_logprobs")
    if asked.logprobs:
        raise ApiError(400, f"log-probabilities are not returned {by}", param="logprobs")
    for message in asked.messages:
        if message["role"] not in ("system", "developer", "user", "assistant"):
            raise ApiError(400, f"the role {message['role']} is not understood {by}", param="messages")
        content = message["content"]
        if isinstance(content, list) and any(part.get("type") != "text" for part in content):
            raise ApiError(400, f"only text is read {by}", param="messages")
