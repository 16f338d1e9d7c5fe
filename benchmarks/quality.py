"""Every number of the README: the bundled model, geography, three ways to split, three seeds.

    python benchmarks/quality.py            # all stages; a killed run continues
    python benchmarks/quality.py --report   # only writes the table from what is there

Stages keep their results in the work folder; ``results/quality.json`` is written after each. See ``cells.py`` for
the protocol and ``README.md`` beside this file for sizes and times.
"""

from __future__ import annotations

import argparse
import functools
import json
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from cells import LAYERS, Parts, in_process_sources, judge, partition
from confide.annotation import annotate
from confide.engines.transformers.transformers_engine import TransformersEngine
from confide.files import write_text
from confide.methods.stack.states import States, collect
from confide.records import Record, read_records
from confide.tasks import load_task
from machine import fitting

HERE = Path(__file__).parent
QUESTIONS = 12000
SPLITS = ("standard", "answered-country", "relation")
SEEDS = (0, 1, 2)


class Work:
    """The work folder: stages by name, each a JSON file that is made once."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._engine: TransformersEngine | None = None

    @property
    def engine(self) -> TransformersEngine:
        if self._engine is None:
            self._engine = TransformersEngine.load("smollm2")
        return self._engine

    def stage(self, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        path = self.folder / f"{name}.json"
        if not path.exists():
            began = time.monotonic()
            print(f"{name} …", flush=True)
            made = make() | {"seconds": round(time.monotonic() - began, 1)}
            write_text(path, json.dumps(made, indent=1) + "\n")
            print(f"{name}: {made['seconds']:.0f} s", flush=True)
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found


def shown(title: str) -> Callable[[int, int, str], None]:
    last = 0.0

    def progress(done: int, total: int, note: str) -> None:
        nonlocal last
        if time.monotonic() - last > 20 or done == total:
            last = time.monotonic()
            print(f"  {title} {done}/{total} {note}", flush=True)

    return progress


def records_of(work: Work) -> list[Record]:
    path = work.folder / "records.jsonl"
    task = load_task("geography", limit=QUESTIONS, seed=0)
    if not path.exists() or len(read_records(path)) < len(task.questions):
        rows = fitting(work.engine.device, 96, 512)
        annotate(work.engine, task, path, batch_size=rows, progress=shown("annotating"))
    return read_records(path)


def states_of(work: Work, records: list[Record]) -> States:
    path = work.folder / "states.npy"
    if not path.exists():
        rows = fitting(work.engine.device, 96, 256)
        states, _ = collect(work.engine, records, LAYERS, batch_size=rows, progress=shown("states"))
        np.save(path, states.values)
    return States(tuple(LAYERS), np.load(path, mmap_mode="r"))


def in_process(work: Work, records: list[Record], states: States, split: str, seed: int) -> dict[str, Any]:
    parts, held_out = partition(records, split, seed)
    sources, about = in_process_sources(records, states, parts, seed)
    np.savez_compressed(work.folder / f"values-{split}-{seed}-in-process.npz", **sources)  # type: ignore[arg-type]
    return about | {"held_out": held_out}


def cell(work: Work, records: list[Record], split: str, seed: int) -> dict[str, Any]:
    parts, _ = partition(records, split, seed)
    sources: dict[str, Any] = {}
    for path in sorted(work.folder.glob(f"values-{split}-{seed}-*.npz")):
        with np.load(path) as values:
            sources |= {name: values[name] for name in values.files}
    about: dict[str, Any] = json.loads((work.folder / f"in-process-{split}-{seed}.json").read_text(encoding="utf-8"))
    return judge(records, sources, parts, seed=seed) | about | {"split": split, "seed": seed}


def data_of(records: list[Record]) -> dict[str, Any]:
    right = [bool(r.correct) for r in records]
    domains = sorted({r.domain for r in records})
    by = {
        d: {
            "n": sum(r.domain == d for r in records),
            "accuracy": float(np.mean([bool(r.correct) for r in records if r.domain == d])),
        }
        for d in domains
    }
    return {
        "questions": len(records),
        "accuracy": float(np.mean(right)),
        "cut": float(np.mean([r.finish == "length" for r in records])),
        "no_answer": float(np.mean([r.answered is None for r in records])),
        "answer_tokens": float(np.mean([len(r.answer_ids) for r in records])),
        "domains": by,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("runs/quality"))
    parser.add_argument("--out", type=Path, default=HERE / "results" / "quality.json")
    parser.add_argument("--report", action="store_true", help="only put together what is there")
    parser.add_argument("--short", action="store_true", help="Self-REF on one seed, readers on one split")
    arguments = parser.parse_args()
    work = Work(arguments.work)
    if not arguments.report:
        run(work, arguments.short)
    judge_cells(work)
    write(work, arguments.out)


def run(work: Work, short: bool) -> None:
    import readers

    records = records_of(work)
    states = states_of(work, records)
    plan: list[tuple[str, int]] = [(split, seed) for seed in SEEDS for split in SPLITS]
    parts: dict[tuple[str, int], Parts] = {key: partition(records, *key)[0] for key in plan}
    for split, seed in plan:
        work.stage(f"in-process-{split}-{seed}", functools.partial(in_process, work, records, states, split, seed))
    work.stage("data", lambda: data_of(records))
    readers.ladder(work, records, parts[("standard", 0)])
    readers.equality(work, records, parts[("standard", 0)])
    readers.costs(work)
    readers.epochs(work, records, parts[("standard", 0)])
    readers.p_true(work, records, parts[("standard", 0)])
    readers.self_ref(work, records, {0: parts[("standard", 0)]})
    if not short:
        readers.self_ref(work, records, {seed: parts[("standard", seed)] for seed in SEEDS})
        readers.best(work, records, parts[("answered-country", 0)], "answered-country", 0)


def judge_cells(work: Work) -> None:
    """Judge every cell on the values that are there."""
    records = read_records(work.folder / "records.jsonl")
    for split in SPLITS:
        for seed in SEEDS:
            work.stage(f"cell-{split}-{seed}", functools.partial(cell, work, records, split, seed))


def write(work: Work, out: Path) -> None:
    stages = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(work.folder.glob("*.json"))}
    result = {
        "schema": 1,
        "made_by": "benchmarks/quality.py",
        "versions": {n: version(n) for n in ("confide", "torch", "transformers", "peft", "trl", "scikit-learn")},
        "python": platform.python_version(),
        "cells": [stages.pop(name) for name in sorted(stages) if name.startswith("cell-")],
        **{
            name: {key: value for key, value in stage.items() if key != "wrong_answer_logprob"}
            for name, stage in stages.items()
            if not name.startswith("in-process")
        },
    }
    write_text(out, json.dumps(result, indent=1) + "\n")
    print(f"{out} written", flush=True)
    if out == HERE / "results" / "quality.json":
        import table

        table.main()


if __name__ == "__main__":
    main()
