"""The decision store: the same tests on SQLite and on a real PostgreSQL."""

import asyncio
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, select, text

from confide.errors import ConfideError
from confide.serving.store import database
from confide.serving.store import store as store_module
from confide.serving.store.audits import audit_rows
from confide.serving.store.store import JudgedError, Store
from confide.serving.store.tables import DecisionRow, decisions, feedback
from confide.serving.store.troubles import StoreError
from decision_rows import decision
from postgres import Server
from stores import all_rows, using

FULL = decision(
    request_id="req 1",
    audit=True,
    audit_probability=0.02,
    agreed=False,
    expert_ms=120.5,
    error="timeout",
    question="Où est Zürich? 🌍",
    small_answer="Austria",
    expert_answer="Switzerland",
)


def test_a_row_comes_back_as_it_went_in(url: str) -> None:
    async def body(store: Store) -> list[DecisionRow]:
        await store.add(FULL)
        await store.add(decision(created=FULL.created + 1, raw=None, source=None, probability=None, domain=None))
        return await store.run(all_rows)

    full, bare = using(url, body)
    assert full == FULL
    assert (bare.raw, bare.source, bare.question, bare.agreed) == (None, None, None, None)


def test_add_returns_after_the_commit_and_waiting_rows_share_one(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    commits: list[int] = []
    original = Store._commit

    def counting(self: Store, writes: list[Any], job: Any) -> bool:
        commits.append(len(writes))
        time.sleep(0.01)  # so that others pile up
        return original(self, writes, job)

    monkeypatch.setattr(Store, "_commit", counting)

    async def body(store: Store) -> None:
        async def client(number: int) -> None:
            row = decision(created=float(number))
            await store.add(row)
            # Read on another connection: only a committed row is seen there.
            seen = await store.run(lambda c: c.execute(select(decisions.c.id).where(decisions.c.id == row.id)).all())
            assert len(seen) == 1

        await asyncio.gather(*[client(i) for i in range(200)])

    using(url, body)
    assert sum(commits) == 200
    assert len(commits) < 50


def test_one_bad_row_does_not_cost_the_others_theirs(url: str) -> None:
    async def body(store: Store) -> tuple[list[Any], list[DecisionRow]]:
        await store.add(FULL)
        rows = [decision(), FULL, decision(model=None), decision(small_tokens=10**30), decision()]
        outcomes = await asyncio.gather(*[store.add(row) for row in rows], return_exceptions=True)
        return outcomes, await store.run(all_rows)

    outcomes, rows = using(url, body)
    assert [type(outcome) for outcome in outcomes] == [type(None), StoreError, StoreError, StoreError, type(None)]
    assert len(rows) == 3
    assert FULL.question is not None
    assert not any(FULL.question in str(outcome) or "Zürich" in str(outcome) for outcome in outcomes)


def test_the_queue_is_bounded_and_whoever_waits_gets_in(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "QUEUE", 8)
    release = threading.Event()
    original = Store._commit

    def held(self: Store, writes: list[Any], job: Any) -> bool:
        release.wait(10)
        return original(self, writes, job)

    monkeypatch.setattr(Store, "_commit", held)

    async def body(store: Store) -> int:
        tasks = [asyncio.create_task(store.add(decision())) for _ in range(40)]
        await asyncio.sleep(0.1)
        assert len(store._waiting) <= 8
        assert not any(task.done() for task in tasks)
        tasks[0].cancel()  # its row is with the writer already, who leaves it out; its place must come back
        tasks[39].cancel()  # this one still waits for a place
        release.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*[store.add(decision()) for _ in range(20)])
        return len(await store.run(all_rows))

    assert using(url, body) == 58


def test_closing_writes_what_is_waiting_and_refuses_what_follows(url: str, raw: Connection) -> None:
    async def run() -> None:
        store = Store.open(url)
        tasks = [asyncio.create_task(store.add(decision())) for _ in range(50)]
        await asyncio.sleep(0)
        await store.close()
        await asyncio.gather(*tasks)
        with pytest.raises(StoreError, match="closed"):
            await store.add(decision())
        with pytest.raises(StoreError, match="closed"):
            await store.run(all_rows)
        await store.close()

    asyncio.run(run())
    assert len(all_rows(raw)) == 50


def test_text_that_a_database_cannot_hold_and_numbers_that_are_none(url: str) -> None:
    async def body(store: Store) -> DecisionRow:
        await store.add(decision(question="a\0b\ud800c", raw=float("-inf"), threshold=float("nan")))
        return (await store.run(all_rows))[0]

    row = using(url, body)
    assert row.question == "a\ufffdb?c"
    assert (row.raw, row.threshold) == (None, None)


