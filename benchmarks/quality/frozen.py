"""Two question sets that nothing was tuned on, once, as frozen-protocol.md says.

    python -m benchmarks.quality.frozen --data-dir DIR     # question files

The rows of all seeds are drawn before the model is asked anything; a killed run continues where it stopped. Each seed
and size is a cell with all sources of `increments`; the best free source is chosen on validation rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.common import RESULTS, Json, Work, annotated, parser, show_progress, write_result
from benchmarks.quality import frozen_tables
from benchmarks.quality.cells import LAYERS, Parts
from benchmarks.quality.frozen_pools import SEEDS, SETS, Dealt, deal, key_of_draws
from benchmarks.quality.increments import FREE, OPTION, RESAMPLES, train
from benchmarks.quality.proper_scores import SCORES, Readings, sampled_scores
from confide.evaluation.record_columns import Rows
from confide.hashing import sha256_of_text
from confide.methods.method import labels
from confide.methods.portable.answer_history import answer_text
from confide.methods.stack.states import States, collect_states
from confide.metrics import auroc, wilson, within_auroc
from confide.metrics.bootstrap import Bootstrap, Estimate, estimate
from confide.metrics.metric import Weights
from confide.numeric import Bools, Floats, Ints
from confide.records import Record
from confide.tasks import load_task

PROTOCOL = Path(__file__).with_name("frozen-protocol.md")
SIZES = (500, 800)
ENOUGH = 30
"""Right and wrong test answers of a cell that can be measured."""

TRAINABLE = 10
"""Right and wrong training answers without which nothing is trained."""

CHUNK = 1000
"""Rows whose states are read between two files."""


def main() -> None:
    options = parser(__doc__, "frozen")
    options.add_argument("--data-dir", type=Path, required=True, help="folder of question files")
    arguments = options.parse_args()
    work, protocol = Work(arguments.work), PROTOCOL.read_text(encoding="utf-8")
    begun = work.stage("protocol", lambda: {"sha256": sha256_of_text(protocol)})
    if begun["sha256"] != sha256_of_text(protocol):
        raise SystemExit(f"{PROTOCOL.name} has changed since the run in {work.folder} began")
    machine, cells, told = work.machine(), [], {}
    for name in SETS:
        records, states, draws = answered(work, arguments.data_dir, name, protocol)
        told[name] = {"cut": answers_of(records, cut=True), "whole": answers_of(records, cut=False)}
        for seed, parts in zip(SEEDS, draws, strict=True):
            for size in SIZES:
                make = partial(cell, records, states, parts, name, seed, size)
                cells.append(work.stage(f"{name}-{seed}-{size}", make))
    made = {"protocol": begun["sha256"], "machine": machine, "resamples": RESAMPLES, "answers": told, "cells": cells}
    result = write_result(arguments.out, "quality/frozen.py", made)
    if arguments.out.parent == RESULTS:
        frozen_tables.write(result)


def answers_of(records: list[Record], *, cut: bool) -> Json:
    """How many answers were cut at the token limit (or not), and how many of these are right."""
    some = [record for record in records if (record.finish == "length") == cut]
    return {"n": len(some), "right": sum(bool(record.correct) for record in some)}


def answered(work: Work, data: Path, name: str, protocol: str) -> tuple[list[Record], States, list[Parts]]:
    """The model's answers to a set's questions, its states, and the row numbers of each seed's parts.

    Raises SystemExit, before anything is asked, where the protocol does not state the key of the draws.
    """
    chosen = SETS[name]
    task = load_task(chosen.task, data_dir=data)
    questions = chosen.grouped(task.questions)
    draws = deal(questions, chosen.sizes, chosen.independent)
    if (key := key_of_draws(questions, draws)) not in protocol:
        raise SystemExit(f"the questions of {name} or their draws have the key {key}, which is not in {PROTOCOL.name}")
    used = set().union(*draws)
    task = replace(task, questions=[question for question in questions if question.id in used])
    records = annotated(lambda: work.engine, task, work.folder / f"{name}.jsonl", title=name)
    return records, states_of(work, records, name), [rows_of(dealt, records, s) for s, dealt in enumerate(draws)]


def states_of(work: Work, records: list[Record], name: str) -> States:
    """Hidden states of all answers at the layers that stacks choose from, in files of `CHUNK` rows."""
    found = []
    for start in range(0, len(records), CHUNK):
        path = work.folder / f"{name}-states-{start}.npy"
        if not path.exists():
            some, progress = records[start : start + CHUNK], show_progress(f"{name}: states from {start}")
            np.save(path, collect_states(work.engine, some, LAYERS, progress=progress).values)
        found.append(np.load(path))
    return States(tuple(LAYERS), np.concatenate(found))


def rows_of(dealt: Dealt, records: list[Record], seed: int) -> Parts:
    """Row numbers of each part, shuffled: the first rows of a part are a sample of it. Only graded answers count."""
    graded = [(at, dealt[r.id]) for at, r in enumerate(records) if r.id in dealt and r.correct is not None]
    shuffle = np.random.default_rng(seed)
    return {
        part: shuffle.permutation(np.array([at for at, to in graded if to == part], dtype=np.int64))
        for part in ("train", "validation", "test")
    }


def cell(records: list[Record], states: States, parts: Parts, name: str, seed: int, size: int) -> Json:
    """All sources of one seed, trained on ``size`` rows, and what each step adds."""
    parts = parts | {"train": np.sort(parts["train"][:size])}
    y = labels(records)
    counts = {part: {"right": int(y[rows].sum()), "wrong": int((~y[rows]).sum())} for part, rows in parts.items()}
    made = {"split": name, "seed": seed, "asked": size, "counts": counts, "marks": marks(counts, SETS[name].chance)}
    if min(counts["train"].values()) < TRAINABLE:
        return made | {"sets": {}}
    trained = train(records, states, parts, seed)
    held, tested = (trained.readings(parts[part]) for part in ("validation", "test"))
    return made | {"sets": {"test": judged(held, tested, seed)}}


def marks(counts: Mapping[str, Mapping[str, int]], chance: float) -> list[str]:
    """Why a cell with so many right and wrong answers in each part cannot be measured; empty where it can."""
    right, wrong = counts["test"]["right"], counts["test"]["wrong"]
    found = [f"{n} {what} test answers" for what, n in (("right", right), ("wrong", wrong)) if n < ENOUGH]
    if chance and (low := wilson(right, right + wrong)[0]) <= chance:
        found.append(f"accuracy not above chance (from {low:.3f})")
    if (least := min(counts["train"].values())) < TRAINABLE:
        found.append(f"nothing trained: {least} training answers of one kind")
    return found


def judged(held: Readings, tested: Readings, seed: int) -> Json:
    """Every source's figures on the tested rows, and the protocol's differences; ``held`` rows choose and calibrate."""
    drawn, kinds = sampled_scores(held, tested, RESAMPLES, seed)
    y, bootstrap = labels(tested.records), Rows(tested.records, {}, "test").bootstrap(RESAMPLES, seed)
    names = {answer_text(record): at for at, record in enumerate(tested.records)}
    groups = np.array([names[answer_text(record)] for record in tested.records], dtype=np.int64)
    best = best_free(held)
    pairs = (("portable", best), ("stack", "portable"), ("stack", best))
    return {
        "n": len(y),
        "accuracy": float(y.mean()),
        "best_free": best,
        "sources": {
            name: {
                "calibrator": kinds[name],
                **{metric: estimate(values) for metric, values in found.items()},
                "within_answer": within(tested.values[name], y, groups, bootstrap),
            }
            for name, found in drawn.items()
        },
        "differences": [
            {"a": a, "b": b, "metric": metric, **estimate(drawn[a][metric] - drawn[b][metric])}
            for metric in ("auroc", *SCORES)
            for a, b in pairs
        ],
    }


def best_free(held: Readings) -> str:
    """The free source that ranks validation rows best; of equals the first."""
    y = labels(held.records)
    ranked = {name: auroc(held.values[name], y) for name in (OPTION, *FREE) if name in held.values}
    return max(ranked, key=lambda name: float(np.nan_to_num(ranked[name])))


def within(values: Floats, y: Bools, groups: Ints, bootstrap: Bootstrap) -> Estimate:
    """AUROC over pairs of rows with the same answer; a missing value is the lowest."""
    ranks = np.unique(np.nan_to_num(values, nan=-np.inf), return_inverse=True)[1].astype(np.float64)

    def statistics(weights: Weights) -> dict[str, Floats]:
        return {"": within_auroc.resampled(ranks, y, weights, groups=groups)}

    return estimate(bootstrap.sample(statistics, np.arange(len(y)))[""])


if __name__ == "__main__":
    main()
