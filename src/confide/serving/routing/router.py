"""The decision path of one request: ask the small model, decide by its confidence, escalate, store the row.

No HTTP framework in here. A decision's row is committed before the last byte of its answer is handed out.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any

from confide.engines.openai.asked import Asked
from confide.engines.openai.model_error import ModelError
from confide.engines.openai.reply import Choice, Delta, Reply
from confide.errors import ConfideError
from confide.policies.policy import Policy
from confide.policies.ruling import Ruling
from confide.serving.api_errors import ApiError
from confide.serving.config import ServeConfig
from confide.serving.routing.agreement_of_replies import agree
from confide.serving.routing.auditor import Auditor
from confide.serving.routing.completion_bodies import chunk_body, completion_body, correction_chunk, last_chunks
from confide.serving.routing.experts import Models
from confide.serving.routing.field_rules import FieldRules
from confide.serving.routing.guard import Guarded
from confide.serving.routing.likeness import Likeness
from confide.serving.routing.prometheus import Metrics
from confide.serving.routing.slots import Slots
from confide.serving.routing.turn import GONE, Turn
from confide.serving.routing.watching import Watching, decided_by
from confide.serving.store.store import Store
from confide.serving.store.troubles import StoreError

log = logging.getLogger("confide.serving")

REFUSAL = "I am not sure enough to answer this."
"""What a client reads when the policy abstains."""

RETRY_S = 5.0
"""When a client may try again after a 503."""

_CLOSE_S = 5.0
_COMMIT_S = 5.0
_OPENING = Delta({"content": ""})


class Router:
    """Routes requests between a small model and experts by a policy.

    Args:
        config: the configuration; of it the mode, texts, audits, deadline and limits are used here.
        models: the small model, and the experts in the order in which they are asked.
        policy: the policy (None only in mode observe: then nothing is decided, only logged).
        store: where decisions are stored.
        metrics: what is counted.
        watching: the signals that are watched.
    """

    def __init__(
        self,
        config: ServeConfig,
        models: Models,
        policy: Policy | None,
        store: Store,
        metrics: Metrics,
        watching: Watching | None = None,
    ):
        self.slots = Slots(config.limits.concurrency, config.limits.queue, metrics.turned_away.inc)
        self.small = models.small
        self.experts = models.experts
        self._config = config
        self._policy = policy
        self._policy_id = policy.id if policy else None  # a hash, computed once
        self._store = store
        self._metrics = metrics
        self._watching = watching or Watching([])
        self._likeness = Likeness(config, policy, models.model)
        self._fields = FieldRules.load(config, models.fields_by, models.field_source)
        self._tasks: set[asyncio.Task[None]] = set()  # what goes on without its client
        self.auditor = Auditor(config, models.experts, store, metrics)

    async def answer(self, asked: Asked) -> tuple[dict[str, Any], dict[str, str]]:
        """The whole answer to a request, as body and headers of the response; raises `ApiError`."""
        async with self._turn(asked) as turn:
            turn.small = await self._ask([self.small], asked, turn)
            self._decide(turn)
            if self._escalates(turn):
                turn.expert_asked = True
                turn.expert = await self._ask(self.experts, asked, turn)
            reply = await self._settle(turn)
            return completion_body(turn, reply), turn.headers()

    async def stream(self, asked: Asked) -> AsyncGenerator[dict[str, Any]]:
        """The answer in chunks; the first item holds the response's headers instead.

        In stream mode ``early`` the small answer passes through before the decision, and what supersedes it is
        marked. In mode ``hold`` it waits for the decision; an expert's answer passes through.
        Raises `ApiError`, before the first item or, when an answer breaks off halfway, after it.
        """
        async with self._turn(asked) as turn:
            opened = False
            held = turn.unlike and self._config.unlike == "escalate"
            if self._config.stream_mode == "early" and asked.plain and not held:
                async with aclosing(self._small_pieces(turn)) as pieces:
                    async for piece in pieces:
                        if not opened:
                            opened = True
                            yield {"X-Confide-Decision-Id": turn.id}
                            yield chunk_body(turn, _OPENING)
                        yield chunk_body(turn, piece)
            else:
                turn.small = await self._ask([self.small], asked, turn)
            self._decide(turn)
            if self._escalates(turn):
                async with aclosing(self._expert_chunks(turn, opened)) as chunks:
                    async for chunk in chunks:
                        opened = True
                        yield chunk
            reply = await self._settle(turn)
            if not opened:
                yield dict(turn.headers())
                yield chunk_body(turn, _OPENING)
                for delta in reply.pieces():
                    yield chunk_body(turn, delta)
            elif turn.served == "abstained":
                yield correction_chunk(turn, f"\n\n[{REFUSAL}]")
            for chunk in last_chunks(turn, reply):
                yield chunk

    async def close(self) -> None:
        """Give commits and audits a moment to end, then cancel them."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=_CLOSE_S)
            for task in late:
                task.cancel()
        await self.auditor.close()

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """``work`` as a task that ends whether its client stays or not."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # -- asking ------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _turn(self, asked: Asked) -> AsyncIterator[Turn]:
        """A slot and a turn for a request; raises `ApiError` when no slot is free, or its row could not be stored."""
        self._check_store()
        async with self.slots.hold(asked.deadline):
            self._check_store()
            audit = random.random() < self._config.effective_audit_share
            turn = Turn(asked, self._config, self._policy_id, audit=audit)
            turn.shape = self._likeness.shape(asked)
            turn.unlike = self._likeness.unlike(turn.shape, asked, None)
            try:
                yield turn
            except (asyncio.CancelledError, GeneratorExit):
                # The client hung up, or the server stops.
                with contextlib.suppress(ApiError):
                    await asyncio.shield(self._start(self._leave(turn)))
                raise

    async def _leave(self, turn: Turn) -> None:
        """Commit the row of a client that hung up, so that what the small model cost stays on record.

        A client that was shown a part of the small answer may have taken all it wanted. That answer is read to its end
        and decided on, so that whoever leaves early cannot choose which answers count.
        """
        if turn.reading is not None:
            await asyncio.wait([turn.reading])
            self._decide(turn)
        if not turn.committed and (turn.small is not None or turn.errors):
            turn.fail(GONE)
            await self._commit(turn)

    async def _ask(self, models: Sequence[Guarded], asked: Asked, turn: Turn) -> Reply | None:
        """The reply of the first model that answers; failures are added to ``turn``."""
        for model in models:
            try:
                return await model.ask(asked)
            except ModelError as failure:
                self._add_failure(turn, model, failure)
        return None

    async def _small_pieces(self, turn: Turn) -> AsyncGenerator[Delta]:
        """The pieces of the small answer, which is read to its end once one of them was taken."""
        pieces: asyncio.Queue[Delta | None] = asyncio.Queue()

        async def read() -> None:
            try:
                async with aclosing(self._pieces([self.small], turn)) as found:
                    async for piece in found:
                        if isinstance(piece, Reply):
                            turn.small = piece
                        else:
                            pieces.put_nowait(piece)
            finally:
                pieces.put_nowait(None)

        reading = self._start(read())
        try:
            while (piece := await pieces.get()) is not None:
                turn.reading = reading
                yield piece
        finally:
            if turn.reading is None:
                reading.cancel()
        await reading

    async def _pieces(self, models: Sequence[Guarded], turn: Turn) -> AsyncGenerator[Delta | Reply]:
        """The pieces of the first model that answers, then its reply (none: the answer broke off)."""
        for model in models:
            started = False
            try:
                async with aclosing(model.stream(turn.asked)) as pieces:
                    async for piece in pieces:
                        started, turn.by = True, model.name
                        yield piece
                        if isinstance(piece, Reply):
                            return
            except ModelError as failure:
                self._add_failure(turn, model, failure)
                if started:
                    return

    async def _expert_chunks(self, turn: Turn, opened: bool) -> AsyncGenerator[dict[str, Any]]:
        """The stream of the first expert that answers, with its opening or, when ``opened``, with a correction.

        Raises `ApiError` when the answer breaks off after its first piece: it cannot be taken back.
        """
        turn.expert_asked = True
        async with aclosing(self._pieces(self.experts, turn)) as pieces:
            async for piece in pieces:
                if isinstance(piece, Reply):
                    turn.expert = piece
                    return
                if turn.served != "expert":
                    turn.served = "expert"
                    if opened:
                        yield correction_chunk(turn, f"\n\n[answer by {turn.by}]\n\n")
                    else:
                        yield dict(turn.headers())
                        yield chunk_body(turn, _OPENING)
                yield chunk_body(turn, piece)
        if turn.served == "expert":
            turn.fail()
            await self._commit(turn)
            raise ApiError(502, "the expert's answer broke off", code="broken_off")

    def _add_failure(self, turn: Turn, model: Guarded, failure: ModelError) -> None:
        turn.errors.append(f"{model.name}: {failure.kind}")
        turn.refusal = turn.refusal or failure.sentence
        turn.param = turn.param or failure.param
        turn.no_answer |= failure.abstains
        self._metrics.failed(model.name, failure.kind)

    # -- deciding ----------------------------------------------------------------------------------------

    def _decide(self, turn: Turn) -> None:
        """Decide by the confidence, by fields that are not sure enough, and by the signals that are watched."""
        self._decide_by_policy(turn)
        if turn.small is None:
            return
        if self._fields is not None:
            parts, choices = turn.small.parts, len(turn.small.choices)
            turn.fields, turn.named = self._fields.words(parts), self._fields.named
            wanted = turn.asked.formatted
            if turn.decision == "answer" and self._fields.escalates(parts, wanted=wanted, choices=choices):
                turn.decision = "escalate"
        turn.flags = self._watching.flags(turn.small)
        if self._config.mode == "act" and (action := decided_by(turn.flags, stopped=turn.small.stopped)) is not None:
            turn.action, turn.decision = action, "escalate" if action == "escalate" else "abstain"

    def _decide_by_policy(self, turn: Turn) -> None:
        """Read the confidence and decide; a missing one escalates."""
        small, policy, domain = turn.small, self._policy, turn.asked.domain
        given = {name: raw for name, raw in small.sources.items() if math.isfinite(raw or 0)} if small else {}
        if policy is None:
            turn.source = small.source if small else None
            turn.raw = given.get(turn.source) if turn.source else None
            turn.decision = "answer" if small else "escalate"
            return
        for part in policy.parts:
            try:
                part.own_scale(given.get(part.source))
            except ConfideError as error:
                # A number on another scale passes every threshold: nothing is known of this answer from this source.
                log.warning("%s, and counts as none: %s", turn.id, error)
                given[part.source] = None
        ruling = Ruling.of(policy, given, domain)
        assert turn.shape is not None
        turn.unlike = self._likeness.unlike(turn.shape, turn.asked, small, ruling.part)
        turn.source, turn.raw, turn.probability = ruling.part.source, ruling.raw, ruling.confidence
        turn.threshold, turn.least_probability = ruling.threshold_raw, ruling.threshold
        turn.decision = ruling.decision
        if turn.unlike and self._config.unlike == "escalate":
            turn.decision = "escalate"

    def _escalates(self, turn: Turn) -> bool:
        return turn.decision == "escalate" and self._config.mode == "act"

    async def _settle(self, turn: Turn) -> Reply:
        """What the client gets, its row committed; raises `ApiError` when there is nothing to give."""
        reply = self._choose(turn)
        if reply is None:
            error = self._no_answer(turn)
            await self._commit(turn)
            raise error
        await self._commit(turn)
        return reply

    def _choose(self, turn: Turn) -> Reply | None:
        if turn.expert is not None:
            return turn.serve(turn.expert, "expert")
        if turn.small is not None and (turn.decision == "answer" or self._config.mode == "observe"):
            return turn.serve(turn.small, "small")
        if turn.small is not None and turn.action == "stop":
            return turn.serve(self._watching.stops_at(turn.small), "stopped")
        last_resort = turn.last_resort(self._policy.last_resort if self._policy is not None else "error")
        if turn.small is not None and last_resort == "unverified" and turn.action is None:
            return turn.serve(turn.small, "unverified")
        withheld = last_resort == "abstain" or (last_resort == "unverified" and turn.action is not None)
        if turn.decision == "abstain" or turn.no_answer or (withheld and not turn.invalid):
            return turn.serve(self._refusal(turn), "abstained")
        return None

    def _refusal(self, turn: Turn) -> Reply:
        # Where JSON is wanted, the sentence stands in the field that clients do not parse as JSON.
        refusal = Choice(None, more={"refusal": REFUSAL}) if turn.asked.formatted else Choice(REFUSAL)
        small = turn.small
        return Reply([refusal] * (len(small.choices) if small else turn.asked.n), by=small.by if small else "")

    def _no_answer(self, turn: Turn) -> ApiError:
        late = turn.asked.late
        turn.fail("deadline" if late and not turn.invalid else None)
        headers = turn.headers()
        if turn.invalid:
            named = f"no model behind this router can be asked with {turn.param}" if turn.param else None
            message = turn.refusal or named or "every model refused this request as invalid"
            return ApiError(400, message, code="rejected", param=turn.param, headers=headers)
        if late:
            return ApiError(504, "no answer within the deadline", code="deadline", headers=headers)
        message = "no expert could answer" if turn.small is not None else "no model could answer"
        return ApiError(503, message, code="no_answer", retry_after=RETRY_S, headers=headers)

    # -- storing -----------------------------------------------------------------------------------------

    async def _commit(self, turn: Turn) -> None:
        """Commit the row, and begin its audit; an answer without a row is not given. Raises `ApiError`.

        Neither is interrupted when the client hangs up meanwhile: the row would stay an audit without a label.
        """
        if turn.committed:
            return
        turn.committed = True  # before the wait: one that is interrupted must not write a second row
        await asyncio.shield(self._start(self._add_row(turn)))

    def _check_store(self) -> None:
        """Raise `ApiError` where a row could not be stored: no model is paid for then."""
        if (trouble := self._store.trouble) is not None:
            self._metrics.failed("store", trouble)
            raise ApiError(503, f"no decision can be stored: {trouble}", code="store", retry_after=RETRY_S)

    async def _add_row(self, turn: Turn) -> None:
        compare = turn.audit and self._config.audit_label == "expert"
        agreed = agree(turn.small, turn.expert) if compare and turn.small and turn.expert else None
        # A client that hung up while an expert was asked took the label with it: it is asked again.
        owed = turn.left or (not turn.expert_asked and turn.served != "error")
        row = turn.row(agreed)
        due = compare and turn.small is not None and turn.expert is None and owed and self.auditor.note(turn, row)
        # The row of a request whose deadline has passed gets a moment too.
        latest = max(turn.asked.deadline, asyncio.get_running_loop().time() + _COMMIT_S)
        try:
            async with asyncio.timeout_at(latest):
                await self._store.add(row)
        except Exception as error:
            trouble = error.trouble if isinstance(error, StoreError) else "slow"
            if not isinstance(error, StoreError | TimeoutError):
                log.exception("a decision could not be stored")
            self._metrics.failed("store", trouble)
            told = f"the decision could not be stored: {trouble}"
            raise ApiError(503, told, code="store", retry_after=RETRY_S) from None
        self._metrics.decided(turn)
        if due:
            self.auditor.begin(turn, row)
