"""Connections to the store's database: SQLite or PostgreSQL, with a limit to how long anything may take."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import socket
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy import Connection, Engine, event, exc

from confide.errors import ConfideError
from confide.serving.store.migrations import LATEST, migrate
from confide.serving.store.tables import decisions
from confide.serving.store.troubles import StoreError, first_line, trouble_of

T = TypeVar("T")

READERS = 4  # reads that run at the same time; further ones wait
FLOOR_BYTES = 4_000_000  # free space under which nothing is written any more
_LOCK_S = 3.0  # how long a lock that somebody else holds is waited for
_CONNECT_S = 3
_STATEMENT_S = 4.0  # how long PostgreSQL works on one statement
_START_ATTEMPTS = 20
_OPERATIONS = 20_000  # of SQLite's machine, after which it looks at the clock

_this_thread = threading.local()


@dataclass(eq=False)
class Job:
    """Work on a connection that must end by ``until`` (of `time.monotonic`); `stop` makes it end at once."""

    until: float = math.inf
    committing: bool = False
    connection: Any = None

    @property
    def over(self) -> bool:
        """Whether its time is up."""
        return time.monotonic() > self.until

    def stop(self) -> None:
        """Let it fail, from another thread."""
        self.until = -math.inf
        number = getattr(self.connection, "fileno", None)
        if number is not None:  # PostgreSQL: a server that hangs never answers, not even to a request to cancel
            with contextlib.suppress(Exception), socket.socket(fileno=os.dup(number())) as line:
                line.shutdown(socket.SHUT_RDWR)


class Database:
    """The engine that writes (one connection) and the one that reads.

    Raises `ConfideError` for a bad URL, and unless it may ``create`` a store for a database that holds none.
    """

    def __init__(self, url: str, *, create: bool = True):
        try:
            parsed = sa.make_url(url)
        except exc.ArgumentError:
            raise ConfideError("the store's URL is not understood; write sqlite:///FILE or postgresql://…") from None
        kind = parsed.get_backend_name()
        if kind not in ("sqlite", "postgresql"):
            raise ConfideError(f"the store can be SQLite or PostgreSQL, not {kind}")
        self.where = parsed.render_as_string(hide_password=True)
        self.path = _sqlite_file(parsed, create) if kind == "sqlite" else None
        self.writing, self.reading = _sqlite(self.path) if self.path else _postgresql(parsed)
        for engine in (self.writing, self.reading):
            event.listen(engine, "connect", _note_connection, insert=True)
            event.listen(engine, "checkout", _note_connection)
        self._paths = (self.path, Path(f"{self.path}-wal")) if self.path else ()
        self._files: dict[Path, tuple[int, int]] = {}
        try:
            self._start(create=create)
        except BaseException:
            self.dispose()
            raise

    def dispose(self) -> None:
        """Close every connection that is not in use."""
        self.writing.dispose()
        self.reading.dispose()

    def reconnect(self) -> None:
        """Let the next write open a new connection: PostgreSQL may answer from another server after a failure."""
        if self.path is None:
            self.writing.dispose()

    def read(self, query: Callable[[Connection], T], job: Job) -> T:
        """The result of ``query`` in a transaction that reads."""
        return self._run(self.reading, query, job)

    def write(self, work: Callable[[Connection], T], job: Job) -> T:
        """The result of ``work`` in a transaction that writes, in a database that is still the one that was opened."""
        self.check_files()
        if self.path and not self._files:
            try:
                self._start(attempts=1)
            except ConfideError as error:
                raise StoreError("missing", str(error)) from None

        def checked(connection: Connection) -> T:
            if (version := self._schema_version(connection)) > LATEST:
                raise StoreError("newer_schema", f"its schema has version {version}, made by a newer confide")
            result = work(connection)
            job.committing = True
            return result

        job.committing = False
        result = self._run(self.writing, checked, job)
        self._note_files()
        return result

    def check_files(self) -> None:
        """Raise `StoreError` where the files are gone or the disk is full; forget them when others are in their place.

        What is written into a deleted file is lost as soon as this process ends.
        """
        if self.path is None:
            return
        for path, was in self._files.items():
            try:
                found = os.stat(path)
            except PermissionError:
                raise StoreError("permission", f"this user may not look at {path}") from None
            except OSError:
                if not os.path.exists(self.path):  # unlike Path.exists, it raises nothing
                    raise StoreError("missing", f"there is no file {self.path}") from None
                found = None
            if found is None or (found.st_dev, found.st_ino) != was:
                self.dispose()
                self._files = {}
                break
        with contextlib.suppress(OSError):
            if shutil.disk_usage(self.path.parent).free < FLOOR_BYTES:
                raise StoreError("disk_full", f"less than {FLOOR_BYTES:,} bytes are free beside {self.path}")

    def _schema_version(self, connection: Connection) -> int:
        """The version of the schema as this transaction sees it.

        Every write asks, so SQLite is asked without SQLAlchemy, which takes ten times as long as the query.
        """
        query = "SELECT version FROM schema_version"
        if self.path is not None:
            with contextlib.suppress(sqlite3.Error):  # SQLAlchemy will say it better
                (version,) = connection.connection.driver_connection.execute(query).fetchone()  # type: ignore[union-attr]
                return int(version)
        return int(connection.exec_driver_sql(query).scalar_one())

    def _note_files(self) -> None:
        for path in self._paths:
            if path not in self._files:
                with contextlib.suppress(OSError):
                    found = os.stat(path)
                    self._files[path] = (found.st_dev, found.st_ino)

    def _run(self, engine: Engine, work: Callable[[Connection], T], job: Job) -> T:
        _this_thread.job = job
        try:
            for attempt in (1, 2):
                try:
                    with engine.begin() as connection:
                        if job.until == math.inf and engine.dialect.name == "postgresql":
                            connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
                            connection.exec_driver_sql("SET LOCAL lock_timeout = 0")
                        return work(connection)
                except exc.DBAPIError as error:
                    # A connection that broke while it lay idle says so now; a new one may work.
                    if attempt == 2 or not error.connection_invalidated or job.committing or job.over:
                        raise
            raise AssertionError
        finally:
            _this_thread.job = None

    def _start(self, attempts: int = _START_ATTEMPTS, *, create: bool = True) -> None:
        """Create or migrate the schema; `ConfideError` says what stands in the way."""

        def prepare(connection: Connection) -> None:
            if not create and not sa.inspect(connection).has_table(decisions.name):
                raise ConfideError(f"{self.where} holds no decisions of a router")
            migrate(connection)

        for attempt in range(1, attempts + 1):
            try:
                self._run(self.writing, prepare, Job())
                break
            except exc.SQLAlchemyError as error:
                # Switching a new file to WAL does not wait for another process that is doing the same.
                if "locked" not in str(error) or attempt == attempts:
                    raise ConfideError(f"the store {self.where} cannot be opened: {first_line(error)}") from None
                time.sleep(0.05 * attempt)
        self._note_files()


def failure_of(error: Exception, did: str) -> StoreError:
    """``error`` as what the store raises; ``did`` says what cannot be done."""
    if isinstance(error, StoreError):
        return StoreError(error.trouble, f"the decision store cannot be {did} ({error})")
    trouble, told = trouble_of(error)
    return StoreError(trouble, f"the decision store cannot be {did} ({told})")


def _job_is_over() -> bool:
    job: Job | None = getattr(_this_thread, "job", None)
    return job is not None and job.over


def _note_connection(connection: Any, *_: Any) -> None:
    job: Job | None = getattr(_this_thread, "job", None)
    if job is not None:
        job.connection = connection


def _postgresql(url: sa.URL) -> tuple[Engine, Engine]:
    address = url.set(drivername="postgresql+psycopg")
    options: dict[str, Any] = {"max_overflow": 0, "pool_timeout": _CONNECT_S, "hide_parameters": True}
    # A server that vanished without a word is noticed within seconds instead of a quarter of an hour.
    options["connect_args"] = {"connect_timeout": _CONNECT_S, "tcp_user_timeout": 5_000}
    reading = {"pool_size": READERS, "execution_options": {"postgresql_readonly": True}}
    engines = sa.create_engine(address, pool_size=1, **options), sa.create_engine(address, **reading, **options)
    for engine in engines:
        event.listen(engine, "connect", _limit)
    return engines


def _limit(connection: Any, _: Any) -> None:
    """Let the server itself end what takes too long."""
    before, connection.autocommit = connection.autocommit, True
    for name, seconds in (
        ("statement_timeout", _STATEMENT_S),
        ("lock_timeout", _LOCK_S),
        ("idle_in_transaction_session_timeout", 10),
    ):
        connection.execute(f"SET {name} = {seconds * 1000:.0f}")
    connection.autocommit = before


def _sqlite_file(url: sa.URL, create: bool) -> Path:
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
    return path.absolute()


def _sqlite(path: Path) -> tuple[Engine, Engine]:
    # A file that was deleted must not come back empty. In parts, since text is unquoted once more: another file's name.
    address = sa.URL.create("sqlite", database=f"file:{quote(str(path))}", query={"mode": "rw", "uri": "true"})
    options: dict[str, Any] = {"max_overflow": 0, "pool_timeout": _CONNECT_S, "hide_parameters": True}
    options["connect_args"] = {"timeout": _LOCK_S}
    writing, reading = (sa.create_engine(address, pool_size=size, **options) for size in (1, READERS))
    _prepare(writing, "BEGIN IMMEDIATE", "journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON")
    _prepare(reading, "BEGIN", "query_only=ON")
    return writing, reading


def _prepare(engine: Engine, begin: str, *pragmas: str) -> None:
    """Let every connection of a SQLite ``engine`` start with ``pragmas``, and every transaction with ``begin``."""

    @event.listens_for(engine, "connect")
    def connected(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # transactions start with `begin`, not where the driver guesses
        connection.set_progress_handler(_job_is_over, _OPERATIONS)
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begun(connection: Connection) -> None:
        connection.exec_driver_sql(begin)
