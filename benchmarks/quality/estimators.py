"""What asking the model again and sampling it buy: sources that need no training of the model, on three tasks.

    python -m benchmarks.quality.estimators --data-dir DIR    # everything; a killed run continues
    python -m benchmarks.quality.estimators --stage judged    # judges what has been scored, writes the tables

The model's work is two stages, `records` (answers, samples) and `scored` (asked again: what is left is
`scored-TASK-SEED.jsonl`, all that judging needs); `--tasks` and `--seeds` share it out among processes.

Tasks: geography; ARC-easy answered by the likelihood of the options; arithmetic answered by an adapted copy of the
bundled model (`arithmetic_model.py`). Test and calibration rows are the same for every seed; a seed draws training and
validation rows (by entity), which only text priors and the base rate learn from. Everything runs through what users
run: `score` and `evaluate`. Sizes are those of a run with an accelerator; on two cores expect up to half a day.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np

from benchmarks.common import Json, show_progress, write_result
from benchmarks.quality import estimators_tables
from benchmarks.quality.arithmetic_model import RECORDS as ARITHMETIC_RECORDS
from benchmarks.quality.study import QUESTIONS, Study, dealt, geography_records
from confide.evaluation.evaluation import evaluate
from confide.methods.catalogue import available
from confide.methods.checkpoint import CheckpointInfo
from confide.methods.free import FREE, OPTION
from confide.methods.frozen.frozen_model import FrozenModel
from confide.methods.method import Scope, labels, or_nan
from confide.methods.sampled import Sampled
from confide.methods.scoring import score
from confide.methods.text_prior import TextPriors
from confide.policies.calibrators import fit_calibrator
from confide.records import Record, read_records, write_records
from confide.sources import log_space
from confide.tasks import load_task

SEEDS = (0, 1, 2)
TASKS = ("geography", "arc_easy", "arithmetic")
STAGES = ("records", "scored", "judged")
SIZES = {"train": 2000, "validation": 400, "calibration": 400, "test": 2000}
HELD = {part: SIZES[part] for part in ("test", "calibration")}
SAMPLES = 10
"""Sampled answers to a held question; choices have none."""

ASKED = ("p_true", "verbalized", "verifier")
"""Sources that ask the model, or another one, again: on the first seed's validation and test rows."""

DRAWN = (*TextPriors.sources, "constant")
"""Sources that depend on a seed's training rows; the other ones are read on the first seed alone."""

READ = (OPTION, *FREE, *Sampled.sources)
"""Sources that come with the answer or its samples."""


def records_of(study: Study, name: str) -> list[Record]:
    """A task's records; test and calibration rows are marked and, where answers are generated, have samples."""
    if name == "arc_easy":
        found = study.arc_easy("arc_easy")
        held = dealt(found["test"], HELD)
        return [*held["test"], *held["calibration"], *found["train"]]
    if name == "geography":
        records, limit = geography_records(study.quality), QUESTIONS
    else:
        records, limit = read_records(Path("runs/arithmetic/records.jsonl")), ARITHMETIC_RECORDS
    splits = {record.id: split for split, rows in dealt(records, HELD).items() for record in rows}
    task, out = load_task(name, limit=limit, seed=0), study.of(name) / "samples.jsonl"
    again = study.annotated(name, task, out, count=len(splits), splits=splits, samples=SAMPLES)
    return again + [record for record in records if record.id not in splits]


def draw(records: Sequence[Record], seed: int) -> list[Record]:
    """Test and calibration rows as marked, and this seed's training and validation rows, whole entities on one side."""
    held = {record.cluster for record in records if record.split}
    rest = [record for record in records if record.cluster not in held]
    drawn = dealt(rest, {part: SIZES[part] for part in ("validation", "train")}, seed)
    return [record for record in records if record.split] + drawn["validation"] + drawn["train"]


def score_all(study: Study, task: str, seed: int) -> None:
    """All sources of one task and seed; only the scored records are left."""
    out = study.scored(task, seed)
    if out.exists():
        return
    records, progress = draw(records_of(study, task), seed), show_progress(f"{task} {seed}")
    given = available(Scope(records))
    wanted = [source for source in (*READ, *DRAWN) if source in given and (source in DRAWN or not seed)]
    records = [record for record in score(records, wanted, seed=seed) if record.split != "train"]
    if not seed:
        model = FrozenModel(study.engine_of(task), CheckpointInfo())
        verifier = study.engine_of("geography" if task == "arithmetic" else "arithmetic")
        some = [record for record in records if record.split in ("validation", "test")]
        asked = {r.id: r for r in score(some, ASKED, model=model, verifier=verifier, progress=progress)}
        records = [asked.get(record.id, record) for record in records]
    write_records(out, records)


def cell(study: Study, task: str, seed: int) -> Json:
    """results.json of one task and seed."""
    records = read_records(study.scored(task, seed))
    platt(records)
    result = evaluate(records, seed=seed, progress=lambda source: print(f"  {source}", flush=True))
    return {"task": task, "seed": seed, "results": result}


def platt(records: Sequence[Record]) -> None:
    """Calibrated copies of every source, fitted on the calibration rows (validation rows where it has none there)."""
    right, split = labels(records), np.array([r.split if r.correct is not None else "" for r in records])
    for name in sorted({name for r in records for name in r.confidence} - {"constant"}):
        values = or_nan([r.confidence.get(name) for r in records])
        known = np.isfinite(values) & np.isin(split, ("calibration", "validation"))
        own = known & (split == "calibration")
        fitting = np.flatnonzero(own if own.sum() >= 100 else known)
        if len(fitting) < 50 or right[fitting].all() or not right[fitting].any():
            continue
        fitted = fit_calibrator(values[fitting], right[fitting], "platt", log_space=log_space(name))
        for record, value in zip(records, fitted.predict(values).tolist(), strict=True):
            record.confidence[f"{name}_calibrated"] = None if np.isnan(value) else value


def main() -> None:
    options = Study.parser(__doc__, "estimators", STAGES)
    options.add_argument("--tasks", default=",".join(TASKS))
    options.add_argument("--seeds", default=",".join(map(str, SEEDS)))
    arguments = options.parse_args()
    stages = STAGES if arguments.stage is None else (arguments.stage,)
    tasks, seeds = arguments.tasks.split(","), map(int, arguments.seeds.split(","))
    study = Study.open(arguments)
    for task in tasks if "records" in stages else ():
        records_of(study, task)
    for task, seed in product(tasks, seeds) if "scored" in stages else ():
        score_all(study, task, seed)
    if "judged" in stages:
        found = [(task, seed) for task, seed in product(sorted(TASKS), SEEDS) if study.scored(task, seed).exists()]
        cells = [study.stage(f"cell-{task}-{seed}", partial(cell, study, task, seed)) for task, seed in found]
        result = {
            "machine": study.machine(),
            "sizes": SIZES | {"samples": SAMPLES},
            "cells": [estimators_tables.slim(cell) for cell in cells],
        }
        estimators_tables.write(write_result(arguments.out, "quality/estimators.py", result))


if __name__ == "__main__":
    main()
