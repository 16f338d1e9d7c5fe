"""The engine of a model behind an OpenAI-compatible endpoint: vLLM, llama.cpp, Ollama, a hosted API.

Such an endpoint takes messages and shows no token ids. So the ids of this engine are numbers of its own: a prompt is
the number of a conversation, an answer the number of its text.
"""

from __future__ import annotations

import asyncio
import atexit
import json
import math
import time
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from threading import RLock
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from confide.engines.engine import Arrival, Completion, Gone, NextTokens, Sampling
from confide.engines.openai.asked import Asked
from confide.engines.openai.background_loop import BackgroundLoop
from confide.engines.openai.completions import completion_of, letter_logprobs
from confide.engines.openai.endpoint_config import EndpointConfig
from confide.engines.openai.first_questions import (
    CONTINUED,
    NOT_TAKEN,
    FirstAnswer,
    ask_first,
    reads_given_answers,
    template_field,
)
from confide.engines.openai.followed_signals import Signals
from confide.engines.openai.given_answers import GivenAnswers, given_answer
from confide.engines.openai.learned_reading import LearnedReading
from confide.engines.openai.model_error import ModelError
from confide.engines.openai.model_listing import listed_identity
from confide.engines.openai.patient_server import PatientServer
from confide.engines.openai.reply import Reply
from confide.engines.openai.second_request import MakeSecond, with_verdict
from confide.errors import ConfideError, RefusedQuestionError
from confide.policies.identities import TRAINED_PARTS, identity_parts, identity_text, same_model
from confide.progress import Progress

MOST_FAILURES = 20
"""After so many questions in a row at which it failed the server is taken for gone."""

T = TypeVar("T")
_UNKNOWN_CONTEXT = 1 << 40
_BATCH = 256
_TOP_ROOM = 4096
"""Longer answers come without the likeliest tokens, which with each of them would exceed `upstream.MOST_BYTES`."""


