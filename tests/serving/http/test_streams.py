"""Answers in pieces: held back until the decision, or streamed early and marked."""

from __future__ import annotations

import math
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from confide.serving.store.store import Store
from upstreams import FakeModel, Upstream, events, expert_server, policy_file, router, said, small_server


def settings(small: Upstream, *experts: Upstream, **more: Any) -> dict[str, Any]:
    names = ("big", "spare")
    asked = [expert_server(expert, name, retries=0) for expert, name in zip(experts, names, strict=False)]
    return {"small": small_server(small), "experts": asked, **more}


def test_a_held_answer_is_streamed_once_it_is_decided(tmp_path: Path, small: Upstream) -> None:
    with router(tmp_path, **settings(small)) as running:
        response = running.ask(stream=True)
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["x-confide-served"] == "small"
        chunks = events(response)
        assert chunks[-1] == "[DONE]"
        assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
        assert said(chunks) == "Japan"
        assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
        assert chunks[-2]["confide"]["served"] == "small"
        assert {chunk["id"] for chunk in chunks[:-1]} == {chunks[0]["id"]}
        assert not any("confide" in chunk for chunk in chunks[:-2])
        assert small.requests[0].get("stream") is None
        assert running.rows()[0]["id"] == chunks[-2]["confide"]["decision_id"]


def test_usage_comes_last_where_it_is_wanted(tmp_path: Path, small: Upstream, big: Upstream) -> None:
    with router(tmp_path, **settings(small, big)) as running:
        for probability in (0.9, 0.2):
            small.probability = probability
            last = events(running.ask(stream=True, stream_options={"include_usage": True}))[-2]
            assert last["choices"] == []
            assert last["usage"]["total_tokens"] == 12
            assert last["confide"]["served"] == ("small" if probability > 0.5 else "expert")


def test_an_experts_answer_passes_through_as_it_comes(tmp_path: Path, small: Upstream, big: Upstream) -> None:
    small.probability, big.behaviour = 0.2, ["wait"]
    with router(tmp_path, **settings(small, big)) as running:
        body = {"messages": [{"role": "user", "content": "Where?"}], "stream": True}
        seen = ""
        with httpx.stream(
            "POST", f"{running.url}/v1/chat/completions", json=body, trust_env=False, timeout=30
        ) as response:
            assert response.headers["x-confide-answered-by"] == "big"
            for piece in response.iter_text():
                seen += piece
                if '"content":"It "' in seen:  # the expert goes on only after its first piece was read here
                    assert big.resume.is_set() or "[DONE]" not in seen
                    big.resume.set()
        assert big.resume.is_set()
        assert "[DONE]" in seen
        assert big.requests[0]["stream"] is True


def test_a_failing_expert_is_replaced_before_the_first_piece(tmp_path: Path, small: Upstream, big: Upstream) -> None:
    small.probability, big.behaviour = 0.2, ["500"]
    with (
        Upstream(answer="Spare").running() as spare,
        router(tmp_path, **settings(small, big, spare)) as running,
    ):
        chunks = events(running.ask(stream=True))
        assert said(chunks) == "Spare"
        assert chunks[-2]["confide"]["answered_by"] == "spare"


def test_no_expert_is_an_ordinary_error_before_anything_was_sent(
    tmp_path: Path, small: Upstream, big: Upstream
) -> None:
    small.probability, big.behaviour = 0.2, ["500"]
    with router(tmp_path, **settings(small, big)) as running:
        assert running.ask(stream=True).status_code == 503
    with router(tmp_path, **settings(small, big), stream_mode="early") as running:
        small.behaviour = ["500"]
        assert running.ask(stream=True).status_code == 503


def test_an_answer_that_breaks_off_ends_in_an_error_and_is_not_answered_twice(
    tmp_path: Path, small: Upstream, big: Upstream
) -> None:
    small.probability, big.behaviour = 0.2, ["break"]
    with (
        Upstream(answer="Spare").running() as spare,
        router(tmp_path, **settings(small, big, spare)) as running,
    ):
        chunks = events(running.ask(stream=True))
        assert chunks[-1]["error"]["code"] == "broken_off"
        assert "[DONE]" not in chunks
        assert "Spare" not in said(chunks)
        assert not spare.requests
        assert running.rows()[0]["served"] == "error"


def test_early_streams_the_small_answer_and_ends_with_the_decision(
    tmp_path: Path, small: Upstream, big: Upstream
) -> None:
    with router(tmp_path, **settings(small, big), stream_mode="early") as running:
        response = running.ask(stream=True)
        assert response.headers["x-confide-decision-id"].startswith("dec_")
        assert "x-confide-served" not in response.headers
        chunks = events(response)
        assert said(chunks) == "Japan"
        assert chunks[-2]["confide"]["decision"] == "answer"
        assert small.requests[0]["stream"] is small.requests[0]["logprobs"] is True


def test_early_marks_an_experts_answer_that_follows(tmp_path: Path, small: Upstream, big: Upstream) -> None:
    small.probability = 0.2
    with router(tmp_path, **settings(small, big), stream_mode="early") as running:
        chunks = events(running.ask(stream=True))
        assert said(chunks) == "Japan\n\n[answer by big]\n\nIt is Japan"
        mark, end = (chunk["confide"] for chunk in chunks if isinstance(chunk, dict) and "confide" in chunk)
        assert (mark["supersedes"], mark["decision"]) == (True, "escalate")
        assert (end["served"], end["decision_id"]) == ("expert", mark["decision_id"])
        assert end["raw"] == pytest.approx(math.log(0.2))


