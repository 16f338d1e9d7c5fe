"""Every source on three tasks, three seeds, one protocol: quality, both within-metrics, controls and cost.

    python benchmarks/estimators.py --data-dir DIR    # everything; a killed run continues
    python benchmarks/estimators.py --stage judged    # judges what has been scored, and puts the tables together

The model's work is two stages, `records` (answers, samples) and `scored` (trained, read, asked: what is left is
`scored-TASK-SEED*.jsonl`, all that judging needs); `--tasks` and `--seeds` share it out among processes.

Tasks: geography; ARC-easy answered by the likelihood of the options; arithmetic answered by an adapted copy of the
bundled model (`arithmetic_model.py`). Test and calibration rows are the same for every seed; a seed draws training and
validation rows (by entity), start values and folds. Everything runs through what users run: `train_confidence`,
`score` and `evaluate`. Sizes are those of a run with an accelerator; on two cores expect half a day.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import arithmetic_model
from cells import partition
from confide.annotation import annotate
from confide.engines.transformers.transformers_engine import TransformersEngine
from confide.evaluation.evaluation import evaluate
from confide.files import write_text
from confide.methods.catalogue import available
from confide.methods.reader.reader_training import ReaderConfig
from confide.methods.reader.training_pipeline import ReaderOptions, train_confidence
from confide.methods.scoring import Options, score
from confide.metrics import auroc
from confide.metrics.bootstrap import Bootstrap, estimate
from confide.metrics.ranking import group_pairs
from confide.model import load
from confide.records import Record, read_records, write_records
from confide.sources import OTHER, SHUFFLED, family
from confide.tasks import Task, load_task
from estimators_table import write_tables
from machine import fitting, note, noted
from quality import HERE, Work, records_of, shown

SEEDS = (0, 1, 2)
TASKS = ("geography", "arc_easy", "arithmetic")
STAGES = ("records", "scored", "judged")
SIZES = {"train": 2000, "validation": 400, "calibration": 400, "test": 2000}
SAMPLES, SAMPLED = 10, {"calibration": 400, "test": 2000}
"""Sampled answers a question, and the rows that have them."""

READER = (ReaderConfig(ask_tokens=4, epochs=2),)
ASKED = {"validation": 400, "test": 2000}
"""Rows of sources that ask the model again (first seed only)."""

SLOW = ("p_true", "verbalized", "verifier")
CONTROLS = {"shuffle_labels": SHUFFLED, "other_model": OTHER}
"""Controls that are trained anew (first seed only), and what the names of their sources hold."""

SHUFFLES = 8
"""Fits to shuffled labels: one alone may rank either way."""

PARTS = ("asked", *CONTROLS)
ONE_GENERATION = frozenset(
    {
        "stack", "probe", "probe_logprobs", "reader", "reader_random", "p_true_trained", "logprob_sum", "logprob_mean",
        "logprob_min", "entropy", "answer_length", "option_probability", "question_only", "answer_only",
        "answer_only_table",
    }
)  # fmt: skip


class Study(Work):
    """The work folder, and the engines that its stages share."""

    def __init__(self, folder: Path, quality: Path, data: Path | None, *, works: bool = True):
        super().__init__(folder)
        self.quality, self.data = Work(quality), data
        if works:
            note(folder)
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

    def of(self, task: str) -> Path:
        """A task's own folder: annotating holds it, and tasks run side by side."""
        folder = self.folder / task
        folder.mkdir(exist_ok=True)
        return folder

    def scored(self, task: str, seed: int, part: str = "") -> Path:
        return self.folder / ("-".join(["scored", task, str(seed), *([part] if part else [])]) + ".jsonl")

    def engine_of(self, task: str) -> TransformersEngine:
        return self.arithmetic if task == "arithmetic" else self.engine


def geography(study: Study) -> list[Record]:
    """The records of `quality.py`; some test and calibration rows with samples."""
    records = records_of(study.quality)
    parts, _ = partition(records, "standard", 0)
    held = {part: [records[i].id for i in parts[part][: SIZES[part]]] for part in ("calibration", "test")}
    task = load_task("geography", limit=len(records), seed=0)
    sampled = with_samples(study, "geography", task, held)
    marks = {name: part for part, names in held.items() for name in names}
    free = {records[i].id for part in ("train", "validation") for i in parts[part]}
    kept = (sampled.get(r.id, r) for r in records if r.id in free or r.id in marks)
    return [r.model_copy(update={"split": marks.get(r.id)}) for r in kept]


def arc_easy(study: Study) -> list[Record]:
    """ARC-easy, test and training questions, answered by likelihood; its own test questions stay test."""
    records = []
    for part in ("test", "train"):
        task = load_task("arc_easy" if part == "test" else f"arc_easy/{part}", data_dir=study.data)
        out = study.of("arc_easy") / f"{part}.jsonl"
        answered(study, "arc_easy", task, out, len(task.questions), rows=(32, 512), answer_by="options")
        records.append(read_records(out))
    test, train = unrepeated(*records), records[1]
    order = np.random.default_rng(0).permutation(len(test))[: SIZES["test"] + SIZES["calibration"]]
    marks = {test[i].id: "test" if place < SIZES["test"] else "calibration" for place, i in enumerate(order)}
    kept = [r for r in test if r.id in marks] + train
    return [r.model_copy(update={"task": "arc_easy", "split": marks.get(r.id)}) for r in kept]


