"""What the router finds out about servers by its own question at the start, and what no client can teach it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from confide.engines.openai import start_check as module
from confide.engines.openai.model_error import ModelError
from confide.engines.openai.start_check import ADDED, QUESTION, StartCheck
from upstreams import Running, Upstream, events, expert_server, router, said, small_server


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FIRST_WAIT_S", 0.02)


class Server:
    """Refuses fields, and fails with what it is told before that."""

    def __init__(self, *refuses: str, fails: tuple[str, ...] = ()):
        self.refuses = set(refuses)
        self.fails = list(fails)
        self.asked: list[dict[str, Any]] = []

    async def send(self, body: dict[str, Any]) -> None:
        self.asked.append(body)
        if self.fails:
            raise ModelError(self.fails.pop(0))
        if self.refuses & body.keys():
            raise ModelError("rejected", counts=False)


@pytest.mark.parametrize(
    ("refuses", "left_out", "requests"),
    [
        ([], set(), 1),
        (["logprobs"], {"logprobs"}, 5),
        (["stream_options"], {"stream_options"}, 5),
        (["stream"], {"stream", "stream_options"}, 4),
        (["logprobs", "stream_options"], {"logprobs", "stream_options"}, 5),
        (["logprobs", "stream", "stream_options"], {"logprobs", "stream", "stream_options"}, 4),
        (["messages"], set(), 2),  # what refuses everything says nothing
        (["max_tokens"], set(), 2),
    ],
)
def test_a_few_questions_of_one_token_tell(refuses: list[str], left_out: set[str], requests: int) -> None:
    server = Server(*refuses)
    check = StartCheck("big", server.send)
    asyncio.run(asyncio.wait_for(check.run(), 10))
    assert (check.answered, check.left_out, len(server.asked)) == (True, left_out, requests)
    assert all(body["max_tokens"] == 1 and body["messages"] == QUESTION for body in server.asked)
    assert set().union(*server.asked) <= {"messages", "max_tokens", *(key for more in ADDED.values() for key in more)}


@pytest.mark.parametrize("kind", ["timeout", "refused", "server_error", "rate_limited", "unauthorized", "malformed"])
def test_it_is_repeated_until_it_is_answered(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    server = Server("logprobs", fails=(kind,) * 4)
    check = StartCheck("big", server.send)
    asyncio.run(asyncio.wait_for(check.run(), 10))
    assert (check.left_out, len(server.asked)) == ({"logprobs"}, 9)
    assert caplog.text.count("does not answer the check at the start") == 1  # said once, not at every try
    assert "big does not take logprobs: left out" in caplog.text


def test_a_failure_in_the_middle_leaves_nothing_half_learned() -> None:
    server = Server("stream_options")
    check = StartCheck("big", server.send)

    async def send(body: dict[str, Any]) -> None:
        if len(server.asked) in (2, 5):
            server.fails = ["server_error"]
        await server.send(body)

    check._send = send
    asyncio.run(asyncio.wait_for(check.run(), 10))
    assert check.left_out == {"stream_options"}


# -- through the router ----------------------------------------------------------------------------------------------


def until(holds: Callable[[], object]) -> None:
    end = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def checked(running: Running, name: str = "big") -> bool:
    return f'confide_start_check{{model="{name}"}} 1.0' in running.get("/metrics").text


def test_what_an_expert_does_not_take_is_left_out(tmp_path: Path, small: Upstream, big: Upstream) -> None:
    small.probability, big.refuses = 0.2, frozenset({"stream_options", "logprobs"})
    with router(tmp_path, small=small_server(small), experts=[expert_server(big)]) as running:
        until(lambda: checked(running))
        chunks = events(running.ask(stream=True))
        assert said(chunks) == "It is Japan"
        assert "stream_options" not in big.requests[-1]
        metrics = running.get("/metrics").text
        assert 'confide_left_out{field="stream_options",model="big"} 1.0' in metrics
        assert 'confide_left_out{field="logprobs",model="big"} 1.0' in metrics
        assert 'model="small"} 1.0' in metrics
        assert 'confide_left_out{field="stream_options",model="small"}' not in metrics
        # A client that wants log-probabilities is not given an answer without them in silence.
        asked = len(big.requests)
        assert running.ask(logprobs=True).status_code == 503
        assert (running.rows()[-1]["error"], len(big.requests)) == ("big: unsupported", asked)


def test_a_server_that_cannot_stream_is_asked_for_the_whole(tmp_path: Path, small: Upstream, big: Upstream) -> None:
    small.probability, big.refuses = 0.2, frozenset({"stream"})
    with router(tmp_path, small=small_server(small), experts=[expert_server(big)]) as running:
        until(lambda: checked(running))
        chunks = events(running.ask(stream=True))
        assert (said(chunks), chunks[-2]["confide"]["served"]) == ("It is Japan", "expert")
        assert "stream" not in big.requests[-1]


def test_a_small_server_without_log_probabilities_escalates(tmp_path: Path, small: Upstream, big: Upstream) -> None:
    small.refuses = frozenset({"logprobs"})
    with router(tmp_path, small=small_server(small), experts=[expert_server(big)]) as running:
        until(lambda: checked(running, "small"))
        assert running.ask().json()["confide"]["served"] == "expert"
        assert running.rows()[-1]["error"] is None


def test_the_answer_to_the_check_is_limited_also_where_max_tokens_is_dropped(
    tmp_path: Path, small: Upstream, big: Upstream
) -> None:
    experts = [expert_server(big, drop=["max_tokens"])]
    with router(tmp_path, small=small_server(small), experts=experts):
        until = time.monotonic() + 20
        while not big.checks and time.monotonic() < until:
            time.sleep(0.01)
    assert big.checks[0]["max_completion_tokens"] == 1
    assert "max_tokens" not in big.checks[0]


def test_a_server_that_hangs_delays_no_start_and_no_end(tmp_path: Path, small: Upstream, big: Upstream) -> None:
    big.checked = ["hang"]
    with router(tmp_path, small=small_server(small), experts=[expert_server(big)]) as running:
        until(lambda: big.checks)
        assert running.ask().status_code == 200
        assert 'confide_start_check{model="big"} 0.0' in running.get("/metrics").text
        assert running.get("/readyz").status_code == 200
    assert len(big.checks) == 1


def test_a_server_that_comes_late_is_asked_once_it_is_there(tmp_path: Path, small: Upstream, big: Upstream) -> None:
    small.probability, big.refuses = 0.2, frozenset({"stream_options"})
    big.checked = ["500", "malformed", "401", "429", "ok"]
    with router(tmp_path, small=small_server(small), experts=[expert_server(big)]) as running:
        until(lambda: checked(running))
        assert running.ask(stream=True).status_code == 200
        assert "stream_options" not in big.requests[-1]
        asked = len(big.checks)
        time.sleep(0.3)
        assert len(big.checks) == asked


@pytest.mark.parametrize("stream", [False, True])
def test_no_client_teaches_what_a_server_takes(tmp_path: Path, small: Upstream, big: Upstream, stream: bool) -> None:
    """Whatever an expert says to a client's request, the next one is sent as before."""
    small.probability = 0.2
    with router(tmp_path, small=small_server(small), experts=[expert_server(big)]) as running:
        until(lambda: checked(running))
        for name in ("stream_options", "logprobs", "stream"):
            big.behaviour, big.error = ["400"], {"error": {"code": "unsupported_parameter", "param": name}}
            for _ in range(3):
                assert running.ask(stream=stream, logprobs=True, seed=1).status_code in (400, 503)
        big.behaviour = ["ok"]
        assert running.ask(stream=True, logprobs=True).status_code == 200
        assert {"stream_options", "logprobs", "stream"} <= big.requests[-1].keys()
        assert "confide_left_out{" not in running.get("/metrics").text


def test_the_check_does_not_count_against_a_server(tmp_path: Path, small: Upstream, big: Upstream) -> None:
    small.probability, big.checked = 0.2, ["500"]
    with router(tmp_path, small=small_server(small), experts=[expert_server(big)]) as running:
        until(lambda: len(big.checks) > 4)
        assert running.ask().json()["confide"]["served"] == "expert"
        assert "confide_failures_total{" not in running.get("/metrics").text