def test_hostile_text_is_data(url: str) -> None:
    texts = ["'; DROP TABLE decisions; --", "%s %(id)s :id ?", "\\x00 \\' \\", "<script>alert(1)</script>", ""]

    async def body(store: Store) -> list[str | None]:
        for number, words in enumerate(texts):
            row = decision(created=float(number), question=words, domain=words)
            await store.add(row)
            assert await store.feedback(row.id, False, note=words)
        return [row.question for row in await store.run(all_rows)]

    assert using(url, body) == texts


def test_feedback_latest_wins_and_unknown_ids_are_told(url: str) -> None:
    row = decision(audit=True, audit_probability=0.5, agreed=True)

    async def labels(store: Store) -> list[bool | None]:
        return [audit.correct for audit in await store.run(audit_rows)]

    async def body(store: Store) -> None:
        await store.add(row)
        assert await labels(store) == [True]
        assert not await store.feedback("dec_unknown", True)
        assert not await store.feedback(f"{row.id}\0", True)
        assert await store.feedback(row.id, False, about="expert", note="the expert is wrong")
        assert await labels(store) == [True]  # says nothing about the small answer
        assert await store.feedback(row.id, False)
        assert await labels(store) == [False]
        assert await store.feedback(row.id, True, about="small")
        assert await labels(store) == [True]
        kept = await store.run(lambda c: c.execute(select(feedback.c.note).order_by(feedback.c.id)).scalars().all())
        assert kept == ["the expert is wrong", None, None]

    using(url, body)


def test_feedback_is_bound_to_who_asked_and_who_judged(url: str) -> None:
    mine, old = decision(key="a", policy_id="pol_now"), decision(key=None, policy_id="pol_gone")
    for row in (mine, old):
        row.audit, row.audit_probability, row.agreed = True, 1.0, True

    async def body(store: Store) -> list[Any]:
        await store.add(mine)
        await store.add(old)
        assert not await store.feedback(mine.id, False, author="b", asked_by="b")
        assert not await store.feedback(old.id, False, author="a", asked_by="a")
        assert await store.feedback(mine.id, True, author="a", asked_by="a")
        assert await store.feedback(mine.id, False, author="a", asked_by="a")
        assert await store.feedback(mine.id, False, author="chief")
        with pytest.raises(JudgedError):
            await store.feedback(mine.id, True, author="a", asked_by="a")
        # What is said about a decision of another policy says nothing about this one.
        for _ in range(3):
            assert await store.feedback(old.id, False)
        for policy, label in (("pol_now", False), ("pol_gone", False)):
            found = await store.run(audit_rows)
            assert [row.correct for row in found if row.policy_id == policy] == [label]
        said = select(feedback.c.author, feedback.c.correct).order_by(feedback.c.id)
        return [tuple(row) for row in await store.run(lambda connection: connection.execute(said).all())]

    assert using(url, body) == [("a", False), ("chief", False), (None, False)]


def test_an_audit_that_fails_is_noted(url: str) -> None:
    rows = [decision(audit=True, error=error) for error in (None, "spare: timeout")]

    async def body(store: Store) -> list[DecisionRow]:
        for row in rows:
            await asyncio.gather(store.add(row), store.audit_failed(row.id, "audit: big: empty"))
        with pytest.raises(StoreError, match="no decision dec_unknown"):
            await store.audit_failed("dec_unknown", "audit: big: empty")
        return list(await store.run(all_rows))

    after = {row.id: (row.error, row.agreed) for row in using(url, body)}
    assert after == {
        rows[0].id: ("audit: big: empty", None),
        rows[1].id: ("spare: timeout; audit: big: empty", None),
    }


def test_an_audit_that_ends_later(url: str) -> None:
    row = decision(audit=True, audit_probability=0.1, cost=0.25, cost_saved=1.0)

    async def body(store: Store) -> DecisionRow:
        await asyncio.gather(store.add(row), store.audited(row.id, False, "Paris", 0.5, 80.0))  # even in one commit
        with pytest.raises(StoreError, match="no decision dec_unknown"):
            await store.audited("dec_unknown", True, None, 0.0, None)
        return (await store.run(all_rows))[0]

    after = using(url, body)
    assert (after.agreed, after.expert_answer, after.expert_ms) == (False, "Paris", 80.0)
    assert (after.cost, after.cost_saved) == (0.75, 0.5)


def test_reads_cannot_write(url: str) -> None:
    async def body(store: Store) -> None:
        await store.add(decision())
        with pytest.raises(StoreError, match="cannot be read"):
            await store.run(lambda c: c.execute(text("DELETE FROM decisions")))
        assert len(await store.run(all_rows)) == 1

    using(url, body)


