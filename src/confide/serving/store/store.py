"""The decision store: rows that wait at the same time share one commit; reads have connections of their own.

SQLite in WAL mode by default, PostgreSQL by URL; several processes may share either. A row that was acknowledged
survives the death of this process.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

import sqlalchemy as sa
from sqlalchemy import Connection, Engine, event, exc

from confide.errors import ConfideError
from confide.records import Record
from confide.serving.store.audits import audit_rows, calibration_records
from confide.serving.store.migrations import migrate
from confide.serving.store.tables import About, DecisionRow, decisions, feedback, storable

T = TypeVar("T")

QUEUE = 4096  # rows that may wait for a commit; `Store.add` waits for room beyond that
BATCH = 512  # rows that share one transaction at most
READERS = 4  # reads that run at the same time; further ones wait
_TIMEOUT_S = 10
_START_ATTEMPTS = 20

# The database itself is away: what was wrong is not one row, so trying the rows one by one would not help.
_AWAY = (exc.OperationalError, exc.InterfaceError, exc.InternalError, exc.TimeoutError)


class StoreError(Exception):
    """The database failed: what was asked for is not committed (or, if the connection broke, may not be)."""


class JudgedError(Exception):
    """Somebody else has judged the decision already, and this key cannot overrule that."""


class Store:
    """Decisions and feedback in one database, used from one event loop.

    >>> import asyncio, tempfile
    >>> async def count(url: str) -> int:
    ...     store = Store.open(url)
    ...     n = await store.run(lambda connection: len(connection.execute(decisions.select()).all()))
    ...     await store.close()
    ...     return n
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     asyncio.run(count(f"sqlite:///{folder}/confide.db"))
    0
    """

    def __init__(self, writing: Engine, reading: Engine):
        self._writing = writing
        self._reading = reading
        self._waiting: list[_Write] = []
        self._room = asyncio.Semaphore(QUEUE)
        self._task: asyncio.Task[None] | None = None
        self._closed = False
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="confide-store-read")
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="confide-store-write")

    @classmethod
    def open(cls, url: str = "sqlite:///confide.db", *, create: bool = True) -> Self:
        """Open the database at ``url``, creating it or migrating its schema forward.

        Args:
            url: ``sqlite:///FILE`` or ``postgresql://user:password@host/database``.
            create: whether a database that is not there, or holds nothing, is made a store.

        Raises:
            ConfideError: the URL is not understood; the database cannot be reached, was made by another program, or
                has a newer schema version.
        """
        writing, reading = _engines(url, create)
        try:
            _start(writing, create)
        except BaseException:
            writing.dispose()
            reading.dispose()
            raise
        return cls(writing, reading)

    async def add(self, row: DecisionRow) -> None:
        """Add a row and return once it is committed; raises `StoreError` when the database refuses."""
        await self._submit(row.values())

    async def audited(
        self, decision_id: str, agreed: bool | None, expert_answer: str | None, cost: float, expert_ms: float | None
    ) -> None:
        """Add the outcome of an audit that ended after the answer was sent.

        ``cost`` is the audit's own: it is added to the row's cost and taken off what the row saved. ``expert_answer``
        is None where texts are not stored. Raises `StoreError` when the row is not there.
        """
        d = decisions.c
        changes: dict[str, Any] = {"agreed": agreed, "cost": d.cost + cost, "cost_saved": d.cost_saved - cost}
        if expert_answer is not None:
            changes["expert_answer"] = storable(expert_answer)
        if expert_ms is not None:
            changes["expert_ms"] = expert_ms
        await self._change(decision_id, changes)

    async def audit_failed(self, decision_id: str, error: str) -> None:
        """Add to the row's errors why no expert labelled an audit; raises `StoreError` when the row is not there."""
        before = decisions.c.error
        joined = sa.case((before.is_(None), error), else_=before + f"; {error}")
        await self._change(decision_id, {"error": joined})

    async def _change(self, decision_id: str, changes: dict[str, Any]) -> None:
        statement = sa.update(decisions).where(decisions.c.id == decision_id).values(changes)
        if not await self._submit(lambda connection: connection.execute(statement).rowcount > 0):
            raise StoreError(f"there is no decision {decision_id}")

    async def feedback(
        self,
        decision_id: str,
        correct: bool,
        about: About = "served",
        note: str | None = None,
        *,
        author: str | None = None,
        asked_by: str | None = None,
        trusted: bool = False,
    ) -> bool:
        """Add feedback about a decision and return once it is committed; False when there is no such decision.

        What the same ``author`` said before about the same answer is replaced; of what is left the latest counts.
        With ``asked_by`` only decisions that this key asked for are there, and raises `JudgedError` when another
        author has judged the decision. ``trusted`` says that a key may call its own answer right where
        no expert labels it.
        """
        d, f = decisions.c, feedback.c
        row = {"decision_id": storable(decision_id), "created": time.time(), "correct": correct, "about": about}
        wanted, about_it = d.id == row["decision_id"], f.decision_id == row["decision_id"]
        if asked_by is not None:
            wanted = sa.and_(wanted, d.key == asked_by)
        same = sa.delete(feedback).where(about_it, f.about == about, f.author.is_not_distinct_from(author))

        def insert(connection: Connection) -> bool | None:
            if not connection.scalar(sa.select(sa.exists().where(wanted))):
                return False
            if asked_by is not None and connection.scalar(sa.select(sa.exists().where(about_it, f.author != author))):
                return None
            connection.execute(same)
            more = {"note": note and storable(note), "author": author, "trusted": trusted}
            connection.execute(sa.insert(feedback), row | more)
            return True

        added: bool | None = await self._submit(insert)
        if added is None:
            raise JudgedError
        return added

    async def run(self, query: Callable[[Connection], T]) -> T:
        """The result of ``query``, called in a thread with a read-only connection; may raise `StoreError`."""
        if self._closed:
            raise StoreError("the store is closed")
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, query)

    def calibration_records(
        self, *, since: float | None = None, unlabelled: bool | None = False, identity: str | None = None
    ) -> list[Record]:
        """Audit rows from unix time ``since`` on as records (`confide.serving.store.audits.calibration_records`)."""
        try:
            audits = self._read(lambda connection: audit_rows(connection, since=since))
            return calibration_records(audits, unlabelled=unlabelled, identity=identity)
        except StoreError as error:
            raise ConfideError(str(error)) from None

    async def close(self) -> None:
        """Write what is waiting, then close every connection; later calls raise `StoreError`."""
        self._closed = True
        if self._task is not None:
            await self._task
        for pool in (self._writer, self._readers):
            await asyncio.to_thread(pool.shutdown)
        self._writing.dispose()
        self._reading.dispose()

    def _read(self, query: Callable[[Connection], T]) -> T:
        try:
            with self._reading.begin() as connection:
                return query(connection)
        except exc.SQLAlchemyError as error:
            raise StoreError(f"the decision store cannot be read ({_reason(error)})") from None

    async def _submit(self, work: dict[str, Any] | Callable[[Connection], Any]) -> Any:
        """Hand ``work`` to the writer and wait for its commit; row values are inserted as a decision."""
        await self._room.acquire()
        if self._closed:
            self._room.release()
            raise StoreError("the store is closed")
        write = _Write(work, asyncio.get_running_loop().create_future())
        self._waiting.append(write)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._write())
        return await write.future

    async def _write(self) -> None:
        """Commit all that waits as one, wake whoever waits for it, and again until nothing waits."""
        while self._waiting:
            writes, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
            await asyncio.get_running_loop().run_in_executor(self._writer, self._commit, writes)
            for write in writes:
                self._room.release()
                if write.future.done():  # whoever waited was cancelled
                    continue
                if isinstance(write.result, StoreError):
                    write.future.set_exception(write.result)
                else:
                    write.future.set_result(write.result)

    def _commit(self, writes: list[_Write]) -> None:
        """Commit ``writes`` in one transaction and note each one's outcome."""
        try:
            with self._writing.begin() as connection:
                # Rows first: an update or feedback in this batch may be about one of them.
                rows = [write.work for write in writes if isinstance(write.work, dict)]
                if rows:
                    connection.execute(sa.insert(decisions), rows)
                for write in writes:
                    if not isinstance(write.work, dict):
                        write.result = write.work(connection)
        except Exception as error:
            if len(writes) > 1 and not isinstance(error, _AWAY):
                for write in writes:  # one bad row must not cost the others theirs
                    self._commit([write])
            else:
                for write in writes:
                    write.result = StoreError(f"the decision store cannot be written ({_reason(error)})")


