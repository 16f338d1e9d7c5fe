"""What is kept of a request whose client hangs up: its row, its decision and, where it is audited, its label."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from confide.serving.store.store import Store
from confide.serving.store.tables import DecisionRow
from upstreams import Running, Upstream, expert_server, router, small_server


def settings(small: Upstream, big: Upstream, **more: Any) -> dict[str, Any]:
    return {"small": small_server(small), "experts": [expert_server(big)], **more}


def leave_after(running: Running, piece: str) -> None:
    """Ask for a stream and hang up as soon as ``piece`` has come."""
    body = {"messages": [{"role": "user", "content": "Where?"}], "stream": True}
    with httpx.stream("POST", f"{running.url}/v1/chat/completions", json=body, trust_env=False, timeout=60) as response:
        for line in response.iter_lines():
            if f'"{piece}"' in line:
                return


@pytest.mark.parametrize("stream", [False, True])
def test_hanging_up_while_the_row_is_stored_keeps_the_label(
    tmp_path: Path, small: Upstream, big: Upstream, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    add, begun, gone = Store.add, threading.Event(), threading.Event()

    async def slow(self: Store, row: DecisionRow) -> None:
        begun.set()
        await asyncio.to_thread(gone.wait, 60)
        await add(self, row)

    big.answer = "China"
    with router(tmp_path, **settings(small, big, audit_share=1.0)) as running:
        monkeypatch.setattr(Store, "add", slow)
        running.hang_up(begun.is_set, stream=stream)
        until = time.monotonic() + 60
        while "confide_active_requests 0.0" not in running.get("/metrics").text:  # the request has been cancelled
            assert time.monotonic() < until
        gone.set()
        row = running.wait_for(lambda row: row["agreed"] is not None)
        assert (row["audit"], row["agreed"], row["decision"]) == (1, 0, "answer")
        assert len(running.rows()) == len(big.requests) == 1


@pytest.mark.parametrize("probability", [0.9, 0.2])
@pytest.mark.parametrize("pieces", [1, 2])
def test_whoever_leaves_with_the_early_answer_leaves_a_row(
    tmp_path: Path, small: Upstream, big: Upstream, probability: float, pieces: int
) -> None:
    small.probability, small.behaviour, big.answer = probability, ["slow"], "China"
    with router(tmp_path, **settings(small, big, stream_mode="early", audit_share=1.0)) as running:
        leave_after(running, ["Jap", "an"][pieces - 1])
        row = running.wait_for(lambda row: row["agreed"] is not None)
        assert not small.hung_up.is_set()
        assert (row["decision"], row["served"], row["error"]) == (
            "answer" if probability > 0.5 else "escalate", "error", "client: gone",
        )  # fmt: skip
        assert (row["agreed"], row["source"], row["raw"]) == (0, "logprob_sum", pytest.approx(math.log(probability)))
        assert len(running.rows()) == len(big.requests) == 1
        assert "confide_active_requests 0.0" in running.get("/metrics").text


def test_an_early_answer_that_breaks_off_unheard_leaves_a_row(tmp_path: Path, small: Upstream, big: Upstream) -> None:
    small.behaviour = ["wait"]
    with router(tmp_path, **settings(small, big, stream_mode="early", deadline_s=1.0)) as running:
        leave_after(running, "Jap")
        row = running.wait_for(lambda row: True)  # the small server never goes on, so the deadline ends it
        assert (row["decision"], row["served"], row["error"]) == ("escalate", "error", "small: timeout; client: gone")
        small.resume.set()


def test_before_the_first_piece_nothing_is_read_on(tmp_path: Path, small: Upstream, big: Upstream) -> None:
    small.behaviour = ["hang"]
    patient = {"small": small_server(small, timeout_s=300), "deadline_s": 300}
    with router(tmp_path, **{**settings(small, big, stream_mode="early", audit_share=1.0), **patient}) as running:
        running.hang_up(lambda: small.requests, stream=True)
        assert small.hung_up.wait(60)
        assert running.rows() == []
