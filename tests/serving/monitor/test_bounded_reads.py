"""What the monitor reads does not grow with the store, and windows count what is in them."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, event

from confide.serving.monitor import evidence, traffic
from confide.serving.monitor.snapshot import build
from confide.serving.store.store import Store
from confide.serving.store.tables import DecisionRow
from decision_rows import decision
from monitored import NOW, PROMISE, state_of
from postgres import postgres as postgres
from postgres import url as url
from stores import using

SECONDS = 3 * 86_400


def routed(n: int, **changes: Any) -> list[DecisionRow]:
    """``n`` requests of three days, every fifth one audited, each of a domain of its own."""
    return [
        decision(
            created=NOW - SECONDS * (1 - (i + 1) / n),
            domain=f"domain {i}",
            audit=i % 5 == 0,
            audit_probability=0.2,
            agreed=i % 50 != 0,
            error=f"big: {i}" if i % 3 == 0 else None,
            **changes,
        )
        for i in range(n)
    ]


def steps_of(path: Path, rows: list[DecisionRow]) -> int:
    """The steps that SQLite's machine takes for one snapshot of a store with ``rows``, in hundreds."""

    async def body(store: Store) -> int:
        await asyncio.gather(*[store.add(row) for row in rows])
        for row in rows[::2]:
            await store.feedback(row.id, True) if row.audit else None

        def read(connection: Connection) -> int:
            driver: Any = connection.connection.driver_connection
            taken = 0

            def count() -> int:
                nonlocal taken
                taken += 1
                return 0

            driver.set_progress_handler(count, 100)
            build(connection, PROMISE, NOW, None)
            driver.set_progress_handler(None, 100)
            return taken

        return await store.run(read)

    return int(using(f"sqlite:///{path}", body))


def test_steps_stop_growing_with_the_number_of_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traffic, "READ", 100)
    monkeypatch.setattr(traffic, "TIMED", 100)
    monkeypatch.setattr(evidence, "LATEST_AUDITS", 50)
    monkeypatch.setattr(evidence, "COUNTED", 100)
    small, large = (steps_of(tmp_path / f"{n}.db", routed(n)) for n in (1_000, 8_000))
    # Of 200 and of 1,600 audits there are 200 and about 410 blocks.
    assert large < 1.6 * small


def test_no_query_scans_decisions_or_feedback(tmp_path: Path) -> None:
    path = tmp_path / "confide.db"
    asked: list[tuple[str, Any]] = []

    async def body(store: Store) -> None:
        for row in routed(50):
            await store.add(row)

        def read(connection: Connection) -> None:
            @event.listens_for(connection, "before_cursor_execute")
            def note(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> None:
                asked.append((statement, parameters))

            build(connection, PROMISE, NOW, 3600.0)

        await store.run(read)

    using(f"sqlite:///{path}", body)
    plans = []
    with sqlite3.connect(path) as connection:
        for statement, parameters in asked:
            if statement.startswith("SELECT"):
                plan = connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters).fetchall()
                plans.append((statement, [step[-1] for step in plan]))
    assert len(plans) > 10
    for statement, plan in plans:
        scanned = [step for step in plan if step in ("SCAN decisions", "SCAN feedback", "SCAN audit_questions")]
        assert not scanned or "LIMIT" in statement, (statement, plan)
        if "LIMIT" in statement and scanned:
            assert not any("ORDER BY" in step for step in plan) or "GROUP BY" in statement, (statement, plan)


@pytest.mark.parametrize("window_s", [3600.0, 86_400.0, 2 * 86_400.0, None])
def test_a_window_counts_from_its_first_whole_minute_on(url: str, window_s: float | None) -> None:
    rows = routed(3_000, policy_id="pol_other")
    state = state_of(rows, url, window_s=window_s)
    begin = 0.0 if window_s is None else (NOW - window_s) // 60 * 60
    inside = [row for row in rows if row.created >= begin]
    assert state["traffic"]["n"] == len(inside) > 30
    assert state["traffic"]["cost"] == pytest.approx(sum(row.cost for row in inside))
    assert state["traffic"]["first"] == inside[0].created
    assert 0 < len(state["traffic"]["series"]) <= 48
    times = [point["time"] for point in state["traffic"]["series"]]
    assert times == sorted(times)


def test_windows_of_a_long_life_are_read_in_days_with_their_edges_in_minutes(url: str) -> None:
    rows = [decision(created=NOW - 3600.0 * hour) for hour in range(24 * 40)]
    for days in (12, 30, 39):
        state = state_of(rows if days == 12 else [], url, window_s=86_400.0 * days)
        assert state["traffic"]["n"] == 24 * days + 1
        assert state["coverage"]["n"] == len(rows)


def test_money_of_an_audit_that_ends_later_is_counted(url: str) -> None:
    async def body(store: Store) -> dict[str, Any]:
        row = decision(created=NOW - 60, cost=0.25, cost_saved=1.0, audit=True, audit_probability=1.0)
        await asyncio.gather(store.add(row), store.audited(row.id, True, None, 0.5, None))
        await store.audited(row.id, False, None, 0.5, None)
        return await store.run(lambda connection: build(connection, PROMISE, NOW, 3600.0))

    found = using(url, body)["traffic"]
    assert (found["n"], found["cost"], found["saved"]) == (1, pytest.approx(1.25), pytest.approx(0.0))
