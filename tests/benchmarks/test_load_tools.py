"""The instruments of the load benchmark: they must see what is wrong, or a clean result means nothing."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import checked_clients
import load_client
import routers
from benchmarks.serving import load_statistics


@pytest.fixture(scope="module")
def stub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[routers.Server]:
    with routers.stub(tmp_path_factory.mktemp("stub"), delay_ms=5) as server:
        yield server


def test_the_client_reads_whole_answers_of_its_own(stub: routers.Server) -> None:
    target = load_client.Target(stub.port)
    tally = asyncio.run(load_client.open_loop(target, 100, 0.5, seed=0, streams=0.5))
    assert len(tally.latency_ms) > 20
    assert not tally.failed
    assert not tally.extra_bytes
    assert min(tally.latency_ms) >= 4.9
    tally = asyncio.run(load_client.closed_loop(target, 4, 0.2))
    assert not tally.failed


def test_a_stall_is_felt_by_all_who_would_have_come_during_it() -> None:

    async def run() -> Any:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while head := await reader.readuntil(b"\r\n\r\n"):
                body = await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
                if (wait := stalled - loop.time()) > 0:
                    await asyncio.sleep(wait)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

        loop = asyncio.get_running_loop()
        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        stalled = loop.time() + 1.0
        target = load_client.Target(server.sockets[0].getsockname()[1])
        return await load_client.open_loop(target, 50, 1.5, seed=0)

    tally = asyncio.run(run())
    # Due uniformly within the stall of one second, so they wait half of it on average.
    assert 300 < np.mean([ms for due, ms in zip(tally.due_s, tally.latency_ms, strict=True) if due < 0.9]) < 700


def test_chunked_bodies_are_read_when_they_are_whole() -> None:
    unchunked = load_client.unchunked
    data = b"4\r\nWiki\r\n5;x=1\r\npedia\r\n0\r\n\r\n"
    assert unchunked(data) == b"Wikipedia"
    assert all(unchunked(data[:end]) is None for end in range(len(data) - 4))


def test_what_a_router_adds_is_found_with_its_ratio() -> None:
    rng = np.random.default_rng(0)

    def runs(added: float) -> list[dict[str, Any]]:
        due = np.sort(rng.uniform(0, 30, 1500))
        return [{"due_s": due, "latency_ms": 20 + rng.exponential(1, 1500) + added} for _ in range(3)]

    found = load_statistics.compare({"stub": runs(0), "confide": runs(2), "litellm": runs(10)}, draws=200)
    assert found["p50"]["confide"]["added_ms"] == pytest.approx(2, abs=0.1)
    assert found["p50"]["ratio"] == pytest.approx(0.2, abs=0.01)
    low, high = found["p50"]["ratio_interval"]
    assert low < found["p50"]["ratio"] < high


@pytest.mark.parametrize("growth", [0.0, 0.5])
def test_growth_of_memory_is_told_from_noise(growth: float) -> None:
    rng = np.random.default_rng(1)
    at = np.arange(0, 10, 1 / 30)
    found = load_statistics.slope(at, 100 + growth * at + rng.normal(0, 0.2, len(at)))
    low, high = found["interval"]
    assert (low <= 0 <= high) == (growth == 0)
    assert found["mb_a_minute"] == pytest.approx(growth, abs=0.05)


def database(path: Path, rows: list[tuple[str, str, str, str]]) -> Path:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE decisions (id, request_id, served, answered_by)")
        connection.executemany("INSERT INTO decisions VALUES (?, ?, ?, ?)", rows)
    return path


def test_missing_doubled_and_wrong_rows_are_counted(tmp_path: Path) -> None:
    def reply(mark: str, **change: Any) -> Any:
        good = {"status": 200, "decision_id": f"dec_{mark}", "served": "small", "answer": f"small: {mark}", "ends": 1}
        return checked_clients.Reply(mark, False, False, 0.0, **(good | change))

    rows = [(f"dec_{mark}", mark, "small", "small") for mark in "abcde"]
    good = checked_clients.check([reply(mark) for mark in "abcde"], database(tmp_path / "good.db", rows))
    assert set(good["wrong"].values()) == {0}
    rows = [*rows, ("dec_again", "a", "small", "small"), ("dec_f", "f", "expert", "expert")]
    replies = [
        reply("a"),
        reply("b", status=0),
        reply("c", ends=2),
        reply("d", answer="small: x"),
        reply("f"),
        reply("g"),
    ]
    bad = checked_clients.check(replies, database(tmp_path / "bad.db", rows))
    assert bad["wrong"] == {"lost": 1, "refused": 0, "extra_bytes": 0, "twice": 2, "not_own": 1, "without_row": 2}
