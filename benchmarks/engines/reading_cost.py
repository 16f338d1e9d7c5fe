"""What the reading costs in vLLM, and what other confidences cost there: paired, interleaved rounds.

Every arm answers the same questions of a round, one arm after the other, each round in another order; before each its
server forgets its prefix cache and reads the worked examples once. Both servers are up, one is asked. The engine has
one thread. Two lengths of answers: the questions' own (a few tokens), and 64 tokens, where decoding dominates.

The cost of the reading is that of ``reading`` (the plug-in, asked for its ids) against ``log-probabilities`` (plain
vLLM, asked for them); what comes of a second request or of samples is measured on plain vLLM against the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from benchmarks.common import Json
from benchmarks.engines.paired_rounds import in_turn, ratio
from benchmarks.engines.prepared import ROOM, Prepared, messages
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
ASK_TOKENS = 4
LONG: Json = {"max_tokens": 64, "min_tokens": 64}
OWN: Json = {"max_tokens": ROOM}


@dataclass(frozen=True)
class Load:
    """So many streams, what answers may be, and how long it is measured; ``beside`` rounds have all arms."""

    streams: int
    answers: str
    rounds: int
    questions: int
    beside: int = 0

    @property
    def name(self) -> str:
        """The load in words."""
        return f"{self.streams} stream{'s' * (self.streams > 1)}, {self.answers} answers"

    def arms(self, number: int) -> list[str]:
        """The arms of a round, in its order."""
        return in_turn([*READING, *(BESIDE if number < self.beside else ())], number)


LOADS = (
    Load(32, "short", rounds=12, questions=64, beside=3),
    Load(1, "short", rounds=12, questions=12, beside=3),
    Load(32, "long", rounds=8, questions=32),
    Load(1, "long", rounds=8, questions=2),
)
QUICK = (Load(32, "short", 2, 32, beside=1), Load(1, "short", 2, 4, beside=1), Load(32, "long", 2, 32))


def measure(prepared: Prepared) -> Json:
    """Every arm against plain vLLM that tells log-probabilities, under each load."""
    loads = QUICK if prepared.quick else LOADS
    with_servers = partial(under_loads, prepared, loads)
    return prepared.stage("reading-cost", with_servers)


def under_loads(prepared: Prepared, loads: Sequence[Load]) -> Json:
    """All loads, on one pair of servers."""
    made: Json = {}
    with prepared.both("float32") as (plain, served):
        for load in loads:
            made[load.name] = costs(prepared, load, plain, served)
            print(f"  {load.name}: {made[load.name]}", flush=True)
    return {"loads": made}


def costs(prepared: Prepared, load: Load, plain: Server, served: Server) -> Json:
    """What each arm takes, as a multiple of what plain vLLM with log-probabilities does in the same rounds."""
    took: dict[str, list[float]] = {arm: [] for arm in (*READING, *BESIDE)}
    for number in range(-1, load.rounds):  # the first one warms up
        rows = of_round(prepared.rows["test"], number + 1, load.questions)
        for arm in load.arms(max(number, 0)):
            server = served if arm in SERVED else plain
            start_anew(server, rows)
            asks = [partial(ARMS[arm], prepared, row, LONG if load.answers == "long" else OWN) for row in rows]
            seconds = ask_all(server.url, asks, load.streams).seconds
            if number >= 0:
                took[arm].append(seconds)
    base = took[BASE]
    per_question = {arm: 1000 * sum(all_) / (len(all_) * load.questions) for arm, all_ in took.items() if all_}
    times = {arm: ratio(all_, base[: len(all_)]) for arm, all_ in took.items() if all_ and arm != BASE}
    return {"ms_a_question": per_question, "times": times, "questions": load.questions, "rounds": load.rounds}


def of_round(rows: Sequence[Record], number: int, count: int) -> list[Record]:
    """``count`` rows, other ones than the round before had."""
    return [rows[(number * count + i) % len(rows)] for i in range(count)]


def start_anew(server: Server, rows: Sequence[Record]) -> None:
    """Forget the prefix cache, then read the worked examples of each relation again."""
    server.post("/reset_prefix_cache")
    for domain in sorted({row.domain for row in rows}):
        examples = next(messages(row) for row in rows if row.domain == domain)
        server.chat([*examples[:-1], {"role": "user", "content": "?"}], max_tokens=1)


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
    """The answer, then one token behind its own tokens and as many more as a reader's ask tokens: its cost."""
    told = await client.chat(body(row, options, logprobs=True, return_token_ids=True))
    written = told["choices"][0]["token_ids"]
    ids = told["prompt_token_ids"] + written + written[-1:] * ASK_TOKENS
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
