"""The instruments of the engines' benchmark: they must see a difference that is there, and count every request."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.engines import parity
from benchmarks.engines.failing_endpoint import FAILURES, FailingProxy
from benchmarks.engines.paired_rounds import added_p50, in_turn, ratio
from benchmarks.engines.request_rounds import ask_all, ask_at
from confide.annotation import annotate
from confide.engines.openai.endpoint_config import EndpointConfig
from confide.engines.openai.openai_engine import OpenAIEngine
from confide.records import read_records
from confide.tasks import load_task
from upstreams import Upstream


def test_each_arm_is_first_equally_often() -> None:
    firsts = [in_turn(["a", "b", "c"], number)[0] for number in range(6)]
    assert firsts == ["a", "b", "c", "a", "b", "c"]
    assert sorted(in_turn(["a", "b", "c"], 4)) == ["a", "b", "c"]


def test_a_ratio_of_paired_rounds_does_not_feel_what_hits_both() -> None:
    noise = np.random.default_rng(0).uniform(1, 5, 20)
    found = ratio(1.02 * noise, noise)
    assert found["value"] == pytest.approx(1.02)
    assert found["low"] == pytest.approx(1.02)
    other = ratio(1.02 * noise, noise[::-1])
    assert other["high"] - other["low"] > 0.1


def test_what_is_added_to_the_median_is_found_under_noise_that_both_share() -> None:
    draw = np.random.default_rng(1)
    alone = [{"due_s": np.arange(200) / 10, "latency_ms": draw.gamma(4, 20, 200)} for _ in range(4)]
    through = [{"due_s": one["due_s"], "latency_ms": one["latency_ms"] + 3} for one in alone]
    found = added_p50(through, alone)
    assert found["value"] == pytest.approx(3)
    assert found["low"] == pytest.approx(3)
    assert found["high"] == pytest.approx(3)
    assert found["stretches"] == 16


def reply(text: str, *logprobs: float) -> dict[str, Any]:
    return {"text": text, "content": [{"token": "token_id:1", "logprob": value} for value in logprobs]}


def test_the_last_bit_of_one_log_probability_counts() -> None:
    one, other = -0.1, float(np.nextafter(np.float32(-0.1), np.float32(0)))
    told = parity.bitwise(
        [reply("a", one), reply("b", one), reply("c", one)], [reply("a", one), reply("b", other), reply("d", one)]
    )
    assert (told["n"], told["equal"], told["same_text"]) == (3, 1, 2)


def test_answers_come_back_in_the_order_of_the_questions_and_latency_counts_from_when_one_was_due(
    small: Upstream,
) -> None:
    def asking(number: int) -> Any:
        async def ask(client: Any) -> int:
            await client.chat({"model": "m", "messages": [{"role": "user", "content": str(number)}]})
            return number

        return ask

    asks = [asking(number) for number in range(20)]
    address = small.url.removesuffix("/v1")
    assert ask_all(address, asks, 4).replies == list(range(20))
    found = ask_at(address, asks, [0.01 * number for number in range(20)])
    assert found.replies == list(range(20))
    assert found.due_s == pytest.approx([0.01 * number for number in range(20)])
    assert min(found.latency_ms) > 0


def test_a_failing_endpoint_fails_in_every_way_and_each_question_is_answered_once(
    small: Upstream, tmp_path: Path
) -> None:
    task, out = load_task("geography", limit=60, seed=0), tmp_path / "records.jsonl"
    proxy = FailingProxy(small.url.removesuffix("/v1"), seed=1)
    with proxy.running() as address:
        engine = OpenAIEngine(EndpointConfig(base_url=address, timeout_s=8, concurrency=16), "m")
        annotate(engine, task, out)
        engine.close()
    assert set(proxy.failed) == set(FAILURES)
    assert sorted(record.id for record in read_records(out)) == sorted(question.id for question in task.questions)
    asked = {text: times for text, times in proxy.answered.items() if "Say yes" not in text}
    assert asked == Counter(json.dumps(task.prompt(question)) for question in task.questions)
