"""How what the verbs take grows with the rows of a file: ``python -m benchmarks.large_files``.

Each verb runs as a process of its own on Parquet of made-up rows with three sources. Processor time and peak memory are
those of that process; an exponent of 1 is a cost in proportion to the rows.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import RESULTS, ROOT, Json, put, read_json, table, write_result
from confide.files import written
from confide.numeric import Floats

SIZES = (1_000, 10_000, 100_000, 1_000_000)
LARGEST = 20_000_000
"""Rows that `evaluate` alone is also given, with ``--largest``."""

SOURCES = ("stack", "portable", "logprob_sum")
FITTED = 100_000
"""Rows from which on exponents are fitted: below, starting the process is most of the time."""

PART = 1_000_000
"""Rows of each file of a folder."""

COLOURS = {"evaluate": "#1f77b4", "calibrate": "#d62728", "validate": "#2ca02c", "decide": "#9467bd"}
PAGE = "docs/results/policies.md"
PICTURES = ROOT / "docs" / "pictures"


def columns(start: int, n: int) -> dict[str, Any]:
    """Graded rows of three sources; three questions of each entity."""
    rng = np.random.default_rng(start)
    confidence = rng.random((n, 3))
    right = rng.random(n) < 0.4 + 0.6 * confidence[:, 0]
    numbers = np.arange(start, start + n)
    values = (confidence[:, 0], 0.7 * confidence[:, 0] + 0.3 * confidence[:, 1], np.log(confidence[:, 2]))
    return {
        "id": numbers.astype(str),
        "entity": np.char.add("e", (numbers // 3).astype(str)),
        "correct": right,
        **{f"confidence.{source}": value for source, value in zip(SOURCES, values, strict=True)},
    }


def write_rows(path: Path, n: int) -> None:
    """A Parquet file of ``n`` rows, or a folder of files."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if n <= PART:
        pq.write_table(pa.table(columns(0, n)), path)
        return
    path.mkdir()
    for start in range(0, n, PART):
        pq.write_table(pa.table(columns(start, min(PART, n - start))), path / f"{start // PART:05}.parquet")


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
    file = folder / f"{n}.parquet"
    write_rows(file, n)
    found: Json = {"rows": n}
    for name, arguments in verbs(folder, file).items():
        if only in (None, name):
            found[name] = run(arguments)
            print(f"{n:,} rows, {name}: {found[name]['seconds']:.1f} s, {found[name]['megabytes']:.0f} MB", flush=True)
    return found


def points(found: Json, verb: str) -> tuple[Floats, Floats]:
    """Rows and processor seconds of a verb, of the files that it was run on."""
    there = [(file["rows"], file[verb]["seconds"]) for file in found["files"] if verb in file]
    rows, seconds = np.array(there, dtype=np.float64).T
    return rows, seconds


def exponent(found: Json, verb: str) -> tuple[float, float]:
    """The line in logarithms through a verb's times from `FITTED` rows on: its slope and its value at one row."""
    rows, seconds = points(found, verb)
    kept = rows >= FITTED
    slope, start = np.polyfit(np.log(rows[kept]), np.log(seconds[kept]), 1)
    return float(slope), float(start)


def step(before: Json, after: Json, verb: str) -> float:
    """The exponent of a verb's time in the rows, between two files."""
    grown = after[verb]["seconds"] / before[verb]["seconds"]
    return float(np.log(grown) / np.log(after["rows"] / before["rows"]))


def tables(found: Json) -> dict[str, str]:
    """The page's table by its name."""
    lines = []
    for verb in COLOURS:
        before: Json | None = None
        for file in (file for file in found["files"] if verb in file):
            slope = "" if before is None else f"{round(step(before, file, verb), 2) + 0.0:.2f}"
            before = file
            seconds, megabytes = f"{file[verb]['seconds']:.1f} s", f"{file[verb]['megabytes']:,.0f} MB"
            lines.append([verb, f"{file['rows']:,}", seconds, megabytes, slope])
    head = "verb | >rows | >processor time | >peak memory | >exponent from the line above"
    return {"large files": table(head, lines)}


def write(found: Json) -> None:
    """Put the table into the page, and draw."""
    put(PAGE, tables(found))
    draw(found)


def draw(found: Json) -> None:
    """Processor time against rows, in both themes, with the fitted lines."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    for theme, ink in (("light", "#1f2328"), ("dark", "#f0f6fc")):
        inked = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
        style: Any = dict.fromkeys(inked, ink) | {"svg.hashsalt": "files", "svg.fonttype": "none", "font.size": 11}
        with plt.rc_context(style):
            figure, axes = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
            for verb, colour in COLOURS.items():
                rows, seconds = points(found, verb)
                slope, start = exponent(found, verb)
                line = np.geomspace(FITTED, rows.max(), 2)
                axes.loglog(rows, seconds, "o", color=colour)
                axes.loglog(line, np.exp(start) * line**slope, color=colour, label=f"{verb}: exponent {slope:.2f}")
            axes.set_xlabel("rows")
            axes.set_ylabel("processor seconds")
            axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
            with written(PICTURES / f"large-files-{theme}.svg") as part:
                figure.savefig(part, format="svg", transparent=True, metadata={"Date": None})
            plt.close(figure)


def main() -> None:
    """Measure, and write result and table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--largest", action="store_true", help=f"add {LARGEST:,} rows to the results that are there")
    options.add_argument("--tables", action="store_true", help="write the table from the results that are there")
    given = options.parse_args()
    out = RESULTS / "large_files.json"
    if given.tables:
        write(read_json(out))
        return
    with tempfile.TemporaryDirectory() as folder:
        if given.largest:
            found = read_json(out)
            found["files"] = [file for file in found["files"] if file["rows"] < LARGEST]
            found["files"].append(measure(Path(folder), LARGEST, "evaluate"))
            write(write_result(out, "large_files.py", found))
            return
        files = [measure(Path(folder), n) for n in SIZES]
    facts = {"cores": os.cpu_count(), "python": platform.python_version(), "numpy": np.__version__}
    write(write_result(out, "large_files.py", {"machine": facts, "threads": 1, "files": files}))


if __name__ == "__main__":
    main()
