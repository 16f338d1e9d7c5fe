"""Trained verdicts at full strength: Self-REF and the reader, on the rows of the stack.

    python -m benchmarks.quality.trained_tokens [--only standard-1-labels]

Each run trains the bundled model on the 2,000 training rows that `increments` gives the stack, until validation stops
improving (8 epochs at most); settings are chosen on validation rows of the first seed, and kept. Its verdict on the
base model's answers is judged beside the sources of `increments`, trained on the same rows, on the same test rows:
alone, and mixed with ``portable`` by the same familiarity, with weights that are fitted on validation rows. Self-REF's
own answers are judged too, before and after. Runs that are there are judged, also before all are; what the results
have of other runs stays. Another machine's arithmetic gives a few other answers and so another pool of records: every
draw names its pool, and every figure stands beside its rivals on the same rows.

``self_ref`` writes its verdict after its own answer; ``reader`` leaves the answers alone, and reads them again with an
adapter.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from benchmarks.common import (
    MODEL,
    RESULTS,
    Json,
    Work,
    load_engine,
    parser,
    read_json,
    rounded,
    show_progress,
    write_result,
)
from benchmarks.quality import trained_tokens_tables
from benchmarks.quality.cells import Parts, partition, picked
from benchmarks.quality.increments import RESAMPLES, Trained, judge, train
from benchmarks.quality.proper_scores import Readings
from benchmarks.quality.study import geography_records, geography_states, of_split
from benchmarks.quality.trained_tokens_tables import RIVALS
from confide.engines.closed_records import read_closed
from confide.engines.transformers.loading import freeze, load_model
from confide.engines.transformers.transformers_engine import TransformersEngine
from confide.hashing import sha256_of_rows
from confide.methods.method import labels
from confide.methods.portable.logistic import Logistic
from confide.methods.reader.reader import Reader
from confide.methods.reader.reader_config import ReaderConfig
from confide.methods.reader.reader_training import train_reader
from confide.methods.self_ref.self_ref_config import SelfRefConfig
from confide.methods.self_ref.self_ref_training import SelfRefResult, train_self_ref
from confide.methods.self_ref.verdict_reading import emit, read_verdicts
from confide.methods.stack.states import States
from confide.metrics import apgr, auroc, coverage_at_risk
from confide.numeric import Floats, Ints, logit, sigmoid
from confide.records import Record
from confide.tasks import load_task

if TYPE_CHECKING:
    from confide.engines.transformers.closed_answers import TransformersClosed

SEEDS = (0, 1, 2)
ROWS = 2000
VALIDATION = 400
TEST = 1600
"""Test rows that verdicts are read on."""

OWN = 600
"""Test questions that the trained model answers itself."""

RISK = 0.2
"""At most this share of what is kept may be wrong."""

CANDIDATES = tuple(SelfRefConfig(learning_rate=rate) for rate in (1e-3, 3e-4))
"""Tried on the first seed; the one with the lowest validation loss is kept."""

SOURCES = {"labels": "self_ref", "reader": "reader"}
"""What the verdict of a run is called as a source, by how it is taught."""

SPLITS = ("standard", "answered-country")
FIRST = ("standard", 0, "labels")
"""The run that the candidates stand for."""


def main() -> None:
    options = parser(__doc__, "trained_tokens")
    options.add_argument("--quality", type=Path, default=Path("runs/quality"), help="geography's records and states")
    options.add_argument(
        "--only",
        default=None,
        help="one run, such as candidate-0 or standard-1-stack, or `judged`: what is there is judged; default: all",
    )
    arguments = options.parse_args()
    work, quality = Work(arguments.work), Work(arguments.quality)
    records = geography_records(quality)
    states = geography_states(quality, records)
    work.machine()

    def stage(name: str, split: str, seed: int, taught: str, config: SelfRefConfig) -> None:
        if arguments.only in (None, name):
            work.stage(name, partial(run, work, records, states, split, seed, taught, config, name))

    for number, config in enumerate(CANDIDATES):
        stage(f"candidate-{number}", "standard", 0, "labels", config)
    for taught in SOURCES:
        if arguments.only is None or arguments.only.endswith(taught):
            config = SelfRefConfig() if taught == "reader" else CANDIDATES[chosen(work)]
            for split in SPLITS:
                for seed in SEEDS:
                    if (split, seed, taught) != FIRST:
                        stage(f"{split}-{seed}-{taught}", split, seed, taught, config)
    if arguments.only in (None, "judged"):
        before = read_json(arguments.out) if arguments.out.exists() else {"cells": [], "candidates": []}
        known = {name_of(cell): cell for cell in before["cells"]}
        for draw in ((split, seed) for split in SPLITS for seed in SEEDS):
            if runs_of(work, *draw):
                found = rounded(judged(work, records, states, *draw))
                name = name_of(found)
                known[name] = joined(found, known[name]) if name in known else found
        cells = [known[name] for name in sorted(known)]
        tried = candidates(work) or before["candidates"]
        made = {"machine": work.machine(), "resamples": RESAMPLES, "candidates": tried, "cells": cells}
        result = write_result(arguments.out, "quality/trained_tokens.py", made)
        if arguments.out.parent == RESULTS:
            trained_tokens_tables.write(result)


def candidates(work: Work) -> list[Json]:
    """What was tried on the first seed, and what it cost on validation rows."""
    paths = [work.folder / f"candidate-{number}.json" for number in range(len(CANDIDATES))]
    tried = [read_json(path) for path in paths if path.exists()]
    return [{key: one[key] for key in ("learning_rate", "epoch", "validation_losses")} for one in tried]


def run_name(work: Work, split: str, seed: int, taught: str) -> str:
    """What a run is called in the work folder; the first one is the candidate that was chosen, if any was trained."""
    first = (split, seed, taught) == FIRST and candidates(work)
    return f"candidate-{chosen(work)}" if first else f"{split}-{seed}-{taught}"


def runs_of(work: Work, split: str, seed: int) -> dict[str, Json]:
    """What was trained of a draw and still has its verdicts here, by how it was taught."""
    paths = {taught: work.folder / f"{run_name(work, split, seed, taught)}.json" for taught in SOURCES}
    there = {taught: path for taught, path in paths.items() if path.exists() and path.with_suffix(".npy").exists()}
    return {taught: read_json(path) for taught, path in there.items()}


def name_of(cell: Json) -> tuple[int, int, str]:
    """What tells a draw from others, in the order in which they are listed."""
    return SPLITS.index(cell["split"]), cell["seed"], cell.get("pool", "")


def pool_of(records: list[Record]) -> str:
    """Which answers these are: results name them, since another machine's arithmetic gives a few others."""
    return sha256_of_rows([record.id, record.answer, record.correct] for record in records)[:8]


