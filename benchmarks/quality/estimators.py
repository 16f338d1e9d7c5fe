"""Every source on three tasks, three seeds, one protocol: quality, both within-metrics, controls and cost.

    python -m benchmarks.quality.estimators --data-dir DIR    # everything; a killed run continues
    python -m benchmarks.quality.estimators --stage judged    # judges what has been scored, writes the tables

The model's work is two stages, `records` (answers, samples) and `scored` (trained, read, asked: what is left is
`scored-TASK-SEED.jsonl`, all that judging needs); `--tasks` and `--seeds` share it out among processes.

Tasks: geography; ARC-easy answered by the likelihood of the options; arithmetic answered by an adapted copy of the
bundled model (`arithmetic_model.py`). Test and calibration rows are the same for every seed; a seed draws training and
validation rows (by entity), start values and folds. Everything runs through what users run: `train_confidence`,
`score` and `evaluate`. Sizes are those of a run with an accelerator; on two cores expect half a day.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import Json, show_progress, write_result
from benchmarks.quality import estimators_tables
from benchmarks.quality.arithmetic_model import RECORDS as ARITHMETIC_RECORDS
from benchmarks.quality.cells import calibrated
from benchmarks.quality.study import QUESTIONS, Study, dealt, geography_records
from confide.evaluation.evaluation import evaluate
from confide.evaluation.record_columns import Rows
from confide.methods.catalogue import available
from confide.methods.method import Scope, labels, or_nan
from confide.methods.scoring import score
from confide.metrics import auroc
from confide.metrics.bootstrap import Bootstrap, estimate
from confide.metrics.metric import Weighted
from confide.metrics.ranking import within_auroc
from confide.model import load
from confide.numeric import Floats
from confide.records import Record, read_records, write_records
from confide.sources import family
from confide.tasks import load_task

SEEDS = (0, 1, 2)
TASKS = ("geography", "arc_easy", "arithmetic")
STAGES = ("records", "scored", "judged")
SIZES = {"train": 2000, "validation": 400, "calibration": 400, "test": 2000}
HELD = {part: SIZES[part] for part in ("test", "calibration")}
SAMPLES = 10
"""Sampled answers to a held question; choices have none."""

SLOW = ("p_true", "verbalized", "verifier")
"""Sources that ask the model again: on the first seed's validation and test rows."""

SHUFFLES = 8
"""Fits to shuffled labels: one alone may rank either way."""

ONE_GENERATION = frozenset(
    {
        "stack", "probe", "probe_logprobs", "reader", "reader_random", "p_true_trained", "logprob_sum", "logprob_mean",
        "logprob_min", "entropy", "answer_length", "option_probability", "question_only", "answer_only",
        "answer_only_table",
    }
)  # fmt: skip


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
    """All the model's work on one task and seed; only the scored records are left."""
    out, folder, first = study.scored(task, seed), study.of(task) / f"model-{seed}", seed == 0
    if out.exists():
        return
    records = draw(records_of(study, task), seed)
    rows = {part: [r for r in records if r.split == part] for part in ("train", "validation")}
    model = load(study.train(task, rows, folder, seed=seed, comparisons=True, positions=first))
    sources = [source for source in available(Scope(records, model)) if source not in SLOW]
    progress = show_progress(f"{task} {seed}")
    records = score(records, sources, model=model, samples=first, controls=first, seed=seed, progress=progress)
    if first:
        verifier = study.engine_of("geography" if task == "arithmetic" else "arithmetic")
        some = [record for record in records if record.split in ("validation", "test")]
        asked = {r.id: r for r in score(some, SLOW, model=model, verifier=verifier, progress=progress)}
        records = [asked.get(record.id, record) for record in records]
        for shuffle in range(SHUFFLES):
            records = control(study, task, rows, records, seed=shuffle, shuffle_labels=True)
        if task == "geography":
            records = control(study, "arithmetic", rows, records, seed=seed, other_model=True)
    write_records(out, [record for record in records if record.split != "train"])
    shutil.rmtree(folder)


def control(study: Study, engine: str, rows: Any, records: Sequence[Record], **how: Any) -> list[Record]:
    """The records with what a stack and a probe say that are trained on labels or states that are none of theirs."""
    folder = study.train(engine, rows, study.of(engine) / f"model-{'-'.join(how)}-{how['seed']}", ask_tokens="", **how)
    other, progress = "other_model" in how, show_progress(folder.name)
    found = score(records, ["stack", "probe"], model=load(folder), other_model=other, progress=progress)
    shutil.rmtree(folder)
    return found


def cell(study: Study, task: str, seed: int) -> Json:
    """results.json of one task and seed, and what the stack is ahead of every other source by."""
    records = read_records(study.scored(task, seed))
    platt(records)
    result = evaluate(records, seed=seed, progress=lambda source: print(f"  {source}", flush=True))
    tested = Rows([r for r in records if r.split == "test" and r.correct is not None], {}, "test")
    bootstrap = tested.bootstrap(1000, seed)
    ahead: Json = {}
    for name in result["estimators"]:
        rows = tested.present("stack", name)
        if name == "stack" or name.endswith("_calibrated") or len(rows) < 100:
            continue
        ours, theirs = (rankings(tested, bootstrap, source, rows) for source in ("stack", name))
        ahead[name] = {metric: estimate(ours[metric] - theirs[metric]) for metric in ours}
        ahead[name]["one_generation"] = name in ONE_GENERATION
    return {"task": task, "seed": seed, "results": result, "stack_ahead_of": ahead}


def rankings(tested: Rows, bootstrap: Bootstrap, source: str, kept: Any) -> dict[str, Floats]:
    """How a source ranks some rows, over all and among those with the same answer [1 + resamples]."""
    values, correct = tested.confidence(source)[kept], tested.correct[kept].astype(np.float64)
    groups = tested.answered[kept]

    def statistics(weights: Any) -> dict[str, Floats]:
        rows = Weighted(values, correct, weights)
        return {
            "auroc": auroc.on(rows),
            "within_answer_auroc": within_auroc.on(rows, groups=groups),
            "within_answer_auroc_averaged": within_auroc.on(rows, groups=groups, average=True),
        }

    return bootstrap.sample(statistics, kept)


def platt(records: Sequence[Record]) -> None:
    """Calibrated copies of every source, fitted on the calibration rows (validation rows where it has none there)."""
    right, split = labels(records), np.array([r.split if r.correct is not None else "" for r in records])
    for name in sorted({name for r in records for name in r.confidence}):
        if name in ("constant", "shuffled") or family(name) == "control":
            continue
        values = or_nan([r.confidence.get(name) for r in records])
        known = np.isfinite(values) & np.isin(split, ("calibration", "validation"))
        own = known & (split == "calibration")
        fitting = np.flatnonzero(own if own.sum() >= 100 else known)
        if len(fitting) < 50 or right[fitting].all() or not right[fitting].any():
            continue
        for record, value in zip(records, calibrated(name, values, right, fitting).tolist(), strict=True):
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