def unrepeated(test: Sequence[Record], train: Sequence[Record]) -> list[Record]:
    """Test records whose prompt no training record has, nor an earlier one: ARC asks some questions twice."""
    seen = {record.messages[-1].content for record in train}
    kept = []
    for record in test:
        if record.messages[-1].content not in seen:
            seen.add(record.messages[-1].content)
            kept.append(record)
    return kept


def arithmetic(study: Study) -> list[Record]:
    """The adapted copy's answers; some test and calibration rows with samples."""
    task = load_task("arithmetic", limit=arithmetic_model.RECORDS, seed=0)
    records = read_records(Path("runs/arithmetic/records.jsonl"))
    order = [records[i] for i in np.random.default_rng(0).permutation(len(records))]
    tested = {record.cluster for record in order[: SIZES["test"]]}
    others = [record.id for record in order[SIZES["test"] :] if record.cluster not in tested]
    held = {"test": [r.id for r in order[: SIZES["test"]]], "calibration": others[: SIZES["calibration"]]}
    sampled = with_samples(study, "arithmetic", task, held)
    marks = {name: part for part, some in held.items() for name in some}
    return [sampled.get(r.id, r).model_copy(update={"split": marks.get(r.id)}) for r in records]


def with_samples(study: Study, name: str, task: Task, held: dict[str, list[str]]) -> dict[str, Record]:
    """The first rows of each part, answered again with samples; the greedy answer stays the same."""
    splits = {row: part for part, count in SAMPLED.items() for row in held[part][:count]}
    out = study.of(name) / "samples.jsonl"
    answered(study, name, task, out, len(splits), rows=(32, 64), splits=splits, samples=SAMPLES)
    return {record.id: record for record in read_records(out)}


def answered(study: Study, name: str, task: Task, out: Path, count: int, *, rows: tuple[int, int], **how: Any) -> None:
    """Annotate, unless ``count`` records are there; ``rows`` are the batches on a CPU and on an accelerator."""
    if not out.exists() or len(read_records(out)) < count:
        engine = study.engine_of(name)
        batch = fitting(engine.device, *rows)
        annotate(engine, task, out, batch_size=batch, progress=shown(f"{name} {out.stem}"), **how)


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


def checkpoint(
    study: Study, task: str, seed: int, records: Sequence[Record], control: str = "", shuffle: int | None = None
) -> Path:
    """A trained folder; controls have no readers and comparisons, and only the first seed has probes by position."""
    whole = not control
    names = ["model", str(seed), *([control] if control else []), *([] if shuffle is None else [str(shuffle)])]
    out = study.of(task) / "-".join(names)
    seed = seed if shuffle is None else shuffle
    if not (out / "confide.json").exists():
        options = ReaderOptions(
            READER if whole else (), "correctness", 6 * 10**9, seed, comparisons=whole, positions=whole and seed == 0,
            **({control: True} if control else {}),
        )  # fmt: skip
        engine = study.engine_of("arithmetic" if control == "other_model" else task)
        train_confidence(
            engine, of(records, "train"), of(records, "validation"), options, out, progress=shown(f"{task} {seed}")
        )
    return out


def parts_of(task: str, seed: int) -> list[str]:
    """What is scored by itself, so that a killed run keeps what it has: the sources, and the first seed's extras."""
    return [""] if seed else ["", *(part for part in PARTS if part != "other_model" or task == "geography")]


def score_all(study: Study, task: str, seed: int) -> None:
    """All the model's work on one task and seed; only the scored records are left."""
    missing = [part for part in parts_of(task, seed) if not study.scored(task, seed, part).exists()]
    if not missing:
        return
    records = draw(RECORDS[task](study), seed)
    for part in missing:
        if part in CONTROLS:
            found = control(study, task, seed, records, part)
        elif part:
            found = asked(study, task, records, load(checkpoint(study, task, seed, records)))
        else:
            model = load(checkpoint(study, task, seed, records))
            sources = [s for s in available(records, model) if s not in SLOW]
            how = Options(samples=seed == 0, controls=seed == 0, seed=seed)
            found = score(records, sources, model=model, options=how, progress=shown(f"scoring {task} {seed}"))
        kept = [short(r) if part else rounded(r) for r in found if r.split != "train"]
        write_records(study.scored(task, seed, part), kept)
    shutil.rmtree(study.of(task) / f"model-{seed}", ignore_errors=True)


