"""Audits behind the answer: how many run and wait, what a restart leaves, and who takes it up."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from confide.serving.routing import auditor as auditor_module
from decision_rows import decision
from stores import using
from upstreams import Running, Upstream, expert_server, router, small_server, until

QUESTION = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Where is Kyoto?"}]


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auditor_module, "_CLOSE_S", 0.2)
    monkeypatch.setattr(auditor_module, "_LOOK_S", 0.1)


def settings(small: Upstream, big: Upstream, **more: Any) -> dict[str, Any]:
    return {"small": small_server(small), "experts": [expert_server(big)], "audit_share": 1.0, **more}


def test_so_many_audits_run_so_many_wait_and_the_rest_is_shed(tmp_path: Path, small: Upstream, big: Upstream) -> None:
    big.behaviour = ["hang"]
    with router(tmp_path, **settings(small, big, audit={"concurrency": 1, "queue": 1})) as running:
        for number in range(4):
            assert running.ask(f"Where is town {number}?").status_code == 200
        until(lambda: big.requests)
        rows = running.rows()
        assert [row["error"] for row in rows] == [None, None, "audit: shed", "audit: shed"]
        assert [row["audit_due"] is not None for row in rows] == [True, True, False, False]
        assert {(row["audit"], row["agreed"]) for row in rows} == {(1, None)}
        metrics = running.get("/metrics").text
        assert "confide_waiting_audits 2.0" in metrics
        assert 'confide_failures_total{kind="shed",model="audit"} 2.0' in metrics
        # They stay in the statistics, as drawn and without a label.
        assert "4 audits drawn, 0 labelled, 4 in the statistics" in running.get("/").text
        assert "2 audits under way or waiting" in running.get("/").text
        assert len(big.requests) == 1
    assert big.hung_up.wait(60)


def test_waiting_audits_follow_one_another(tmp_path: Path, small: Upstream, big: Upstream) -> None:
    with router(tmp_path, **settings(small, big, audit={"concurrency": 1, "queue": 10})) as running:
        for number in range(6):
            running.ask(f"Where is town {number}?")
        until(lambda: all(row["agreed"] is not None for row in running.rows()))
        assert {row["audit_due"] for row in running.rows()} == {None}
        assert "confide_waiting_audits 0.0" in running.get("/metrics").text


def test_an_audit_is_taken_up_after_a_restart_where_texts_are_stored(
    tmp_path: Path, small: Upstream, big: Upstream
) -> None:
    big.behaviour = ["hang", "ok"]
    with router(tmp_path, **settings(small, big, store_text=True)) as running:
        running.post("/v1/chat/completions", {"messages": QUESTION, "temperature": 0, "user": "u", "max_tokens": 9})
        until(lambda: big.requests)
    (row,) = running.rows()
    assert (row["agreed"], json.loads(row["audit_request"])["messages"]) == (None, QUESTION)
    big.answer = "Japan."
    with router(tmp_path, **settings(small, big, store_text=True)) as running:
        until(lambda: running.rows()[0]["agreed"] is not None)
    (row,) = running.rows()
    assert (row["agreed"], row["expert_answer"], row["audit_due"], row["audit_request"]) == (1, "Japan.", None, None)
    assert row["cost"] > 0
    first, second = big.requests
    assert first == second  # as it would have been asked at once


def test_without_texts_an_audit_is_lost_with_its_process_and_counts_as_unlabelled(
    tmp_path: Path, small: Upstream, big: Upstream
) -> None:
    big.behaviour = ["hang", "ok"]
    with router(tmp_path, **settings(small, big)) as running:
        running.ask()
        until(lambda: big.requests)
    with router(tmp_path, **settings(small, big)) as running:
        until(lambda: running.rows()[0]["error"])
        (row,) = running.rows()
        assert (row["error"], row["audit"], row["agreed"], row["audit_due"]) == ("audit: lost", 1, None, None)
        assert 'confide_failures_total{kind="lost",model="audit"} 1.0' in running.get("/metrics").text
        assert "1 audit drawn, 0 labelled, 1 in the statistics" in running.get("/").text
    assert len(big.requests) == 1


def leave(path: Path, count: int, *, due: float, created: float) -> None:
    """Audits that a process which was killed has left in a store."""
    asked = {"chat": True, "messages": QUESTION, "options": {"max_tokens": 5}, "n": 1, "max_tokens": 5}
    small = {"content": "Japan", "reasoning": None, "finish": "stop", "more": {}, "logprobs": None}
    written = json.dumps({**asked, "choices": [small]})

    async def body(store: Any) -> None:
        rows = [
            decision(created=created, audit=True, audit_probability=1.0, audit_due=due, audit_request=written)
            for _ in range(count)
        ]
        await asyncio.gather(*[store.add(row) for row in rows])

    using(f"sqlite:///{path}", body)


def test_several_routers_take_up_each_audit_once(tmp_path: Path, small: Upstream, big: Upstream) -> None:
    leave(tmp_path / "confide.db", 12, due=time.time() - 1, created=time.time() - 60)
    with ExitStack() as stack:
        wanted = settings(small, big, store_text=True, audit={"concurrency": 2})
        running, _ = (stack.enter_context(router(tmp_path, **wanted)) for _ in range(2))
        until(lambda: all(row["agreed"] is not None for row in running.rows()))
    assert len(big.requests) == 12


def test_an_audit_that_somebody_works_on_is_left_alone(tmp_path: Path, small: Upstream, big: Upstream) -> None:
    leave(tmp_path / "confide.db", 1, due=time.time() + 3600, created=time.time())
    with router(tmp_path, **settings(small, big, store_text=True)) as running:
        running.ask()
        until(lambda: running.rows()[-1]["agreed"] is not None or running.rows()[0]["agreed"] is not None)
        assert sum(row["audit_due"] is not None for row in running.rows()) == 1
    assert len(big.requests) == 1


def test_an_audit_that_is_too_old_is_given_up(tmp_path: Path, small: Upstream, big: Upstream) -> None:
    leave(tmp_path / "confide.db", 1, due=time.time() - 5000, created=time.time() - auditor_module.AGE_S - 60)
    with router(tmp_path, **settings(small, big, store_text=True)) as running:
        until(lambda: running.rows()[0]["error"] == "audit: lost")
        assert running.rows()[0]["audit_request"] is None
    assert not big.requests


@pytest.mark.parametrize("written", ["{", "[]", "{}", '{"choices": [{"newer": 1}]}', '{"choices": [], "newer": 1}'])
def test_one_that_another_version_wrote_keeps_no_other_back(
    tmp_path: Path, small: Upstream, big: Upstream, written: str
) -> None:
    leave(tmp_path / "confide.db", 3, due=time.time() - 1, created=time.time() - 60)
    with sqlite3.connect(tmp_path / "confide.db") as connection:
        connection.execute("UPDATE decisions SET audit_request = ?, audit_due = 1 WHERE rowid = 1", (written,))
    connection.close()
    with router(tmp_path, **settings(small, big, store_text=True)) as running:
        until(lambda: all(row["audit_due"] is None for row in running.rows()))
        found = sorted((row["error"] or "", row["agreed"] is not None) for row in running.rows())
        assert found == [("", True), ("", True), ("audit: lost", False)]


def test_a_killed_process_leaves_its_audits_due(tmp_path: Path, small: Upstream, big: Upstream) -> None:
    """The row that is committed before the answer says so itself: nothing else has to be written in time."""
    big.behaviour = ["hang"]
    with router(tmp_path, **settings(small, big, store_text=True, deadline_s=20)) as running:
        before = time.time()
        running.ask()
        with sqlite3.connect(running.database) as connection:
            ((due, written),) = connection.execute("SELECT audit_due, audit_request FROM decisions").fetchall()
        assert before + 20 < due < time.time() + 20 + 2 * auditor_module._MARGIN_S
        assert json.loads(written)["choices"][0]["content"] == "Japan"


@pytest.fixture
def running(tmp_path: Path, small: Upstream, big: Upstream) -> Iterator[Running]:
    with router(tmp_path, **settings(small, big, audit_label="feedback", store_text=True)) as server:
        yield server


def test_where_feedback_labels_no_audit_is_due(running: Running, big: Upstream) -> None:
    running.ask()
    (row,) = running.rows()
    assert (row["audit"], row["audit_due"], row["audit_request"]) == (1, None, None)
    assert not big.requests
