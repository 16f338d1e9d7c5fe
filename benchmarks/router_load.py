"""The router under load, beside LiteLLM's proxy on the same stub: overhead, throughput, memory, failures, fuzzing.

    python benchmarks/router_load.py           # everything, about 40 minutes on a quiet machine
    python benchmarks/router_load.py --short   # a rehearsal of a few minutes
    python benchmarks/router_load.py --only overhead,throughput

Everything listens on 127.0.0.1. The router under test has a core to itself, stub and load generator share the
others (`routers.py`). One process and one worker each, both ask for an API key, logging off; LiteLLM has no
database, while confide commits a row for every request to SQLite before the answer's last byte.
``results/router_load.json`` is written after each stage, then the tables of ``docs/serving-benchmark.md``.
"""

from __future__ import annotations

import argparse
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
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import router_fuzz
import routers
from checked_clients import check, run_clients
from confide.files import write_text
from load_client import Target
from routers import KEY, Server

HERE = Path(__file__).parent
DELAY_MS = 20.0
RATE = 50.0
QUANTILES = {"p50": 0.5, "p99": 0.99}
Result = dict[str, Any]


def load(work: Path, how: str, server: Server, **options: float) -> Result:
    """Run the load generator in a process of its own; its tally."""
    out = work / "load.json"
    command = [sys.executable, str(HERE / "load_client.py"), how, "--port", str(server.port), "--key", KEY]
    for name, value in options.items():
        command += [f"--{name}", str(value)]
    subprocess.run(
        [*command, "--out", str(out)],
        check=True,
        preexec_fn=lambda: os.sched_setaffinity(0, routers.OTHER_CORES),
    )
    tally: Result = json.loads(out.read_text(encoding="utf-8"))
    return tally


def warm_up(work: Path, *servers: Server) -> None:
    """LiteLLM's first answers take seconds; nobody is judged on those."""
    for server in servers:
        load(work, "closed", server, clients=4, seconds=6)


# Overhead


def blocks(runs: Sequence[Result], seconds: float = 5.0) -> list[NDArray[np.float64]]:
    """Latencies (ms) in stretches of a few seconds, so that hiccups stay together in the bootstrap."""
    found: dict[tuple[int, int], list[float]] = {}
    for number, run in enumerate(runs):
        for due, latency in zip(run["due_s"], run["latency_ms"], strict=True):
            found.setdefault((number, int(due / seconds)), []).append(latency)
    return [np.array(values) for values in found.values()]


def interval(values: NDArray[np.float64]) -> list[float]:
    return [round(float(v), 3) for v in np.quantile(values, [0.025, 0.975])]


def compare(runs: dict[str, list[Result]], *, draws: int = 500, seed: int = 0) -> Result:
    """Quantiles of each system, what a router adds over the stub alone, and confide's share of what LiteLLM adds.

    Intervals: 95 %, bootstrap over stretches of five seconds, each system on its own.
    """
    rng = np.random.default_rng(seed)
    parts = {name: blocks(tallies) for name, tallies in runs.items()}

    def quantiles(pick: bool) -> dict[str, NDArray[np.float64]]:
        found = {}
        for name, part in parts.items():
            chosen = [part[i] for i in rng.integers(0, len(part), len(part))] if pick else part
            found[name] = np.quantile(np.concatenate(chosen), list(QUANTILES.values()))
        return found

    seen, drawn = quantiles(pick=False), [quantiles(pick=True) for _ in range(draws)]
    made: Result = {"n": {name: int(sum(map(len, part))) for name, part in parts.items()}, "latency_ms": {}}
    for at, quantile in enumerate(QUANTILES):
        made["latency_ms"][quantile] = {name: round(float(values[at]), 3) for name, values in seen.items()}
        added = {name: float(seen[name][at] - seen["stub"][at]) for name in ("confide", "litellm")}
        resampled = {name: np.array([d[name][at] - d["stub"][at] for d in drawn]) for name in added}
        made[quantile] = {
            name: {"added_ms": round(added[name], 3), "interval": interval(resampled[name])} for name in added
        } | {
            "ratio": round(added["confide"] / added["litellm"], 3),
            "ratio_interval": interval(resampled["confide"] / resampled["litellm"]),
        }
    return made


