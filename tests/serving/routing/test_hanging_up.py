"""What is kept of a request whose client hangs up: its row, its decision and, where it is audited, its label."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from confide.serving.routing import in_process
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


class Watched:
    """A real model in this process whose answers never end by themselves, and what it writes of each.

    It waits for ``resume`` before the pass of each number in ``stops``, and says so in ``reached``.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *stops: int):
        from confide.engines.transformers.transformers_engine import TransformersEngine
        from confide.methods.checkpoint import CheckpointInfo
        from confide.methods.frozen.frozen_model import FrozenModel
        from tiny_model import tiny_model

        engine = TransformersEngine(*tiny_model(seed=1), "tiny")
        engine._generator = replace(engine._generator, banned=engine.end_ids)
        self.model = FrozenModel(engine, CheckpointInfo(), "tiny")
        self.stops = stops
        self.reached, self.resume = threading.Semaphore(0), threading.Semaphore(0)
        self.passes = 0
        self.written: Counter[int] = Counter()  # by row, of batches of two
        self.jobs: list[Any] = []
        job, filler = in_process._Job, engine.forward.filler

        def noted(*given: Any) -> Any:
            self.jobs.append(made := job(*given))
            return made

        def watch(_: Any, __: Any, given: dict[str, Any]) -> None:
            if not self.jobs or (ids := given.get("input_ids")) is None or ids.shape[1] > 1:
                return  # the start asks too
            self.passes += 1
            if len(ids) == 2:
                self.written.update(row for row, (token,) in enumerate(ids.tolist()) if token != filler)
            if self.passes in self.stops:
                self.reached.release()
                assert self.resume.acquire(timeout=60)

        monkeypatch.setattr(in_process, "_Job", noted)
        engine.model.base_model.register_forward_pre_hook(watch, with_kwargs=True)

    def wait_for(self, holds: Any) -> None:
        until = time.monotonic() + 60
        while not holds():
            assert time.monotonic() < until
            time.sleep(0.01)


def test_a_batch_ends_when_all_its_clients_have_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch, 20)
    with router(tmp_path, model=watched.model, small={"model": "x"}, mode="observe") as running:
        running.hang_up(lambda: watched.reached.acquire(blocking=False), max_tokens=200)
        watched.wait_for(lambda: watched.jobs[0].gone)
        watched.resume.release()
        assert running.ask(max_tokens=5).status_code == 200  # the worker is free again
        assert 20 < watched.passes < 30
        assert len(running.rows()) == 1


def test_a_deadline_ends_an_answer_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch, 20)
    with router(tmp_path, model=watched.model, small={"model": "x"}, mode="observe", deadline_s=1.0) as running:
        assert running.ask(max_tokens=200).status_code == 504
        watched.resume.release()
        assert running.ask(max_tokens=5).status_code == 200
        assert 20 < watched.passes < 30


def test_a_client_that_hangs_up_leaves_a_running_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch, 1, 20)
    with (
        router(tmp_path, model=watched.model, small={"model": "x"}, mode="observe", deadline_s=300) as running,
        ThreadPoolExecutor(2) as pool,
    ):
        first = pool.submit(running.ask, "red", max_tokens=2)  # the others gather meanwhile
        assert watched.reached.acquire(timeout=60)
        stays = pool.submit(running.ask, "Where is Lyon?", max_tokens=90)
        watched.wait_for(lambda: len(watched.jobs) == 2)

        def halfway() -> bool:
            if len(watched.jobs) == 3 and not first.done():
                watched.resume.release()
                assert first.result(60).status_code == 200
            return watched.reached.acquire(blocking=False)

        running.hang_up(halfway, max_tokens=90)
        watched.wait_for(lambda: watched.jobs[2].gone)
        watched.resume.release()
        answer = stays.result(60).json()["choices"][0]["message"]["content"]
        assert watched.written[0] > 80
        assert 15 < watched.written[1] < 25
    watched.stops = ()
    assert answer == watched.model.answer("Where is Lyon?", max_new_tokens=90).text