@dataclass(slots=True)
class _Write:
    """Work for the writer and where its outcome goes."""

    work: dict[str, Any] | Callable[[Connection], Any]
    future: asyncio.Future[Any]
    result: Any = None  # a `StoreError` where the commit failed


def _reason(error: Exception) -> str:
    """What went wrong, in one line that holds no value of a row and no password."""
    if isinstance(error, exc.DBAPIError):
        # A message about the connection or the file is safe; one about a row would quote it.
        return _first_line(error)[:200] if isinstance(error, _AWAY) else type(error.orig).__name__
    return type(error).__name__


def _first_line(error: exc.SQLAlchemyError) -> str:
    return str(error.orig if isinstance(error, exc.DBAPIError) else error).strip().split("\n")[0]


def _engines(url: str, create: bool) -> tuple[Engine, Engine]:
    """The engine that writes (one connection) and the one that reads."""
    try:
        parsed = sa.make_url(url)
    except exc.ArgumentError:
        raise ConfideError("the store's URL is not understood; write sqlite:///FILE or postgresql://…") from None
    options: dict[str, Any] = {"max_overflow": 0, "pool_timeout": _TIMEOUT_S, "hide_parameters": True}
    kind = parsed.get_backend_name()
    if kind == "sqlite":
        return _sqlite(parsed, options, create)
    if kind != "postgresql":
        raise ConfideError(f"the store can be SQLite or PostgreSQL, not {kind}")
    address = parsed.set(drivername="postgresql+psycopg")
    # A server that vanished without a word is noticed within the timeout instead of the system's quarter of an hour.
    options["connect_args"] = {"connect_timeout": _TIMEOUT_S, "tcp_user_timeout": _TIMEOUT_S * 1000}
    options["pool_pre_ping"] = True
    reading = {"pool_size": READERS, "execution_options": {"postgresql_readonly": True}}
    return sa.create_engine(address, pool_size=1, **options), sa.create_engine(address, **reading, **options)


