"""The decision store: rows go in through one writer thread with group commit and are read on connections of their own.

SQLite in WAL mode by default, PostgreSQL by URL; several processes may share either. A row that was acknowledged
survives the death of this process. Only ``store_tables`` and the statements of the migrations know SQL types.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import math
import os
import queue
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self, TypeVar

from sqlalchemy import Connection, Engine, Text, create_engine, event, exc, insert, literal, make_url, select, update

from confide.errors import ConfideError
from confide.records import Record
from confide.serving.store.audits import audit_rows, equal_chance
from confide.serving.store.decision_row import About, DecisionRow
from confide.serving.store.migrations import migrate
from confide.serving.store.store_tables import decisions, feedback

T = TypeVar("T")

QUEUE = 4096
"""Rows that may wait for a commit; `Store.add` waits for room beyond that."""

BATCH = 512
"""Rows that share one transaction at most."""

READERS = 4
"""Reads that run at the same time; further ones wait."""

_TIMEOUT_S = 10
_START_ATTEMPTS = 20

# The database itself is away: what was wrong is not one row, so trying the rows one by one would not help.
_AWAY = (exc.OperationalError, exc.InterfaceError, exc.InternalError, exc.TimeoutError)


class StoreError(Exception):
    """The database failed: what was asked for is not committed (or, if the connection broke, may not be)."""


class Store:
    """Decisions and feedback in one database, used from one event loop.

    >>> import asyncio, tempfile
    >>> async def count(url: str) -> int:
    ...     store = Store.open(url)
    ...     n = await store.run(lambda connection: len(connection.execute(select(decisions.c.id)).all()))
    ...     await store.close()
    ...     return n
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     asyncio.run(count(f"sqlite:///{folder}/confide.db"))
    0
    """

    def __init__(self, writing: Engine, reading: Engine):
        self._writing = writing
        self._reading = reading
        self._queue: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        self._room = asyncio.Semaphore(QUEUE)
        self._closed = False
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="confide-store-read")
        self._writer = threading.Thread(target=self._write_forever, name="confide-store-write", daemon=True)
        self._writer.start()

    @classmethod
    def open(cls, url: str = "sqlite:///confide.db") -> Self:
        """Open the database at ``url``, creating it or migrating its schema forward.

        Raises `ConfideError` for a URL that is not understood, a database that cannot be reached, one that another
        program made, or one of a newer schema version.
        """
        writing, reading = _engines(url)
        try:
            _start(writing)
        except BaseException:
            writing.dispose()
            reading.dispose()
            raise
        return cls(writing, reading)

    async def add(self, row: DecisionRow) -> None:
        """Add a row and return once it is committed.

        Waits when `QUEUE` rows are waiting already. Raises `StoreError` when the database refuses.
        """
        await self._submit(_values(row))

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
            changes["expert_answer"] = _storable(expert_answer)
        if expert_ms is not None:
            changes["expert_ms"] = expert_ms
        statement = update(decisions).where(d.id == decision_id).values(changes)
        if not await self._submit(lambda connection: connection.execute(statement).rowcount > 0):
            raise StoreError(f"there is no decision {decision_id}")

    async def feedback(self, decision_id: str, correct: bool, about: About = "served", note: str | None = None) -> bool:
        """Add feedback about a decision and return once it is committed; False when there is no such decision.

        A decision may get feedback several times; the latest about the same answer counts.
        """
        row = select(
            decisions.c.id, literal(time.time()), literal(correct), literal(about), literal(_storable(note), Text)
        ).where(decisions.c.id == _storable(decision_id))
        statement = insert(feedback).from_select(["decision_id", "created", "correct", "about", "note"], row)
        told = statement.returning(feedback.c.decision_id)
        return await self._submit(lambda connection: connection.execute(told).first()) is not None

    async def run(self, query: Callable[[Connection], T]) -> T:
        """The result of ``query``, called in a thread with a read-only connection.

        Raises `StoreError` when the database fails.
        """
        if self._closed:
            raise StoreError("the store is closed")
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, query)

    def calibration_records(self, *, since: float | None = None) -> list[Record]:
        """Audit rows with a label for the small answer, from unix time ``since`` on, as calibration records.

        Rows that were drawn with different probabilities are thinned to the lowest one, so that what is returned is
        exchangeable and the bound of `confide calibrate` holds for it. ``confidence`` maps the row's source to the
        raw value. Raises `ConfideError` when no row has a label, when most audit rows lack one (those that have one
        are then a biased sample), or when different models answered them.
        """
        try:
            audits = self._read(lambda connection: audit_rows(connection, since=since))
        except StoreError as error:
            raise ConfideError(str(error)) from None
        labelled = [row for row in audits if row.correct is not None]
        if not labelled:
            raise ConfideError(
                f"the store has no audit row with a label ({len(audits)} audit rows without); set audit_share in the "
                "router's configuration, and only audits say whether the small model was right"
            )
        if 2 * len(labelled) < len(audits):
            raise ConfideError(
                f"only {len(labelled)} of {len(audits)} audit rows have a label, and the labelled ones may be no fair "
                "sample; label the others first (POST /v1/feedback)"
            )
        models = sorted({row.model for row in labelled})
        if len(models) > 1:
            raise ConfideError(
                f"the audit rows are answers of {len(models)} models ({', '.join(models[:3])}); take those of one, "
                "by the time since when it runs"
            )
        return [
            Record(
                id=row.id,
                domain=row.domain or "",
                split="calibration",
                correct=row.correct,
                model=row.model,
                confidence={} if row.source is None else {row.source: row.raw},
            )
            for row in equal_chance(labelled)
        ]

    async def close(self) -> None:
        """Write what is waiting, then close every connection; later calls raise `StoreError`."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
        await asyncio.to_thread(self._shut_down)

    def _shut_down(self) -> None:
        self._writer.join()
        self._readers.shutdown()
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
        loop = asyncio.get_running_loop()
        write = _Write(work, loop, loop.create_future())
        self._queue.put(write)
        return await write.future

    def _write_forever(self) -> None:
        """The writer thread: take all that waits, commit it as one, tell who waits, again."""
        while True:
            batch = [self._queue.get()]
            with contextlib.suppress(queue.Empty):
                while len(batch) < BATCH and batch[-1] is not None:
                    batch.append(self._queue.get_nowait())
            writes = [write for write in batch if write is not None]
            if writes:
                self._commit(writes)
                self._tell(writes)
            if batch[-1] is None:
                return

    def _commit(self, writes: list[_Write]) -> None:
        """Commit ``writes`` in one transaction and note each one's outcome."""
        try:
            with self._writing.begin() as connection:
                # Rows first: an update or feedback in this batch may be about one of them.
                rows = [write.work for write in writes if isinstance(write.work, dict)]
                if rows:
                    connection.execute(_INSERT, rows)
                for write in writes:
                    if not isinstance(write.work, dict):
                        write.result = write.work(connection)
        except Exception as error:
            if len(writes) > 1 and not isinstance(error, _AWAY):
                for write in writes:  # one bad row must not cost the others theirs
                    self._commit([write])
            else:
                for write in writes:
                    write.error = StoreError(f"the decision store cannot be written ({_reason(error)})")

    def _tell(self, writes: list[_Write]) -> None:
        """Wake whoever waits for ``writes``, with one call into each event loop."""
        by_loop: dict[asyncio.AbstractEventLoop, list[_Write]] = defaultdict(list)
        for write in writes:
            by_loop[write.loop].append(write)
        for loop, group in by_loop.items():
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(self._settle, group)

    def _settle(self, writes: list[_Write]) -> None:
        for write in writes:
            self._room.release()
            if write.future.done():  # whoever waited was cancelled
                continue
            if write.error is not None:
                write.future.set_exception(write.error)
            else:
                write.future.set_result(write.result)