def overhead(work: Path, short: bool) -> Result:
    """Latency added at 50 requests a second, arrivals of a Poisson process, rounds interleaved.

    At 10 requests a second too, where hardly anyone waits for anyone.
    """
    rates = {RATE: (2, 8), 10.0: (1, 8)} if short else {RATE: (6, 30), 10.0: (2, 30)}
    with both(work) as servers:
        named = dict(zip(("stub", "confide", "litellm"), servers, strict=True))
        warm_up(work, *servers[1:])
        made = {rate: at_rate(work, named, rate, *sizes) for rate, sizes in rates.items()}
    return made[RATE] | {"delay_ms": DELAY_MS, "at_10": made[10.0]}


def at_rate(work: Path, named: dict[str, Server], rate: float, rounds: int, seconds: int) -> Result:
    """Rounds in which the stub alone and each router get the same schedule of arrivals."""
    runs: dict[str, list[Result]] = {name: [] for name in named}
    busy = {"confide": 0.0, "litellm": 0.0}
    for number in range(rounds):
        for name in [*named][number % 3 :] + [*named][: number % 3]:
            before = named[name].cpu_seconds()
            runs[name].append(load(work, "open", named[name], rate=rate, seconds=seconds, seed=number))
            if name in busy:
                busy[name] += named[name].cpu_seconds() - before
    failed = {name: [tally["failed"] for tally in tallies if tally["failed"]] for name, tallies in runs.items()}
    about = {"rate": rate, "rounds": rounds, "seconds_a_round": seconds, "failed": failed}
    return about | compare(runs) | {"core_busy": {n: round(b / (rounds * seconds), 3) for n, b in busy.items()}}


# Throughput


def throughput(work: Path, short: bool) -> Result:
    """Requests a second at rising concurrency, both routers in turn at each step."""
    steps, passes, seconds = ([16, 64, 256], 1, 4) if short else ([8, 16, 32, 64, 128, 256], 2, 10)
    found: dict[str, list[Result]] = {"confide": [], "litellm": []}
    with both(work) as (stub, *pair):
        warm_up(work, *pair)
        for clients in steps:
            for server in pair:
                before = server.cpu_seconds()
                tallies = [load(work, "closed", server, clients=clients, seconds=seconds) for _ in range(passes)]
                busy = server.cpu_seconds() - before
                latency = np.array([value for tally in tallies for value in tally["latency_ms"]])
                found[server.name].append(
                    {
                        "clients": clients,
                        "rps": round(len(latency) / sum(tally["seconds"] for tally in tallies), 1),
                        "p50_ms": round(float(np.quantile(latency, 0.5)), 1),
                        "p99_ms": round(float(np.quantile(latency, 0.99)), 1),
                        "cpu_ms": round(1000 * busy / len(latency), 3),
                        "failed": sum(sum(tally["failed"].values()) for tally in tallies),
                    }
                )
        alone = load(work, "closed", stub, clients=256, seconds=seconds)
        rss = {server.name: round(server.rss_mb(), 1) for server in pair}
    best = {name: max(step["rps"] for step in made if not step["failed"]) for name, made in found.items()}
    return {
        "seconds_a_step": passes * seconds,
        "steps": found,
        "best_rps": best,
        "ratio": round(best["confide"] / best["litellm"], 2),
        "stub_alone_rps": round(len(alone["latency_ms"]) / alone["seconds"], 1),
        "rss_mb": rss,
        "rows": rows(work),
    }


@contextmanager
def both(work: Path) -> Iterator[list[Server]]:
    """The stub, confide and LiteLLM's proxy, all running."""
    with ExitStack() as up:
        stub = up.enter_context(routers.stub(work, delay_ms=DELAY_MS))
        confide = up.enter_context(routers.confide(work, stub.port))
        yield [stub, confide, up.enter_context(routers.litellm(work, stub.port))]


@contextmanager
def behind(work: Path, *, delay_ms: float = DELAY_MS, **settings: Any) -> Iterator[tuple[Server, Server]]:
    """confide and its expert, running on two stubs; the expert takes twice as long."""
    with ExitStack() as up:
        small = up.enter_context(routers.stub(work, delay_ms=delay_ms))
        expert = up.enter_context(routers.stub(work, "expert", delay_ms=2 * delay_ms))
        yield up.enter_context(routers.confide(work, small.port, {"expert": expert.port}, **settings)), expert


def rows(work: Path) -> int:
    with sqlite3.connect(work / "confide.db") as connection:
        return int(connection.execute("SELECT count(*) FROM decisions").fetchone()[0])


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


