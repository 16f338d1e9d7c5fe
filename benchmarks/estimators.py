"""Every source on three tasks, three seeds, one protocol: quality, both within-metrics, controls and cost.

    python benchmarks/estimators.py --data-dir DIR    # all stages; a killed run continues
    python benchmarks/estimators.py --report          # only puts the tables together

Tasks: geography; ARC-easy answered by the likelihood of the options; arithmetic answered by an adapted copy of the
bundled model (`arithmetic_model.py`). Test and calibration rows are the same for every seed; a seed draws training and
validation rows (by entity), start values and folds. Everything runs through what users run: `train_confidence`,
`score` and `evaluate`. What costs passes of its own is smaller, as `SIZES` and the tables say.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

import arithmetic_model
from cells import partition
from confide.annotation import annotate
from confide.engines.transformers import TransformersEngine
from confide.files import write_text
from confide.metrics import auroc
from confide.metrics.bootstrap import Bootstrap, estimate
from confide.metrics.evaluation import evaluate
from confide.metrics.ranking import group_pairs
from confide.model import load
from confide.records import Record, read_records, write_records
from confide.scoring import Options, available, score
from confide.tasks import Task, load_task
from confide.training.pipeline import ReaderOptions, train_confidence
from confide.training.reader import ReaderConfig
from estimators_table import write_tables
from quality import HERE, Work, records_of, shown

SEEDS = (0, 1, 2)
TASKS = ("geography", "arc_easy", "arithmetic")
SIZES = {"train": 1500, "validation": 400, "calibration": 400, "test": 2000}
SAMPLES, SAMPLED = 10, {"calibration": 200, "test": 1000}
"""Sampled answers a question, and the rows that have them (without a GPU)."""

READER = (ReaderConfig(ask_tokens=4, epochs=2),)
ASKED = {"validation": 200, "test": 600}
"""Rows of sources that ask the model again (first seed only)."""

SLOW = ("p_true", "verbalized", "verifier")
ONE_GENERATION = frozenset(
    {
        "stack", "probe", "probe_logprobs", "reader", "reader_random", "p_true_trained", "logprob_sum", "logprob_mean",
        "logprob_min", "entropy", "answer_length", "option_probability", "question_only", "answer_only",
        "answer_only_table",
    }
)  # fmt: skip


class Study(Work):
    """The work folder, and the engines that its stages share."""

    def __init__(self, folder: Path, quality: Path, data: Path | None):
        super().__init__(folder)
        self.quality, self.data = Work(quality), data
        self._arithmetic: TransformersEngine | None = None

    @property
    def arithmetic(self) -> TransformersEngine:
        if self._arithmetic is None:
            folder = Path("runs/arithmetic/model")
            if not folder.exists():
                raise SystemExit("run benchmarks/arithmetic_model.py first: it adapts the copy and lets it answer")
            self._arithmetic = TransformersEngine.load(str(folder))
            self._arithmetic.name = arithmetic_model.NAME
        return self._arithmetic

    def engine_of(self, task: str) -> TransformersEngine:
        return self.arithmetic if task == "arithmetic" else self.engine


def geography(study: Study) -> list[Record]:
    """The records of `quality.py`; some test and calibration rows with samples."""
    records = records_of(study.quality)
    parts, _ = partition(records, "standard", 0)
    held = {part: [records[i].id for i in parts[part][: SIZES[part]]] for part in ("calibration", "test")}
    task = load_task("geography", limit=len(records), seed=0)
    sampled = with_samples(study, study.engine, task, held, "geography-samples")
    marks = {name: part for part, names in held.items() for name in names}
    free = {records[i].id for part in ("train", "validation") for i in parts[part]}
    kept = (sampled.get(r.id, r) for r in records if r.id in free or r.id in marks)
    return [r.model_copy(update={"split": marks.get(r.id)}) for r in kept]


def arc_easy(study: Study) -> list[Record]:
    """ARC-easy, test and training questions, answered by likelihood; its own test questions stay test."""
    records = []
    for part in ("test", "train"):
        task = load_task("arc_easy" if part == "test" else f"arc_easy/{part}", data_dir=study.data)
        out = study.folder / f"arc_easy-{part}.jsonl"
        answered(study.engine, task, out, len(task.questions), answer_by="options")
        records.append(read_records(out))
    test, train = records
    order = np.random.default_rng(0).permutation(len(test))[: SIZES["test"] + SIZES["calibration"]]
    marks = {test[i].id: "test" if place < SIZES["test"] else "calibration" for place, i in enumerate(order)}
    kept = [r for r in test if r.id in marks] + train
    return [r.model_copy(update={"task": "arc_easy", "split": marks.get(r.id)}) for r in kept]


def arithmetic(study: Study) -> list[Record]:
    """The adapted copy's answers; some test and calibration rows with samples."""
    task = load_task("arithmetic", limit=arithmetic_model.RECORDS, seed=0)
    records = read_records(Path("runs/arithmetic/records.jsonl"))
    names = [records[i].id for i in np.random.default_rng(0).permutation(len(records))]
    held = {"test": names[: SIZES["test"]], "calibration": names[SIZES["test"] :][: SIZES["calibration"]]}
    sampled = with_samples(study, study.arithmetic, task, held, "arithmetic-samples")
    marks = {name: part for part, some in held.items() for name in some}
    return [sampled.get(r.id, r).model_copy(update={"split": marks.get(r.id)}) for r in records]


