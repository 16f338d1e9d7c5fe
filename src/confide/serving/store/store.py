"""The decision store: rows that wait at the same time share one commit; reads have connections of their own.

SQLite in WAL mode by default, PostgreSQL by URL; several processes may share either. A row that was acknowledged
survives the death of this process. Nothing here waits for a database longer than seconds.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

import sqlalchemy as sa
from sqlalchemy import Connection, exc

from confide.errors import ConfideError
from confide.records import Record
from confide.serving.store.audit_counts import CHUNK, count_queued
from confide.serving.store.audit_work import with_error
from confide.serving.store.audits import audit_rows, calibration_records
from confide.serving.store.database import READERS, Database, Job, failure_of
from confide.serving.store.tables import About, DecisionRow, decisions, feedback, storable, store_probe
from confide.serving.store.troubles import AWAY, StoreError, Troubles

T = TypeVar("T")

log = logging.getLogger("confide.serving")

QUEUE = 4096  # rows that may wait for a commit; `Store.add` waits for room beyond that
BATCH = 512  # rows that share one transaction at most
READ_S = 5.0  # how long a read may take
WRITE_S = 5.0  # how long a commit may take
CLOSE_S = 10.0  # how long closing waits for what is being written
SLOW_S = 2.0  # a commit that takes longer is trouble
IDLE_S = 5.0  # without a commit for so long, a probe is written
PROBE_S = 1.0  # between two looks at the store
_PROBE_BYTES = 65_536  # of a probe while there is trouble: as much as a batch of rows
_MOST_WITHDRAWN = 10_000

_DONE = {"audit_due": None, "audit_request": None}

WITHDRAWN = "store: late"
"""The entry among a row's errors that says that its client was told 503, since the row was not there in time."""