def control(study: Study, task: str, seed: int, records: Sequence[Record], part: str) -> list[Record]:
    """What a control's sources say; several fits to shuffled labels, each under its own name."""
    found = list(records)
    for shuffle in range(SHUFFLES) if part == "shuffle_labels" else (None,):
        folder = checkpoint(study, task, seed, records, part, shuffle)
        how = Options(other_model=part == "other_model")
        found = score(found, ["stack", "probe"], model=load(folder), options=how, progress=shown(f"{task} {part}"))
        shutil.rmtree(folder)
    return found


def asked(study: Study, task: str, records: Sequence[Record], model: Any) -> list[Record]:
    """Sources that ask again: prompts are chosen on validation, ``verifier`` is the other model."""
    left = dict(ASKED)
    some = []
    for record in (records[i] for i in np.random.default_rng(0).permutation(len(records))):
        if record.split in left and left[record.split] > 0:
            left[record.split] -= 1
            some.append(record)
    verifier = study.engine if task == "arithmetic" else study.arithmetic
    return score(some, SLOW, model=model, options=Options(verifier=verifier), progress=shown(f"asked {task}"))


def short(record: Record) -> Record:
    """What a part adds to a record."""
    return Record(id=record.id, split=record.split, confidence=six_digits(record.confidence), cost=record.cost)


def rounded(record: Record) -> Record:
    """A copy whose confidences, its samples' too, have six digits: half the size, and the same ranks."""
    samples = record.samples and [
        s.model_copy(update={"confidence": six_digits(s.confidence), "logprobs": [], "answer_ids": []})
        for s in record.samples
    ]
    return record.model_copy(update={"confidence": six_digits(record.confidence), "samples": samples})


def six_digits(values: dict[str, float | None]) -> dict[str, float | None]:
    return {name: None if value is None else float(f"{value:.6g}") for name, value in values.items()}


def gathered(study: Study, task: str, seed: int) -> tuple[list[Record], list[str]]:
    """The scored records with what their parts add, and the parts that are there."""
    found = read_records(study.scored(task, seed))
    there = [part for part in PARTS if study.scored(task, seed, part).exists()]
    for part in there:
        merge(found, read_records(study.scored(task, seed, part)), CONTROLS.get(part, ""))
    return found, there


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
    records, parts = gathered(study, task, seed)
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
    return {"task": task, "seed": seed, "parts": parts, "results": result, "stack_ahead_of": ahead}


def judge(study: Study, task: str, seed: int) -> None:
    """Judge what has been scored; again, where more has been scored since."""
    if not study.scored(task, seed).exists():
        return
    there = [part for part in PARTS if study.scored(task, seed, part).exists()]
    path = study.folder / f"cell-{task}-{seed}.json"
    if path.exists() and json.loads(path.read_text(encoding="utf-8"))["parts"] != there:
        path.unlink()
    study.stage(path.stem, lambda: cell(study, task, seed))


def platt(records: Sequence[Record]) -> None:
    """Calibrated copies of every source, fitted on the calibration rows (validation rows where it has none there)."""
    from confide.policies import PlattCalibrator

    held = [r for r in records if r.split in ("calibration", "validation")]
    for name in sorted({name for r in records for name in r.confidence}):
        if name in ("constant", "shuffled") or family(name) == "control":
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
    parser.add_argument("--seeds", default=",".join(map(str, SEEDS)))
    parser.add_argument("--stage", choices=STAGES, default=None, help="do only this; default: everything")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "estimators.json")
    arguments = parser.parse_args()
    stages = STAGES if arguments.stage is None else (arguments.stage,)
    tasks, seeds = arguments.tasks.split(","), [int(seed) for seed in arguments.seeds.split(",")]
    study = Study(arguments.work, arguments.quality, arguments.data_dir, works=stages != ("judged",))
    if "records" in stages:
        for task in tasks:
            RECORDS[task](study)
    if "scored" in stages:
        for seed in seeds:
            for task in tasks:
                score_all(study, task, seed)
    if "judged" in stages:
        for seed in seeds:
            for task in tasks:
                judge(study, task, seed)
        report(study, arguments.out)


def slim(cell: dict[str, Any]) -> dict[str, Any]:
    """A cell without what no table shows: routing, shuffled fits one by one, differences between the stack's rivals."""
    results = {name: block for name, block in cell["results"].items() if name != "routing"}
    results["estimators"] = {n: e for n, e in results["estimators"].items() if SHUFFLED not in n}
    results["differences"] = [d for d in results["differences"] if d["a"] == "stack"]
    return cell | {"results": results}


def report(study: Study, out: Path) -> None:
    cells = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(study.folder.glob("cell-*.json"))]
    result = {
        "schema": 1,
        "made_by": "benchmarks/estimators.py",
        "machine": noted(study.folder),
        "sizes": SIZES | {"asked again": ASKED, "samples": SAMPLES, "sampled": SAMPLED},
        "cells": [slim(cell) for cell in cells],
    }
    write_text(out, json.dumps(result) + "\n")
    write_tables(result)


if __name__ == "__main__":
    main()
