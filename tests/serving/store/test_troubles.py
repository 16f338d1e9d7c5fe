"""Databases that cannot be written or do not answer: the class of reason is known, nothing hangs, and it passes."""

import asyncio
import logging
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, text

from confide.serving.store import database
from confide.serving.store import store as store_module
from confide.serving.store import troubles as troubles_module
from confide.serving.store.database import Database
from confide.serving.store.store import WITHDRAWN, Store
from confide.serving.store.tables import DecisionRow
from confide.serving.store.troubles import StoreError
from decision_rows import decision
from postgres import Server, stopped
from stores import all_rows, using

LONG = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Probes are written whenever asked for, and locks are not waited for long."""
    monkeypatch.setattr(store_module, "PROBE_S", -1.0)
    monkeypatch.setattr(database, "_LOCK_S", 0.3)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "folder").mkdir()
    return tmp_path / "folder" / "confide.db"


async def trouble_and_back(store: Store, fault: Callable[[], Any], mend: Callable[[], Any]) -> str:
    """The trouble that a ``fault`` makes; after `mend` rows are stored again."""
    await store.add(decision())
    assert await store.check() is None
    fault()
    found = await store.check()
    assert found == store.trouble
    with pytest.raises(StoreError) as refused:
        await store.add(decision())
    assert refused.value.trouble == found
    mend()
    assert await store.check() is None
    assert store.trouble is None
    await store.add(decision(id="dec_after"))
    assert found is not None
    return found


def other(path: Path, statement: str) -> None:
    with sqlite3.connect(path, timeout=5) as connection:
        connection.execute(statement)
    connection.close()


def inside(path: Path) -> set[str]:
    """The ids of the rows that another program finds at ``path``."""
    connection = sqlite3.connect(path)
    found = {row[0] for row in connection.execute("SELECT id FROM decisions")}
    connection.close()
    return found


def test_a_file_or_folder_that_is_gone_and_comes_back(path: Path) -> None:
    kept = path.parent.with_name("kept")
    moves = [(path, path.with_name("kept.db")), (path.parent, kept)]
    for place, away in moves:
        found = using(
            f"sqlite:///{path}",
            lambda store, place=place, away=away: trouble_and_back(
                store, lambda: place.rename(away), lambda: away.rename(place)
            ),
        )
        assert found == "missing"
        assert "dec_after" in inside(path)
        other(path, "DELETE FROM decisions")


def test_a_deleted_file_does_not_come_back_empty(path: Path) -> None:
    async def body(store: Store) -> None:
        await store.add(decision())
        path.unlink()
        for _ in range(3):
            assert await store.check() == "missing"
        assert not path.exists()

    using(f"sqlite:///{path}", body)


def test_another_file_in_its_place_is_taken(path: Path) -> None:
    copy = path.with_name("copy.db")

    async def body(store: Store) -> None:
        await store.add(decision(id="dec_before"))
        other(path, "PRAGMA wal_checkpoint(TRUNCATE)")
        shutil.copy(path, copy)
        await store.add(decision(id="dec_lost"))
        for end in ("-wal", "-shm"):
            path.with_name(path.name + end).unlink()
        copy.rename(path)  # as from a backup
        await store.add(decision(id="dec_after"))
        assert store.trouble is None
        assert [row.id for row in await store.run(all_rows)] == ["dec_before", "dec_after"]

    using(f"sqlite:///{path}", body)
    assert inside(path) == {"dec_before", "dec_after"}


def test_a_write_ahead_log_that_is_deleted(path: Path) -> None:
    async def body(store: Store) -> None:
        await store.add(decision(id="dec_before"))
        other(path, "PRAGMA wal_checkpoint(TRUNCATE)")
        for end in ("-wal", "-shm"):
            path.with_name(path.name + end).unlink()
        await store.add(decision(id="dec_after"))
        assert inside(path) == {"dec_before", "dec_after"}

    using(f"sqlite:///{path}", body)


@pytest.mark.parametrize(
    ("fault", "mend", "found"),
    [
        ("UPDATE schema_version SET version = 99", "UPDATE schema_version SET version = 8", "newer_schema"),
        (
            "CREATE TRIGGER no BEFORE INSERT ON decisions BEGIN SELECT RAISE(ABORT, 'no'); END",
            "DROP TRIGGER no",
            "failed",
        ),
        ("ALTER TABLE decisions RENAME TO gone", "ALTER TABLE gone RENAME TO decisions", "failed"),
    ],
)
def test_what_another_program_does_to_the_tables(path: Path, fault: str, mend: str, found: str) -> None:
    async def body(store: Store) -> str:
        return await trouble_and_back(store, lambda: other(path, fault), lambda: other(path, mend))

    assert using(f"sqlite:///{path}", body) == found


async def connection_of(store: Store) -> Any:
    """The connection that writes."""
    return await store.change(lambda connection: connection.connection.driver_connection)


def test_a_database_that_is_read_only(path: Path) -> None:
    async def body(store: Store) -> str:
        driver = await connection_of(store)
        return await trouble_and_back(
            store, lambda: driver.execute("PRAGMA query_only = ON"), lambda: driver.execute("PRAGMA query_only = OFF")
        )

    assert using(f"sqlite:///{path}", body) == "read_only"


def test_a_database_that_is_full_stays_in_trouble_though_a_small_row_would_fit(path: Path) -> None:
    async def body(store: Store) -> None:
        driver = await connection_of(store)
        await store.add(decision())
        driver.execute("PRAGMA max_page_count = 1")
        with pytest.raises(StoreError) as refused:
            await store.add(decision(question="x" * 1_000_000))
        assert refused.value.trouble == await store.check() == store.trouble == "disk_full"
        driver.execute("PRAGMA max_page_count = 1000000")
        assert await store.check() is None
        await store.add(decision(question="x" * 1_000_000))

    using(f"sqlite:///{path}", body)


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """A disk of 12 MB at ``folder``."""
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(folder)], capture_output=True)
    if made.returncode:
        pytest.skip("no disk can be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("floor", [4_000_000, 0])
def test_a_disk_that_is_full(path: Path, monkeypatch: pytest.MonkeyPatch, floor: int) -> None:
    monkeypatch.setattr(database, "FLOOR_BYTES", floor)
    filler = path.with_name("filler")

    def fill() -> None:
        with open(filler, "wb", buffering=0) as file:
            while True:
                try:
                    file.write(bytes(4096))
                except OSError:
                    return

    with small_disk(path.parent):
        body = using(f"sqlite:///{path}", lambda store: trouble_and_back(store, fill, filler.unlink))
        assert body == "disk_full"
        assert "dec_after" in inside(path)


def test_a_lock_that_another_program_holds(path: Path) -> None:
    async def body(store: Store) -> str:
        holder = sqlite3.connect(path, isolation_level=None)
        try:
            return await trouble_and_back(
                store, lambda: holder.execute("BEGIN IMMEDIATE"), lambda: holder.execute("ROLLBACK")
            )
        finally:
            holder.close()

    assert using(f"sqlite:///{path}", body) == "locked"


LIMITED = """
import asyncio, resource, signal, sys
sys.path.insert(0, sys.argv[2])
from decision_rows import decision
from confide.serving.store import store as module
from confide.serving.store.store import Store
from confide.serving.store.troubles import StoreError

