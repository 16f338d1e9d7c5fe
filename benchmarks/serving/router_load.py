"""The router under load, beside LiteLLM's proxy on the same stub: overhead, throughput, memory, failures, fuzzing.

    python -m benchmarks.serving.router_load           # everything, about 40 minutes on a quiet machine
    python -m benchmarks.serving.router_load --short   # a rehearsal of a few minutes
    python -m benchmarks.serving.router_load --only overhead,throughput

Everything listens on 127.0.0.1. The router under test has a core to itself, stub and load generator share the
others (`routers.py`). One process and one worker each, both ask for an API key, logging off; LiteLLM has no
database, while confide commits a row for every request to SQLite before the answer's last byte.
``results/router_load.json`` is written after each stage, then the tables of ``docs/results/serving.md``.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import random
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

import load_client
import router_fuzz
import routers
from benchmarks.common import RESULTS, Json, parser, read_json, write_result
from benchmarks.serving import serving_tables
from benchmarks.serving.litellm_proxy import LITELLM, litellm
from benchmarks.serving.load_statistics import compare, slope
from checked_clients import Reply, check, rows_of, run_clients
from load_client import Target
from routers import KEY, Server

DELAY_MS = 20.0
RATE = 50.0


def load(work: Path, how: str, server: Server, **options: float) -> Json:
    """Run the load generator in a process of its own; its tally."""
    out = work / "load.json"
    command = [sys.executable, str(load_client.__file__), how, "--port", str(server.port), "--key", KEY]
    for name, value in options.items():
        command += [f"--{name}", str(value)]
    subprocess.run([*command, "--out", str(out)], check=True)
    return read_json(out)


def warm_up(work: Path, *servers: Server) -> None:
    """Send requests that do not count: LiteLLM's first answers take seconds."""
    for server in servers:
        load(work, "closed", server, clients=4, seconds=6)


# Overhead


def overhead(work: Path, short: bool) -> Json:
    """Latency added at 50 requests a second, arrivals of a Poisson process, rounds interleaved.

    At 10 requests a second too, where hardly anyone waits for anyone.
    """
    rates = {RATE: (2, 8), 10.0: (1, 8)} if short else {RATE: (6, 30), 10.0: (2, 30)}
    with both(work) as servers:
        named = dict(zip(("stub", "confide", "litellm"), servers, strict=True))
        warm_up(work, *servers[1:])
        made = {rate: at_rate(work, named, rate, *sizes) for rate, sizes in rates.items()}
    return made[RATE] | {"delay_ms": DELAY_MS, "at_10": made[10.0]}


def at_rate(work: Path, named: dict[str, Server], rate: float, rounds: int, seconds: int) -> Json:
    """Rounds in which the stub alone and each router get the same schedule of arrivals."""
    runs: dict[str, list[Json]] = {name: [] for name in named}
    busy = {"confide": 0.0, "litellm": 0.0}
    for number in range(rounds):
        for name in [*named][number % 3 :] + [*named][: number % 3]:
            before = named[name].cpu_seconds()
            runs[name].append(load(work, "open", named[name], rate=rate, seconds=seconds, seed=number))
            if name in busy:
                busy[name] += named[name].cpu_seconds() - before
    failed = {name: [tally["failed"] for tally in tallies if tally["failed"]] for name, tallies in runs.items()}
    about = {"rate": rate, "rounds": rounds, "seconds_a_round": seconds, "failed": failed}
    return about | compare(runs) | {"core_busy": {n: b / (rounds * seconds) for n, b in busy.items()}}


# Throughput


def throughput(work: Path, short: bool) -> Json:
    """Requests a second at rising concurrency, both routers in turn at each step."""
    steps, passes, seconds = ([16, 64, 256], 1, 4) if short else ([8, 16, 32, 64, 128, 256], 2, 10)
    found: dict[str, list[Json]] = {"confide": [], "litellm": []}
    with both(work) as (stub, *pair):
        warm_up(work, *pair)
        for clients in steps:
            for server in pair:
                before = server.cpu_seconds()
                tallies = [load(work, "closed", server, clients=clients, seconds=seconds) for _ in range(passes)]
                busy = server.cpu_seconds() - before
                latency = [value for tally in tallies for value in tally["latency_ms"]]
                p50, p99 = np.quantile(latency, [0.5, 0.99]).tolist()
                found[server.name].append({
                    "clients": clients,
                    "rps": len(latency) / sum(tally["seconds"] for tally in tallies),
                    "p50_ms": p50,
                    "p99_ms": p99,
                    "cpu_ms": 1000 * busy / len(latency),
                    "failed": sum(sum(tally["failed"].values()) for tally in tallies),
                })  # fmt: skip
        alone = load(work, "closed", stub, clients=256, seconds=seconds)
        rss = {server.name: server.rss_mb() for server in pair}
    best = {name: max(step["rps"] for step in made if not step["failed"]) for name, made in found.items()}
    return {
        "seconds_a_step": passes * seconds,
        "steps": found,
        "best_rps": best,
        "ratio": best["confide"] / best["litellm"],
        "stub_alone_rps": len(alone["latency_ms"]) / alone["seconds"],
        "rss_mb": rss,
        "rows": len(list(rows_of(work / "confide.db"))),
    }


