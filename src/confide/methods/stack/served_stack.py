"""The served stack: the stack as an engine gives it that reads while it answers and returns log-probabilities.

Such an engine has closed nothing, so there is no state of the closing token, and nobody compares the question's state
with those of training. What is left is fitted as a source of its own, ``stack_served``: the stack's mixture with the
linear reading's z and without the question's familiarity. An answer that is not whole has no value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from confide.methods.method import labels, or_nan, or_none
from confide.methods.portable.answer_signals import AnswerSignals, Ground, TrainingSignals
from confide.methods.portable.mixture import Mixture
from confide.methods.stack.linear_reading import POSITIONS_BEFORE_CLOSING, LinearReading
from confide.methods.stack.probe import PENALTIES, Probe, View, best_fitted
from confide.methods.stack.stack import out_of_fold
from confide.methods.stack.states import States
from confide.numeric import Floats
from confide.records import Record

SERVED = "stack_served"
"""The source."""


@dataclass(frozen=True)
class ServedStack:
    """A fitted served stack: the linear reading that goes to the engine, and the mixture that stays outside."""

    reading: LinearReading
    mixture: Mixture

    @classmethod
    def fit(cls, view: View, states: States, records: Sequence[Record], training: TrainingSignals) -> ServedStack:
        """Fit on graded training records, their states and what `fit_signals` found of them."""
        right, features = labels(records), view.select(states)
        z = out_of_fold(view, features, right, training)
        reading = LinearReading.from_probe(Probe(view, view.fit(features, right)))
        return cls(reading, Mixture.fit(training, records, z))

    def read(self, states: States, records: Sequence[Record], ground: Ground | None = None) -> Floats:
        """Confidences [n] of answered records from their states in this process; see `served_values`."""
        return served_values(self.mixture, self.reading.z(states), records, ground)

    def to_arrays(self) -> tuple[dict[str, Any], dict[str, NDArray[np.float32]]]:
        """``(description, arrays)`` for a checkpoint's JSON and safetensors files."""
        where = {"layers": self.reading.layers, "positions": self.reading.positions}
        return {**where, "mixture": self.mixture.to_json(signals=False)}, self.reading.arrays()

    @classmethod
    def from_arrays(
        cls, about: Mapping[str, Any], arrays: Mapping[str, NDArray[np.float32]], signals: AnswerSignals | None
    ) -> ServedStack:
        """The served stack that `to_arrays` came from."""
        return cls(LinearReading.from_arrays(about, arrays), Mixture.from_json(about["mixture"], signals, states=True))


def served_values(mixture: Mixture, z: Floats, records: Sequence[Record], ground: Ground | None = None) -> Floats:
    """Confidences [n] of answered records; NaN where z, log-probabilities or the answer's end are missing.

    For ``ground`` see `Mixture.read`.
    """
    values, _ = mixture.read(records, z, ground=ground)
    return np.where([record.finish == "stop" for record in records], values, np.nan)


def served_confidences(mixture: Mixture, z: Sequence[float | None], records: Sequence[Record]) -> list[float | None]:
    """`served_values` with None for what is missing, in and out."""
    return or_none(served_values(mixture, or_nan(z), records))


def fit_served(
    layers: Sequence[int],
    states: States,
    train: Sequence[Record],
    held: States,
    validation: Sequence[Record],
    training: TrainingSignals,
) -> ServedStack:
    """A served stack on ``layers``; its penalty is the one that does best on validation rows.

    Args:
        layers: those of the stack beside which it is trained.
        training: what `fit_signals` found of the training rows.
    """
    views = [View(tuple(layers), POSITIONS_BEFORE_CLOSING, C) for C in PENALTIES]
    chosen = best_fitted(views, states, train, held, validation).view
    return ServedStack.fit(chosen, states, train, training)
