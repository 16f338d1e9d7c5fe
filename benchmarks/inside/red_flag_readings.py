"""Readings of the red flag benchmark: along the output, of its end, of what stands in front of it, and of its text.

Everything is fitted on training rows and chosen on validation rows. A reading along the output is one direction in the
states; the ways to train it that are compared: on every token with the answer's label (each answer weighs the same), on
the mean of the states so far at a few places (what `confide train red-flag` does), on the mean state of the whole
answer, and on states averaged as they are when the reading is smoothed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.inside.red_flag_states import Outputs
from confide.methods.along.smoothing import CHOICES, levels
from confide.methods.along.token_states import spread
from confide.methods.portable.logistic import Logistic
from confide.metrics import auroc
from confide.numeric import Floats, Ints
from confide.records import Record

FORMS = ("tokens", "so_far", "mean", "averaged")
"""Ways to train a direction; the package's is ``so_far``."""

VIEWS: tuple[tuple[int, ...], ...] = ((12,), (18,), (12, 18), (12, 24), (12, 18, 24, 30))
"""Layers that are read together: what the package chooses from, and the twelfth alone."""

PENALTIES = (1e-3, 1e-2)
PLACES = {"tokens": 8, "so_far": 4, "averaged": 4}
"""Places of an answer that training sees at most."""

HALF = 16
"""The half-life of the averages that are trained on, in tokens."""


@dataclass(frozen=True)
class Direction:
    """A direction in the states of some layers, how its readings are smoothed, and how it was trained."""

    layers: tuple[int, ...]
    weight: Floats
    offset: float
    form: str
    C: float
    smoothing: str = ""

    def levels(self, outputs: Outputs, rows: Ints, smoothing: str = "") -> list[Floats]:
        """Levels along outputs, one a token."""
        found = []
        for z in outputs.readings(self.weight, self.offset, self.layers, rows):
            found.append(levels(z, smoothing or self.smoothing))
        return found

    def lowest(self, outputs: Outputs, rows: Ints, smoothing: str = "") -> Floats:
        """One number an output: its lowest level, [n]."""
        return np.array([level.min() for level in self.levels(outputs, rows, smoothing)])


def averaged(states: NDArray[np.float32]) -> NDArray[np.float32]:
    """States [tokens, features] averaged with a half-life of `HALF` tokens, as levels are from the first token on."""
    keep = 0.5 ** (1 / HALF)
    steps = np.arange(len(states))
    weights = np.tril(keep ** np.clip(steps[:, None] - steps[None], 0, None).astype(np.float32)) * (1 - keep)
    return np.asarray(weights @ states, dtype=np.float32)


def training_rows(form: str, outputs: Outputs, rows: Ints, layers: Sequence[int]) -> tuple[NDArray[np.float32], Ints]:
    """Features of a way to train, and of which of the ``rows`` (by place) each is."""
    if form == "mean":
        return outputs.means(rows, layers), np.arange(len(rows))
    features, places = [], []
    for place, row in enumerate(rows):
        states = outputs.of(row, layers)[1:]
        if form == "averaged":
            states = averaged(states)
        elif form == "so_far":
            states = np.cumsum(states, 0) / np.arange(1, len(states) + 1, dtype=np.float32)[:, None]
        at = spread(np.arange(len(states)), PLACES[form])
        features.append(states[at])
        places.append(np.full(len(at), place))
    return np.concatenate(features), np.concatenate(places)


def fit(features: NDArray[np.float32], places: Ints, fine: NDArray[np.bool_], C: float) -> tuple[Floats, float]:
    """Logistic regression in which each answer weighs the same, as a direction and its offset."""
    counts = np.bincount(places, minlength=len(fine))
    model = Logistic.fit(features, fine[places], weights=1 / counts[places], C=C, max_iter=200, tol=1e-3)
    weight = model.weight / model.scale
    return weight, float(model.bias[0] - model.mean @ weight)


def along(outputs: Outputs, train: Ints, validation: Ints) -> dict[str, Direction]:
    """For each way to train, the direction, layers, penalty and smoothing with the best AUROC on validation rows."""
    best: dict[str, tuple[float, Direction]] = {}
    right = outputs.fine[validation]
    for form in FORMS:
        for layers in VIEWS:
            features, places = training_rows(form, outputs, train, layers)
            for C in PENALTIES:
                weight, offset = fit(features, places, outputs.fine[train], C)
                plain = Direction(layers, weight, offset, form, C)
                for smoothing in CHOICES:
                    found = float(auroc(plain.lowest(outputs, validation, smoothing), right))
                    if form not in best or found > best[form][0]:
                        best[form] = found, Direction(layers, weight, offset, form, C, smoothing)
    return {form: direction for form, (_, direction) in best.items()}


def at_one_place(outputs: Outputs, train: Ints, validation: Ints, where: str) -> Callable[[Outputs, Ints], Floats]:
    """The best reading of states at the ``prompt``'s end, in front of an output (``opening``), or of its ``mean``."""

    def states(some: Outputs, rows: Ints, layers: Sequence[int]) -> NDArray[np.float32]:
        return some.means(rows, layers) if where == "mean" else some.at(where, rows, layers)

    best: tuple[float, tuple[int, ...], Floats, float] | None = None
    for layers in VIEWS:
        features, held = states(outputs, train, layers), states(outputs, validation, layers)
        for C in PENALTIES:
            weight, offset = fit(features, np.arange(len(train)), outputs.fine[train], C)
            found = float(auroc(held @ weight + offset, outputs.fine[validation]))
            if best is None or found > best[0]:
                best = found, layers, weight, offset
    assert best is not None
    _, layers, weight, offset = best
    return lambda some, rows: np.asarray(states(some, rows, layers) @ weight + offset, dtype=np.float64)


def of_text(outputs: Outputs, train: Ints, validation: Ints, *, whole: bool) -> Callable[[Sequence[Record]], Floats]:
    """A classifier on the finished text (words and pairs of words): the output alone, or with all in front of it."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    def text(record: Record) -> str:
        opening = str((record.model_extra or {}).get("opening", ""))
        return f"{record.question}\n{opening}{record.answer}" if whole else record.answer

    told = [text(outputs.records[row]) for row in train]
    held = [text(outputs.records[row]) for row in validation]
    models = [
        make_pipeline(
            TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True), LogisticRegression(C=C, max_iter=1000)
        ).fit(told, outputs.fine[train])
        for C in (1.0, 10.0, 100.0)
    ]
    best = max(models, key=lambda model: float(auroc(model.decision_function(held), outputs.fine[validation])))
    return lambda records: np.asarray(best.decision_function([text(record) for record in records]), dtype=np.float64)