def joined(cell: Json, before: Json) -> Json:
    """A draw's figures with those that the results had of other runs, whose verdicts may be gone.

    Raises:
        SystemExit: a rival has other figures in them: it has changed since.
    """
    sets = {}
    for name, now in cell["sets"].items():
        old = before["sets"][name]
        for rival in RIVALS:
            if now["sources"][rival] != old["sources"][rival]:
                raise SystemExit(f"{cell['split']}-{cell['seed']}: {rival} was {old['sources'][rival]} in the results")
        steps = {(one["a"], one["b"]): one for one in [*old["differences"], *now["differences"]]}
        both = {part: old[part] | now[part] for part in ("sources", "routing")}
        sets[name] = now | both | {"differences": list(steps.values())}
    return cell | {"runs": before["runs"] | cell["runs"], "sets": sets}


def judged(work: Work, records: list[Record], states: States, split: str, seed: int) -> Json:
    """A draw's verdicts beside the sources of `increments`, on test rows, and where those have new answers also on rows
    like the training rows.
    """
    runs = runs_of(work, split, seed)
    parts, _ = partition(records, split, seed)
    parts = parts | {"train": np.sort(parts["train"][:ROWS])}
    trained = train(records, states, parts, seed)
    sets = {"test": parts["test"][:TEST]}
    if split != "standard":
        sets["familiar"] = parts["calibration"][:TEST]
    found = {name: trained.readings(rows) for name, rows in sets.items()}
    for taught in runs:
        z = np.asarray(logit(np.load(work.folder / f"{run_name(work, split, seed, taught)}.npy")))
        mixed = mixed_with_portable(trained, z, parts["validation"])
        for some, rows in sets.items():
            found[some].values[SOURCES[taught]] = sigmoid(z[rows])
            found[some].values[f"{SOURCES[taught]}+portable"] = mixed(rows)
    compared = [pair for taught in runs for pair in pairs_of(SOURCES[taught])]
    return {
        "split": split,
        "seed": seed,
        "pool": pool_of(records),
        "runs": runs,
        "sets": {
            name: judge(some.records, some.values, seed, compared) | {"routing": routing(some)}
            for name, some in found.items()
        },
    }


def routing(some: Readings) -> Json:
    """How good each source is at escalating to an expert that is always right, and at keeping answers at a risk."""
    right = labels(some.records)
    found = {name: np.nan_to_num(values, nan=-1e9) for name, values in some.values.items()}
    return {
        name: {
            "apgr": apgr(values, right, expert=np.ones(len(right))),
            "kept_at_risk_0.2": coverage_at_risk(values, right, risk=RISK),
        }
        for name, values in found.items()
    }


def pairs_of(source: str) -> list[tuple[str, str]]:
    """What a trained verdict is compared with, alone and mixed."""
    return [(name, rival) for name in (source, f"{source}+portable") for rival in RIVALS]