def streaming(work: Path, short: bool) -> Result:
    """Time to the first token of a stream of 20 tokens, 10 ms apart: straight from the stub, and both stream modes."""
    times = 10 if short else 60
    pace: dict[str, Any] = {"tokens": 20, "token_ms": 10.0}
    made: Result = {}

    def measure(name: str, port: int, target: Target, kinds: dict[str, bool]) -> None:
        first_token_ms(port, target, unsure=False)  # connections are opened
        for kind, unsure in kinds.items():
            found = np.array([first_token_ms(port, target, unsure=unsure) for _ in range(times)])
            p50 = np.median(found, axis=0)
            made[f"{name}, {kind}"] = {"first_ms": round(float(p50[0]), 1), "whole_ms": round(float(p50[1]), 1)}

    with ExitStack() as up:
        small = up.enter_context(routers.stub(work, delay_ms=DELAY_MS, **pace))
        expert = up.enter_context(routers.stub(work, "expert", delay_ms=2 * DELAY_MS, **pace))
        measure("stub alone", small.port, Target(small.port), {"answered": False})
        for mode in ("hold", "early"):
            with routers.confide(work, small.port, {"expert": expert.port}, stream_mode=mode) as router:
                measure(mode, router.port, Target(router.port, key=KEY), {"kept": False, "escalated": True})
    return {"delay_ms": DELAY_MS, "times": times, "p50": made} | pace


# Memory