@contextmanager
def both(work: Path) -> Iterator[list[Server]]:
    """The stub, confide and LiteLLM's proxy, all running."""
    with ExitStack() as up:
        stub = up.enter_context(routers.stub(work, delay_ms=DELAY_MS))
        confide = up.enter_context(routers.confide(work, stub.port))
        yield [stub, confide, up.enter_context(litellm(work, stub.port))]


@contextmanager
def behind(work: Path, *, delay_ms: float = DELAY_MS, **settings: Any) -> Iterator[tuple[Server, Server]]:
    """confide and its expert, running on two stubs; the expert takes twice as long."""
    with ExitStack() as up:
        small = up.enter_context(routers.stub(work, delay_ms=delay_ms))
        expert = up.enter_context(routers.stub(work, "expert", delay_ms=2 * delay_ms))
        yield up.enter_context(routers.confide(work, small.port, {"expert": expert.port}, **settings)), expert


# Streaming


def first_token_ms(port: int, target: Target, *, unsure: bool) -> tuple[float, float]:
    """Milliseconds from the request to the first piece of the answer and to the end of the stream."""
    mark = f"m{random.getrandbits(48):012x}"
    began, first, data = time.perf_counter(), 0.0, b""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as sock:
        sock.sendall(target.request(mark, unsure=unsure, stream=True))
        while b"data: [DONE]" not in data:
            more = sock.recv(65536)
            if not more:
                raise ConnectionError("the stream broke off")
            data += more
            if not first and b'"content":"' in data.replace(b'": "', b'":"').replace(b'"content":""', b""):
                first = time.perf_counter()
    return 1000 * (first - began), 1000 * (time.perf_counter() - began)


def streaming(work: Path, short: bool) -> Json:
    """Time to the first token of a stream of 20 tokens, 10 ms apart: straight from the stub, and both stream modes."""
    times = 10 if short else 60
    pace: dict[str, Any] = {"tokens": 20, "token_ms": 10.0}
    made: Json = {}

    def measure(name: str, port: int, target: Target, kinds: dict[str, bool]) -> None:
        first_token_ms(port, target, unsure=False)  # connections are opened
        for kind, unsure in kinds.items():
            found = np.array([first_token_ms(port, target, unsure=unsure) for _ in range(times)])
            made[f"{name}, {kind}"] = dict(zip(("first_ms", "whole_ms"), np.median(found, axis=0), strict=True))

    with ExitStack() as up:
        small = up.enter_context(routers.stub(work, delay_ms=DELAY_MS, **pace))
        expert = up.enter_context(routers.stub(work, "expert", delay_ms=2 * DELAY_MS, **pace))
        measure("stub alone", small.port, Target(small.port), {"answered": False})
        for mode in ("hold", "early"):
            with routers.confide(work, small.port, {"expert": expert.port}, stream_mode=mode) as router:
                measure(mode, router.port, Target(router.port, key=KEY), {"kept": False, "escalated": True})
    return {"delay_ms": DELAY_MS, "times": times, "p50": made} | pace


# Memory


def memory(work: Path, short: bool) -> Json:
    """Resident memory while requests of every kind come in: kept, escalated, streamed."""
    warm, seconds = (20, 60) if short else (180, 600)
    kinds = {"rate": 100, "unsure": 0.3, "streams": 0.25}
    samples: list[tuple[float, float]] = []
    with behind(work) as (router, _), ThreadPoolExecutor() as beside:
        load(work, "open", router, seconds=warm, **kinds)
        began = time.monotonic()
        running = beside.submit(load, work, "open", router, seconds=seconds, seed=1, **kinds)
        while not running.done():
            samples.append((time.monotonic() - began, router.rss_mb()))
            time.sleep(2)
    tally = running.result()
    at, rss = np.array([sample for sample in samples if sample[0] <= seconds]).T
    return {
        "minutes": seconds / 60,
        "rate": kinds["rate"],
        "requests": len(tally["latency_ms"]),
        "failed": tally["failed"],
        "rss_mb": {"first": rss[0], "last": rss[-1], "most": rss.max()},
    } | slope(at / 60, rss)


# Failures


@asynccontextmanager
async def asking(router: Server, clients: int, **kinds: Any) -> AsyncIterator[list[Reply]]:
    """So many clients that ask the router one question after the other; their replies are there at the end."""
    stop, replies = asyncio.Event(), list[Reply]()
    running = asyncio.create_task(run_clients(Target(router.port, key=KEY), clients, stop, **kinds))
    yield replies
    stop.set()
    replies += await running