_TRIAL = DecisionRow(
    id="probe", created=0.0, model="", source=None, raw=None, probability=None, decision="escalate", served="error",
    answered_by=None, domain=None, policy_id=None, threshold=None, mode="observe", small_ms=None, expert_ms=None,
    total_ms=0.0, small_tokens=0, expert_tokens=0, cost=0.0, cost_saved=0.0,
)  # fmt: skip


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

    def __init__(self, database: Database):
        self._database = database
        self._waiting: list[_Write] = []
        self._room = asyncio.Semaphore(QUEUE)
        self._task: asyncio.Task[None] | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._closed = False
        self._job: Job | None = None  # the commit under way
        self._began = 0.0
        self._troubles = Troubles()
        self._to_count = True  # whether audits may be in the queue already
        self._withdrawn: list[str] = []  # rows that may be there though their clients were told otherwise
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
        return cls(Database(url, create=create))

    @property
    def trouble(self) -> str | None:
        """The class of reason why a row could not be stored now, as far as is known without asking (None: none)."""
        if self._troubles.now is None and self._job is not None and time.monotonic() - self._began > SLOW_S:
            return "slow"
        return self._troubles.now

    async def check(self) -> str | None:
        """`trouble`, after a probe was written where nothing was in the last second."""
        if time.monotonic() - self._troubles.good > PROBE_S or self._troubles.now:
            try:
                async with asyncio.timeout(WRITE_S):
                    await self._submit(self._probe)
            except StoreError as error:
                return error.trouble
            except TimeoutError:
                return self.trouble or "slow"
        return self.trouble

    def watch(self) -> None:
        """Look again and again whether a row could be stored, until the store is closed."""
        self._watcher = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(PROBE_S)
            if self._troubles.now or time.monotonic() - self._troubles.good > IDLE_S:
                await self.check()
            elif self._job is None:
                try:
                    await asyncio.get_running_loop().run_in_executor(self._writer, self._database.check_files)
                except StoreError as error:
                    self._troubles.note(error)
                except Exception:  # whatever it is, the looking must go on: else no trouble would ever pass
                    log.exception("the store's files could not be looked at")

    def _probe(self, connection: Connection) -> None:
        trial = connection.begin_nested()
        connection.execute(sa.insert(decisions), _TRIAL.values())
        trial.rollback()
        size = _PROBE_BYTES if self._troubles.now else 1
        old = sa.select(store_probe.c.id).with_for_update(skip_locked=True)  # another router may be writing its own
        connection.execute(sa.delete(store_probe).where(store_probe.c.id.in_(old)))
        connection.execute(sa.insert(store_probe), {"payload": secrets.token_bytes(size)})

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
        changes: dict[str, Any] = {"agreed": agreed, "cost": d.cost + cost, "cost_saved": d.cost_saved - cost, **_DONE}
        if expert_answer is not None:
            changes["expert_answer"] = storable(expert_answer)
        if expert_ms is not None:
            changes["expert_ms"] = expert_ms
        await self._change(decision_id, changes)

    async def audit_failed(self, decision_id: str, error: str) -> None:
        """Add to the row's errors why no expert labelled an audit; raises `StoreError` when the row is not there."""
        await self._change(decision_id, {"error": with_error(error), **_DONE})

    async def change(self, work: Callable[[Connection], T]) -> T:
        """The result of ``work``, called in the writing transaction, once it is committed; may raise `StoreError`."""
        result: T = await self._submit(work)
        return result

    async def _change(self, decision_id: str, changes: dict[str, Any]) -> None:
        statement = sa.update(decisions).where(decisions.c.id == decision_id).values(changes)
        if not await self.change(lambda connection: connection.execute(statement).rowcount > 0):
            raise StoreError("failed", f"there is no decision {decision_id}")

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

        added = await self.change(insert)
        if added is None:
            raise JudgedError
        return added

    async def run(self, query: Callable[[Connection], T]) -> T:
        """The result of ``query``, called in a thread with a read-only connection; may raise `StoreError`.

        It is given up after `READ_S`, or when whoever waits for it is cancelled.
        """
        if self._closed:
            raise StoreError("closed", "the store is closed")
        job = Job(time.monotonic() + READ_S)
        reading = asyncio.get_running_loop().run_in_executor(self._readers, self._read, query, job)
        try:
            await asyncio.wait([reading], timeout=READ_S)
        finally:
            if not reading.done():
                job.stop()
                reading.cancel()
        if reading.cancelled():
            raise StoreError("slow", f"the decision store did not answer within {READ_S:g} s")
        return reading.result()

    def calibration_records(
        self, *, since: float | None = None, unlabelled: bool | None = False, identity: str | None = None
    ) -> list[Record]:
        """Audit rows from unix time ``since`` on as records (`confide.serving.store.audits.calibration_records`)."""
        try:
            audits = self._read(lambda connection: audit_rows(connection, since=since), Job())
            return calibration_records(audits, unlabelled=unlabelled, identity=identity)
        except StoreError as error:
            raise ConfideError(str(error)) from None

    async def close(self) -> None:
        """Write what is waiting, for `CLOSE_S` at most, then close every connection; later calls raise `StoreError`."""
        self._closed = True
        if self._watcher is not None:
            self._watcher.cancel()
        if self._task is not None and not self._task.done():
            await asyncio.wait([self._task], timeout=CLOSE_S)
        if self._task is not None and not self._task.done():
            lost = self._waiting
            self._waiting = []
            for write in lost:
                write.settle(StoreError("closed", "the store was closed before this was committed"))
            if self._job is not None:
                self._job.stop()
            await asyncio.wait([self._task], timeout=1)
            log.error("the store did not take what was waiting: %d writes are lost, those under way may be", len(lost))
        for pool in (self._writer, self._readers):
            pool.shutdown(wait=False, cancel_futures=True)
        await asyncio.wait([asyncio.create_task(asyncio.to_thread(self._database.dispose))], timeout=CLOSE_S)

    def _read(self, query: Callable[[Connection], T], job: Job) -> T:
        try:
            return self._database.read(query, job)
        except exc.SQLAlchemyError as error:
            raise failure_of(error, "read") from None

    async def _submit(self, work: dict[str, Any] | Callable[[Connection], Any]) -> Any:
        """Hand ``work`` to the writer and wait for its commit; row values are inserted as a decision.

        Whoever stops waiting takes the work back. A row that was committed all the same is marked as not served.
        """
        await self._room.acquire()
        if self._closed:
            self._room.release()
            raise StoreError("closed", "the store is closed")
        write = _Write(work, asyncio.get_running_loop().create_future())
        self._waiting.append(write)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._write())
        return await write.future

    async def _write(self) -> None:
        """Commit all that waits as one, wake whoever waits for it, and again until nothing waits."""
        loop = asyncio.get_running_loop()
        good = True
        while self._waiting or (self._withdrawn and good):
            writes, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
            self._job, self._began = Job(time.monotonic() + WRITE_S), time.monotonic()
            limit = loop.call_later(WRITE_S, self._stop_commit, self._job)
            good = await loop.run_in_executor(self._writer, self._commit, writes, self._job)
            limit.cancel()
            self._job = None
            for write in writes:
                self._room.release()
                if write.future.cancelled() and write.row_id is not None:
                    self._withdraw([write.row_id])
                write.settle(write.result)

    def _stop_commit(self, job: Job) -> None:
        """End a commit that takes too long, again each second: it may be between two connections."""
        if job is self._job:
            job.stop()
            asyncio.get_running_loop().call_later(1, self._stop_commit, job)

    def _withdraw(self, ids: list[str]) -> None:
        self._withdrawn = (self._withdrawn + ids)[-_MOST_WITHDRAWN:]

    def _commit(self, writes: list[_Write], job: Job) -> bool:
        """Commit ``writes`` in one transaction and note each one's outcome; returns whether all are committed."""
        wanted = [write for write in writes if not write.future.cancelled()]
        withdrawn = self._withdrawn
        try:
            self._database.write(lambda connection: self._apply(connection, wanted, withdrawn), job)
        except Exception as error:
            self._to_count = True
            if len(wanted) > 1 and not isinstance(error, (*AWAY, StoreError)):
                # One bad row must not cost the others theirs.
                outcomes = [self._commit([write], job) for write in wanted]
                return all(outcomes)
            if job.over and isinstance(error, AWAY):  # the error tells how it was ended, not why
                error = StoreError("slow", f"it did not take a commit within {WRITE_S:g} s")
            failure = failure_of(error, "written")
            for write in wanted:
                write.result = failure
            if failure.trouble != "failed" or any(write.work == self._probe for write in wanted):
                self._troubles.note(failure)
                self._database.reconnect()
            if job.committing:
                self._withdraw([write.row_id for write in wanted if write.row_id is not None])
            return False
        self._withdrawn = self._withdrawn[len(withdrawn) :]
        self._troubles.end()
        return True

    def _apply(self, connection: Connection, writes: list[_Write], withdrawn: list[str]) -> None:
        # Rows first: an update or feedback in this batch may be about one of them.
        rows = [write.work for write in writes if isinstance(write.work, dict)]
        if rows:
            statement: Any = sa.insert(decisions)
            if connection.dialect.name == "postgresql":  # many rows in one statement, whose triggers then count them
                statement = statement.returning(decisions.c.id)
            connection.execute(statement, rows)
        for write in writes:
            if not isinstance(write.work, dict):
                write.result = write.work(connection)
        late = [write.row_id for write in writes if write.row_id is not None and write.future.cancelled()]
        if withdrawn or late:
            connection.execute(_withdrawing([*withdrawn, *late]))
        if not self._to_count and all(isinstance(write.work, dict) and not write.work["audit"] for write in writes):
            return
        self._to_count = True
        try:
            with connection.begin_nested():
                self._to_count = count_queued(connection) in (CHUNK, None)
        except exc.DBAPIError as error:  # the audits stay in the queue
            if error.connection_invalidated:
                raise
            log.exception("audits could not be counted")


@dataclass(slots=True)
class _Write:
    """Work for the writer and where its outcome goes."""

    work: dict[str, Any] | Callable[[Connection], Any]
    future: asyncio.Future[Any]
    result: Any = field(default=None)  # a `StoreError` where the commit failed

    @property
    def row_id(self) -> str | None:
        """The id of the row that is inserted."""
        return self.work["id"] if isinstance(self.work, dict) else None

    def settle(self, result: Any) -> None:
        """Wake whoever waits, unless that one was cancelled."""
        if self.future.done():
            return
        if isinstance(result, StoreError):
            self.future.set_exception(result)
        else:
            self.future.set_result(result)


def _withdrawing(ids: list[str]) -> sa.Update:
    """Marks rows as not served, once."""
    d = decisions.c
    unmarked = sa.or_(d.error.is_(None), d.error.not_like(f"%{WITHDRAWN}%"))
    changes = {"served": "error", "answered_by": None, "error": with_error(WITHDRAWN), **_DONE}
    return sa.update(decisions).where(d.id.in_(ids), unmarked).values(changes)
