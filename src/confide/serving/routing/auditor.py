"""Audits: asks an expert about requests that were answered without one, for the statistics alone.

So many run at once, so many wait; what comes beyond is shed, and its row stays an audit without a label. A row says
until when an audit is somebody's work. After that, whoever finds it takes it up: after a restart, or when a process
died. That needs what was asked, which is there only where texts are stored; without it the audit is lost, and its row
stays without a label, too. No audit leaves the statistics by that.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from pydantic_core import from_json, to_json

from confide.engines.openai.asked import Asked
from confide.engines.openai.model_error import ModelError
from confide.engines.openai.reply import Choice, Reply
from confide.serving.config import ServeConfig
from confide.serving.routing.agreement_of_replies import agree
from confide.serving.routing.audit_request import audit_request
from confide.serving.routing.guard import Guarded
from confide.serving.routing.prometheus import Metrics
from confide.serving.routing.turn import Turn
from confide.serving.store.audit_work import claim, due_audits, give_up, release
from confide.serving.store.store import Store
from confide.serving.store.tables import DecisionRow
from confide.serving.store.troubles import StoreError

log = logging.getLogger("confide.serving")

AGE_S = 3600.0  # an older audit is not taken up any more: the expert may answer otherwise by now
_LOOK_S = 10.0
_MARGIN_S = 30.0  # beyond the deadline, after which an audit is nobody's work any more
_CLOSE_S = 5.0


class Auditor:
    """Runs audits, and takes up those that nobody finished.

    Args:
        config: of it the deadline, texts, and how many audits may run and wait are used.
        experts: who is asked, in this order.
        store: where labels go.
        metrics: what is counted.
    """

    def __init__(self, config: ServeConfig, experts: Sequence[Guarded], store: Store, metrics: Metrics):
        self._config = config
        self._experts = experts
        self._store = store
        self._metrics = metrics
        self._slots = asyncio.Semaphore(config.audit.concurrency)
        self._mine: dict[asyncio.Task[None], str] = {}
        self._looking: asyncio.Task[None] | None = None

    @property
    def backlog(self) -> int:
        """How many audits run or wait in this process."""
        return len(self._mine)

    @property
    def room(self) -> int:
        """How many more may wait."""
        return self._config.audit.concurrency + self._config.audit.queue - self.backlog

    def watch(self) -> None:
        """Take up, again and again, what nobody finished."""
        if self._config.audit_label == "expert" and self._experts:
            self._looking = asyncio.create_task(self._look())

    def note(self, turn: Turn, row: DecisionRow) -> bool:
        """Write into the ``row`` of a ``turn`` that an audit of it is due, or shed; returns whether it is due."""
        if self.room <= 0:
            row.error = "; ".join(part for part in (row.error, "audit: shed") if part)
            self._metrics.failed("audit", "shed")
            return False
        row.audit_due = self._until()
        if self._config.store_text and turn.small is not None:
            row.audit_request = _written(audit_request(turn.asked, 0.0), turn.small)
        return True

    def begin(self, turn: Turn, row: DecisionRow) -> None:
        """Audit a turn whose row is committed and says that it is due."""
        assert turn.small is not None
        assert row.audit_due is not None
        self._start(row.id, row.audit_due, turn.asked, turn.small)

    async def close(self) -> None:
        """Give audits a moment to end; what is left may be taken up by others at once."""
        if self._looking is not None:
            self._looking.cancel()
        if not self._mine:
            return
        _, late = await asyncio.wait(self._mine, timeout=_CLOSE_S)
        ids = [self._mine[task] for task in late]
        for task in late:
            task.cancel()
        if ids:
            kept = "are taken up after the next start" if self._config.store_text else "are lost: no texts are stored"
            log.warning("%d audits had not ended; they %s", len(ids), kept)
            try:
                async with asyncio.timeout(_CLOSE_S):
                    await self._store.change(release(ids, time.time()))
            except (StoreError, TimeoutError):
                log.warning("they could not be released and wait until their time is over")

    def _until(self) -> float:
        return time.time() + self._config.deadline_s + _MARGIN_S

    def _start(self, id: str, due: float, asked: Asked, small: Reply) -> None:
        task = asyncio.create_task(self._audit(id, due, asked, small))
        self._mine[task] = id
        task.add_done_callback(self._mine.pop)

    async def _look(self) -> None:
        while True:
            try:
                await self._take_up()
            except StoreError:
                pass  # the store says so itself
            except Exception:
                log.exception("audits could not be taken up")
            await asyncio.sleep(_LOOK_S)

    async def _take_up(self) -> None:
        now = time.time()
        for row in await self._store.run(lambda connection: due_audits(connection, now, max(self.room, 0))):
            if row.id in self._mine.values():
                continue  # it still waits here
            work = _read(row.audit_request) if row.audit_request and row.created >= now - AGE_S else None
            if work is None:
                if await self._store.change(give_up(row.id, row.audit_due, "audit: lost")):
                    self._metrics.failed("audit", "lost")
                continue
            self._start(row.id, row.audit_due, *work)

    async def _audit(self, id: str, due: float, asked: Asked, small: Reply) -> None:
        async with self._slots:
            try:
                if not await self._store.change(claim(id, due, self._until())):
                    return  # somebody else has it
                expert, errors = await self._ask(asked)
                if expert is None:  # the row stays an audit without a label
                    await self._store.audit_failed(id, "; ".join(errors))
                    return
                text = expert.text if self._config.store_text else None
                await self._store.audited(id, agree(small, expert), text, expert.cost, expert.ms)
            except StoreError as error:
                self._metrics.failed("audit", error.trouble)
            except Exception:
                log.exception("an audit failed")

    async def _ask(self, asked: Asked) -> tuple[Reply | None, list[str]]:
        errors: list[str] = []
        request = audit_request(asked, asyncio.get_running_loop().time() + self._config.deadline_s)
        for model in self._experts:
            try:
                return await model.ask(request), errors
            except ModelError as failure:
                errors.append(f"audit: {model.name}: {failure.kind}")
                self._metrics.failed(model.name, failure.kind)
        return None, errors


def _written(asked: Asked, small: Reply) -> str:
    """What an audit needs, as JSON."""
    choices = [{**asdict(choice), "logprobs": None, "reasoning": None} for choice in small.choices]
    keys = ("chat", "messages", "options", "n", "max_tokens")
    return to_json({**{key: getattr(asked, key) for key in keys}, "choices": choices}).decode()


def _read(written: str) -> tuple[Asked, Reply] | None:
    """What `_written` wrote; None where another version wrote it otherwise."""
    try:
        data: dict[str, Any] = from_json(written)
        choices = [Choice(**choice) for choice in data.pop("choices")]
        return Asked(**data, deadline=0.0), Reply(choices)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