def mixed_with_portable(trained: Trained, z: Floats, held: Ints) -> Callable[[Ints], Floats]:
    """What tells of rows that are each other's traffic: both on familiar ground, ``portable`` alone elsewhere.

    Args:
        z: the verdict's logits of all records, [n].
        held: rows on which the weights of the two are fitted.
    """

    def features(rows: Ints) -> tuple[Floats, Floats, Floats]:
        some = trained.met(rows)
        cheap, familiar = trained.portable.read(some)
        return np.column_stack([z[rows], logit(cheap)]), cheap, familiar

    both = Logistic.fit(features(held)[0], labels(picked(trained.records, held)))

    def read(rows: Ints) -> Floats:
        columns, cheap, familiar = features(rows)
        return np.asarray(familiar * both.predict(columns) + (1 - familiar) * cheap)

    return read


def chosen(work: Work) -> int:
    """The number of the candidate with the lowest loss on validation rows, of those that were trained."""
    paths = {number: work.folder / f"candidate-{number}.json" for number in range(len(CANDIDATES))}
    losses = {n: min(read_json(path)["validation_losses"]) for n, path in paths.items() if path.exists()}
    return min(losses, key=lambda number: losses[number])


def rows_of(records: list[Record], parts: Parts) -> list[Record]:
    """Training and validation records of a draw."""
    train = of_split(records, "train", np.sort(parts["train"][:ROWS]))
    return train + of_split(records, "validation", parts["validation"][:VALIDATION])


def run(
    work: Work,
    records: list[Record],
    states: States,
    split: str,
    seed: int,
    taught: str,
    config: SelfRefConfig,
    name: str,
) -> Json:
    """One trained model: its verdicts on the base model's answers are kept, its own answers are judged."""
    parts, _ = partition(records, split, seed)
    rows, out = rows_of(records, parts), work.folder / f"{name}.run"
    read = np.concatenate([parts["validation"], parts["calibration"][:TEST], parts["test"][:TEST]])
    values = np.full(len(records), np.nan)
    train, validation = (of_part(rows, part) for part in ("train", "validation"))
    about: Json = {"split": split, "seed": seed, "taught": taught, "rows": len(train)}
    if taught == "reader":
        engine = load_engine(MODEL)
        settings = ReaderConfig(seed=seed)
        reader = train_reader(engine, train, validation, settings, out, progress=show_progress(name))
        about |= {"learning_rate": settings.learning_rate, "validation_losses": reader.losses}
        values[read] = reader_confidence(reader, picked(records, read))
    else:
        loaded, settled = load_model(MODEL), replace(config, seed=seed)
        progress = show_progress(name)
        trained = train_self_ref(*loaded, rows, settled, out, base_model=MODEL, progress=progress)
        about |= took(trained) | {"learning_rate": settled.learning_rate}
        engine = TransformersEngine(freeze(trained.model), trained.tokenizer)
        values[read] = read_verdicts(engine, picked(records, read), progress=show_progress(f"{name} verdicts"))
        about["own"] = own_answers(engine, picked(records, parts["test"][:OWN]))
    np.save(work.folder / f"{name}.npy", values)
    shutil.rmtree(out, ignore_errors=True)
    return about


def reader_confidence(reader: Reader, records: list[Record]) -> Floats:
    """What a reader says of answers [n]."""
    values = np.empty(len(records))
    for rows, closed in read_closed(reader.engine, records, (), progress=show_progress("reader")):
        values[rows] = sigmoid(reader.logits(cast("TransformersClosed", closed)))
    return values


def of_part(records: list[Record], part: str) -> list[Record]:
    """Those of one split."""
    return [record for record in records if record.split == part]


def took(trained: SelfRefResult) -> Json:
    """What a training was."""
    return {
        "epoch": trained.epoch,
        "validation_losses": trained.held_losses,
        "training_seconds": trained.seconds,
    }


def own_answers(engine: TransformersEngine, records: list[Record]) -> Json:
    """How often the trained model's own answers are right, beside the base model's, and how its verdicts rank them."""
    task = load_task("geography", limit=None, seed=0)
    questions: dict[str, Any] = {question.id: question for question in task.questions}
    told = emit(engine, [record.messages for record in records], max_new_tokens=task.max_new_tokens)
    right = np.array([bool(task.grade(questions[r.id], e.answer).correct) for r, e in zip(records, told, strict=True)])
    return {
        "n": len(records),
        "accuracy": float(right.mean()),
        "accuracy_before": float(labels(records).mean()),
        "same_answer": float(np.mean([r.answer == e.answer for r, e in zip(records, told, strict=True)])),
        "verdict_written": float(np.mean([e.verdict is not None for e in told])),
        "auroc": float(auroc(np.array([e.confidence for e in told]), right)),
    }


if __name__ == "__main__":
    main()
