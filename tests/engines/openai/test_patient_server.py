"""Requests that are sent again: when, how often, and after which wait."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest

from confide.engines.openai import patient_server
from confide.engines.openai.asked import Asked
from confide.engines.openai.endpoint_config import EndpointConfig
from confide.engines.openai.model_error import ModelError
from confide.engines.openai.patient_server import MOST_WAIT_S, PatientServer, wait_s
from confide.engines.openai.reply import Reply
from upstreams import Upstream

QUESTION = Asked(chat=True, messages=[{"role": "user", "content": "Where?"}], options={}, deadline=math.inf)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits between attempts, none of which is waited for."""
    found: list[float] = []

    def note(attempt: int, asked_for: float | None) -> float:
        found.append(wait_s(attempt, asked_for))
        return 0.0

    monkeypatch.setattr(patient_server, "wait_s", note)
    return found


def ask(upstream: Upstream, retries: int = 5, **config: Any) -> Reply:
    async def run() -> Reply:
        endpoint = EndpointConfig(base_url=upstream.url, **config)
        server = PatientServer(endpoint.server("tiny"), concurrency=2, retries=retries)
        try:
            return await server.ask(QUESTION)
        finally:
            await server.close()

    return asyncio.run(run())


def test_waits_double_up_to_the_answer(small: Upstream, waits: list[float]) -> None:
    small.behaviour = ["500", "malformed", "429", "ok"]
    assert ask(small).text == "Japan"
    assert [0.25 * 2**n <= wait <= 0.5 * 2**n for n, wait in enumerate(waits)] == [True] * 3


def test_a_longer_retry_after_is_waited_for(small: Upstream, waits: list[float]) -> None:
    small.behaviour = ["429-long", "ok"]  # 30 seconds
    assert ask(small).text == "Japan"
    assert waits == [30.0]


def test_no_wait_is_longer_than_a_minute(small: Upstream, waits: list[float]) -> None:
    small.behaviour = ["500"]
    with pytest.raises(ModelError):
        ask(small, retries=10)
    assert len(waits) == 10
    assert max(waits) == MOST_WAIT_S


@pytest.mark.parametrize("word", ["400", "401", "402", "404", "redirect"])
def test_what_would_not_help_is_not_tried_again(small: Upstream, waits: list[float], word: str) -> None:
    small.behaviour = [word]
    with pytest.raises(ModelError):
        ask(small)
    assert len(small.requests) == 1
    assert waits == []


def test_a_server_that_hangs_is_asked_again(small: Upstream, waits: list[float]) -> None:
    small.behaviour = ["hang", "ok"]
    assert ask(small, timeout_s=0.2).text == "Japan"
    assert len(small.requests) == 2


def test_no_more_requests_are_under_way_than_wanted() -> None:
    counts = {"active": 0, "most": 0}

    class Counting(Upstream):
        async def handle(self, request: Any) -> Any:
            counts["active"] += 1
            counts["most"] = max(counts["most"], counts["active"])
            await asyncio.sleep(0.02)
            counts["active"] -= 1
            return await super().handle(request)

    async def run(url: str) -> None:
        server = PatientServer(EndpointConfig(base_url=url).server("tiny"), concurrency=3, retries=0)
        await asyncio.gather(*(server.ask(QUESTION) for _ in range(12)))
        await server.close()

    with Counting().running() as upstream:
        asyncio.run(run(upstream.url))
    assert len(upstream.requests) == 12
    assert counts["most"] == 3
