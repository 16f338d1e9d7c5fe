"""What each step of a confidence adds over the cheaper one: text, log-probabilities, both learned, the model's states.

    python -m benchmarks.quality.increments --data-dir DIR     # question files; without the flag from the hub

Every source is trained on the same rows and judged on the same rows, over two sizes of the training set and three
seeds (independent draws of training, validation and test rows), in three worlds: ``standard``, where test rows are
drawn as training rows were; ``new answers``, where no training answer names what test answers name; ``new relation``,
where a kind of question is held out. In between, test sets in which a share of the rows has new answers, shuffled among
rows that have none. Which layers the probe reads and its penalty are chosen on validation rows; ``portable`` has no
choice to make. Intervals are 95 %, from a bootstrap by entity. Geography's answers and states are made once for all
benchmarks, in ``runs/quality`` (`study.geography_records`). A fourth world is ARC-easy, answered by the likelihood of
its options: no answer comes twice, so there is no prior over answers to learn; its test rows are the same for every
seed.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import RESULTS, Json, Work, annotated, parser, show_progress, write_result
from benchmarks.quality import increments_tables
from benchmarks.quality.cells import DEPTH, LAYERS, Parts, partition, picked
from benchmarks.quality.proper_scores import Readings, proper_scores
from benchmarks.quality.study import geography_records, geography_states, unrepeated
from confide.evaluation.record_columns import Rows
from confide.methods.method import labels, or_nan
from confide.methods.portable.answer_history import answer_keys
from confide.methods.portable.answer_signals import fit_signals
from confide.methods.portable.mixture import Mixture
from confide.methods.scoring import score
from confide.methods.stack.probe import Probe, best_probe, candidate_views
from confide.methods.stack.served_stack import SERVED, fit_served
from confide.methods.stack.stack import Stack, question_layer
from confide.methods.stack.states import States, collect_states
from confide.metrics import auroc
from confide.metrics.bootstrap import estimate
from confide.metrics.ranking import within_auroc
from confide.numeric import Bools, Floats
from confide.records import Record, Split
from confide.tasks import load_task

SEEDS = (0, 1, 2)
SIZES = (500, 2000)
SPLITS = ("standard", "answered-country", "relation")
ARC = "arc-easy"
ARC_ROWS = {"train": 1200, "test": 1000}
"""How many of its questions are read for states, drawn once: prompts are long."""

ARC_VALIDATION = 400
MIXED = (0.25, 0.5, 0.75)
"""Shares of test rows with new answers."""

MIXED_ROWS = 1200
FREE = ("logprob_sum", "logprob_min", "logprob_mean")
OPTION = "option_probability"
TEXT = ("answer_only_table",)
COMPARED = (
    ("portable", "logprob_sum"),
    ("portable", "answer_only_table"),
    ("stack", "portable"),
    ("stack", "logprob_sum"),
    (SERVED, "stack"),
    ("stack", "probe_logprobs"),
)
RESAMPLES = 500


def main() -> None:
    options = parser(__doc__, "increments")
    options.add_argument("--quality", type=Path, default=Path("runs/quality"), help="geography's records and states")
    options.add_argument("--data-dir", type=Path, default=None, help="question files; without it, the hub")
    arguments = options.parse_args()
    work, quality = Work(arguments.work), Work(arguments.quality)
    records = geography_records(quality)
    pools = dict.fromkeys(SPLITS, (records, geography_states(quality, records)))
    pools[ARC] = arc_easy(work, arguments.data_dir)
    cells = [
        work.stage(f"{split}-{seed}-{size}", partial(cell, *pool, split, seed, size))
        for split, pool in pools.items()
        for seed in SEEDS
        for size in SIZES
    ]
    made = {"machine": work.machine(), "resamples": RESAMPLES, "cells": cells}
    result = write_result(arguments.out, "quality/increments.py", made)
    if arguments.out.parent == RESULTS:
        increments_tables.write(result)


def arc_easy(work: Work, data: Path | None) -> tuple[list[Record], States]:
    """ARC-easy's training and test questions, answered by the likelihood of their options, and their states."""
    parts: dict[Split, list[Record]] = {}
    named: dict[Split, str] = {"test": "arc_easy", "train": "arc_easy/train"}
    for part, name in named.items():
        task, path = load_task(name, data_dir=data), work.folder / f"arc_easy-{part}.jsonl"
        parts[part] = annotated(lambda: work.engine, task, path, title=name)
    parts["test"] = unrepeated(parts["test"], parts["train"])
    for part, rows in parts.items():
        taken = np.random.default_rng(0).permutation(len(rows))[: ARC_ROWS[part]]
        parts[part] = picked(rows, np.sort(taken))
    records = [r.model_copy(update={"split": part}) for part in ("train", "test") for r in parts[part]]
    path = work.folder / "arc_easy-states.npy"
    if not path.exists():
        np.save(path, collect_states(work.engine, records, LAYERS, progress=show_progress("states"))[0].values)
    return records, States(tuple(LAYERS), np.load(path, mmap_mode="r"))


def cell(records: list[Record], states: States, split: str, seed: int, size: int) -> Json:
    """All sources of one draw, trained on (at most) ``size`` rows, and what each adds."""
    parts, held_out = drawn(records, seed) if split == ARC else partition(records, split, seed)
    parts = parts | {"train": np.sort(parts["train"][:size])}
    sources, unseen = all_sources(records, states, parts, seed)
    sets = {"test": parts["test"]}
    if split == "standard":
        sets["unseen"] = parts["test"][unseen[parts["test"]]]
    if split == "answered-country":
        sets |= mixed_sets(parts, seed)
    return {
        "split": split,
        "seed": seed,
        "held_out": held_out,
        "asked": size,
        "train": len(parts["train"]),
        "sets": {
            name: judge(records, sources, rows, seed) | {"scores": calibrated(records, sources, parts, rows, seed)}
            for name, rows in sets.items()
        },
    }


