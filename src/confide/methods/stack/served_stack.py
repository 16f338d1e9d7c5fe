"""The served stack: the stack as an engine gives it that reads while it answers and returns log-probabilities.

Such an engine has closed nothing, so there is no state of the closing token; it tells no entropies; and nobody compares
the question's state with those of training. What is left is fitted as a source of its own, ``stack_served``:

    P = a · familiar + (1 − a) · unfamiliar

with a the familiarity of the answer alone (0 for an answer that came about as none of training did), ``familiar`` a
logistic model of the linear reading's z, the free signals and how often training gave the answer, ``unfamiliar`` one of
the answer's probability. An answer that is not whole has no value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from confide.methods.method import labels, or_nan
from confide.methods.stack.familiarity import AnswerFamiliarity, answer_key
from confide.methods.stack.linear_reading import POSITIONS_BEFORE_CLOSING, LinearReading
from confide.methods.stack.probe import PENALTIES, Logistic, Probe, View, best_probe
from confide.methods.stack.stack import free_matrix, on_ground, out_of_fold, probability_matrix, rising
from confide.methods.stack.states import States
from confide.numeric import Floats
from confide.records import Record

SERVED = "stack_served"
"""The source."""

_NOT_TOLD = (6, 7, 9)
"""Columns of `free_features` that no server tells (entropies), or that are the same for whole answers."""

_MODELS = ("familiar", "unfamiliar")


@dataclass(frozen=True)
class ServedMixture:
    """What makes a confidence of z and of what a server tells of an answer; it needs no states and no torch.

    ``options`` and ``written`` are those of `confide.methods.stack.stack.Stack`.
    """

    answers: AnswerFamiliarity
    familiar: Logistic
    unfamiliar: Logistic
    options: bool = False
    written: bool = True

    def read(self, z: Floats, records: Sequence[Record]) -> Floats:
        """Confidences [n] of answered records; NaN where z, log-probabilities or the answer's end are missing."""
        seen = self.answers.count([answer_key(record) for record in records])
        met = np.array([self.options if r.option_logprobs else self.written for r in records], dtype=np.float64)
        f = met * self.answers.predict(seen)
        known = self.familiar.predict(on_ground(np.nan_to_num(z), seen, told(records, self.options)))
        mixed = f * known + (1 - f) * self.unfamiliar.predict(probability_matrix(records))
        whole = [r.finish == "stop" and bool(r.logprobs or r.option_logprobs) for r in records]
        return np.where(np.isfinite(z) & np.array(whole, dtype=bool), mixed, np.nan)

    def confidences(self, z: Sequence[float | None], records: Sequence[Record]) -> list[float | None]:
        """`read` with None for what is missing, in and out."""
        if not records:
            return []
        values = self.read(or_nan(z), records)
        return [value if np.isfinite(value) else None for value in values.tolist()]

    def to_json(self) -> dict[str, Any]:
        """The mixture as JSON can hold it."""
        models = {name: {key: array.tolist() for key, array in vars(getattr(self, name)).items()} for name in _MODELS}
        return {"answers": vars(self.answers), "options": self.options, "written": self.written, **models}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ServedMixture:
        """The mixture that `to_json` came from."""
        models = {
            name: Logistic(**{key: np.asarray(value, dtype=np.float64) for key, value in data[name].items()})
            for name in _MODELS
        }
        return cls(AnswerFamiliarity(**data["answers"]), **models, options=data["options"], written=data["written"])


@dataclass(frozen=True)
class ServedStack:
    """A fitted served stack: the linear reading that goes to the engine, and the mixture that stays outside."""

    reading: LinearReading
    mixture: ServedMixture

    @classmethod
    def fit(cls, view: View, states: States, records: Sequence[Record], seed: int = 0) -> ServedStack:
        """Fit on graded training records and their states, as `Stack.fit` does."""
        right, features = labels(records), view.select(states)
        fold = out_of_fold(view, features, records, seed)
        options = any(record.option_logprobs for record in records)
        mixture = ServedMixture(
            fold.answers,
            Logistic.fit(on_ground(fold.z, fold.seen, told(records, options)), right, fold.answers.predict(fold.seen)),
            rising(probability_matrix(records), right),
            options=options,
            written=not all(record.option_logprobs for record in records),
        )
        return cls(LinearReading.from_probe(Probe(view, view.fit(features, right))), mixture)

    def read(self, states: States, records: Sequence[Record]) -> Floats:
        """Confidences [n] of answered records from their states in this process; see `ServedMixture.read`."""
        return self.mixture.read(self.reading.z(states), records)

    def to_arrays(self) -> tuple[dict[str, Any], dict[str, NDArray[np.float32]]]:
        """``(description, arrays)`` for a checkpoint's JSON and safetensors files."""
        where = {"layers": self.reading.layers, "positions": self.reading.positions}
        return {**where, "mixture": self.mixture.to_json()}, self.reading.arrays()

    @classmethod
    def from_arrays(cls, about: Mapping[str, Any], arrays: Mapping[str, NDArray[np.float32]]) -> ServedStack:
        """The served stack that `to_arrays` came from."""
        return cls(LinearReading.from_arrays(about, arrays), ServedMixture.from_json(about["mixture"]))


def fit_served(
    layers: Sequence[int],
    states: States,
    train: Sequence[Record],
    held: States,
    validation: Sequence[Record],
    seed: int = 0,
) -> ServedStack:
    """A served stack on ``layers``; its penalty is the one that does best on validation rows.

    Args:
        layers: those of the stack beside which it is trained.
    """
    views = [View(tuple(layers), POSITIONS_BEFORE_CLOSING, C) for C in PENALTIES]
    chosen = best_probe([Probe.fit(view, states, labels(train)) for view in views], held, validation).view
    return ServedStack.fit(chosen, states, train, seed)


def told(records: Sequence[Record], options: bool) -> Floats:
    """What a server tells of answers for free: `free_matrix` without the columns that it does not."""
    return np.delete(free_matrix(records, options), _NOT_TOLD, axis=1)
