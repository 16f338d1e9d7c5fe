"""Retries, backoff, deadline and circuit breaker, without a network."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest
import uvloop

from confide.engines.openai.asked import Asked
from confide.engines.openai.model_error import ModelError
from confide.engines.openai.reply import Choice, Delta, Model, Reply
from confide.engines.openai.server_config import Price
from confide.serving.routing.breaker import Breaker
from confide.serving.routing.guard import Guarded

ASKED = Asked(chat=True, messages=[{"role": "user", "content": "?"}], options={}, deadline=float("inf"))


class Scripted(Model):
    """Raises or answers what it is told, one item a call; the last one stays."""

    def __init__(self, *script: ModelError | str | float):
        self.script = list(script)
        self.calls = 0

    async def ask(self, asked: Asked) -> Reply:
        self.calls += 1
        step = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(step, ModelError):
            raise step
        if isinstance(step, float):
            await asyncio.sleep(step)
        return Reply([Choice("Japan")], 1_000_000, 2_000_000)


def guarded(model: Scripted, **more: Any) -> Guarded:
    return Guarded("big", model, price=Price(input=1, output=2), **more)


def run(work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    return asyncio.run(asyncio.wait_for(work(), 20))


def later(seconds: float, question: str = "") -> Asked:
    return replace(ASKED, deadline=asyncio.get_running_loop().time() + seconds, question_hash=question)


def test_a_reply_says_who_gave_it_and_what_it_cost() -> None:
    reply = run(lambda: guarded(Scripted("ok")).ask(ASKED))
    assert (reply.by, reply.cost) == ("big", 5.0)
    assert reply.ms >= 0


@pytest.mark.parametrize(("failures", "calls"), [(0, 1), (2, 3), (3, 3)])
def test_what_may_pass_is_asked_again(failures: int, calls: int) -> None:
    model = Scripted(*[ModelError("broken", again=True)] * failures, "ok")
    work = guarded(model, retries=2).ask
    if failures < 3:
        assert run(lambda: work(ASKED)).text == "Japan"
    else:
        with pytest.raises(ModelError, match="broken"):
            run(lambda: work(ASKED))
    assert model.calls == calls


def test_a_short_retry_after_is_waited_for_and_a_long_one_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    model = Scripted(ModelError("rate_limited", again=True, retry_after=0.3), "ok")
    assert run(lambda: guarded(model, retries=1).ask(ASKED)).text == "Japan"
    assert waits == [0.3]
    assert model.calls == 2
    model = Scripted(ModelError("rate_limited", again=True, retry_after=30), "ok")
    with pytest.raises(ModelError, match="rate_limited"):
        run(lambda: guarded(model, retries=1).ask(ASKED))
    assert waits == [0.3]
    assert model.calls == 1


def test_no_attempt_begins_that_the_deadline_cuts_off() -> None:
    async def work() -> int:
        model = Scripted(ModelError("rate_limited", again=True, retry_after=1.5))
        with pytest.raises(ModelError):
            await guarded(model, retries=5).ask(later(0.5))
        with pytest.raises(ModelError, match="timeout"):
            await guarded(model).ask(later(-1))
        return model.calls

    assert run(work) == 1


@pytest.mark.parametrize(
    ("timeout_s", "left", "whole", "state"),
    [
        (0.02, 10.0, 60.0, "open"),
        (None, 0.02, 0.03, "open"),  # most of the deadline that any request has
        (10.0, 0.02, 0.03, "open"),
        (10.0, 0.02, 60.0, "closed"),  # the client came late with its request
        (None, 0.02, 60.0, "closed"),
    ],
)
def test_timeouts_end_an_attempt_and_only_fair_ones_count(
    timeout_s: float | None, left: float, whole: float, state: str
) -> None:
    async def work() -> str:
        model = guarded(Scripted(600.0), timeout_s=timeout_s, deadline_s=whole)
        for number in range(6):
            with pytest.raises(ModelError):
                await model.ask(later(left, str(number)))
        return model.breaker.state

    assert run(work) == state


def test_a_request_is_one_failure_however_often_it_is_tried() -> None:
    async def work() -> tuple[int, list[str]]:
        model = Scripted(ModelError("broken", again=True))
        asked = guarded(model, retries=2)
        states = []
        for number in range(5):
            with pytest.raises(ModelError, match="broken"):
                await asked.ask(later(60, str(number)))
            states.append(asked.breaker.state)
        return model.calls, states

    assert run(work) == (15, ["closed"] * 4 + ["open"])


def test_no_attempt_follows_once_the_model_rests() -> None:
    async def work() -> int:
        model = Scripted(ModelError("broken", again=True))
        asked = guarded(model, retries=3)
        await asyncio.gather(*(asked.ask(later(60, str(n))) for n in range(30)), return_exceptions=True)
        return model.calls

    assert run(work) < 30 * 4


def test_failures_before_the_deadline_came_count() -> None:
    async def work() -> str:
        for number in range(5):
            model.script = [ModelError("broken", again=True), 600.0]
            with pytest.raises(ModelError, match="timeout"):
                await asked.ask(later(0.3, str(number)))
        return asked.breaker.state

    model = Scripted("ok")
    asked = guarded(model, retries=1, deadline_s=60)
    assert run(work) == "open"


def test_a_trial_that_is_cancelled_lets_another_try() -> None:
    async def work() -> list[str]:
        model = Scripted(ModelError("refused"))
        asked = guarded(model)
        asked.breaker = Breaker("big", clock=lambda: now[0])
        await asyncio.gather(*(asked.ask(later(60, str(n))) for n in range(5)), return_exceptions=True)
        states = [asked.breaker.state]
        now[0] += 3
        model.script = [600.0, "ok"]
        trial = asyncio.create_task(asked.ask(later(60, "gone")))
        await asyncio.sleep(0.05)
        trial.cancel()
        await asyncio.wait([trial])
        states.append(asked.breaker.state)
        await asked.ask(later(60, "stays"))
        return [*states, asked.breaker.state]

    now = [100.0]
    assert run(work) == ["open", "half_open", "closed"]


def test_a_stream_that_tries_a_model_is_over_with_its_first_piece() -> None:
    class Streaming(Scripted):
        async def stream(self, asked: Asked) -> AsyncGenerator[Delta | Reply]:
            self.calls += 1
            if self.calls <= 5:
                raise ModelError("refused")
            yield Delta({"content": "Ja"})
            yield await self.ask(asked)

    async def work() -> list[str]:
        asked = guarded(Streaming("ok"))
        asked.breaker = Breaker("big", clock=lambda: now[0])
        for number in range(5):
            with pytest.raises(ModelError):
                await anext(asked.stream(later(60, str(number))))
        states = [asked.breaker.state]
        now[0] += 3
        slow, quick = asked.stream(later(60, "slow")), asked.stream(later(60, "quick"))
        await anext(slow)
        states.append(asked.breaker.state)
        assert isinstance(await anext(quick), Delta)  # it need not wait for a client that reads slowly
        await slow.aclose()
        return [*states, asked.breaker.state]

    now = [100.0]
    assert run(work) == ["open", "closed", "closed"]


def test_a_request_that_its_deadline_ended_is_late_also_where_timers_fire_early() -> None:
    async def work() -> None:
        for _ in range(40):
            asked = later(0.01)
            with pytest.raises(ModelError, match="timeout"):
                await guarded(Scripted(600.0)).ask(asked)
            assert asked.late
        assert not later(60).late

    uvloop.run(work())


def test_a_stream_is_retried_until_its_first_piece_only() -> None:
    class Breaking(Scripted):
        async def stream(self, asked: Asked) -> AsyncGenerator[Delta | Reply]:
            self.calls += 1
            if self.calls == 1:
                raise ModelError("refused", again=True)
            yield Delta({"content": "Ja"})
            raise ModelError("broken", again=True)

    async def work() -> tuple[int, list[Any]]:
        model = Breaking("ok")
        stream = guarded(model, retries=3).stream(ASKED)
        found = [await anext(stream)]
        with pytest.raises(ModelError, match="broken"):
            await anext(stream)
        return model.calls, found

    assert run(work) == (2, [Delta({"content": "Ja"})])