def calibrated(
    records: list[Record], sources: dict[str, Floats], parts: Parts, rows: NDArray[np.int64], seed: int
) -> Json:
    """Brier score and log loss of each source on some rows, calibrated on validation rows."""
    held, tested = (Readings.of(records, sources, some) for some in (parts["validation"], rows))
    return proper_scores(held, tested, RESAMPLES, seed)


def drawn(records: list[Record], seed: int) -> tuple[Parts, None]:
    """Row numbers of each part where test rows are given: validation and training rows are drawn from the others."""
    rows = np.random.default_rng(seed).permutation([at for at, record in enumerate(records) if record.split == "train"])
    test = np.array([at for at, record in enumerate(records) if record.split == "test"])
    return {"train": rows[ARC_VALIDATION:], "validation": rows[:ARC_VALIDATION], "test": test}, None


def all_sources(records: list[Record], states: States, parts: Parts, seed: int) -> tuple[dict[str, Floats], Bools]:
    """Each source's values [n], NaN outside the rows in use, and which answers [n] training never gave to that kind."""
    used = np.sort(np.concatenate(list(parts.values())))
    place = {row: at for at, row in enumerate(used.tolist())}
    at = {part: np.array([place[row] for row in rows.tolist()]) for part, rows in parts.items()}
    some, near = picked(records, used), states.take(used)
    train, validation = (picked(some, at[part]) for part in ("train", "validation"))
    fitting, held = (near.take(at[part]) for part in ("train", "validation"))
    signals = fit_signals(train, seed)
    probes = [Probe.fit(view, fitting, labels(train)) for view in candidate_views(DEPTH)]
    view = best_probe(probes, held, validation).view
    stack = Stack.fit(view, question_layer(DEPTH), fitting, train, signals, seed)
    found = stack.read(near, some)
    columns = {
        "portable": Mixture.fit(signals, train).read(some)[0],
        "stack": found["stack"],
        SERVED: fit_served(view.layers, fitting, train, held, validation, signals).read(near, some),
        "probe": found["probe"],
        "probe_logprobs": found["probe_logprobs"],
    }
    split = {row: part for part, rows in at.items() for row in rows.tolist()}
    marked = [record.model_copy(update={"split": split[row]}) for row, record in enumerate(some)]
    cheap = [*FREE, *TEXT, *([OPTION] if some[0].option_logprobs else [])]
    told = score(marked, cheap, seed=seed)
    columns |= {name: or_nan([record.confidence[name] for record in told]) for name in cheap}
    keys = answer_keys(stack.mixture.signals.kinds.predict([r.question for r in some]), some)
    unseen = np.zeros(len(records), dtype=np.bool_)
    unseen[used] = stack.mixture.signals.history.seen(keys) == 0
    return {name: spread(column, used, len(records)) for name, column in columns.items()}, unseen


def spread(column: Floats, used: NDArray[np.int64], n: int) -> Floats:
    """A column [used] as one of all rows [n], NaN elsewhere."""
    whole = np.full(n, np.nan)
    whole[used] = column
    return whole


def mixed_sets(parts: Parts, seed: int) -> dict[str, NDArray[np.int64]]:
    """Test sets of which a share has new answers; the others are rows that no training saw."""
    draw = np.random.default_rng(seed)
    found = {}
    for share in MIXED:
        new = int(share * MIXED_ROWS)
        rows = [draw.choice(parts["test"], new, replace=False)]
        rows.append(draw.choice(parts["calibration"], min(MIXED_ROWS - new, len(parts["calibration"])), replace=False))
        found[f"mixed {share:.0%}"] = draw.permutation(np.concatenate(rows))
    return found


def judge(records: list[Record], sources: dict[str, Floats], rows: NDArray[np.int64], seed: int) -> Json:
    """AUROC of each source on some rows, within the same answer too, and paired differences."""
    some = picked(records, rows)
    y, tested = labels(some), Rows(some, {}, "test")
    bootstrap = tested.bootstrap(RESAMPLES, seed)
    drawn: dict[str, Floats] = {}
    table: Json = {}
    for name, values in sources.items():
        # A cut answer has no served value; it counts as the least sure one.
        raw = np.nan_to_num(values[rows], nan=-1.0)
        drawn[name] = bootstrap.sample(partial(ranked, raw, y), np.arange(len(rows)))["auroc"]
        table[name] = {"auroc": estimate(drawn[name]), "within_answer": within_auroc(raw, y, groups=tested.answered)}
    best = max((name for name in (OPTION, *FREE) if name in drawn), key=lambda name: float(drawn[name][0]))
    pairs = dict.fromkeys([*COMPARED, ("portable", best), ("stack", best)])
    return {
        "n": len(rows),
        "accuracy": float(y.mean()),
        "best_free": best,
        "sources": table,
        "differences": [{"a": a, "b": b, **estimate(drawn[a] - drawn[b])} for a, b in pairs],
    }


def ranked(raw: Floats, y: Bools, weights: Any) -> dict[str, Floats]:
    """AUROC of each resample."""
    return {"auroc": auroc.resampled(raw, y, weights)}


if __name__ == "__main__":
    main()
