"""One side of a comparison: a process that loads once, then does its work each time it is told to.

Runs in a peer's own environment, where there is no confide: ``python SIDE.py CONFIG.json``. Orders come as lines of
JSON on standard input, what was found goes as lines of JSON to standard output.
"""

from __future__ import annotations

import cProfile
import io
import json
import os
import pstats
import resource
import sys
import time
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

Config = dict[str, Any]
Found = dict[str, Any]
Work = Callable[[], Found | Callable[[], Found]]
"""What is timed; where it gives a function, that tells what was found, and its time does not count."""
LINES = 8
"""Of a profile."""


def serve(prepare: Callable[[Config], Mapping[str, Work]], packages: tuple[str, ...]) -> None:
    """Load, then work until standard input ends.

    Args:
        prepare: loads what the works need, and gives them by name.
        packages: whose versions are told.
    """
    config: Config = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # libraries print
    _limit_threads(int(config["threads"]))

    def tell(found: dict[str, Any]) -> None:
        out.write(json.dumps(found) + "\n")
        out.flush()

    works = prepare(config)
    tell({"versions": _versions(packages)})
    for line in sys.stdin:
        order = json.loads(line)
        work = works[order["work"]]
        if order["profile"]:
            tell({"profile": profiled(work)})
            continue
        began, used = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
        found = work()
        seconds, now = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF)
        cpu = now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime
        tell({"seconds": seconds, "cpu_seconds": cpu, "found": found() if callable(found) else found})


def profiled(work: Work) -> list[str]:
    """The functions in which a work spends most time of their own, as ``share function``."""
    profile = cProfile.Profile()
    profile.runcall(work)
    stats: Any = pstats.Stats(profile, stream=io.StringIO())
    total = stats.total_tt or 1.0
    ranked = sorted(stats.stats.items(), key=lambda item: -item[1][2])[:LINES]
    return [f"{own / total:.0%} {_place(place)}" for place, (_, _, own, _, _) in ranked]


def _place(place: tuple[str, int, str]) -> str:
    file, _, function = place
    name = "/".join(Path(file).with_suffix("").parts[-2:]) if file not in ("~", "") else ""
    return f"{name}:{function}" if name else function


def _versions(packages: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _limit_threads(count: int) -> None:
    try:
        import torch
    except ImportError:
        return
    torch.set_num_threads(count)
