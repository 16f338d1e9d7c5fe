"""The decision store: the same tests on SQLite and on a real PostgreSQL."""

import asyncio
import dataclasses
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, create_engine, inspect, make_url, select, text

from confide.errors import ConfideError
from confide.serving.store import store as store_module
from confide.serving.store.audits import AuditRow, audit_rows, equal_chance
from confide.serving.store.decision_row import DecisionRow
from confide.serving.store.migrations import LATEST, migrate
from confide.serving.store.store import Store, StoreError
from confide.serving.store.store_tables import decisions, feedback, metadata
from decision_rows import decision
from postgres import Server, postgres  # noqa: F401


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database that does not hold anything yet."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/confide.db"
    server: Server = request.getfixturevalue("postgres")
    return server.new_database()


@pytest.fixture
def raw(url: str) -> Iterator[Connection]:
    """A connection of the test's own, past the store."""
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg") if "postgresql" in url else url)
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def using(url: str, body: Callable[[Store], Awaitable[Any]]) -> Any:
    """Run ``body`` on a store that is opened and closed around it."""

    async def run() -> Any:
        store = Store.open(url)
        try:
            return await body(store)
        finally:
            await store.close()

    return asyncio.run(run())


def all_rows(connection: Connection) -> list[DecisionRow]:
    found = connection.execute(select(decisions).order_by(decisions.c.created)).mappings()
    return [DecisionRow(**row) for row in found]


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


def test_the_tables_are_those_that_the_migrations_make(url: str, raw: Connection) -> None:
    Store.open(url)
    inspector = inspect(raw)
    for table in metadata.tables.values():
        made = {c["name"]: c["nullable"] for c in inspector.get_columns(table.name)}
        expected = {c.name: c.nullable for c in table.columns}
        # SQLite calls a primary key nullable unless told otherwise.
        assert {n: v for n, v in made.items() if n != "id"} == {n: v for n, v in expected.items() if n != "id"}
        assert set(made) == set(expected)
    assert [c.name for c in decisions.columns] == [f.name for f in dataclasses.fields(DecisionRow)]


def test_add_returns_after_the_commit_and_waiting_rows_share_one(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    commits: list[int] = []
    original = Store._commit

    def counting(self: Store, writes: list[Any]) -> None:
        commits.append(len(writes))
        time.sleep(0.01)  # so that others pile up
        original(self, writes)

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

    def held(self: Store, writes: list[Any]) -> None:
        release.wait(10)
        original(self, writes)

    monkeypatch.setattr(Store, "_commit", held)

    async def body(store: Store) -> int:
        tasks = [asyncio.create_task(store.add(decision())) for _ in range(40)]
        await asyncio.sleep(0.1)
        assert store._queue.qsize() <= 8
        assert not any(task.done() for task in tasks)
        tasks[0].cancel()  # its row is with the writer already; its place must come back
        tasks[39].cancel()  # this one still waits for a place
        release.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*[store.add(decision()) for _ in range(20)])
        return len(await store.run(all_rows))

    assert using(url, body) == 59


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


def test_feedback_about_what_was_served_is_about_the_small_answer_only_if_that_was_served(url: str) -> None:
    async def body(store: Store) -> list[bool | None]:
        for number, served in enumerate(["small", "unverified", "expert"]):
            row = decision(created=float(number), served=served, audit=True, audit_probability=1.0, agreed=True)
            await store.add(row)
            await store.feedback(row.id, False)
        return [audit.correct for audit in await store.run(audit_rows)]

    assert using(url, body) == [False, False, True]


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