def test_two_stores_share_one_database(url: str) -> None:
    async def run() -> int:
        first, second = Store.open(url), Store.open(url)
        await asyncio.gather(*[store.add(decision()) for _ in range(100) for store in (first, second)])
        row = decision()
        await first.add(row)
        assert await second.feedback(row.id, True)
        count = len(await second.run(all_rows))
        await first.close()
        await second.close()
        return count

    assert asyncio.run(run()) == 201


KILLED = """
import asyncio, sys
sys.path.insert(0, sys.argv[2])
from decision_rows import decision
from confide.serving.store.store import Store

async def main():
    store = Store.open(sys.argv[1])
    async def client():
        while True:
            row = decision()
            await store.add(row)
            print(row.id, flush=True)
    await asyncio.gather(*[client() for _ in range(20)])

asyncio.run(main())
"""


def test_kill_9_loses_nothing_that_was_acknowledged(url: str) -> None:
    here = str(Path(__file__).parents[2] / "support")
    process = subprocess.Popen([sys.executable, "-c", KILLED, url, here], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    printed = [process.stdout.readline().strip() for _ in range(300)]
    process.send_signal(signal.SIGKILL)
    rest = process.stdout.read()  # what was printed before the kill; the last line may be cut
    process.wait()
    printed += [line for line in rest.split("\n")[:-1] if line]
    assert process.returncode == -signal.SIGKILL

    async def body(store: Store) -> set[str]:
        return {row.id for row in await store.run(all_rows)}

    stored = using(url, body)
    assert len(printed) >= 300
    assert set(printed) <= stored


def test_a_failing_sqlite_raises_to_every_waiter_and_recovers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "_LOCK_S", 0.2)
    path = tmp_path / "confide.db"

    async def body(store: Store) -> int:
        await store.add(decision())
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")  # as a backup or a hanging process would
        outcomes = await asyncio.gather(*[store.add(decision()) for _ in range(30)], return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {StoreError}
        assert "locked" in str(outcomes[0])
        assert len(await store.run(all_rows)) == 1  # reading goes on
        other.execute("ROLLBACK")
        other.close()
        await asyncio.gather(*[store.add(decision()) for _ in range(30)])
        return len(await store.run(all_rows))

    assert using(f"sqlite:///{path}", body) == 31


def test_a_postgresql_that_goes_away_and_comes_back(postgres: Server) -> None:
    url = postgres.new_database()

    async def body(store: Store) -> int:
        await store.add(decision())
        await asyncio.to_thread(postgres.stop)
        try:
            outcomes = await asyncio.gather(*[store.add(decision()) for _ in range(30)], return_exceptions=True)
            assert {type(outcome) for outcome in outcomes} == {StoreError}
            with pytest.raises(StoreError, match="cannot be read"):
                await store.run(all_rows)
            with pytest.raises(ConfideError, match="cannot be opened"):
                Store.open(url)
        finally:
            await asyncio.to_thread(postgres.start)
        await asyncio.gather(*[store.add(decision()) for _ in range(30)])
        return len(await store.run(all_rows))

    assert using(url, body) == 31


def test_a_password_is_never_told() -> None:
    with pytest.raises(ConfideError) as caught:
        Store.open("postgresql://user:hunter2@127.0.0.1:1/none")
    assert "hunter2" not in str(caught.value)
    assert "user:***@127.0.0.1:1/none" in str(caught.value)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("confide.db", "URL is not understood"),
        ("mysql://localhost/x", "SQLite or PostgreSQL, not mysql"),
        ("sqlite://", "needs a file"),
        ("sqlite:////nowhere/at/all/confide.db", "folder of the store, /nowhere/at/all, does not exist"),
    ],
)
def test_urls_that_do_not_work(url: str, message: str) -> None:
    with pytest.raises(ConfideError, match=message):
        Store.open(url)


def test_files_that_are_no_store(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("not a database " * 100)
    with pytest.raises(ConfideError, match="not a database"):
        Store.open(f"sqlite:///{tmp_path}/text.db")
    other = sqlite3.connect(tmp_path / "other.db")
    other.execute("CREATE TABLE decisions (x)")
    other.commit()
    other.close()
    with pytest.raises(ConfideError, match="table decisions already exists"):
        Store.open(f"sqlite:///{tmp_path}/other.db")


def test_a_new_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    using(f"sqlite:///{tmp_path}/confide.db", lambda store: store.add(decision()))
    assert stat.S_IMODE(os.stat(tmp_path / "confide.db").st_mode) == 0o600
