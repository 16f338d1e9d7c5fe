"""A router whose store fails: no model is asked, it says why, and it goes on by itself when the store is back."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from confide.serving.store import database
from confide.serving.store import store as store_module
from postgres import Server, stopped
from postgres import postgres as postgres
from upstreams import Running, Upstream, router, small_server, until


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "PROBE_S", 0.05)
    monkeypatch.setattr(store_module, "IDLE_S", 0.1)
    monkeypatch.setattr(database, "_LOCK_S", 0.3)


@contextmanager
def moved(running: Running) -> Iterator[None]:
    away = running.database.with_name("away.db")
    running.database.rename(away)
    yield
    away.rename(running.database)


@contextmanager
def locked(running: Running) -> Iterator[None]:
    holder = sqlite3.connect(running.database, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    yield
    holder.execute("ROLLBACK")
    holder.close()


@contextmanager
def newer(running: Running) -> Iterator[None]:
    def write(version: int) -> None:
        with sqlite3.connect(running.database) as connection:
            connection.execute("UPDATE schema_version SET version = ?", (version,))
        connection.close()

    write(99)
    yield
    write(8)


@contextmanager
def too_little_room(running: Running) -> Iterator[None]:
    before, database.FLOOR_BYTES = database.FLOOR_BYTES, 10**18
    yield
    database.FLOOR_BYTES = before


FAULTS = {"missing": moved, "locked": locked, "newer_schema": newer, "disk_full": too_little_room}


@pytest.mark.parametrize("reason", FAULTS)
def test_no_model_is_asked_while_no_row_can_be_stored(
    tmp_path: Path, small: Upstream, caplog: pytest.LogCaptureFixture, reason: str
) -> None:
    with router(tmp_path, small=small_server(small)) as running:
        id = running.ask().json()["confide"]["decision_id"]
        assert running.get("/readyz").status_code == 200
        assert "confide_store_up 1.0" in running.get("/metrics").text
        with FAULTS[reason](running):
            until(lambda: running.get("/readyz").status_code == 503)
            told = running.get("/readyz").json()["error"]
            assert (told["code"], reason in told["message"]) == ("store", True)
            asked = len(small.requests)
            for stream in (False, True):
                for _ in range(5):
                    refused = running.ask(stream=stream)
                    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "store")
                    assert reason in refused.json()["error"]["message"]
                    assert "Retry-After" in refused.headers
            assert len(small.requests) == asked
            metrics = running.get("/metrics")
            assert metrics.status_code == 200
            assert f'confide_store_trouble{{reason="{reason}"}} 1.0' in metrics.text
            assert "confide_store_up 0.0" in metrics.text
            assert f'confide_failures_total{{kind="{reason}",model="store"}} 10.0' in metrics.text
            assert 'confide_requests_total{decision="answer",mode="act",served="small"} 1.0' in metrics.text
            judged = running.post("/v1/feedback", {"decision_id": id, "correct": True})
            assert (judged.status_code, judged.json()["error"]["code"]) == (503, "store")
            assert running.get("/healthz").status_code == 200
        until(lambda: running.get("/readyz").status_code == 200)
        assert running.ask().status_code == 200
        assert "confide_store_trouble{" not in running.get("/metrics").text
        assert len(running.rows()) == 2
    assert [record.message.partition(":")[0] for record in caplog.records if record.levelname == "ERROR"] == [reason]


def test_a_fault_between_two_looks_costs_one_model_at_most(tmp_path: Path, small: Upstream) -> None:
    with router(tmp_path, small=small_server(small)) as running:
        running.ask()
        with moved(running):
            answers = [running.ask() for _ in range(6)]
            assert {answer.status_code for answer in answers} == {503}
            assert len(small.requests) <= 2


def test_a_database_that_stands_still_holds_no_route_and_no_shutdown(
    tmp_path: Path, small: Upstream, postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "READ_S", 1.0)
    monkeypatch.setattr(store_module, "WRITE_S", 1.0)
    monkeypatch.setattr(store_module, "CLOSE_S", 1.0)
    url = postgres.new_database()
    with stopped_later(postgres) as stop, router(tmp_path, small=small_server(small), store=url) as running:
        id = running.ask().json()["confide"]["decision_id"]
        stop()
        assert running.get("/metrics").status_code == 200
        until(lambda: "confide_store_up 0.0" in running.get("/metrics").text)
        assert running.get("/readyz").status_code == 503
        assert running.get("/").status_code == 503
        assert running.post("/v1/feedback", {"decision_id": id, "correct": True}).status_code == 503
        asked = len(small.requests)
        assert running.ask().status_code == 503
        assert len(small.requests) == asked
        # The router ends here while the database still stands: `router` sees that its thread ends.


@contextmanager
def stopped_later(server: Server) -> Iterator[Callable[[], None]]:
    """Something that stops the server until the block ends."""
    holders: list[Any] = []

    def stop() -> None:
        holders.append(stopped(server))
        holders[-1].__enter__()

    try:
        yield stop
    finally:
        for holder in holders:
            holder.__exit__(None, None, None)


def test_pages_that_wait_for_each_other_are_answered_in_time(
    tmp_path: Path, small: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    from confide.serving.http import routes

    async def hang(*_: Any, **__: Any) -> None:
        await asyncio.sleep(600)

    monkeypatch.setattr(routes, "_SCRAPE_S", 0.2)
    monkeypatch.setattr(routes, "_PAGE_S", 0.2)
    with router(tmp_path, small=small_server(small)) as running:
        running.ask()
        monkeypatch.setattr(routes, "snapshot", hang)
        for _ in range(3):
            assert running.get("/").status_code == 503
            assert running.get("/metrics").status_code == 200
