"""What the reading costs in vLLM, and what other confidences cost there: paired, interleaved rounds.

Every arm answers the same questions of a round, one arm after the other, each round in another order. Both servers are
up, one is asked, and its engine has one thread. Worked examples are in the prefix cache, as in service; each question
carries a number of its own, so that none is. Every answer has as many tokens as the others, whatever it says: 4, as
answers to these questions have, or 64, where decoding dominates.

The cost of the reading is that of ``reading`` (the plug-in, asked for its ids) against ``log-probabilities`` (plain
vLLM, asked for them); what comes of a second request or of samples is measured on plain vLLM against the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count

from benchmarks.common import Json
from benchmarks.engines.paired_rounds import in_turn, ratio
from benchmarks.engines.prepared import Prepared, messages
from benchmarks.engines.request_rounds import Client, ask_all
from confide.methods.asking import question_about
from confide.methods.p_true import PROMPTS
from confide.records import Record
from vllm_server import Server

BASE = "log-probabilities"
READING = ("plain", BASE, "plug-in", "reading")
BESIDE = ("p_true", "second request", "ten samples")
SERVED = ("plug-in", "reading")
SAMPLES = 10


@dataclass(frozen=True)
class Load:
    """So many streams, tokens an answer, and how long it is measured; ``beside`` rounds have all arms."""

    streams: int
    tokens: int
    rounds: int
    questions: int
    beside: int = 0

    @property
    def name(self) -> str:
        """The load in words."""
        return f"{self.streams} stream{'s' * (self.streams > 1)}, {self.tokens} tokens"

    def arms(self, number: int) -> list[str]:
        """The arms of a round, in its order."""
        return in_turn([*READING, *(BESIDE if number < self.beside else ())], number)


LOADS = (
    Load(32, 4, rounds=8, questions=32, beside=2),
    Load(1, 4, rounds=8, questions=8, beside=2),
    Load(32, 64, rounds=4, questions=32),
    Load(1, 64, rounds=6, questions=2),
)
QUICK = (Load(32, 4, 2, 8, beside=1), Load(1, 4, 2, 1, beside=1), Load(32, 64, 2, 4))


def measure(prepared: Prepared) -> Json:
    """Every arm against plain vLLM that tells log-probabilities, under each load."""
    loads = QUICK if prepared.quick else LOADS
    with_servers = partial(under_loads, prepared, loads)
    return prepared.stage("reading-cost", with_servers)


def under_loads(prepared: Prepared, loads: Sequence[Load]) -> Json:
    """All loads, on one pair of servers."""
    made: Json = {}
    numbers = count(100)
    with prepared.both("float32") as (plain, served):
        for load in loads:
            made[load.name] = costs(prepared, load, plain, served, numbers)
            print(f"  {load.name}: {made[load.name]}", flush=True)
    return {"loads": made}


def costs(prepared: Prepared, load: Load, plain: Server, served: Server, numbers: Iterator[int]) -> Json:
    """What each arm takes, as a multiple of what plain vLLM with log-probabilities does in the same rounds.

    Args:
        numbers: of three digits, none of which was used before.
    """
    took: dict[str, list[float]] = {arm: [] for arm in (*READING, *BESIDE)}
    for number in range(-1, load.rounds):  # the first one warms up
        for arm in load.arms(max(number, 0)):
            mark, server = next(numbers), served if arm in SERVED else plain
            rows = [marked(prepared.rows["test"][i], mark) for i in range(load.questions)]
            asks = [partial(ARMS[arm], prepared, row, exactly(load.tokens)) for row in rows]
            seconds = ask_all(server.url, asks, load.streams).seconds
            if number >= 0:
                took[arm].append(seconds)
    base = took[BASE]
    per_question = {arm: 1000 * sum(all_) / (len(all_) * load.questions) for arm, all_ in took.items() if all_}
    times = {arm: ratio(all_, base[: len(all_)]) for arm, all_ in took.items() if all_ and arm != BASE}
    return {"ms_a_question": per_question, "times": times, "questions": load.questions, "rounds": load.rounds}


def marked(row: Record, mark: int) -> Record:
    """The row with a number of three digits in front of its question."""
    *before, question = row.messages
    return row.model_copy(
        update={"messages": [*before, question.model_copy(update={"content": f"({mark}) {question.content}"})]}
    )


def exactly(tokens: int) -> Json:
    """Fields of a request for so many tokens."""
    return {"max_tokens": tokens, "ignore_eos": True}


# Arms


def body(row: Record, options: Json, **more: object) -> Json:
    """A greedy request."""
    return {"model": "m", "messages": messages(row), "temperature": 0, **options, **more}


async def plain_answer(_: Prepared, row: Record, options: Json, client: Client) -> Json:
    """The answer alone."""
    return await client.chat(body(row, options))


async def with_logprobs(_: Prepared, row: Record, options: Json, client: Client) -> Json:
    """The answer and its log-probabilities."""
    return await client.chat(body(row, options, logprobs=True, return_tokens_as_token_ids=True))


async def with_reading(prepared: Prepared, row: Record, options: Json, client: Client) -> Json:
    """The answer with the reading."""
    return await client.chat(body(row, options, **prepared.file.reading.fields()))


async def with_p_true(prepared: Prepared, row: Record, options: Json, client: Client) -> Json:
    """The answer, then whether it is right."""
    told = await with_logprobs(prepared, row, options, client)
    answer = told["choices"][0]["message"]["content"]
    asked = question_about(row.model_copy(update={"answer": answer}), PROMPTS[0][0])
    turns = [message.model_dump(exclude_none=True) for message in asked]
    return await client.chat(
        {"model": "m", "messages": turns, "temperature": 0, "max_tokens": 1, "logprobs": True, "top_logprobs": 20}
    )


async def with_second(prepared: Prepared, row: Record, options: Json, client: Client) -> Json:
    """The answer, then one token behind its own tokens, on a warm prefix: what a reader costs before its adapter."""
    told = await client.chat(body(row, options, logprobs=True, return_token_ids=True))
    written = told["choices"][0]["token_ids"]
    ids = told["prompt_token_ids"] + written
    return await client.post(
        "/v1/completions", {"model": "m", "prompt": ids, "temperature": 0, "max_tokens": 1, "logprobs": 20}
    )


async def with_samples(prepared: Prepared, row: Record, options: Json, client: Client) -> Json:
    """The answer, then ten samples in one request."""
    await with_logprobs(prepared, row, options, client)
    return await client.chat(body(row, options) | {"temperature": 1, "n": SAMPLES})


ARMS = {
    "plain": plain_answer,
    BASE: with_logprobs,
    "plug-in": with_logprobs,
    "reading": with_reading,
    "p_true": with_p_true,
    "second request": with_second,
    "ten samples": with_samples,
}
