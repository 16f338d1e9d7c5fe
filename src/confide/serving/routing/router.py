"""The decision path of one request: ask the small model, read its confidence, decide, escalate, keep the row.

No HTTP framework in here. A decision's row is committed before the last byte of its answer is handed out.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

from confide.policies.policy import Policy
from confide.serving.config import ServeConfig
from confide.serving.http.api_errors import ApiError, ModelError
from confide.serving.http.request_bodies import Asked
from confide.serving.monitor.prometheus import Metrics
from confide.serving.routing.chat import Choice, Delta, Reply, pieces_of, response_body, usage_of
from confide.serving.routing.guard import Guarded
from confide.serving.routing.slots import OverloadError, Slots
from confide.serving.routing.turn import Frame, Turn
from confide.serving.store.decision_row import DecisionRow

log = logging.getLogger("confide.serving")

REFUSAL = "I am not sure enough to answer this."
"""What a client reads when the policy abstains."""

RETRY_S = 5.0
"""When a client may try again after a 503."""

_AUDITS_AT_ONCE = 16
_BYE_S = 5.0
_COMMIT_S = 5.0
_ROLE = Delta({"role": "assistant", "content": ""})


class Rows(Protocol):
    """Where rows go (`confide.serving.store.store.Store`)."""

    async def add(self, row: DecisionRow) -> None:
        """Return once the row is committed."""
        ...

    async def audited(
        self, decision_id: str, agreed: bool | None, expert_answer: str | None, cost: float, expert_ms: float | None
    ) -> None:
        """Add an audit's outcome to its row."""
        ...


@dataclass(slots=True)
class Served:
    """A whole answer: body and headers of the response."""

    body: dict[str, Any]
    headers: dict[str, str]