async def main():
    module.PROBE_S = -1.0
    store = Store.open(sys.argv[1])
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, hard))
    try:
        await store.add(decision(question="x" * 100_000))
    except StoreError as error:
        print(error.trouble, await store.check() is not None)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    print(await store.check())
    await store.add(decision())
    await store.close()

asyncio.run(main())
"""


def test_a_limit_to_the_size_of_files(path: Path) -> None:
    here = str(Path(__file__).parents[2] / "support")
    command = [sys.executable, "-c", LIMITED, f"sqlite:///{path}", here]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.stdout.split() in (["disk_full", "True", "None"], ["io_error", "True", "None"]), done.stderr


def test_reads_that_take_too_long_are_ended_and_hold_no_reader(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "READ_S", 0.5)
    monkeypatch.setattr(database, "_STATEMENT_S", 4.0)  # a server works on what nobody waits for until then

    async def body(store: Store) -> int:
        await store.add(decision())
        reads = [store.run(lambda c: c.execute(text(LONG)).scalar()) for _ in range(2 * database.READERS)]
        outcomes = await asyncio.gather(*reads, return_exceptions=True)
        assert [getattr(outcome, "trouble", outcome) for outcome in outcomes] == ["slow"] * len(reads)
        monkeypatch.setattr(store_module, "READ_S", 30.0)
        return len(await store.run(all_rows))

    assert using(url, body) == 1


def hold(url: str, raw: Connection) -> None:
    """Lock what every write needs."""
    raw.execute(text("BEGIN IMMEDIATE" if url.startswith("sqlite") else "LOCK TABLE decisions"))


def test_a_row_whose_client_was_told_503_says_so(url: str, raw: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "_LOCK_S", 60.0)
    monkeypatch.setattr(store_module, "WRITE_S", 60.0)

    async def body(store: Store) -> list[DecisionRow]:
        await store.add(decision(created=1.0))
        hold(url, raw)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await store.add(decision(created=2.0, error="big: timeout", audit_due=5.0))
        assert store.trouble is None
        monkeypatch.setattr(store_module, "SLOW_S", 0.0)
        assert store.trouble == "slow"  # the commit is still under way
        raw.rollback()
        await store.add(decision(created=3.0))
        return list(await store.run(all_rows))

    kept = {row.created: (row.served, row.answered_by, row.error, row.audit_due) for row in using(url, body)}
    assert kept[1.0] == kept[3.0] == ("small", "small", None, None)
    assert kept[2.0] == ("error", None, f"big: timeout; {WITHDRAWN}", None)


def test_a_commit_whose_outcome_nobody_knows_is_marked_when_it_was_done(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Database.write

    def broken(self: Database, work: Any, job: Any) -> Any:
        write(self, work, job)
        raise StoreError("unreachable", "the line broke while the commit was under way")

    async def body(store: Store) -> list[DecisionRow]:
        with monkeypatch.context() as patch:
            patch.setattr(Database, "write", broken)
            with pytest.raises(StoreError):
                await store.add(decision(created=1.0))
        await store.add(decision(created=2.0))
        return list(await store.run(all_rows))

    assert [row.served for row in using(f"sqlite:///{path}", body)] == ["error", "small"]


def test_closing_waits_for_no_database(
    url: str, raw: Connection, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(database, "_LOCK_S", 5.0)
    monkeypatch.setattr(store_module, "CLOSE_S", 0.2)
    monkeypatch.setattr(store_module, "BATCH", 1)

    async def run() -> list[Any]:
        store = Store.open(url)
        await store.add(decision())
        hold(url, raw)
        adding = [asyncio.create_task(store.add(decision())) for _ in range(4)]
        await asyncio.sleep(0.1)
        async with asyncio.timeout(60):
            await store.close()
        outcomes = await asyncio.gather(*adding[1:], return_exceptions=True)
        raw.rollback()
        await asyncio.gather(adding[0], return_exceptions=True)
        return outcomes

    assert [getattr(outcome, "trouble", outcome) for outcome in asyncio.run(run())] == ["closed"] * 3
    assert "3 writes are lost" in caplog.text


def test_the_log_says_each_reason_once_a_minute(path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: Any) -> None:
    async def body(store: Store) -> None:
        path.unlink()
        for _ in range(20):
            await store.check()

    using(f"sqlite:///{path}", body)
    told = [record.message for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(told) == 1
    assert told[0].startswith("missing: ")
    caplog.clear()
    trouble = troubles_module.Troubles()
    for _ in range(5):
        trouble.note(StoreError("locked", "locked"))
    monkeypatch.setattr(troubles_module, "_LOG_S", 0.0)
    trouble.note(StoreError("locked", "locked"))
    assert [record.message for record in caplog.records][1:] == [
        "locked: locked (4 times more since this was last said); requests get 503 meanwhile"
    ]


# -- PostgreSQL ---------------------------------------------------------------------------------------------


def test_a_postgresql_that_stands_still(postgres: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "READ_S", 1.0)
    monkeypatch.setattr(store_module, "WRITE_S", 1.0)
    url = postgres.new_database()

    async def body(store: Store) -> int:
        await store.add(decision())
        await store.run(all_rows)
        with stopped(postgres):
            async with asyncio.timeout(60):
                found = await asyncio.gather(
                    store.run(all_rows), *[store.add(decision()) for _ in range(3)], return_exceptions=True
                )
                assert {type(outcome) for outcome in found} == {StoreError}
                assert {outcome.trouble for outcome in found if isinstance(outcome, StoreError)} == {"slow"}
                assert await store.check() is not None
                assert store.trouble is not None
        async with asyncio.timeout(60):
            while await store.check() is not None:
                await asyncio.sleep(0.1)
        await store.add(decision())
        monkeypatch.setattr(store_module, "READ_S", 30.0)
        return len(await store.run(all_rows))

    assert using(url, body) == 2


def test_closing_beside_a_postgresql_that_stands_still(postgres: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "CLOSE_S", 0.5)
    url = postgres.new_database()

    async def run() -> BaseException | None:
        store = Store.open(url)
        await store.add(decision())
        with stopped(postgres):
            adding = asyncio.create_task(store.add(decision()))
            await asyncio.sleep(0.1)
            async with asyncio.timeout(60):
                await store.close()
                (outcome,) = await asyncio.gather(adding, return_exceptions=True)
        return outcome

    assert isinstance(asyncio.run(run()), StoreError)


def test_a_postgresql_that_is_locked_or_read_only(postgres: Server) -> None:
    import psycopg

    url = postgres.new_database()
    name = url.partition("?")[0].rpartition("/")[2]
    with psycopg.connect(url, autocommit=True) as boss:

        def set_read_only(value: str) -> None:
            boss.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = {value}")
            boss.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
                         f"AND datname = '{name}'")  # fmt: skip

        def lock() -> None:
            boss.execute("BEGIN")
            boss.execute("LOCK TABLE decisions")

        async def body(store: Store) -> list[str]:
            boss.execute("SELECT 1")
            locked = await trouble_and_back(store, lock, lambda: boss.execute("ROLLBACK"))
            boss.execute("DELETE FROM decisions")
            read_only = await trouble_and_back(
                store, lambda: set_read_only("on"),
                lambda: (boss.execute("SET default_transaction_read_only = off"), set_read_only("off")),
            )  # fmt: skip
            boss.execute("DELETE FROM decisions")
            missing = await trouble_and_back(
                store, lambda: boss.execute("ALTER TABLE decisions RENAME TO gone"),
                lambda: boss.execute("ALTER TABLE gone RENAME TO decisions"),
            )  # fmt: skip
            return [locked, read_only, missing]

        assert using(url, body) == ["locked", "read_only", "missing"]
