"""How what the verbs take grows with the rows of a file: ``python -m benchmarks.large_files``.

Each verb runs as a process of its own on JSON lines of made-up rows. Processor time and peak memory are those of that
process; what counts is the ratio to the smallest file of the same run, beside the ratio of the rows.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.common import RESULTS, Json, put, read_json, table, write_result
from confide.records import Record, write_records

SIZES = (10_000, 100_000)
LARGEST = 1_000_000
"""Rows that `evaluate` alone is also given, with ``--million``."""


def rows(n: int) -> Iterator[Record]:
    """Graded rows of one source; three questions of each entity."""
    rng = np.random.default_rng(0)
    confidence = rng.random(n)
    right = rng.random(n) < 0.4 + 0.6 * confidence
    for i in range(n):
        yield Record(id=str(i), entity=f"e{i // 3}", correct=bool(right[i]), confidence={"stack": float(confidence[i])})


def verbs(folder: Path, file: Path) -> dict[str, list[str]]:
    """The command line of each verb; `calibrate` comes before those that need its policy."""
    policy, fresh = str(folder / "policy.json"), str(file)
    return {
        "evaluate": ["evaluate", fresh, "--out", str(folder / "report")],
        "calibrate": ["calibrate", fresh, "--max-risk", "0.15", "--out", policy],
        "validate": ["validate", policy, fresh],
        "decide": ["decide", policy, fresh, "--out", str(folder / "decisions.jsonl")],
    }


def run(arguments: list[str]) -> Json:
    """Seconds of processor time and peak memory of a command; a code that means a fault or bad input ends the run."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        command = [sys.executable, "-m", "confide.cli.main", *arguments]
        process = os.posix_spawn(
            sys.executable, command, environment, file_actions=[(os.POSIX_SPAWN_DUP2, nowhere.fileno(), 1)]
        )
    _, status, used = os.wait4(process, 0)
    if (code := os.waitstatus_to_exitcode(status)) not in (0, 1, 3):
        raise SystemExit(f"confide {' '.join(arguments)} ended with {code}")
    return {"seconds": used.ru_utime + used.ru_stime, "megabytes": used.ru_maxrss / 1000}


def measure(folder: Path, n: int, only: str | None = None) -> Json:
    """Every verb on a file of ``n`` rows."""
    file = folder / f"{n}.jsonl"
    write_records(file, rows(n))
    found: Json = {"rows": n}
    for name, arguments in verbs(folder, file).items():
        if only in (None, name):
            found[name] = run(arguments)
            print(f"{n:,} rows, {name}: {found[name]['seconds']:.1f} s, {found[name]['megabytes']:.0f} MB", flush=True)
    return found


def write(found: Json) -> None:
    """Put the table into the page."""
    first, lines = found["files"][0], []
    for file in found["files"]:
        for name in [name for name in first if name in file and name != "rows"]:
            seconds = file[name]["seconds"]
            lines.append(
                [
                    name,
                    f"{file['rows']:,}",
                    f"{seconds:.1f} s",
                    f"{seconds / first[name]['seconds']:.1f}",
                    f"{file['rows'] / first['rows']:.0f}",
                    f"{file[name]['megabytes']:,.0f} MB",
                ]
            )
    head = "verb | >rows | >processor time | >times the smallest file's | >times its rows | >peak memory"
    lines.sort(key=lambda line: list(first).index(line[0]))
    put("docs/results/policies.md", {"large files": table(head, lines)})


def main() -> None:
    """Measure, and write result and table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--million", action="store_true", help=f"also evaluate {LARGEST:,} rows")
    options.add_argument("--tables", action="store_true", help="write the table from the results that are there")
    given = options.parse_args()
    out = RESULTS / "large_files.json"
    if given.tables:
        write(read_json(out))
        return
    with tempfile.TemporaryDirectory() as folder:
        files = [measure(Path(folder), n) for n in SIZES]
        if given.million:
            files.append(measure(Path(folder), LARGEST, "evaluate"))
    facts = {"cores": os.cpu_count(), "python": platform.python_version(), "numpy": np.__version__}
    write(write_result(out, "large_files.py", {"machine": facts, "threads": 1, "files": files}))


if __name__ == "__main__":
    main()