def _sqlite(url: sa.URL, options: dict[str, Any], create: bool) -> tuple[Engine, Engine]:
    if not url.database or url.database == ":memory:":
        raise ConfideError("the store needs a file: sqlite:///FILE")
    path = Path(url.database)
    if not path.parent.is_dir():
        raise ConfideError(f"the folder of the store, {path.parent}, does not exist")
    if not create and not (path.exists() and path.stat().st_size):
        raise ConfideError(f"there is no store {path}")
    # Rows may hold what people asked: nobody else on the machine gets to read a new file. An old one is not touched,
    # because closing it would drop the locks of this process's other connections to it.
    with contextlib.suppress(OSError):  # SQLite will say it better
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    address, options = f"sqlite:///{path}", options | {"connect_args": {"timeout": _TIMEOUT_S}}
    writing, reading = (sa.create_engine(address, pool_size=size, **options) for size in (1, READERS))
    _prepare(writing, "BEGIN IMMEDIATE", "journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON")
    _prepare(reading, "BEGIN", "query_only=ON")
    return writing, reading


def _prepare(engine: Engine, begin: str, *pragmas: str) -> None:
    """Let every connection of a SQLite ``engine`` start with ``pragmas``, and every transaction with ``begin``."""

    @event.listens_for(engine, "connect")
    def connected(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # transactions start with `begin`, not where the driver guesses
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begun(connection: Connection) -> None:
        connection.exec_driver_sql(begin)


def _start(engine: Engine, create: bool) -> None:
    """Create or migrate the schema; `ConfideError` says what stands in the way."""
    where = engine.url.render_as_string(hide_password=True)
    for attempt in range(1, _START_ATTEMPTS + 1):
        try:
            with engine.begin() as connection:
                if not create and not sa.inspect(connection).has_table(decisions.name):
                    raise ConfideError(f"{where} holds no decisions of a router")
                migrate(connection)
            return
        except exc.SQLAlchemyError as error:
            # Switching a new file to WAL does not wait for another process that is doing the same.
            if "locked" not in str(error) or attempt == _START_ATTEMPTS:
                raise ConfideError(f"the store {where} cannot be opened: {_first_line(error)}") from None
            time.sleep(0.05 * attempt)
