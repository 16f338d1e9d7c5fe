"""One cell of the quality table: a split and a seed, every source under one protocol.

Training rows train, validation rows choose, calibration rows calibrate (Platt, every source alike), test rows are
seen once. Paired differences and intervals come from a bootstrap by entity.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from confide.methods.free import FREE, free_confidence
from confide.methods.reader.training_pipeline import choose_view
from confide.methods.stack.familiarity import answer_key
from confide.methods.stack.stack import Stack, candidate_views, question_layer
from confide.methods.stack.states import States
from confide.methods.text_prior import STRENGTHS, AnswerTable, TextPrior, fit_on_validation
from confide.metrics import auroc, brier, ece, log_loss
from confide.metrics.bootstrap import Bootstrap, estimate
from confide.metrics.ranking import within_auroc
from confide.policies import PlattCalibrator
from confide.records import Record
from confide.tasks.splits import assign_splits

Floats = NDArray[np.float64]
Parts = dict[str, NDArray[np.int64]]

SIZES = {"train": 6500, "validation": 600, "calibration": 1200, "test": 3200}
# Held-out answers take their rows from training too.
ANSWERED = SIZES | {"train": 4000}
# A relation's own size bounds its test rows; what is left must train, validate and calibrate.
RELATIONS = {
    "city_country": {"train": 2600, "validation": 500, "calibration": 1000, "test": 3200},
    "city_continent": {"train": 4000, "validation": 600, "calibration": 1200, "test": 1650},
    "us_city_state": {"train": 4000, "validation": 600, "calibration": 1200, "test": 1150},
}
DEPTH = 30
LAYERS = sorted({question_layer(DEPTH), *(layer for view in candidate_views(DEPTH) for layer in view.layers)})


def partition(records: Sequence[Record], split: str, seed: int) -> tuple[Parts, str | None]:
    """Row numbers of each part, and the relation that is held out (None: none)."""
    where = {record.id: i for i, record in enumerate(records)}
    held_out = None
    if split == "standard":
        assigned = assign_splits(records, split, SIZES, seed=seed)
    elif split == "answered-country":
        assigned = assign_splits(records, split, ANSWERED, seed=seed, domains=["city_country"])
    else:
        held_out = list(RELATIONS)[seed % len(RELATIONS)]
        assigned = assign_splits(records, split, RELATIONS[held_out], seed=seed, held_out=held_out)
    # Shuffled: the first rows of a part are a sample of it, whatever the order of annotation was.
    shuffle = np.random.default_rng(seed)
    parts = {
        part: shuffle.permutation(np.array(sorted(where[i] for i, to in assigned.items() if to == part)))
        for part in SIZES
    }
    if split == "answered-country":
        # The grader reads a country only where one is asked for: leave out rows whose text names a held-out one.
        tested = {answer_key(records[i]) for i in parts["test"]}
        for part in ("train", "validation", "calibration"):
            parts[part] = np.array([i for i in parts[part] if answer_key(records[i]) not in tested], dtype=np.int64)
    return parts, held_out


def in_process_sources(
    records: Sequence[Record], states: States, parts: Parts, seed: int
) -> tuple[dict[str, Floats], dict[str, Any]]:
    """Sources that need no further pass, for all rows: [n] each (NaN where they cannot be had)."""
    train, validation = ([records[i] for i in parts[part]] for part in ("train", "validation"))
    fitting, held = states.take(parts["train"]), states.take(parts["validation"])
    view = choose_view(candidate_views(DEPTH), fitting, train, held, validation)
    stack = Stack.fit(view, question_layer(DEPTH), fitting, train, seed)
    values: dict[str, list[float | None]] = {name: [] for name in FREE}
    for record in records:
        for name, value in free_confidence(record).items():
            values[name].append(value)
    sources = {name: np.array([np.nan if v is None else v for v in column]) for name, column in values.items()}
    read = stack.read(states, records)
    sources |= {"stack": read.confidence, "probe": read.probe, "probe_logprobs": read.ungated}
    for name, candidates in (
        ("question_only", [TextPrior("question", C) for C in STRENGTHS]),
        ("answer_only", [TextPrior("answer", C) for C in STRENGTHS]),
        ("answer_only_table", [AnswerTable(strength) for strength in (1.0, 2.0, 5.0)]),
    ):
        sources[name] = fit_on_validation(candidates, train, validation).predict(records)
    sources["constant"] = np.full(len(records), np.mean([bool(r.correct) for r in train]))
    about = {
        "layers": list(view.layers),
        "C": view.C,
        "familiarity": {part: float(read.familiarity[rows].mean()) for part, rows in parts.items()},
    }
    return sources, about


def judge(
    records: Sequence[Record], sources: dict[str, Floats], parts: Parts, *, seed: int, resamples: int = 1000
) -> dict[str, Any]:
    """Metrics of every source on the test rows, calibrated alike, and what the stack is ahead by."""
    y = np.array([bool(record.correct) for record in records])
    test, calibration, validation = parts["test"], parts["calibration"], parts["validation"]
    bootstrap = Bootstrap([records[i].cluster for i in test], resamples=resamples, seed=seed)
    codes: dict[str, int] = {}
    groups = np.array([-1 if (a := records[i].answered) is None else codes.setdefault(a, len(codes)) for i in test])
    shuffled = np.full(len(records), np.nan)
    shuffled[test] = np.random.default_rng(seed).permutation(sources["stack"][test])
    sources = sources | {"shuffled": shuffled}
    sampled, within, counted, beside = {}, {}, {}, {}
    for name, raw in sources.items():
        fitting = calibration[np.isfinite(raw[calibration])]
        floor = name in ("constant", "shuffled")
        calibrator = None if floor else PlattCalibrator().fit(raw[fitting], y[fitting])
        rows = np.flatnonzero(np.isfinite(raw[test]))  # a costly source may have been read on fewer rows
        values = raw[test][rows]
        calibrated = values if calibrator is None else calibrator.predict(values)
        sampled[name] = bootstrap.sample(_Statistics(values, calibrated, y[test][rows]), rows)
        within[name] = float(within_auroc(values, y[test][rows], groups=groups[rows]))
        counted[name] = len(rows)
        if len(rows) < len(test):  # what the stack and the free signal give on the same rows
            beside[name] = {
                other: float(auroc(sources[other][test][rows], y[test][rows])) for other in ("stack", "logprob_sum")
            }
    table: dict[str, Any] = {
        name: {m: estimate(v).as_dict() for m, v in found.items()} for name, found in sampled.items()
    }
    for name, row in table.items():
        row |= {"within_answer_auroc": within[name], "n": counted[name]} | (
            {"auroc_on_the_same_rows": beside[name]} if name in beside else {}
        )
    aurocs = {name: float(auroc(sources[name][validation], y[validation])) for name in FREE}
    chosen = max(aurocs, key=lambda name: aurocs[name])
    best = {
        "auroc": max(FREE, key=lambda n: table[n]["auroc"]["value"]),
        "brier": min(FREE, key=lambda n: table[n]["brier"]["value"]),
        "log_loss": min(FREE, key=lambda n: table[n]["log_loss"]["value"]),
    }
    differences = []
    against = [
        chosen,
        *(
            n
            for n in (
                "answer_only",
                "answer_only_table",
                "question_only",
                "probe_logprobs",
                "probe",
                "reader",
            )
            if n in sampled
        ),
    ]
    for metric in ("auroc", "brier", "log_loss"):
        for other in dict.fromkeys([*against, best[metric]]):
            if counted[other] < len(test):
                continue
            found = estimate(sampled["stack"][metric] - sampled[other][metric]).as_dict()
            differences.append({"a": "stack", "b": other, "metric": metric, **found})
    return {
        "n": {part: len(rows) for part, rows in parts.items()},
        "accuracy": {part: float(y[rows].mean()) for part, rows in parts.items()},
        "free_chosen_on_validation": chosen,
        "free_best_on_test": best,
        "sources": table,
        "differences": differences,
    }


@dataclass(frozen=True)
class _Statistics:
    """Metrics of one source for bootstrap weights; ranking on the raw values, the rest on calibrated ones."""

    raw: Floats
    calibrated: Floats
    right: NDArray[np.bool_]

    def __call__(self, weights: Any) -> dict[str, Floats]:
        return {
            "auroc": auroc.resampled(self.raw, self.right, weights),
            "brier": brier.resampled(self.calibrated, self.right, weights),
            "log_loss": log_loss.resampled(self.calibrated, self.right, weights),
            "ece": ece.resampled(self.calibrated, self.right, weights),
        }
