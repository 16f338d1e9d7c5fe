"""How long the dashboard and /metrics take to read a store of 10,000 and of 1,000,000 decisions (SQLite).

    python -m benchmarks.serving.store_reads

It fills two stores in a temporary folder through `Store.add`, and reads each several times. What counts is the ratio:
what is read does not grow with the store. Steps are those of SQLite's virtual machine, in hundreds.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import Connection

from benchmarks.common import RESULTS, Json, put, read_json, table, write_result
from confide.serving.http.dashboard import WINDOWS
from confide.serving.monitor.promises import Promise
from confide.serving.monitor.snapshot import build
from confide.serving.store.store import Store
from confide.serving.store.tables import DecisionRow, new_decision_id

SIZES = (10_000, 1_000_000)
DAYS = 30
AUDIT_SHARE = 0.02
ROUNDS = 9
_BATCH = 4_000
_STEPS = 100
PROMISE = Promise("pol_0123456789ab", "stack", "max_risk", 0.1, 0.95, 0.06, 0.6, 1000)


def rows(n: int, now: float) -> Iterator[DecisionRow]:
    """``n`` requests, evenly over the last days: 60 % answered, 20 domains, a few failures."""
    rng = np.random.default_rng(n)
    for number in range(n):
        kept, audit = bool(rng.random() < 0.6), bool(rng.random() < AUDIT_SHARE)
        yield DecisionRow(
            id=new_decision_id(), created=now - DAYS * 86_400 * (1 - (number + 1) / n), model="small", source="stack",
            raw=float(rng.random()), probability=0.9, decision="answer" if kept else "escalate",
            served="small" if kept else "expert", answered_by="small", domain=f"domain {int(rng.integers(20))}",
            policy_id=PROMISE.policy_id, threshold=0.5, mode="act", audit=audit, audit_probability=AUDIT_SHARE,
            agreed=bool(rng.random() > (0.04 if kept else 0.5)) if audit else None, small_ms=12.0,
            expert_ms=None if kept else 80.0, total_ms=14.0, small_tokens=40, expert_tokens=0, cost=0.0001,
            cost_saved=0.002, error="big: timeout" if rng.random() < 0.001 else None,
            question_hash=f"{int(rng.integers(n))}",
        )  # fmt: skip


async def fill(store: Store, n: int, now: float) -> None:
    """Add the rows."""
    batch: list[DecisionRow] = []
    for row in rows(n, now):
        batch.append(row)
        if len(batch) == _BATCH:
            await asyncio.gather(*[store.add(row) for row in batch])
            batch = []
    await asyncio.gather(*[store.add(row) for row in batch])


def steps(connection: Connection, now: float, window_s: float | None) -> int:
    """The steps that SQLite takes for one snapshot, in hundreds."""
    driver: Any = connection.connection.driver_connection
    taken = 0

    def count() -> int:
        nonlocal taken
        taken += 1
        return 0

    driver.set_progress_handler(count, _STEPS)
    build(connection, PROMISE, now, window_s)
    driver.set_progress_handler(None, _STEPS)
    return taken


def milliseconds(connection: Connection, now: float, window_s: float | None) -> float:
    """The processor time of one snapshot."""
    began = time.thread_time()
    build(connection, PROMISE, now, window_s)
    return 1000 * (time.thread_time() - began)


async def measure(folder: Path, n: int) -> Json:
    """Fill a store and read it."""
    path, now = folder / f"{n}.db", time.time()
    store = Store.open(f"sqlite:///{path}")
    began = time.process_time()
    await fill(store, n, now)
    found: Json = {"rows": n, "fill_us": 1e6 * (time.process_time() - began) / n}
    found |= {"megabytes": path.stat().st_size / 1e6, "windows": {}}
    for name, window_s in WINDOWS.items():
        taken = [await store.run(partial(milliseconds, now=now, window_s=window_s)) for _ in range(ROUNDS)]
        made = await store.run(partial(steps, now=now, window_s=window_s))
        found["windows"][name] = {"ms": statistics.median(taken), "steps": made}
    await store.close()
    return found


def write(found: Json) -> None:
    """Put the table into the page."""
    small, large = found["stores"]
    lines = []
    for name in WINDOWS:
        pair = [store["windows"][name] for store in (small, large)]
        ratio = {key: pair[1][key] / pair[0][key] for key in ("ms", "steps")}
        lines.append(
            [
                "everything" if name == "all" else f"the last {name}",
                *(f"{entry['ms']:.0f} ms" for entry in pair),
                f"{ratio['ms']:.1f}",
                *(f"{entry['steps']:,}" for entry in pair),
                f"{ratio['steps']:.1f}",
            ]
        )
    head = "window | >10,000 rows | >1,000,000 rows | >ratio | >steps, 10,000 | >steps, 1,000,000 | >ratio"
    text = (
        f"\n\nProcessor time, medians of {ROUNDS} reads; steps of SQLite's machine in hundreds. {found['days']} days, "
        f"{found['audit_share']:.0%} audited, 20 domains; the larger file has {large['megabytes']:.0f} MB. Making and "
        f"storing a row, with its totals, took {large['fill_us']:.0f} µs."
    )
    put("docs/results/serving.md", {"reads": table(head, lines) + text})


def main() -> None:
    """Measure, and write result and table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument(
        "--out", type=Path, default=RESULTS / "store_reads.json", help="results (default: %(default)s)"
    )
    options.add_argument("--tables", action="store_true", help="write the table from the results that are there")
    given = options.parse_args()
    if given.tables:
        write(read_json(given.out))
        return
    with tempfile.TemporaryDirectory() as folder:
        stores = [asyncio.run(measure(Path(folder), n)) for n in SIZES]
    machine = {"cores": os.cpu_count(), "python": platform.python_version(), "sqlite": sqlite3.sqlite_version}
    result = {"days": DAYS, "audit_share": AUDIT_SHARE, "machine": machine, "stores": stores}
    write(write_result(given.out, "serving/store_reads.py", result))


if __name__ == "__main__":
    main()
