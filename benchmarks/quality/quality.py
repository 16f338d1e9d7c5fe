"""Every number of the README: the bundled model, geography, three ways to split, three seeds.

    python -m benchmarks.quality.quality            # all stages; a killed run continues
    python -m benchmarks.quality.quality --report   # only writes the table from what is there

Stages keep their results in the work folder; ``results/quality.json`` is written at the end. See ``cells.py`` for
the protocol and ``benchmarks/README.md`` for sizes and times.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from functools import partial
from importlib.metadata import version

import numpy as np

from benchmarks.common import RESULTS, Json, Work, parser, read_json, write_result
from benchmarks.quality import costly_sources, quality_tables
from benchmarks.quality.cells import in_process_sources, judge, partition
from benchmarks.quality.study import geography_records, geography_states
from confide.methods.stack.states import States
from confide.records import Record

SPLITS = ("standard", "answered-country", "relation")
SEEDS = (0, 1, 2)


def main() -> None:
    options = parser(__doc__, "quality")
    options.add_argument("--report", action="store_true", help="only put together what is there")
    arguments = options.parse_args()
    work = Work(arguments.work)
    records = geography_records(work)
    states = geography_states(work, records)
    if not arguments.report:
        run(work, records)
    for split in SPLITS:
        for seed in SEEDS:
            work.stage(f"cell-{split}-{seed}", partial(cell, work, records, states, split, seed))
    result = write_result(arguments.out, "quality/quality.py", collect_stages(work))
    if arguments.out.parent == RESULTS:
        quality_tables.write(result)


def run(work: Work, records: list[Record]) -> None:
    """What needs passes of its own."""
    work.stage("data", lambda: describe(records))
    standard = {seed: partition(records, "standard", seed)[0] for seed in SEEDS}
    for source in ("ladder", "equality", "costs", "epochs", "p_true"):
        work.stage(source, partial(getattr(costly_sources, source), work, records, standard[0]))
    costly_sources.self_ref(work, records, standard)
    parts, _ = partition(records, "answered-country", 0)
    work.stage("reader-answered-country-0", partial(costly_sources.chosen_reader, work, records, parts))


def cell(work: Work, records: list[Record], states: States, split: str, seed: int) -> Json:
    """One cell, judged on the sources that are there."""
    parts, held_out = partition(records, split, seed)
    sources: Json = in_process_sources(records, states, parts, seed)
    for path in sorted(work.folder.glob(f"values-{split}-{seed}-*.npz")):
        with np.load(path) as values:
            sources |= {name: values[name] for name in values.files}
    return judge(records, sources, parts, seed=seed) | {"held_out": held_out, "split": split, "seed": seed}


def describe(records: Sequence[Record]) -> Json:
    """How many questions there are, and how they were answered."""
    return {
        "questions": len(records),
        "accuracy": float(np.mean([bool(r.correct) for r in records])),
        "cut": float(np.mean([r.finish == "length" for r in records])),
        "no_answer": float(np.mean([r.answered is None for r in records])),
        "answer_tokens": float(np.mean([len(r.answer_ids) for r in records])),
    }


def collect_stages(work: Work) -> Json:
    """What the tables show of every stage."""
    stages = {path.stem: read_json(path) for path in sorted(work.folder.glob("*.json"))}
    packages = ("confide", "torch", "transformers", "peft", "trl", "scikit-learn")
    return {
        "versions": {name: version(name) for name in packages},
        "python": platform.python_version(),
        "cells": [stages[name] for name in sorted(stages) if name.startswith("cell-")],
        **{name: stage for name, stage in stages.items() if not name.startswith("cell-")},
    }


if __name__ == "__main__":
    main()