def test_calibration_records(url: str) -> None:
    async def body(store: Store) -> None:
        with pytest.raises(ConfideError, match="no audit row with a label"):
            store.calibration_records()
        await store.add(decision(raw=0.1))  # not audited: no statistics
        unaudited = decision(created=1.0)
        await store.add(unaudited)
        await store.feedback(unaudited.id, False)  # a complaint about a row that was not drawn
        with pytest.raises(ConfideError, match="no audit row with a label"):
            store.calibration_records()
        drawn = [decision(created=float(i), audit=True, audit_probability=0.1, agreed=i != 3) for i in range(2, 6)]
        drawn[0].decision = "escalate"
        drawn[1].raw = drawn[1].source = None
        drawn.append(decision(created=9.0, audit=True, audit_probability=0.1, agreed=None))
        for row in drawn:
            await store.add(row)
        records = store.calibration_records()
        assert [r.id for r in records] == [row.id for row in drawn[:4]]
        assert [r.correct for r in records] == [True, False, True, True]
        assert [r.confidence for r in records] == [{"stack": 0.8}, {}, {"stack": 0.8}, {"stack": 0.8}]
        assert {(r.split, r.model, r.domain) for r in records} == {("calibration", "small", "geography")}
        assert len(store.calibration_records(since=4.0)) == 2
        for i in range(5):
            await store.add(decision(created=20.0 + i, audit=True, audit_probability=0.1))
        with pytest.raises(ConfideError, match="only 4 of 10 audit rows have a label"):
            store.calibration_records()
        for model in ("small", "other"):
            await store.add(decision(created=100.0, audit=True, audit_probability=0.1, agreed=True, model=model))
        with pytest.raises(ConfideError, match=r"2 models \(other, small\)"):
            store.calibration_records(since=100.0)

    using(url, body)


def audit(number: int, probability: float) -> AuditRow:
    return AuditRow(f"dec_{number}", 0.0, "small", "stack", 0.5, "answer", None, probability, True)


def test_thinning_gives_every_request_the_same_chance() -> None:
    many = [audit(i, 0.5) for i in range(20_000)]
    few = [audit(i, 0.05) for i in range(20_000, 22_000)]
    kept = equal_chance(many + few)
    assert [row for row in kept if row.probability == 0.05] == few
    assert abs(len(kept) - len(few) - 2000) < 4 * (2000 * 0.9) ** 0.5
    assert kept == equal_chance(many + few)  # the same rows in every run
    assert equal_chance(many) == many
    assert equal_chance([]) == []


@settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.integers(0, 10**6), st.floats(0.001, 1)), max_size=50))
def test_thinning_never_drops_the_rarest(drawn: list[tuple[int, float]]) -> None:
    rows = [audit(number, probability) for number, probability in drawn]
    lowest = min((row.probability for row in rows), default=1.0)
    assert {r for r in rows if r.probability == lowest} <= set(equal_chance(rows))


V1_ROW = """
INSERT INTO decisions (id, created, model, decision, served, mode, audit, audit_probability, total_ms, small_tokens,
                       expert_tokens, cost, cost_saved, domain)
VALUES ('dec_old', 5.0, 'small', 'answer', 'small', 'act', {yes}, 0.5, 3.0, 1, 0, 0.0, 0.0, 'geography')
"""


def test_a_database_of_version_1_is_migrated_with_its_rows(url: str, raw: Connection) -> None:
    sqlite = url.startswith("sqlite")
    migrate(raw, latest=1)
    raw.execute(text(V1_ROW.format(yes=1 if sqlite else "true")))
    raw.commit()
    assert "feedback" not in inspect(raw).get_table_names()
    raw.commit()

    async def body(store: Store) -> list[bool | None]:
        assert [row.id for row in await store.run(all_rows)] == ["dec_old"]
        assert await store.feedback("dec_old", False)
        return [audit.correct for audit in await store.run(audit_rows)]

    assert using(url, body) == [False]
    assert raw.execute(text("SELECT version FROM schema_version")).scalar_one() == LATEST
    using(url, body)  # opening it again changes nothing


def test_a_newer_database_is_refused(url: str, raw: Connection) -> None:
    Store.open(url)
    raw.execute(text("UPDATE schema_version SET version = 99"))
    raw.commit()
    with pytest.raises(ConfideError, match="schema version 99, made by a newer confide"):
        Store.open(url)


def test_several_processes_may_start_at_once(url: str, raw: Connection) -> None:
    code = "import sys; from confide.serving.store.store import Store; sys.stdin.readline(); Store.open(sys.argv[1])"
    starters = [
        subprocess.Popen([sys.executable, "-c", code, url], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    time.sleep(0.5)
    for starter in starters:
        assert starter.stdin is not None
        starter.stdin.write("\n")
        starter.stdin.flush()
    for starter in starters:
        _, errors = starter.communicate(timeout=60)
        assert starter.returncode == 0, errors
    assert raw.execute(text("SELECT version FROM schema_version")).scalars().all() == [LATEST]


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
from confide.serving.store import Store

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
    monkeypatch.setattr(store_module, "_TIMEOUT_S", 0.2)
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


def test_a_postgresql_that_goes_away_and_comes_back(postgres: Server) -> None:  # noqa: F811
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