def slope(at: NDArray[np.float64], rss: NDArray[np.float64], *, draws: int = 1000, seed: int = 0) -> Result:
    """Growth of resident memory in MB a minute (least squares), 95 % interval by bootstrap of stretches.

    Residuals are resampled in stretches of a tenth of the run, because memory moves in steps.
    """
    rng = np.random.default_rng(seed)
    fit = np.polyfit(at, rss, 1)
    residual = rss - np.polyval(fit, at)
    length = max(2, len(at) // 10)
    starts = rng.integers(0, len(at) - length + 1, (draws, -(-len(at) // length)))
    noise = residual[(starts[..., None] + np.arange(length)).reshape(draws, -1)[:, : len(at)]]
    slopes = np.array([np.polyfit(at, np.polyval(fit, at) + row, 1)[0] for row in noise])
    return {
        "mb_a_minute": round(float(fit[0]), 4),
        "interval": [round(float(v), 4) for v in np.quantile(slopes, [0.025, 0.975])],
    }


def memory(work: Path, short: bool) -> Result:
    """Resident memory while requests of every kind come in: kept, escalated, streamed."""
    warm, seconds, rate = (20, 60, 100) if short else (180, 600, 100)
    out = work / "memory.json"
    samples: list[tuple[float, float]] = []
    with behind(work) as (router, _):
        command = [sys.executable, str(HERE / "load_client.py"), "open", "--port", str(router.port), "--key", KEY]
        command += ["--rate", str(rate), "--unsure", "0.3", "--streams", "0.25", "--out", str(out)]
        subprocess.run([*command, "--seconds", str(warm)], check=True)
        began = time.monotonic()
        running = subprocess.Popen([*command, "--seconds", str(seconds), "--seed", "1"])
        while running.poll() is None:
            samples.append((time.monotonic() - began, router.rss_mb()))
            time.sleep(2)
    tally = json.loads(out.read_text(encoding="utf-8"))
    at, rss = np.array([sample for sample in samples if sample[0] <= seconds]).T
    return {
        "minutes": round(seconds / 60, 1),
        "rate": rate,
        "requests": len(tally["latency_ms"]),
        "failed": tally["failed"],
        "rss_mb": {"first": float(rss[0]), "last": float(rss[-1]), "most": float(rss.max())},
        "samples": [[round(t), round(r, 2)] for t, r in samples],
    } | slope(at / 60, rss)


# Failures


def failover(work: Path, short: bool) -> Result:
    """500 clients, half of the questions escalate; the expert is killed halfway and comes back four seconds later."""
    seconds, away = (24.0, 3.0) if short else (60.0, 4.0)
    gone = (seconds - away) / 2

    async def scene(router: Server, expert: Server) -> Result:
        stop, began = asyncio.Event(), time.monotonic()
        target = Target(router.port, key=KEY)
        clients = asyncio.create_task(run_clients(target, 500, stop, seed=0, unsure=0.5, streams=0.25))
        await asyncio.sleep(gone)
        expert.kill()
        await asyncio.sleep(away)
        await asyncio.to_thread(expert.start)
        back = time.monotonic() - began
        await asyncio.sleep(seconds - back)
        stop.set()
        replies = await clients
        unsure = [reply for reply in replies if reply.unsure and reply.status == 200]
        by = {
            "before": [reply for reply in unsure if reply.at < gone],
            "away": [reply for reply in unsure if gone <= reply.at < back],
            "after": [reply for reply in unsure if reply.at >= back],
        }
        shares = {when: round(float(np.mean([r.served == "expert" for r in found])), 4) for when, found in by.items()}
        return {"expert_away_s": round(back - gone, 2), "unsure_served_by_expert": shares} | check(
            replies, work / "confide.db"
        )

    with behind(work, last_resort="unverified") as (router, expert):
        made = asyncio.run(scene(router, expert))
        return {"clients": 500, "seconds": seconds, "tracebacks_in_log": tracebacks(router)} | made


def crash(work: Path, short: bool) -> Result:
    """kill -9 of the router under load, again and again on one database; it restarts at once."""
    kills, clients = (3, 100) if short else (20, 100)
    draw = random.Random(0)
    pauses = [draw.uniform(1.0, 3.0) for _ in range(kills)]

    async def scene(router: Server) -> Result:
        stop, restarts = asyncio.Event(), []
        target = Target(router.port, key=KEY)
        running = asyncio.create_task(run_clients(target, clients, stop, seed=1, unsure=0.3, streams=0.5))
        for pause in pauses:
            await asyncio.sleep(pause)
            router.kill()
            began = time.monotonic()
            await asyncio.to_thread(router.start)
            restarts.append(time.monotonic() - began)
        await asyncio.sleep(1.0)
        stop.set()
        made = check(await running, work / "confide.db")
        # Requests that the kill cut off are lost by design; a client sees the broken connection.
        made["cut_off"] = made["wrong"].pop("lost")
        return made | {"restart_s": round(float(np.median(restarts)), 2)}

    with behind(work) as (router, _):
        made = asyncio.run(scene(router))
        return {"kills": kills, "clients": clients, "tracebacks_in_log": tracebacks(router)} | made


def tracebacks(server: Server) -> int:
    """Lines of the log that begin a traceback."""
    return sum("Traceback" in line for line in server.said().splitlines())


def fuzz(work: Path, short: bool) -> Result:
    """Requests that no client should send."""
    with behind(work, delay_ms=1.0) as (router, _):
        made = router_fuzz.run(router.port, KEY, 1000 if short else 10_000, seed=0)
        return made | {"tracebacks_in_log": tracebacks(router), "alive": router.answers()}


STAGES: dict[str, Callable[[Path, bool], Result]] = {
    "overhead": overhead,
    "throughput": throughput,
    "streaming": streaming,
    "failover": failover,
    "crash": crash,
    "fuzz": fuzz,
    "memory": memory,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("runs/router"))
    parser.add_argument(
        "--out", type=Path, help="results file (default: results/router_load.json; --short: work folder)"
    )
    parser.add_argument("--short", action="store_true", help="a rehearsal; its figures mean little")
    parser.add_argument("--only", help=f"stages, comma-separated, of {', '.join(STAGES)}")
    given = parser.parse_args()
    chosen = given.only.split(",") if given.only else list(STAGES)
    if unknown := sorted(set(chosen) - set(STAGES)):
        raise SystemExit(f"no stage {unknown[0]}: there is {', '.join(STAGES)}")
    work: Path = given.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    out: Path = given.out or (work / "short.json" if given.short else HERE / "results" / "router_load.json")
    os.sched_setaffinity(0, routers.OTHER_CORES)
    result: Result = json.loads(out.read_text(encoding="utf-8")) if given.only and out.exists() else {}
    result |= {
        "schema": 1,
        "made_by": "benchmarks/router_load.py",
        "short": given.short,
        "layout": {"router_cores": len(routers.ROUTER_CORES), "other_cores": len(routers.OTHER_CORES)},
        "versions": {n: version(n) for n in ("confide", "fastapi", "uvicorn", "uvloop", "aiohttp", "sqlalchemy")}
        | {"litellm": routers.LITELLM, "python": platform.python_version(), "sqlite": sqlite3.sqlite_version},
    }
    for name in chosen:
        began = time.monotonic()
        print(f"{name} …", flush=True)
        load_before = os.getloadavg()[0]
        result[name] = STAGES[name](work, given.short)
        result[name] |= {"took_s": round(time.monotonic() - began, 1), "load_before": round(load_before, 2)}
        write_text(out, json.dumps(result, indent=1) + "\n")
        shown = {key: value for key, value in result[name].items() if key != "samples"}
        print(f"{name}: {json.dumps(shown)}", flush=True)
    if not given.short and given.out is None:
        import router_table

        router_table.main()


if __name__ == "__main__":
    main()
