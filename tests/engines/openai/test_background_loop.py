"""Coroutines that run in a thread beside code that waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import partial

import pytest

from confide.engines.openai.background_loop import BackgroundLoop


@pytest.fixture
def loop() -> Iterator[BackgroundLoop]:
    made = BackgroundLoop()
    yield made
    made.close(asyncio.sleep(0))


def test_results_come_as_they_are_ready_each_once(loop: BackgroundLoop) -> None:
    async def work(n: int) -> int:
        await asyncio.sleep(0.02 * (n % 3))
        return n

    assert sorted(loop.each([partial(work, n) for n in range(30)], 7)) == list(range(30))
    assert list(loop.each([], 3)) == []


def test_no_more_work_is_under_way_than_wanted(loop: BackgroundLoop) -> None:
    active, most = 0, 0

    async def work() -> None:
        nonlocal active, most
        active += 1
        most = max(most, active)
        await asyncio.sleep(0.005)
        active -= 1

    assert len(list(loop.each([work] * 20, 4))) == 20
    assert most == 4


def test_the_first_error_ends_the_others_and_is_told_by_itself(loop: BackgroundLoop) -> None:
    ended = []

    async def work(n: int) -> int:
        if n == 2:
            raise ValueError("two")
        try:
            await asyncio.sleep(0 if n < 2 else 60)
        finally:
            ended.append(n)
        return n

    with pytest.raises(ValueError, match="two"):
        list(loop.each([partial(work, n) for n in range(10)], 4))
    assert len(ended) <= 6


def test_whoever_leaves_cancels_what_is_under_way(loop: BackgroundLoop) -> None:
    cancelled = []

    async def work(n: int) -> int:
        try:
            await asyncio.sleep(0 if n == 0 else 60)
        except asyncio.CancelledError:
            cancelled.append(n)
            raise
        return n

    found = loop.each([partial(work, n) for n in range(10)], 3)
    assert next(found) == 0
    found.close()  # type: ignore[attr-defined]
    loop.run(asyncio.sleep(0.01))
    assert len(cancelled) == 3


def test_an_error_of_one_piece_of_work_reaches_whoever_waits(loop: BackgroundLoop) -> None:
    async def fail() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        loop.run(fail())


def test_no_more_is_begun_than_twice_what_is_under_way_and_not_taken(loop: BackgroundLoop) -> None:
    begun = 0

    async def work() -> None:
        nonlocal begun
        begun += 1

    found = loop.each([work] * 100, 4)
    next(found)
    for _ in range(20):
        loop.run(asyncio.sleep(0))
    assert begun <= 9
    assert len(list(found)) == 99


def test_closing_twice_is_closing_once() -> None:
    made = BackgroundLoop()
    made.close(asyncio.sleep(0))
    last = asyncio.sleep(0)
    made.close(last)
    with pytest.raises(RuntimeError, match="cannot reuse"):  # it is closed, and nobody waits for it
        last.send(None)