@dataclasses.dataclass(slots=True)
class _Write:
    """Work for the writer and where its outcome goes."""

    work: dict[str, Any] | Callable[[Connection], Any]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    result: Any = None
    error: StoreError | None = None


_INSERT = insert(decisions)
_FIELDS = [field.name for field in dataclasses.fields(DecisionRow)]


def _values(row: DecisionRow) -> dict[str, Any]:
    """The row's values as a database takes them: no NaN, no half characters."""
    values = {name: getattr(row, name) for name in _FIELDS}
    for name, value in values.items():
        if isinstance(value, str):
            values[name] = _storable(value)
    for name in ("raw", "probability", "threshold"):
        if values[name] is not None and not math.isfinite(values[name]):
            values[name] = None
    return values


def _storable(text: str | None) -> str | None:
    """``text`` without what PostgreSQL (U+0000) or UTF-8 (lone surrogates) cannot hold."""
    if text is None or (text.isascii() and "\0" not in text):
        return text
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", "\ufffd")


def _reason(error: Exception) -> str:
    """What went wrong, in one line that holds no value of a row and no password."""
    if isinstance(error, exc.DBAPIError):
        # A message about the connection or the file is told; one about a row would quote it.
        message = str(error.orig).strip().split("\n")[0][:200]
        return message if isinstance(error, _AWAY) else type(error.orig).__name__
    return type(error).__name__