class OpenAIEngine:
    """A model on an endpoint, as `confide.engines.engine.Engine` describes it.

    Args:
        config: the endpoint.
        model: the model to ask for.
        chat_template_kwargs: what the chat template is given besides the messages; only vLLM, SGLang and llama.cpp
            take it, so that nothing is sent where nothing is given.
        reading: the learned reading that comes with each greedy answer, with ``signals``; ``export`` is its identity.
        second: makes the second request that reads each greedy answer; ``always`` are fields of all other requests.

    Raises:
        ConfideError: the endpoint does not answer a first question of one token, or does not give the reading, in one
            sentence.
    """

    def __init__(
        self,
        config: EndpointConfig,
        model: str,
        *,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        reading: LearnedReading | None = None,
        export: str = "",
        signals: Signals | None = None,
        second: MakeSecond | None = None,
        always: Mapping[str, Any] | None = None,
    ):
        self.name = model
        self.chat_template_kwargs = dict(chat_template_kwargs or {})
        self.lock = RLock()
        self._config = config
        server = config.server(model)
        self._loop = BackgroundLoop()
        atexit.register(self.close)
        given: dict[str, Any] = {"reading": reading, "export": export, "signals": signals, "always": always}
        self._server = PatientServer(server, concurrency=config.concurrency, retries=config.retries, **given)
        self._second = second(server, self._server.http) if second else None
        self._conversations: list[tuple[list[dict[str, Any]], dict[str, Any]]] = []
        self._numbers: dict[str, int] = {}  # of conversations: the same one has one number
        self._texts: list[str] = []
        self._read: dict[int, int] = {}  # tokens of each conversation, once it was asked
        self._failures = 0
        self._left_out: set[str] = set()  # of n and seed, what the server does not take or passes over
        try:
            self.first: FirstAnswer = self._loop.run(ask_first(self._server, self.chat_template_kwargs))
            reads = "prompt_logprobs" in config.safe and self._loop.run(
                reads_given_answers(self._server, self.first.limit, self.chat_template_kwargs)
            )
            wrong = self._loop.run(self._second.problem()) if self._second else None
        except ModelError as failure:
            self.close()
            raise ConfideError(f"the server at {server.base_url} {self._server.reason(failure)}") from None
        if (problem := wrong or self._loop.run(self._server.find_reading())) is not None:
            self.close()
            raise ConfideError(f"the server at {server.base_url} {problem}")
        weights = {name: part for name, part in identity_parts(export).items() if name not in TRAINED_PARTS}
        self._identity = identity_parts(self.first.identity) | weights
        self.capabilities = frozenset(
            {"answers", "samples", "arrivals"}
            | ({"reading"} if reading else set())
            | ({"second_request"} if second else set())
            | ({"next_tokens"} if self.first.top_logprobs else set())
            | ({"given_answers"} if reads else set())
        )

    def close(self) -> None:
        """Close the connections and end the thread; the end of the process does so, too."""
        atexit.unregister(self.close)
        self._loop.close(self._server.close())

    # -- what it is ----------------------------------------------------------------------------------------

    @cached_property
    def identity(self) -> str:
        """What the server reports of the model in its replies, and lists of it."""
        return identity_text(self._identity | identity_parts(listed_identity(self._server.config)))

    @property
    def context(self) -> int:
        """Unknown here: a prompt that is too long is refused by the server."""
        return _UNKNOWN_CONTEXT

    @property
    def vocabulary(self) -> int:
        """How many texts have a number."""
        return max(1, len(self._texts))

    @property
    def batch_size(self) -> int:
        """Prompts per batch."""
        return _BATCH

    # -- numbers for what it is asked ----------------------------------------------------------------------

    def encode(self, messages: Sequence[Any], chat_template_kwargs: Mapping[str, Any] | None = None) -> list[int]:
        """The number of a conversation."""
        turns = [dict(m) if isinstance(m, Mapping) else m.model_dump(exclude_none=True) for m in messages]
        given = dict(chat_template_kwargs or {}) if self.chat_template_kwargs else {}
        conversation = (turns, self.chat_template_kwargs | given)
        number = self._numbers.setdefault(json.dumps(conversation), len(self._conversations))
        if number == len(self._conversations):
            self._conversations.append(conversation)
        return [number]

    def encode_answer(self, text: str) -> list[int]:
        """The number of an answer's text."""
        self._texts.append(text)
        return [len(self._texts) - 1]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of an answer's numbers."""
        return "".join(self._texts[id] for id in ids)

    def batches(
        self,
        prompts: Sequence[list[int]],
        *,
        keys: Sequence[Any] | None = None,
        size: int | None = None,
        progress: Progress | None = None,
        note: str = "",
    ) -> Iterator[list[int]]:
        """Row numbers in batches, in their order: the server sorts its own."""
        size = size or self.batch_size
        for start in range(0, len(prompts), size):
            rows = list(range(start, min(start + size, len(prompts))))
            yield rows
            if progress:
                progress(rows[-1] + 1, len(prompts), note)

    def tokens_read(self, prompts: Sequence[list[int]]) -> int:
        """Tokens of prompts that were asked, as the server counted them."""
        return sum(self._read.get(prompt[0], 0) for prompt in prompts)

    # -- asking --------------------------------------------------------------------------------------------

    def answer(
        self, prompts: Sequence[list[int]], max_new_tokens: int, *, gone: Gone | None = None
    ) -> list[Completion]:
        """The greedy answer to each prompt; raises `ConfideError` where one cannot be had."""
        return self._all([partial(self._greedy, prompt, max_new_tokens) for prompt in prompts])

    def sample(
        self,
        prompts: Sequence[list[int]],
        max_new_tokens: int,
        count: int,
        *,
        temperature: float = 1.0,
        seed: int = 0,
        gone: Gone | None = None,
    ) -> list[list[Completion]]:
        """``count`` sampled answers to each prompt; the same seed gives the same ones where the server keeps seeds."""
        drawn = Sampling(count, temperature, seed)
        return self._all([partial(self._samples, prompt, max_new_tokens, drawn) for prompt in prompts])

    def next_tokens(
        self,
        prompts: Sequence[list[int]],
        ids: Sequence[int],
        tails: Sequence[list[int]] | None = None,
        *,
        float32: bool = False,
    ) -> NextTokens:
        """Log-probabilities of the texts ``ids`` as the first token after each prompt.

        One that is not among the likeliest that the server tells has at most the probability of the last of these,
        which stands for it; NaN where none of ``ids`` is among them, or the server does not
        answer this prompt; raises `ConfideError` when it fails at `MOST_FAILURES` in a row.
        """
        if tails is not None and any(tails):
            raise ConfideError("this endpoint reads no tokens behind a given answer")
        texts = [self._texts[id] for id in ids]

        async def ask(prompt: list[int]) -> tuple[list[float], float]:
            asked = self._asked(prompt, 1, temperature=0)
            asked = replace(asked, logprobs=True, top_logprobs=self.first.top_logprobs)
            reply = await self._or_none(self._ask(prompt, asked))
            return letter_logprobs(reply.choices[0], texts) if reply else ([math.nan] * len(texts), math.nan)

        found = self._all([partial(ask, prompt) for prompt in prompts])
        return NextTokens(
            np.array([values for values, _ in found], dtype=np.float64).reshape(-1, len(texts)),
            np.array([rival for _, rival in found], dtype=np.float64),
        )

    def closed(
        self,
        prompts: Sequence[list[int]],
        answers: Sequence[list[int]],
        *,
        layers: Sequence[int] = (),
        measure: bool = False,
    ) -> GivenAnswers:
        """Given ``answers`` with their tokens' log-probabilities; a server shows no states."""
        if layers:
            raise ConfideError("this endpoint gives no hidden states")

        async def read(prompt: list[int], text: str) -> Completion:
            asked = self._asked(prompt, 1, temperature=0, prompt_logprobs=0, **CONTINUED)
            asked = replace(asked, messages=[*asked.messages, {"role": "assistant", "content": text}])
            return given_answer(await self._ask(None, asked), text)

        pairs = zip(prompts, map(self.decode, answers), strict=True)
        return GivenAnswers(self._all([partial(read, prompt, text) for prompt, text in pairs]))

    def verdicts(
        self, prompts: Sequence[list[int]], answers: Sequence[list[int]], progress: Progress | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """z [n] of given ``answers``, by the reader that the server runs, and the tokens [n] that took.

        NaN where it does not read one; raises `ConfideError` when it fails at `MOST_FAILURES` in a row.
        """

        async def ask(row: int) -> tuple[int, tuple[float, int] | None]:
            assert self._second is not None  # else it has no such capability
            turns, template = self._conversations[prompts[row][0]]
            reading = self._second.read_given(turns, template_field(template), self.decode(answers[row]))
            return row, await self._or_none(reading)

        values, tokens = np.full(len(prompts), np.nan), np.zeros(len(prompts), dtype=np.int64)
        found = self._loop.each([partial(ask, row) for row in range(len(prompts))], self._config.concurrency)
        for done, (row, told) in enumerate(found, 1):
            values[row], tokens[row] = told or (np.nan, 0)
            if progress:
                progress(done, len(prompts), "reading answers")
        return values, tokens

    def arrivals(self, prompts: Sequence[list[int]], max_new_tokens: int, sampling: Sampling) -> Iterator[Arrival]:
        """The answers to all prompts with their samples, as they come, each once.

        A question that gets no answer although it was asked again and again comes with the reason; raises
        `ConfideError` when the server fails at `MOST_FAILURES` in a row, or another model answers.
        """

        async def ask(row: int) -> Arrival:
            began = time.monotonic()
            try:
                greedy = await self._greedy(prompts[row], max_new_tokens)
                samples = await self._samples(prompts[row], max_new_tokens, sampling) if sampling.count else []
            except ModelError as failure:
                if self._is_gone(failure):
                    raise self._error(failure) from None
                return Arrival(row, failed=f"the server {self._server.reason(failure)}")
            self._failures = 0
            return Arrival(row, greedy, samples, time.monotonic() - began)

        yield from self._loop.each([partial(ask, row) for row in range(len(prompts))], self._config.concurrency)

    # -- requests ------------------------------------------------------------------------------------------

    async def _greedy(self, prompt: list[int], room: int) -> Completion:
        asked = replace(self._asked(prompt, room, temperature=0), read=True)
        if self.first.logprobs:  # the ids of a reading come in the place of the likeliest tokens
            top = self.first.top_logprobs if room <= _TOP_ROOM and "reading" not in self.capabilities else 0
            asked = replace(asked, logprobs=True, top_logprobs=top or None)
        asked = self._second.asked(asked) if self._second else asked
        reply = await self._ask(prompt, asked)
        (found,) = completion_of(reply)
        return with_verdict(found, await self._second.measured(asked, reply)) if self._second else found

    async def _samples(self, prompt: list[int], room: int, sampling: Sampling) -> list[Completion]:
        """Sampled answers: in one request where the server gives several, else one by one."""
        found: list[Completion] = []
        at_once, without = sampling.count, set(self._left_out)
        while (left := sampling.count - len(found)) > 0:
            wanted = {"n": min(left, at_once), "seed": sampling.seed * 1_000_003 + len(found)}
            more = {name: value for name, value in wanted.items() if name not in without}
            if more.get("n") == 1:
                del more["n"]
            asked = self._asked(prompt, room, temperature=sampling.temperature, **more)
            asked = replace(asked, n=more.get("n", 1), logprobs=self.first.logprobs)
            try:
                given = completion_of(await self._ask(prompt, asked))[:left]
            except ModelError as failure:
                if failure.kind == "empty":  # one of them is: they come one by one, and it counts as a sample
                    if asked.n == 1:
                        found.append(Completion("", [], [], [], None, "stop", written=0))
                    at_once = 1
                    continue
                if failure.kind not in NOT_TAKEN or not more:
                    raise
                without.add("n" if "n" in more else "seed")
                continue
            self._left_out |= without  # it was about the field, since without it there is an answer
            if len(given) < more.get("n", 1):
                self._left_out.add("n")
                without.add("n")
            found += given
        return found

    def _asked(self, prompt: list[int], room: int, **options: Any) -> Asked:
        turns, template = self._conversations[prompt[0]]
        options |= {self.first.limit: room, **template_field(template)}
        return Asked(chat=True, messages=turns, options=options, deadline=math.inf, read=False)

    async def _ask(self, prompt: list[int] | None, asked: Asked) -> Reply:
        reply = await self._server.ask(asked)
        before, now = identity_text(self._identity), reply.identity
        if same_model(before, now) is False:
            raise ConfideError(f"another model answers under {self.name} now ({now}) than at the start ({before})")
        if self._server.problem is not None:
            raise ConfideError(f"the server at {self._server.config.base_url} {self._server.problem}")
        if prompt is not None:
            self._read[prompt[0]] = reply.prompt_tokens
        return reply

    def _all(self, works: Sequence[partial[Coroutine[Any, Any, Any]]]) -> list[Any]:
        """The results of all works; raises `ConfideError` for the first that fails."""

        async def run() -> list[Any]:
            tasks = [asyncio.ensure_future(work()) for work in works]
            try:
                return await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()

        try:
            return self._loop.run(run())
        except ModelError as failure:
            raise self._error(failure) from None

    async def _or_none(self, work: Coroutine[Any, Any, T]) -> T | None:
        """What comes of ``work``, None where it fails; raises `ConfideError` where there is no use in asking on."""
        try:
            found = await work
        except ModelError as failure:
            if self._is_gone(failure):
                raise self._error(failure) from None
            return None
        self._failures = 0
        return found

    def _is_gone(self, failure: ModelError) -> bool:
        """Whether there is no use in asking on, after one more failure."""
        self._failures += failure.counts
        return failure.kind in ("unauthorized", "unpaid") or self._failures >= MOST_FAILURES

    def _error(self, failure: ModelError) -> ConfideError:
        kind = ConfideError if failure.counts else RefusedQuestionError
        return kind(f"the server at {self._server.config.base_url} {self._server.reason(failure)}")
