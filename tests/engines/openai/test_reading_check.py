"""Whether a server gives the reading of one export: what is looked at, how often, and what is said of it."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest

from confide.engines.openai import reading_check as module
from confide.engines.openai.asked import Asked as Request
from confide.engines.openai.learned_reading import LearnedReading
from confide.engines.openai.model_error import ModelError
from confide.engines.openai.reading_check import NOT_ASKED, LearnedCheck, ReadingCheck, speculates
from confide.engines.openai.server_config import ServerModel
from confide.engines.openai.upstream import Http, Server
from reading_server import END, FINGERPRINT, VOCABULARY, ReadingServer

POSITIONS = ("prompt_end", "answer_mean", "answer_last")
READING = LearnedReading(VOCABULARY, POSITIONS, (0.0, 0.0, 0.0), frozenset({END}), tuple(FINGERPRINT))


class Asked:
    """Answers as `ReadingServer` does, after as many failures as it is told."""

    def __init__(self, plugin: Any = "there", *fails: str, speculates: bool = False):
        self.server, self.fails, self.spec, self.count = ReadingServer(plugin=plugin), list(fails), speculates, 0
        self.lora = False

    async def ask(self, body: dict[str, Any]) -> list[Any]:
        self.count += 1
        if self.fails:
            raise ModelError(self.fails.pop(0), again=True)
        if self.server.plugin == "none":
            raise ModelError("rejected", counts=False)
        return self.server.tokens_of("Hello", ["Hi"], body)

    async def speculates(self) -> bool:
        return self.spec

    async def adapted(self) -> bool:
        return self.lora

    @property
    def check(self) -> LearnedCheck:
        return LearnedCheck("small", READING, self.ask, self.speculates, self.adapted)


@pytest.mark.parametrize(("plugin", "why"), [
    ("there", None), ("none", "without confide's plug-in"), ("silent", "does not return the ids"),
    ("other", "another export: fingerprint 0601ff81, not 0700fe80"), ("masked", "does not return the ids"),
])  # fmt: skip
def test_what_is_found(plugin: Any, why: str | None) -> None:
    check = Asked(plugin).check
    assert check.problem == NOT_ASKED
    problem = asyncio.run(check.look())
    assert problem is None if why is None else why in str(problem)
    assert check.problem == problem
    assert check.failure is None


def test_speculative_decoding_is_seen_before_anything_is_asked() -> None:
    asked = Asked(speculates=True)
    assert "would end it" in str(asyncio.run(asked.check.look()))
    assert asked.count == 0
    assert speculates(b'# TYPE\nvllm:spec_decode_num_drafts_total{engine="0"} 0.0\n')
    assert not speculates(b"vllm:num_requests_running 0.0\n")


def test_an_adapter_is_seen_although_the_weights_below_it_are_the_exported_ones() -> None:
    (asked := Asked()).lora = True
    assert "LoRA adapter" in str(asyncio.run(asked.check.look()))


def test_a_server_that_does_not_answer_is_no_wrong_server() -> None:
    async def look_twice() -> tuple[str | None, bool, str | None]:
        check = Asked("there", "rate_limited").check
        first = await check.look()
        failed = check.failure is not None
        return first, failed, await check.look()  # at once again: a failure is no finding

    first, failed, second = asyncio.run(look_twice())
    assert "does not answer" in str(first)
    assert failed
    assert second is None


def test_many_who_look_at_once_ask_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked()

    async def look() -> None:
        check = asked.check
        await asyncio.gather(*(check.look() for _ in range(20)))
        await check.look()

    asyncio.run(look())
    assert asked.count == 1


def test_a_doubt_is_looked_into_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LEAST_S", 0.0)
    asked = Asked()

    async def run() -> list[str | None]:
        check = asked.check
        running = asyncio.create_task(check.run())
        seen: list[str | None] = []
        while check.problem is not None:
            await asyncio.sleep(0)
        asked.server.plugin = "other"
        check.doubt()
        seen.append(check.problem)
        while check.problem == seen[0]:
            await asyncio.sleep(0)
        seen.append(check.problem)
        running.cancel()
        return seen

    first, second = asyncio.run(run())
    assert first == "answered without the reading of its export"
    assert "another export" in str(second)


def told_as(value: Any) -> list[Any]:
    """A token whose fingerprint's last byte is told as ``value``."""
    values = dict.fromkeys([*READING.ids, *READING.fingerprint_ids], -768.5)
    values[READING.ids[-1]] = value
    told = [{"token": f"token_id:{id}", "logprob": number} for id, number in values.items()]
    return [{"token": f"token_id:{END}", "logprob": -0.5, "top_logprobs": told}]


@pytest.mark.parametrize("stream", [False, True])
def test_a_server_that_was_away_is_not_asked_for_the_reading_until_it_was_looked_at(stream: bool) -> None:
    async def run() -> tuple[str | None, ModelError | None]:
        config = ServerModel(name="m", base_url="http://127.0.0.1:9/v1", model="tiny")
        server = Server(config, http := Http(), reading=READING)
        assert server.reading is not None
        server.reading.problem = None
        asked = Request(chat=True, messages=[], options={}, deadline=math.inf)
        with pytest.raises(ModelError, match="refused"):
            [piece async for piece in server.stream(asked)] if stream else await server.ask(asked)
        await http.close()
        return server.reading.problem, server.reading.failure

    problem, failure = asyncio.run(run())
    assert "does not answer" in str(problem)
    assert failure is not None


def test_a_look_under_way_ends_with_the_router() -> None:
    ended = []

    async def find() -> str | None:
        try:
            await asyncio.sleep(600)
        finally:
            ended.append(True)
        return None

    async def run() -> None:
        running = asyncio.create_task(ReadingCheck("small", find).run())
        await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await asyncio.sleep(0)
        assert ended == [True]

    asyncio.run(run())


@pytest.mark.parametrize("value", [None, "x", [], 10**400, math.inf, math.nan])
def test_a_token_without_its_log_probability_is_in_no_shape_that_was_asked_for(value: Any) -> None:
    with pytest.raises(ValueError, match="how likely"):
        READING.read([{"token": f"token_id:{END}", "logprob": value, "top_logprobs": []}])


@pytest.mark.parametrize(
    "content",
    [
        [],
        ["Paris"],
        [{"token": "token_id:5", "logprob": -1, "top_logprobs": "none"}],
        [{"token": "token_id:5", "logprob": -1, "top_logprobs": [{"token": ["x"], "logprob": "y"}, 7]}],
        *(told_as(value) for value in (None, "x", [], True, 10**400, math.inf, -math.inf, math.nan)),
    ],
)
def test_odd_shapes_are_no_reading(content: list[Any]) -> None:
    assert READING.wrong(content) is not None
    if content and isinstance(content[0], dict):
        read = READING.read(content)
        assert (read.z, read.other) == (None, True)