def with_samples(
    study: Study, engine: TransformersEngine, task: Task, held: dict[str, list[str]], name: str
) -> dict[str, Record]:
    """The first rows of each part, answered again with samples; the greedy answer stays the same."""
    splits = {row: part for part, count in SAMPLED.items() for row in held[part][:count]}
    answered(engine, task, study.folder / f"{name}.jsonl", len(splits), splits=splits, samples=SAMPLES)
    return {record.id: record for record in read_records(study.folder / f"{name}.jsonl")}


def answered(engine: TransformersEngine, task: Task, out: Path, count: int, **how: Any) -> None:
    if not out.exists() or len(read_records(out)) < count:
        annotate(engine, task, out, batch_size=32, progress=shown(out.stem), **how)


RECORDS = {"geography": geography, "arc_easy": arc_easy, "arithmetic": arithmetic}


def draw(records: Sequence[Record], seed: int) -> list[Record]:
    """Test and calibration rows as marked, and this seed's training and validation rows, whole entities on one side."""
    held = {record.cluster for record in records if record.split}
    rest = [record for record in records if record.split is None and record.cluster not in held]
    clusters = sorted({record.cluster for record in rest})
    rank = {clusters[i]: place for place, i in enumerate(np.random.default_rng(seed).permutation(len(clusters)))}
    rest.sort(key=lambda record: (rank[record.cluster], record.id))
    cut = SIZES["validation"]
    while cut < len(rest) and rest[cut].cluster == rest[cut - 1].cluster:
        cut += 1
    marked = {"validation": rest[:cut], "train": rest[cut : cut + SIZES["train"]]}
    out = [record for record in records if record.split]
    return out + [r.model_copy(update={"split": part}) for part, rows in marked.items() for r in rows]


def of(records: Sequence[Record], part: str) -> list[Record]:
    return [record for record in records if record.split == part]


def checkpoint(study: Study, task: str, seed: int, records: Sequence[Record], **control: bool) -> Path:
    """A trained folder; the first seed also has readers and comparisons."""
    first = seed == 0 and not control
    out = study.folder / "-".join(["model", task, str(seed), *control])
    if not (out / "confide.json").exists():
        options = ReaderOptions(
            READER if first else (), "correctness", 6 * 10**9, seed, comparisons=first, positions=first, **control
        )
        engine = study.engine_of("arithmetic" if control.get("other_model") else task)
        train_confidence(
            engine, of(records, "train"), of(records, "validation"), options, out, progress=shown(f"{task} {seed}")
        )
    return out


def scored(study: Study, task: str, seed: int) -> list[Record]:
    out = study.folder / f"scored-{task}-{seed}.jsonl"
    if out.exists():
        return read_records(out)
    records = draw(RECORDS[task](study), seed)
    folder = checkpoint(study, task, seed, records)
    model = load(folder)
    first = seed == 0
    sources = [s for s in available(records, model) if s not in SLOW]
    options = Options(samples=first, controls=first, seed=seed)
    found = score(records, sources, model=model, options=options, progress=shown(f"scoring {task} {seed}"))
    if first:
        asked(study, task, found, model)
        for control, marker in (("shuffle_labels", "_shuffled_labels"), ("other_model", "other_")):
            if control == "other_model" and task != "geography":
                continue
            other = checkpoint(study, task, seed, records, **{control: True})
            how = Options(other_model=control == "other_model")
            names = [s for s in ("stack", "probe") if marker]
            merge(found, score(records, names, model=load(other), options=how, progress=shown(control)), marker)
            shutil.rmtree(other)
    else:
        shutil.rmtree(folder)
    write_records(out, [record for record in found if record.split != "train"])
    return found


def asked(study: Study, task: str, found: Sequence[Record], model: Any) -> None:
    """Sources that ask again, on fewer rows: prompts chosen on validation, ``verifier`` is the other model."""
    shuffle = np.random.default_rng(0).permutation(len(found))
    left = dict(ASKED)
    some = []
    for record in (found[i] for i in shuffle):
        if record.split in left and left[record.split] > 0:
            left[record.split] -= 1
            some.append(record)
    verifier = study.engine if task == "arithmetic" else study.arithmetic
    options = Options(verifier=verifier)
    merge(found, score(some, SLOW, model=model, options=options, progress=shown(f"asked {task}")), "")


