"""How long common work of confide's own takes, as ratios to reference work in the same run.

Seconds differ between machines; a ratio to reference work of the same kind, measured in turn with it, differs less.
Each number is a median over rounds, in seconds of processor time. Judging 10,000 rows is compared with a plain NumPy
loop that computes one bootstrap interval of the AUROC (100 resamples) per source; starting a command with
``python -c pass``.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
from collections.abc import Callable
from functools import partial

import numpy as np

from benchmarks.common import Json
from confide.evaluation.evaluation import evaluate
from confide.evaluation.signal_quality import signal_quality
from confide.records import Record, Sample

ROWS, SOURCES, SAMPLES, RESAMPLES = 10_000, 12, 8, 100
LIMITS = {"evaluate": 30.0, "signal_quality": 4.0, "import confide": 10.0, "confide --help": 30.0}
"""Ratios that `--check` allows."""


def judged_records() -> list[Record]:
    """Graded answers with twelve confidences each."""
    rng = np.random.default_rng(0)
    right = rng.random(ROWS) < 0.5
    values = rng.random((ROWS, SOURCES)) * 0.8 + 0.2 * right[:, None]
    return [
        Record(
            id=str(i),
            correct=bool(right[i]),
            confidence={f"source_{k}": float(v) for k, v in enumerate(values[i])},
            logprobs=[-float(values[i, 0])],
        )
        for i in range(ROWS)
    ]


def sampled_records() -> list[Record]:
    """As many sampled answers with twelve signals each, eight per question."""
    rng, names = np.random.default_rng(0), [f"signal {k}" for k in range(SOURCES)]
    answers = [
        Sample(answer="", correct=bool(rng.random() < 0.5), confidence={name: float(rng.random()) for name in names})
        for _ in range(ROWS)
    ]
    return [Record(id=str(i), samples=answers[i : i + SAMPLES]) for i in range(0, ROWS, SAMPLES)]


def reference() -> None:
    """One bootstrap interval of the AUROC per source, resample by resample."""
    rng = np.random.default_rng(0)
    right = rng.random(ROWS) < 0.5
    for _ in range(SOURCES):
        confidence = rng.random(ROWS)
        aurocs = []
        for _ in range(RESAMPLES):
            rows = rng.integers(0, ROWS, ROWS)
            y = right[rows][np.argsort(confidence[rows], kind="stable")]
            ranks = np.flatnonzero(y) + 1
            aurocs.append((ranks.sum() - len(ranks) * (len(ranks) + 1) / 2) / (len(ranks) * (ROWS - len(ranks))))
        np.quantile(aurocs, [0.025, 0.975])


def command(*arguments: str) -> None:
    """Run Python in a process of its own."""
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)


def seconds(work: Callable[[], object]) -> float:
    """Seconds of processor time, of this process and of those that it waited for."""

    def used() -> float:
        both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(one.ru_utime + one.ru_stime for one in both)

    before = used()
    work()
    return used() - before


def ratio(work: Callable[[], object], against: Callable[[], object], rounds: int) -> Json:
    """Median seconds of both, measured in turn, and their ratio."""
    taken = [(seconds(work), seconds(against)) for _ in range(rounds)]
    ours, theirs = (statistics.median(side) for side in zip(*taken, strict=True))
    return {"seconds": ours, "reference_seconds": theirs, "ratio": ours / theirs}


def measured() -> Json:
    """Each work with its reference."""
    bare = partial(command, "-c", "pass")
    return {
        "evaluate": ratio(partial(evaluate, judged_records()), reference, 3),
        "signal_quality": ratio(partial(signal_quality, sampled_records()), reference, 3),
        "import confide": ratio(partial(command, "-c", "import confide"), bare, 11),
        "confide --help": ratio(partial(command, "-m", "confide.cli.main", "--help"), bare, 11),
    }


def check() -> None:
    """Print the ratios, and end the run where one is above its limit."""
    result = measured()
    for name, found in result.items():
        print(f"{name}: {found['seconds']:.2f} s, {found['ratio']:.2f} times the reference (limit {LIMITS[name]:g})")
    if slow := [name for name, found in result.items() if found["ratio"] > LIMITS[name]]:
        raise SystemExit(f"too slow: {', '.join(slow)}")
