"""What cells of the quality tables share: the rows of each part for a split and a seed, sources in process, metrics.

Training rows train, validation rows choose, calibration rows calibrate, test rows are seen once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import Json
from confide.methods.free import FREE
from confide.methods.method import or_nan
from confide.methods.portable.answer_signals import TrainingSignals, fit_signals
from confide.methods.scoring import score
from confide.methods.stack.probe import best_fitted, candidate_views
from confide.methods.stack.served_stack import SERVED, fit_served
from confide.methods.stack.stack import Stack, question_layer
from confide.methods.stack.states import States
from confide.methods.text_prior import TextPriors
from confide.metrics import auroc, brier, ece, log_loss
from confide.metrics.bootstrap import Bootstrap
from confide.numeric import Floats
from confide.records import Record
from confide.tasks.splits import assign_splits
from confide.tasks.text import spelled

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


def picked(records: Sequence[Record], rows: Any) -> list[Record]:
    """The records with these numbers."""
    return [records[i] for i in rows]


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
        tested = {spelled(records[i].answer) for i in parts["test"]}
        for part in ("train", "validation", "calibration"):
            parts[part] = np.array([i for i in parts[part] if spelled(records[i].answer) not in tested], dtype=np.int64)
    return parts, held_out


def fit_stack(
    states: States,
    train: Sequence[Record],
    held: States,
    validation: Sequence[Record],
    signals: TrainingSignals,
    seed: int,
) -> Stack:
    """A stack on the layers that do best on validation rows; ``signals`` of the training rows."""
    view = best_fitted(candidate_views(DEPTH), states, train, held, validation).view
    return Stack.fit(view, question_layer(DEPTH), states, train, signals, seed)


def in_process_sources(records: Sequence[Record], states: States, parts: Parts, seed: int) -> dict[str, Floats]:
    """Sources that need no further pass, for all rows: [n] each (NaN where they cannot be had)."""
    train, validation = (picked(records, parts[part]) for part in ("train", "validation"))
    fitting, held = (states.take(parts[part]) for part in ("train", "validation"))
    signals = fit_signals(train, seed)
    stack = fit_stack(fitting, train, held, validation, signals, seed)
    served = fit_served(stack.probe.view.layers, fitting, train, held, validation, signals)
    split = {records[i].id: part for part, rows in parts.items() for i in rows}
    # The rows of a part are each other's traffic; those of no part are in no figure.
    marked = [record.model_copy(update={"split": split.get(record.id)}) for record in records]
    ground = signals.signals.read(marked)
    sources = {name: column for name, column in stack.read(states, marked, ground).items() if name != "familiarity"}
    sources[SERVED] = served.read(states, marked, ground)
    text = [*FREE, *TextPriors.sources, "constant"]
    found = score(marked, text, seed=seed)
    return sources | {name: or_nan([record.confidence[name] for record in found]) for name in text}


def sampled_metrics(
    bootstrap: Bootstrap, rows: NDArray[np.int64], raw: Floats, probability: Floats, y: NDArray[np.bool_]
) -> dict[str, Floats]:
    """AUROC of raw values, other metrics of calibrated ones [1 + resamples]; all [k], of ``rows`` of the bootstrap."""

    def statistics(weights: Any) -> dict[str, Floats]:
        found = {"auroc": auroc.resampled(raw, y, weights)}
        rest: Json = {"brier": brier, "log_loss": log_loss, "ece": ece}
        return found | {name: metric.resampled(probability, y, weights) for name, metric in rest.items()}

    return bootstrap.sample(statistics, rows)