def _engines(url: str) -> tuple[Engine, Engine]:
    """The engine that writes (one connection) and the one that reads."""
    try:
        parsed = make_url(url)
    except exc.ArgumentError:
        raise ConfideError("the store's URL is not understood; write sqlite:///FILE or postgresql://…") from None
    kind = parsed.get_backend_name()
    if kind == "sqlite":
        return _sqlite(parsed.database)
    if kind != "postgresql":
        raise ConfideError(f"the store can be SQLite or PostgreSQL, not {kind}")
    address = parsed.set(drivername="postgresql+psycopg")
    # A server that vanished without a word is noticed within the timeout instead of the system's quarter of an hour.
    options: dict[str, Any] = {
        "connect_args": {"connect_timeout": _TIMEOUT_S, "tcp_user_timeout": _TIMEOUT_S * 1000},
        "pool_pre_ping": True,
        "pool_timeout": _TIMEOUT_S,
        "max_overflow": 0,
        "hide_parameters": True,
    }
    writing = create_engine(address, pool_size=1, **options)
    reading = create_engine(address, pool_size=READERS, execution_options={"postgresql_readonly": True}, **options)
    return writing, reading


def _sqlite(database: str | None) -> tuple[Engine, Engine]:
    if not database or database == ":memory:":
        raise ConfideError("the store needs a file: sqlite:///FILE")
    path = Path(database)
    if not path.parent.is_dir():
        raise ConfideError(f"the folder of the store, {path.parent}, does not exist")
    # Rows may hold what people asked: nobody else on the machine gets to read a new file. An old one is not touched,
    # because closing it would drop the locks of this process's other connections to it.
    with contextlib.suppress(OSError):  # SQLite will say it better
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    writing, reading = (
        create_engine(
            f"sqlite:///{database}",
            connect_args={"timeout": _TIMEOUT_S},
            pool_size=size,
            max_overflow=0,
            pool_timeout=_TIMEOUT_S,
            hide_parameters=True,
        )
        for size in (1, READERS)
    )
    for engine, pragmas, begin in (
        (writing, ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"), "BEGIN IMMEDIATE"),
        (reading, ("query_only=ON",), "BEGIN"),
    ):
        event.listen(engine, "connect", _set_up(pragmas))
        event.listen(engine, "begin", _begin(begin))
    return writing, reading


def _set_up(pragmas: tuple[str, ...]) -> Callable[[Any, Any], None]:
    def on_connect(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # transactions start where `_begin` says, not where the driver guesses
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}")

    return on_connect


def _begin(statement: str) -> Callable[[Connection], None]:
    def on_begin(connection: Connection) -> None:
        connection.exec_driver_sql(statement)

    return on_begin


def _start(engine: Engine) -> None:
    """Create or migrate the schema; `ConfideError` says what stands in the way."""
    for attempt in range(_START_ATTEMPTS):
        try:
            with engine.begin() as connection:
                migrate(connection)
            return
        except exc.SQLAlchemyError as error:
            # Switching a new file to WAL does not wait for another process that is doing the same.
            if "locked" in str(error) and attempt < _START_ATTEMPTS - 1:
                time.sleep(0.05 * (attempt + 1))
                continue
            where = engine.url.render_as_string(hide_password=True)
            reason = str(error.orig).strip().split("\n")[0] if isinstance(error, exc.DBAPIError) else str(error)
            raise ConfideError(f"the store {where} cannot be opened: {reason}") from None