def test_early_without_an_expert_ends_as_the_policy_says(tmp_path: Path, small: Upstream, big: Upstream) -> None:
    small.probability, big.behaviour = 0.2, ["500"]
    with router(tmp_path, **settings(small, big), stream_mode="early") as running:
        chunks = events(running.ask(stream=True))
        assert said(chunks) == "Japan"
        assert chunks[-1]["error"]["code"] == "no_answer"
    policy = policy_file(tmp_path, last_resort="unverified")
    with router(tmp_path, **settings(small, big), stream_mode="early", policy=policy) as running:
        assert events(running.ask(stream=True))[-2]["confide"]["served"] == "unverified"
    policy = policy_file(tmp_path, abstain=0.3)
    with router(tmp_path, **settings(small, big), stream_mode="early", policy=policy) as running:
        chunks = events(running.ask(stream=True))
        assert said(chunks) == "Japan\n\n[I am not sure enough to answer this.]"
        assert chunks[-2]["confide"]["served"] == "abstained"


def test_early_holds_back_what_cannot_be_taken_back(tmp_path: Path, small: Upstream, big: Upstream) -> None:
    small.probability = 0.2
    with router(tmp_path, **settings(small, big), stream_mode="early") as running:
        for more in ({"n": 2}, {"tools": [{"type": "function"}]}, {"response_format": {"type": "json_object"}}):
            chunks = events(running.ask(stream=True, **more))
            assert "Japan" in said(chunks)
            assert "[answer by" not in said(chunks)
            assert chunks[-2]["confide"]["served"] == "expert"


def test_reasoning_is_streamed_apart(tmp_path: Path, small: Upstream, big: Upstream) -> None:
    small.behaviour = ["think"]
    for mode in ("hold", "early"):
        with router(tmp_path, **settings(small, big), stream_mode=mode) as running:
            chunks = events(running.ask(stream=True))
            assert said(chunks) == "Japan"
            assert said(chunks, "reasoning_content") == "Kyoto, so..."


def test_tool_calls_are_streamed(tmp_path: Path, small: Upstream) -> None:
    small.behaviour = ["tools"]
    with router(tmp_path, **settings(small), mode="observe") as running:
        chunks = events(running.ask(stream=True))
        (calls,) = [c["choices"][0]["delta"]["tool_calls"] for c in chunks[:-2] if "tool_calls" in str(c)]
        assert calls[0]["index"] == 0
        assert calls[0]["function"]["name"] == "look"


def test_a_model_in_process_is_streamed_too(tmp_path: Path, big: Upstream) -> None:
    for mode in ("hold", "early"):
        with router(tmp_path, model=FakeModel(), small={"model": "x"}, stream_mode=mode) as running:
            assert said(events(running.ask("Hello there " * 20, stream=True))) == "Hello there " * 20 + "!"


@pytest.mark.parametrize("mode", ["hold", "early"])
def test_hanging_up_in_a_stream_stops_the_work_upstream(
    tmp_path: Path, small: Upstream, big: Upstream, mode: str
) -> None:
    small.probability, big.behaviour = 0.2, ["slow"]
    with router(tmp_path, **settings(small, big), stream_mode=mode) as running:
        body = {"messages": [{"role": "user", "content": "Where?"}], "stream": True}
        with httpx.stream("POST", f"{running.url}/v1/chat/completions", json=body, trust_env=False) as response:
            for piece in response.iter_raw():
                if b"It" in piece:
                    break
        assert big.hung_up.wait(60)
        row = running.wait_for(lambda row: True)
        assert (row["served"], row["error"]) == ("error", "client: gone")


@pytest.mark.parametrize("mode", ["hold", "early"])
@pytest.mark.parametrize("probability", [0.9, 0.2])
def test_the_row_is_committed_before_the_last_byte(
    tmp_path: Path, small: Upstream, big: Upstream, mode: str, probability: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    small.probability = probability
    leave = threading.Event()
    add = Store.add

    async def late(self: Store, row: Any) -> None:
        import asyncio

        while not leave.is_set():
            await asyncio.sleep(0.01)
        await add(self, row)

    monkeypatch.setattr(Store, "add", late)
    with router(tmp_path, **settings(small, big), stream_mode=mode) as running:
        body = {"messages": [{"role": "user", "content": "Where?"}], "stream": True}
        seen = b""
        threading.Timer(0.5, leave.set).start()
        with httpx.stream("POST", f"{running.url}/v1/chat/completions", json=body, trust_env=False) as response:
            for piece in response.iter_raw():
                seen += piece
                if b'"finish_reason":"stop"' in seen or b"[DONE]" in seen:
                    assert leave.is_set()
                    assert len(running.rows()) == 1
        assert b"[DONE]" in seen


def test_a_client_that_stops_reading_is_let_go(
    tmp_path: Path, small: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket

    from confide.serving.http import connections

    monkeypatch.setattr(connections, "STALL_S", 0.3)
    small.answer, small.logprobs = "Japan " * 400_000, False
    with router(tmp_path, **settings(small), mode="observe") as running:
        host, port = running.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            body = b'{"messages": [{"role": "user", "content": "?"}], "stream": true}'
            connection.sendall(
                b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
            )
            running.wait_for(lambda row: True, seconds=60)  # committed before the first piece is sent
            until = time.monotonic() + 60
            while time.monotonic() < until and "confide_active_requests 0.0" not in running.get("/metrics").text:
                time.sleep(0.1)
            assert "confide_active_requests 0.0" in running.get("/metrics").text
