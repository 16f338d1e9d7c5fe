"""Trained tokens at full strength: Self-REF on the rows of the stack, taught by labels or by the stack.

    python -m benchmarks.quality.trained_tokens [--only standard-0]

Each run trains the bundled model on the 2,000 training rows that `increments` gives the stack, until validation stops
improving (8 epochs at most); settings are chosen on validation rows of the first seed, and kept. What the verdict says
of the base model's answers stays in the work folder as columns for `increments`; here is what its own answers are
worth, before and after, and what training took. ``self_ref`` learns from labels; ``self_ref_stack`` from what a stack
that did not see the row says of it (its soft targets).
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import MODEL, Json, Work, parser, read_json, show_progress
from benchmarks.quality.cells import DEPTH, Parts, partition, picked
from benchmarks.quality.study import geography_records, geography_states, of_split
from confide.engines.transformers.loading import freeze, load_model
from confide.engines.transformers.transformers_engine import TransformersEngine
from confide.methods.method import labels
from confide.methods.portable.answer_signals import fit_signals
from confide.methods.self_ref.self_ref_config import SelfRefConfig
from confide.methods.self_ref.self_ref_training import SelfRefResult, train_self_ref
from confide.methods.self_ref.verdict_reading import emit, read_verdicts
from confide.methods.stack.probe import candidate_views
from confide.methods.stack.soft_targets import unseen_confidences
from confide.methods.stack.states import States
from confide.metrics import auroc
from confide.records import Record
from confide.tasks import load_task

SEEDS = (0, 1, 2)
ROWS = 2000
VALIDATION = 400
TEST = 1600
"""Test rows that verdicts are read on."""

OWN = 600
"""Test questions that the trained model answers itself."""

CANDIDATES = tuple(SelfRefConfig(learning_rate=rate) for rate in (1e-3, 3e-4))
"""Tried on the first seed; the one with the lowest validation loss is kept."""

TAUGHT = ("labels", "stack")
SPLITS = ("standard", "answered-country")


def main() -> None:
    options = parser(__doc__, "trained_tokens")
    options.add_argument("--quality", type=Path, default=Path("runs/quality"), help="geography's records and states")
    options.add_argument("--only", default=None, help="one run, such as candidate-0 or standard-1-stack; default: all")
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
    if arguments.only is None or not arguments.only.startswith("candidate"):
        config = CANDIDATES[chosen(work)]
        for taught in TAUGHT:
            for split in SPLITS:
                for seed in SEEDS:
                    if (split, seed, taught) != ("standard", 0, "labels"):  # it is the candidate that was chosen
                        stage(f"{split}-{seed}-{taught}", split, seed, taught, config)


def chosen(work: Work) -> int:
    """The number of the candidate with the lowest loss on validation rows."""
    tried = [read_json(work.folder / f"candidate-{number}.json") for number in range(len(CANDIDATES))]
    losses = [min(one["validation_losses"]) for one in tried]
    return losses.index(min(losses))


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
    targets = stack_says(records, states, parts, seed) if taught == "stack" else None
    model, tokenizer = load_model(MODEL)
    config = replace(config, seed=seed)
    trained = train_self_ref(
        model, tokenizer, rows, config, out, targets=targets, base_model=MODEL, progress=show_progress(name)
    )
    engine = TransformersEngine(freeze(trained.model), tokenizer)
    read = np.concatenate([parts["validation"], parts["calibration"][:TEST], parts["test"][:TEST]])
    values = np.full(len(records), np.nan)
    values[read] = read_verdicts(engine, picked(records, read), progress=show_progress(f"{name} verdicts"))
    np.save(work.folder / f"{name}.npy", values)
    own = own_answers(engine, picked(records, parts["test"][:OWN]))
    shutil.rmtree(out, ignore_errors=True)
    about = {"split": split, "seed": seed, "taught": taught, "learning_rate": config.learning_rate}
    return {**about, **took(trained), "own": own}


def took(trained: SelfRefResult) -> Json:
    """What a training was."""
    return {
        "rows": trained.right + trained.wrong,
        "epoch": trained.epoch,
        "validation_losses": trained.held_losses,
        "training_seconds": trained.seconds,
    }


def stack_says(records: list[Record], states: States, parts: Parts, seed: int) -> Mapping[str, float]:
    """What a stack that did not see a training row says of it, by the record's id."""
    rows, held = np.sort(parts["train"][:ROWS]), parts["validation"][:VALIDATION]
    train, validation = picked(records, rows), picked(records, held)
    views, signals = candidate_views(DEPTH), fit_signals(train, seed)
    values = unseen_confidences(views, states.take(rows), train, states.take(held), validation, signals)
    return dict(zip([record.id for record in train], values.tolist(), strict=True))


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