def merge(found: Sequence[Record], more: Sequence[Record], marker: str) -> None:
    """Add the confidences and costs that ``more`` has and ``found`` has not."""
    by = {record.id: record for record in more}
    for record in found:
        other = by.get(record.id)
        if other is None:
            continue
        for name, value in other.confidence.items():
            if (marker and marker in name) or (not marker and name not in record.confidence):
                record.confidence[name] = value
                if name in other.cost:
                    record.cost[name] = other.cost[name]


def cell(study: Study, task: str, seed: int) -> dict[str, Any]:
    """results.json of one task and seed, and what the stack is ahead of every other source by."""
    records = scored(study, task, seed)
    test = [r for r in records if r.split == "test" and r.correct is not None]
    platt(records)
    result = evaluate(list(records), seed=seed, progress=lambda source: print(f"  {source}", flush=True))
    bootstrap = Bootstrap([r.cluster for r in test], resamples=1000, seed=seed)
    y = np.array([bool(r.correct) for r in test])
    codes: dict[str, int] = {}
    groups = np.array([-1 if r.answered is None else codes.setdefault(r.answered, len(codes)) for r in test])
    columns = {
        name: np.array([np.nan if (v := r.confidence.get(name)) is None else v for r in test], dtype=float)
        for name in result["estimators"]
        if not name.endswith("_calibrated")
    }
    ahead = {}
    for name, values in columns.items():
        rows = np.flatnonzero(np.isfinite(values) & np.isfinite(columns["stack"]))
        if name == "stack" or len(rows) < 100:
            continue

        def paired(w: Any, rows: Any = rows, values: Any = values) -> dict[str, Any]:
            two = [(c[rows], y[rows], groups[rows]) for c in (columns["stack"], values)]
            pairs = [group_pairs(c, mark.astype(float), w, group) for c, mark, group in two]
            return {
                "auroc": auroc.resampled(two[0][0], y[rows], w) - auroc.resampled(two[1][0], y[rows], w),
                "within_answer_auroc": pairs[0].pooled() - pairs[1].pooled(),
                "within_answer_auroc_averaged": pairs[0].averaged() - pairs[1].averaged(),
            }

        found = {metric: estimate(v).as_dict() for metric, v in bootstrap.sample(paired, rows).items()}
        ahead[name] = found | {"n": len(rows), "one_generation": name in ONE_GENERATION}
    return {"task": task, "seed": seed, "results": result, "stack_ahead_of": ahead}


def platt(records: Sequence[Record]) -> None:
    """Calibrated copies of every source, fitted on the calibration rows (validation rows where it has none there)."""
    from confide.policies import PlattCalibrator

    held = [r for r in records if r.split in ("calibration", "validation")]
    for name in sorted({name for r in records for name in r.confidence}):
        if name in ("constant", "shuffled") or "_" + "swapped" in name or "@" in name or name.startswith("other_"):
            continue
        fitting = [r for r in held if r.confidence.get(name) is not None and r.correct is not None]
        own = [r for r in fitting if r.split == "calibration"]
        rows = own if len(own) >= 100 else fitting
        if len(rows) < 50 or len({r.correct for r in rows}) < 2:
            continue
        calibrator = PlattCalibrator().fit(
            np.array([r.confidence[name] for r in rows], dtype=float), np.array([bool(r.correct) for r in rows])
        )
        for r in records:
            value = r.confidence.get(name)
            r.confidence[f"{name}_calibrated"] = None if value is None else float(calibrator.predict(value))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("runs/estimators"))
    parser.add_argument("--quality", type=Path, default=Path("runs/quality"), help="work folder of quality.py")
    parser.add_argument("--data-dir", type=Path, default=None, help="question files; without it, the hub")
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--out", type=Path, default=HERE / "results" / "estimators.json")
    parser.add_argument("--report", action="store_true", help="only put together what is there")
    arguments = parser.parse_args()
    study = Study(arguments.work, arguments.quality, arguments.data_dir)
    if not arguments.report:
        for seed in SEEDS:
            for task in arguments.tasks.split(","):
                study.stage(f"cell-{task}-{seed}", lambda t=task, s=seed: cell(study, t, s))  # type: ignore[misc]
    cells = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(study.folder.glob("cell-*.json"))]
    result = {
        "schema": 1,
        "made_by": "benchmarks/estimators.py",
        "versions": {n: version(n) for n in ("confide", "torch", "transformers", "scikit-learn")},
        "python": platform.python_version(),
        "sizes": SIZES | {"asked again": ASKED, "samples": SAMPLES, "sampled": SAMPLED},
        "cells": cells,
    }
    write_text(arguments.out, json.dumps(result, indent=1) + "\n")
    write_tables(result)


if __name__ == "__main__":
    main()
