"""What each step of a confidence adds over the cheaper one: text, log-probabilities, both learned, the model's states.

    python -m benchmarks.quality.increments --data-dir DIR     # question files; without the flag from the hub

Every source is trained on the same rows and judged on the same rows, over four sizes of the training set and three
seeds (independent draws of training, validation and test rows), in three worlds: ``standard``, where test rows are
drawn as training rows were; ``new answers``, where no training answer names what test answers name; ``new relation``,
where a kind of question is held out. In between, test sets in which a share of the rows has new answers, shuffled among
rows that have none. The rows of a set are each other's traffic. Which layers the probe reads and its penalty are chosen
on validation rows; ``portable`` has no choice to make. Intervals are 95 %, from a bootstrap by entity. Geography's
answers and states are made once for all benchmarks, in ``runs/quality`` (`study.geography_records`). A fourth world is
ARC-easy, answered by the likelihood of its options: no answer comes twice, so there is no prior over answers to learn;
its test rows are the same for every seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import RESULTS, Json, Work, annotated, parser, show_progress, write_result
from benchmarks.quality import increments_tables
from benchmarks.quality.cells import LAYERS, Parts, fit_stack, partition, picked
from benchmarks.quality.proper_scores import Readings, proper_scores
from benchmarks.quality.study import geography_records, geography_states, of_split, unrepeated
from confide.evaluation.record_columns import Rows
from confide.methods.method import labels, or_nan
from confide.methods.portable.answer_history import answer_keys
from confide.methods.portable.answer_signals import fit_signals
from confide.methods.portable.mixture import Mixture
from confide.methods.scoring import score
from confide.methods.stack.served_stack import SERVED, ServedStack, fit_served
from confide.methods.stack.stack import Stack
from confide.methods.stack.states import States, collect_states
from confide.metrics import auroc
from confide.metrics.bootstrap import estimate
from confide.metrics.ranking import within_auroc
from confide.numeric import Bools, Floats
from confide.records import Record, Split
from confide.tasks import load_task

SEEDS = (0, 1, 2)
SIZES = (500, 800, 2000, 6500)
SPLITS = ("standard", "answered-country", "relation")
ARC = "arc-easy"
ARC_ROWS = {"train": 1200, "test": 1000}
"""How many of its questions are read for states, drawn once: prompts are long."""

ARC_VALIDATION = 400
ARC_SIZES = (500, 2000)
"""All of its training rows are fewer than the second."""

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
        for size in (ARC_SIZES if split == ARC else SIZES)
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
        np.save(path, collect_states(work.engine, records, LAYERS, progress=show_progress("states")).values)
    return records, States(tuple(LAYERS), np.load(path, mmap_mode="r"))


def cell(records: list[Record], states: States, split: str, seed: int, size: int) -> Json:
    """All sources of one draw, trained on (at most) ``size`` rows, and what each adds; a set of rows is one traffic."""
    parts, held_out = drawn(records, seed) if split == ARC else partition(records, split, seed)
    parts = parts | {"train": np.sort(parts["train"][:size])}
    trained = train(records, states, parts, seed)
    rows = {"test": parts["test"]} | (mixed_sets(parts, seed) if split == "answered-country" else {})
    sets = {name: trained.readings(some) for name, some in rows.items()}
    if split == "standard":
        sets["unseen"] = sets["test"].where(trained.unseen(parts["test"]))
    held = trained.readings(parts["validation"])
    return {
        "split": split,
        "seed": seed,
        "held_out": held_out,
        "asked": size,
        "train": len(parts["train"]),
        "sets": {
            name: judge(some.records, some.values, seed) | {"scores": proper_scores(held, some, RESAMPLES, seed)}
            for name, some in sets.items()
        },
    }


def drawn(records: list[Record], seed: int) -> tuple[Parts, None]:
    """Row numbers of each part where test rows are given: validation and training rows are drawn from the others."""
    rows = np.random.default_rng(seed).permutation([at for at, record in enumerate(records) if record.split == "train"])
    test = np.array([at for at, record in enumerate(records) if record.split == "test"])
    return {"train": rows[ARC_VALIDATION:], "validation": rows[:ARC_VALIDATION], "test": test}, None


@dataclass(frozen=True)
class Trained:
    """What the training rows of one draw taught, and the rows that it is read on.

    Attributes:
        cheap: values [n] of what needs no mixture, NaN outside the rows in use.
    """

    records: list[Record]
    states: States
    portable: Mixture
    stack: Stack
    served: ServedStack
    cheap: dict[str, Floats]

    def read(self, rows: NDArray[np.int64]) -> dict[str, Floats]:
        """Each source's values [rows] of rows that are each other's traffic."""
        some, near = self.met(rows), self.states.take(rows)
        ground = self.stack.mixture.signals.read(some)
        found = self.stack.read(near, some, ground)
        return {
            "portable": self.portable.read(some, ground=ground)[0],
            "stack": found["stack"],
            SERVED: self.served.read(near, some, ground),
            "probe": found["probe"],
            "probe_logprobs": found["probe_logprobs"],
            **{name: values[rows] for name, values in self.cheap.items()},
        }

    def readings(self, rows: NDArray[np.int64]) -> Readings:
        """These rows, which are each other's traffic, with what each source says of them."""
        return Readings(picked(self.records, rows), self.read(rows))

    def unseen(self, rows: NDArray[np.int64]) -> Bools:
        """Which of these answers [rows] training never gave to that kind of question."""
        some, signals = self.met(rows), self.stack.mixture.signals
        keys = answer_keys(signals.kinds.predict([record.question for record in some]), some)
        return np.asarray(signals.history.seen(keys) == 0)

    def met(self, rows: NDArray[np.int64]) -> list[Record]:
        """These rows as they are read: of one split, which is one traffic."""
        return of_split(picked(self.records, rows), "test")