class Router:
    """Routes requests between a small model and experts by a policy.

    Args:
        config: the configuration; of it the mode, texts, audits, deadline and limits are used here.
        small: the small model.
        experts: the experts, in the order in which they are asked.
        policy: the policy (None only in mode observe: then nothing is decided, only logged).
        rows: where decisions are kept.
        metrics: what is counted.
    """

    def __init__(
        self,
        config: ServeConfig,
        small: Guarded,
        experts: list[Guarded],
        policy: Policy | None,
        rows: Rows,
        metrics: Metrics,
    ):
        self.slots = Slots(config.limits.concurrency, config.limits.queue)
        self.small = small
        self.experts = experts
        self.policy = policy
        self._config = config
        self._rows = rows
        self._metrics = metrics
        # Without an expert there is nothing to compare with, so only feedback can label an audit.
        labelled = bool(experts) or config.audit_label == "feedback"
        self._frame = Frame(
            small=small.name,
            mode=config.mode,
            policy_id=policy.id if policy else None,
            audit_share=config.audit_share if labelled else 0.0,
            store_text=config.store_text,
            first_price=experts[0].price if experts else None,
        )
        self._audits: set[asyncio.Task[None]] = set()
        self._auditing = asyncio.Semaphore(_AUDITS_AT_ONCE)

    async def answer(self, asked: Asked) -> Served:
        """The whole answer to a request; raises `ApiError`."""
        async with self._slot(asked), self._turn(asked) as turn:
            await self._ask_small(turn)
            self._decide(turn)
            if self._escalates(turn):
                await self._ask_experts(turn)
            reply = await self._settled(turn)
            body = response_body(asked, reply, id=turn.completion_id, created=int(turn.created))
            return Served(body | {"confide": turn.extension()}, turn.headers())

    async def stream(self, asked: Asked) -> AsyncGenerator[dict[str, Any]]:
        """The answer in chunks; the first item holds the response's headers instead.

        Raises `ApiError`, before the first item or, when an answer breaks off halfway, after it.
        """
        async with self._slot(asked), self._turn(asked) as turn:
            early = self._config.stream_mode == "early" and asked.plain
            async with aclosing(self._early(turn) if early else self._held(turn)) as items:
                async for item in items:
                    yield item

    async def close(self) -> None:
        """Give audits a moment to end, then cancel them."""
        if self._audits:
            _, late = await asyncio.wait(self._audits, timeout=_BYE_S)
            for audit in late:
                audit.cancel()

    # -- the parts of a turn -----------------------------------------------------------------------------

    @asynccontextmanager
    async def _slot(self, asked: Asked) -> AsyncIterator[None]:
        try:
            async with self.slots.hold(asked.deadline):
                yield
        except OverloadError as overload:
            self._metrics.turned_away.inc()
            status, told, code = 503, "too many requests are waiting", "overloaded"
            if overload.late:
                status, told, code = 504, "no place became free within the deadline", "deadline"
            raise ApiError(status, told, code=code, retry_after=1) from None

    @asynccontextmanager
    async def _turn(self, asked: Asked) -> AsyncIterator[Turn]:
        turn = Turn(asked, self._frame, audit=random.random() < self._frame.audit_share)
        try:
            yield turn
        except (asyncio.CancelledError, GeneratorExit):
            # The client hung up, or the server stops. What the small model cost stays on record.
            if turn.small is not None or turn.errors:
                turn.fail("client: gone")
                with contextlib.suppress(ApiError):
                    await asyncio.shield(self._keep(turn))
            raise

    async def _ask_small(self, turn: Turn) -> None:
        try:
            turn.small = await self.small.ask(turn.asked)
        except ModelError as failure:
            self._note(turn, self.small, failure)

    def _note(self, turn: Turn, model: Guarded, failure: ModelError) -> None:
        turn.note(model.name, failure)
        self._metrics.failed(model.name, failure.kind)

    def _decide(self, turn: Turn) -> None:
        """Read the confidence and decide; a missing one escalates."""
        small, policy, domain = turn.small, self.policy, turn.asked.domain
        turn.source = policy.source if policy else small.source if small else None
        raw = small.sources.get(turn.source) if small and turn.source else None
        turn.raw = raw if raw is not None and math.isfinite(raw) else None
        if policy is None:
            turn.decision = "answer" if small else "escalate"
            return
        turn.decision = policy.decide(turn.raw, domain)
        turn.probability = policy.probability(turn.raw)
        turn.threshold = policy.threshold(domain)

    def _escalates(self, turn: Turn) -> bool:
        return turn.decision == "escalate" and self._config.mode == "act"

    async def _ask_experts(self, turn: Turn) -> None:
        """The first expert that answers; every failure is noted."""
        turn.expert_asked = True
        for expert in self.experts:
            try:
                turn.expert = await expert.ask(turn.asked)
                return
            except ModelError as failure:
                self._note(turn, expert, failure)

    async def _settled(self, turn: Turn) -> Reply:
        """What the client gets, its row committed; raises `ApiError` when there is nothing to give."""
        reply, error = self._choose(turn), None
        if reply is None:
            error = self._no_answer(turn)
        await self._keep(turn)
        if error is not None:
            raise error
        assert reply is not None
        return reply

    def _choose(self, turn: Turn) -> Reply | None:
        if turn.expert is not None:
            return turn.serve(turn.expert, "expert")
        if turn.small is None:
            return None
        if turn.decision == "answer" or self._config.mode == "observe":
            return turn.serve(turn.small, "small")
        if turn.decision == "abstain":
            # Where JSON is wanted, the sentence stands where clients do not read JSON.
            formatted = turn.asked.formatted
            refused = [
                Choice(None, more={"refusal": REFUSAL}) if formatted else Choice(REFUSAL) for _ in turn.small.choices
            ]
            return turn.serve(Reply(refused, by=turn.small.by), "abstained")
        if self.policy is not None and self.policy.last_resort == "unverified":
            return turn.serve(turn.small, "unverified")
        return None

    def _no_answer(self, turn: Turn) -> ApiError:
        rejected = bool(turn.errors) and all(error.endswith((": rejected", ": too_long")) for error in turn.errors)
        late = asyncio.get_running_loop().time() >= turn.asked.deadline
        turn.fail("deadline" if late else None)
        headers = turn.headers()
        if rejected:
            return ApiError(400, "every model refused this request as invalid", code="rejected", headers=headers)
        if late:
            return ApiError(504, "no answer within the deadline", code="deadline", headers=headers)
        told = "no expert could answer" if turn.small is not None else "no model could answer"
        return ApiError(503, told, code="no_answer", retry_after=RETRY_S, headers=headers)

    async def _keep(self, turn: Turn) -> None:
        """Commit the row; an answer without a row is not given. Raises `ApiError`."""
        if turn.kept:
            return
        turn.kept = True  # before the wait: one that is interrupted must not write a second row
        compare = turn.audit and self._config.audit_label == "expert"
        agreed = turn.small.agrees(turn.expert) if compare and turn.small and turn.expert else None
        # The row of a request whose deadline has passed gets a moment too.
        latest = max(turn.asked.deadline, asyncio.get_running_loop().time() + _COMMIT_S)
        try:
            async with asyncio.timeout_at(latest):
                await self._rows.add(turn.row(agreed))
        except Exception as error:
            log.error("a decision could not be stored (%s)", type(error).__name__)
            self._metrics.failed("store", "not_committed")
            raise ApiError(503, "the decision could not be stored", code="store", retry_after=RETRY_S) from None
        self._metrics.decided(turn)
        if compare and turn.small is not None and not turn.expert_asked and turn.served != "error":
            task = asyncio.create_task(self._audit(turn, turn.small))
            self._audits.add(task)
            task.add_done_callback(self._audits.discard)

    async def _audit(self, turn: Turn, small: Reply) -> None:
        """Ask an expert about a request that was answered without one, for the statistics alone."""
        async with self._auditing:
            deadline = asyncio.get_running_loop().time() + self._config.deadline_s
            again = Turn(replace(turn.asked, deadline=deadline), self._frame)
            await self._ask_experts(again)
            if (expert := again.expert) is None:
                return
            kept = expert.text if self._config.store_text else None
            try:
                await self._rows.audited(turn.id, small.agrees(expert), kept, expert.cost, expert.ms)
            except Exception as error:
                log.error("an audit could not be stored (%s)", type(error).__name__)

    # -- streams -----------------------------------------------------------------------------------------

    async def _held(self, turn: Turn) -> AsyncGenerator[dict[str, Any]]:
        """Hold the small answer back until the decision."""
        await self._ask_small(turn)
        self._decide(turn)
        async with aclosing(self._decided(turn)) as items:
            async for item in items:
                yield item

    async def _decided(self, turn: Turn) -> AsyncGenerator[dict[str, Any]]:
        """The stream of a request of which nothing was sent yet; an expert's answer passes through as it comes."""
        opened = False
        if self._escalates(turn):
            async with aclosing(self._stream_experts(turn)) as pieces:
                async for piece in pieces:
                    if not opened:
                        opened, turn.served = True, "expert"
                        yield dict(turn.headers())
                        yield turn.chunk(_ROLE)
                    yield turn.chunk(piece)
        reply = await self._settled(turn)
        if not opened:
            yield dict(turn.headers())
            yield turn.chunk(_ROLE)
            for piece in pieces_of(reply):
                yield turn.chunk(piece)
        for chunk in _ending(turn, reply):
            yield chunk

    async def _early(self, turn: Turn) -> AsyncGenerator[dict[str, Any]]:
        """Stream the small answer as it comes; what follows it is marked (see docs/serving.md)."""
        opened = False
        try:
            async with aclosing(self.small.stream(turn.asked)) as pieces:
                async for piece in pieces:
                    if isinstance(piece, Reply):
                        turn.small = piece
                        break
                    if not opened:
                        opened, turn.by = True, self.small.name
                        yield {"X-Confide-Decision-Id": turn.id}
                        yield turn.chunk(_ROLE)
                    yield turn.chunk(piece)
        except ModelError as failure:
            self._note(turn, self.small, failure)
        self._decide(turn)
        if not opened:
            async with aclosing(self._decided(turn)) as items:
                async for item in items:
                    yield item
            return
        if self._escalates(turn):
            async with aclosing(self._stream_experts(turn)) as pieces:
                async for piece in pieces:
                    if turn.served != "expert":
                        turn.served = "expert"
                        yield _mark(turn, f"\n\n[answer by {turn.by}]\n\n")
                    yield turn.chunk(piece)
        reply = await self._settled(turn)
        if turn.served == "abstained":
            yield _mark(turn, f"\n\n[{REFUSAL}]")
        for chunk in _ending(turn, reply):
            yield chunk

    async def _stream_experts(self, turn: Turn) -> AsyncGenerator[Delta]:
        """Pieces of the first expert that answers; ``turn.expert`` is there after the last one.

        Raises `ApiError` when an answer breaks off after its first piece: it cannot be taken back.
        """
        turn.expert_asked = True
        for expert in self.experts:
            started = False
            try:
                async with aclosing(expert.stream(turn.asked)) as pieces:
                    async for piece in pieces:
                        if isinstance(piece, Reply):
                            turn.expert = piece
                            return
                        started, turn.by = True, expert.name
                        yield piece
            except ModelError as failure:
                self._note(turn, expert, failure)
                if started:
                    turn.fail()
                    await self._keep(turn)
                    raise ApiError(502, "the expert's answer broke off", code="broken_off") from None


def _ending(turn: Turn, reply: Reply) -> list[dict[str, Any]]:
    """The last chunks: the end of every choice, the decision, and the usage where it is wanted."""
    chunks = [turn.chunk(Delta({}, index), finish=choice.finish) for index, choice in enumerate(reply.choices)]
    chunks[-1]["confide"] = turn.extension()
    if turn.asked.include_usage:
        usage = {"choices": [], "usage": usage_of(reply), "confide": turn.extension()}
        chunks.append(turn.chunk(Delta({})) | usage)
    return chunks


def _mark(turn: Turn, text: str) -> dict[str, Any]:
    """A chunk that says that what was streamed so far is not the answer."""
    told = {"decision_id": turn.id, "decision": turn.decision, "supersedes": True}
    return turn.chunk(Delta({"content": text})) | {"confide": told}