def failover(work: Path, short: bool) -> Json:
    """500 clients, half of the questions escalate; the expert is killed halfway and comes back four seconds later."""
    seconds, away = (24.0, 3.0) if short else (60.0, 4.0)
    gone = (seconds - away) / 2

    async def scene(router: Server, expert: Server) -> Json:
        async with asking(router, 500, seed=0, unsure=0.5, streams=0.25) as replies:
            began = time.monotonic()
            await asyncio.sleep(gone)
            expert.kill()
            await asyncio.sleep(away)
            await asyncio.to_thread(expert.start)
            back = time.monotonic() - began
            await asyncio.sleep(seconds - back)
        unsure = [reply for reply in replies if reply.unsure and reply.status == 200]
        spans = {"before": (0.0, gone), "away": (gone, back), "after": (back, np.inf)}
        shares = {
            when: float(np.mean([r.served == "expert" for r in unsure if low <= r.at < high]))
            for when, (low, high) in spans.items()
        }
        made = check(replies, work / "confide.db")
        return made | {"expert_away_s": back - gone, "unsure_served_by_expert": shares}

    with behind(work, last_resort="unverified") as (router, expert):
        made = asyncio.run(scene(router, expert))
        return {"clients": 500, "seconds": seconds, "tracebacks_in_log": tracebacks(router)} | made


def crash(work: Path, short: bool) -> Json:
    """kill -9 of the router under load, again and again on one database; it restarts at once."""
    kills, clients = (3, 100) if short else (20, 100)
    draw = random.Random(0)

    async def scene(router: Server) -> Json:
        restarts = []
        async with asking(router, clients, seed=1, unsure=0.3, streams=0.5) as replies:
            for _ in range(kills):
                await asyncio.sleep(draw.uniform(1.0, 3.0))
                router.kill()
                began = time.monotonic()
                await asyncio.to_thread(router.start)
                restarts.append(time.monotonic() - began)
            await asyncio.sleep(1.0)
        made = check(replies, work / "confide.db")
        # Requests that the kill cut off are lost by design; a client sees the broken connection.
        made["cut_off"] = made["wrong"].pop("lost")
        return made | {"restart_s": float(np.median(restarts))}

    with behind(work) as (router, _):
        made = asyncio.run(scene(router))
        return {"kills": kills, "clients": clients, "tracebacks_in_log": tracebacks(router)} | made


def tracebacks(server: Server) -> int:
    """Lines of the log that begin a traceback."""
    return sum("Traceback" in line for line in server.said().splitlines())


def fuzz(work: Path, short: bool) -> Json:
    """Requests that no client should send."""
    with behind(work, delay_ms=1.0) as (router, _):
        made = router_fuzz.run(router.port, KEY, 1000 if short else 10_000, seed=0)
        return made | {"tracebacks_in_log": tracebacks(router), "alive": router.answers()}


STAGES: dict[str, Callable[[Path, bool], Json]] = {
    "overhead": overhead,
    "throughput": throughput,
    "streaming": streaming,
    "failover": failover,
    "crash": crash,
    "fuzz": fuzz,
    "memory": memory,
}


def main() -> None:
    options = parser(__doc__, "router_load")
    options.set_defaults(work=Path("runs/router"), out=None)
    options.add_argument("--short", action="store_true", help="a rehearsal; its figures mean little")
    options.add_argument("--only", help=f"stages, comma-separated, of {', '.join(STAGES)}")
    given = options.parse_args()
    chosen = given.only.split(",") if given.only else list(STAGES)
    if unknown := sorted(set(chosen) - set(STAGES)):
        raise SystemExit(f"no stage {unknown[0]}: there is {', '.join(STAGES)}")
    work: Path = given.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    out: Path = given.out or (work / "short.json" if given.short else RESULTS / "router_load.json")
    os.sched_setaffinity(0, routers.OTHER_CORES)
    result = read_json(out) if given.only and out.exists() else {}
    packages = ("confide", "fastapi", "uvicorn", "uvloop", "aiohttp", "sqlalchemy")
    result |= {
        "short": given.short,
        "layout": {"router_cores": len(routers.ROUTER_CORES), "other_cores": len(routers.OTHER_CORES)},
        "versions": {name: version(name) for name in packages}
        | {"litellm": LITELLM, "python": platform.python_version(), "sqlite": sqlite3.sqlite_version},
    }
    for name in chosen:
        began, load_before = time.monotonic(), os.getloadavg()[0]
        print(f"{name} …", flush=True)
        result[name] = STAGES[name](work, given.short)
        result[name] |= {"took_s": round(time.monotonic() - began, 1), "load_before": round(load_before, 2)}
        write_result(out, "serving/router_load.py", result)
        print(f"{name}: {json.dumps(result[name])}", flush=True)
    if not given.short and given.out is None:
        serving_tables.write()


if __name__ == "__main__":
    main()
