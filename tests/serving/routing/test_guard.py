"""Retries, backoff, deadline and circuit breaker, without a network."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest
import uvloop

from confide.serving.api_errors import ModelError
from confide.serving.config import Price
from confide.serving.routing.asked import Asked
from confide.serving.routing.guard import Breaker, Guarded, Model
from confide.serving.routing.reply import Choice, Delta, Reply

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


def later(seconds: float) -> Asked:
    return replace(ASKED, deadline=asyncio.get_running_loop().time() + seconds)


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


def test_timeouts_end_an_attempt_and_only_fair_ones_count() -> None:
    async def work() -> tuple[str, str]:
        states = []
        for timeout, deadline in ((0.02, 10.0), (10.0, 0.02)):
            model = guarded(Scripted(600.0), timeout_s=timeout)
            for _ in range(6):
                with pytest.raises(ModelError):
                    await model.ask(later(deadline))
            states.append(model.breaker.state)
        return states[0], states[1]

    assert run(work) == ("open", "closed")


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


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_breaker_opens_tries_one_and_closes() -> None:
    clock = Clock()
    breaker = Breaker("big", failures=3, rest_s=2, clock=clock)
    for _ in range(3):
        breaker.enter()
        breaker.leave(ModelError("refused"))
    assert breaker.state == "open"
    with pytest.raises(ModelError, match="resting"):
        breaker.enter()
    clock.now = 2.5
    assert breaker.state == "half_open"
    breaker.enter()
    with pytest.raises(ModelError, match="resting"):  # one trial at a time
        breaker.enter()
    breaker.leave(ModelError("refused"))
    assert breaker.state == "open"
    clock.now += 3.5  # twice as long
    assert breaker.state == "open"
    clock.now += 1
    breaker.enter()
    breaker.abandon()  # its client hung up: that says nothing, and another may try
    breaker.enter()
    breaker.leave(None)
    assert breaker.state == "closed"
    breaker.enter()


def test_a_crowd_that_fails_at_once_does_not_make_it_rest_longer() -> None:
    clock = Clock()
    breaker = Breaker("big", failures=3, rest_s=2, clock=clock)
    for _ in range(100):
        breaker.enter()
    for _ in range(100):
        breaker.leave(ModelError("broken"))
    clock.now = 2.5
    assert breaker.state == "half_open"


def test_refused_requests_do_not_open_it_and_a_long_retry_after_does() -> None:
    clock = Clock()
    breaker = Breaker("big", failures=2, clock=clock)
    for _ in range(5):
        breaker.leave(ModelError("rejected", counts=False))
    assert breaker.state == "closed"
    breaker.leave(ModelError("rate_limited", retry_after=1000))
    assert breaker.state == "open"
    clock.now = 61
    assert breaker.state == "closed"


def test_a_trial_that_is_answered_with_a_refusal_closes_the_breaker():
    now = [0.0]
    breaker = Breaker("big", failures=1, rest_s=2.0, clock=lambda: now[0])
    breaker.enter()
    breaker.leave(ModelError("refused"))
    assert breaker.state == "open"
    now[0] = 3.0
    breaker.enter()
    breaker.leave(ModelError("rejected", counts=False))
    assert breaker.state == "closed"