def train(records: list[Record], states: States, parts: Parts, seed: int) -> Trained:
    """All sources of one draw: fitted on its training rows, views and penalties chosen on its validation rows."""
    fitting, held = (states.take(parts[part]) for part in ("train", "validation"))
    rows, validation = (picked(records, parts[part]) for part in ("train", "validation"))
    signals = fit_signals(rows, seed)
    stack = fit_stack(fitting, rows, held, validation, signals, seed)
    served = fit_served(stack.probe.view.layers, fitting, rows, held, validation, signals)
    used = np.concatenate(list(parts.values()))
    marked = [record for part, some in parts.items() for record in of_split(picked(records, some), part)]
    cheap = [*FREE, *TEXT, *([OPTION] if marked[0].option_logprobs else [])]
    told = score(marked, cheap, seed=seed)
    values = {name: or_nan([record.confidence[name] for record in told]) for name in cheap}
    columns = {name: spread(column, used, len(records)) for name, column in values.items()}
    return Trained(records, states, Mixture.fit(signals, rows), stack, served, columns)


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


def judge(
    records: list[Record], sources: dict[str, Floats], seed: int, compared: Sequence[tuple[str, str]] = COMPARED
) -> Json:
    """AUROC of each source's values [n] on ``records``, within the same answer too, and paired differences."""
    y, tested = labels(records), Rows(records, {}, "test")
    bootstrap = tested.bootstrap(RESAMPLES, seed)
    drawn: dict[str, Floats] = {}
    table: Json = {}
    for name, values in sources.items():
        # A cut answer has no served value; it counts as the least sure one.
        raw = np.nan_to_num(values, nan=-1.0)
        drawn[name] = bootstrap.sample(partial(ranked, raw, y), np.arange(len(records)))["auroc"]
        table[name] = {"auroc": estimate(drawn[name]), "within_answer": within_auroc(raw, y, groups=tested.answered)}
    best = max((name for name in (OPTION, *FREE) if name in drawn), key=lambda name: float(drawn[name][0]))
    pairs = dict.fromkeys([*compared, ("portable", best), ("stack", best)])
    return {
        "n": len(records),
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
