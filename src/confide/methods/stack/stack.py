"""The stack: the portable confidence with the model's states, in one mixture.

The probe's values that the mixture is fitted on are out of fold (folds by entity), so no row is judged by a probe that
saw it. What opening the model adds is the difference between ``stack`` and ``portable``, which is the same mixture
without the probe and without the question's state; both are fitted on the same rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from confide.engines.engine import POSITIONS
from confide.methods.method import labels
from confide.methods.portable.answer_signals import AnswerSignals, Ground, TrainingSignals
from confide.methods.portable.free_matrix import free_matrix
from confide.methods.portable.logistic import Logistic
from confide.methods.portable.mixture import Mixture, told
from confide.methods.stack.probe import Probe, View
from confide.methods.stack.question_familiarity import QuestionFamiliarity
from confide.methods.stack.states import States
from confide.numeric import Bools, Floats, sigmoid
from confide.records import Record


@dataclass(frozen=True)
class Stack:
    """A fitted stack; `Stack.fit` makes one.

    Attributes:
        ungated: a logistic model of the probe and what tokens tell, without a mixture: ``probe_logprobs``.
    """

    probe: Probe
    questions: QuestionFamiliarity
    mixture: Mixture
    ungated: Logistic

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers whose states a reading needs."""
        return tuple(sorted({*self.probe.view.layers, self.questions.layer}))

    @classmethod
    def fit(
        cls,
        view: View,
        question_layer: int,
        states: States,
        records: Sequence[Record],
        training: TrainingSignals,
        seed: int = 0,
    ) -> Stack:
        """Fit on graded training records, their states and what `fit_signals` found of them."""
        right, features = labels(records), view.select(states)
        z = out_of_fold(view, features, right, training)
        mixture = Mixture.fit(training, records, z, entropies=True)
        return cls(
            Probe(view, view.fit(features, right)),
            QuestionFamiliarity.fit(
                question_layer, prompt_states(states, question_layer), [r.cluster for r in records], seed
            ),
            mixture,
            Logistic.fit(np.column_stack([z, free_matrix(records, mixture.options, entropies=True)]), right),
        )

    def read(self, states: States, records: Sequence[Record], ground: Ground | None = None) -> dict[str, Floats]:
        """Confidences [n] by source and ``familiarity`` [n] of answered records, from states and token probabilities.

        ``stack`` and ``probe_logprobs`` are NaN without token probabilities: not available, never a guess. For
        ``ground`` see `Mixture.read`.
        """
        z, free = self.probe.z(states), free_matrix(records, self.mixture.options, entropies=True)
        q = self.questions.predict(prompt_states(states, self.questions.layer))
        mixed, familiarity = self.mixture.read(records, z, q, ground=ground)
        ungated = self.ungated.predict(np.column_stack([z, free]))
        return {
            "stack": mixed,
            "probe": sigmoid(z),
            "probe_logprobs": np.where(told(records), ungated, np.nan),
            "familiarity": familiarity,
        }

    def to_arrays(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """``(description, arrays)`` for a checkpoint's JSON and safetensors files."""
        about = {
            **vars(self.probe.view),
            "question_layer": self.questions.layer,
            "ramps": self.questions.ramps,
            "mixture": self.mixture.to_json(signals=False),
        }
        parts = {"ungated": vars(self.ungated), "probe": self.probe.arrays()}
        parts["questions"] = {name: getattr(self.questions, name) for name in ("mean", "scale", "seen")}
        return about, {f"{name}.{key}": value for name, part in parts.items() for key, value in part.items()}

    @classmethod
    def from_arrays(
        cls, about: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], signals: AnswerSignals | None
    ) -> Stack:
        """The stack that `to_arrays` came from; one of an earlier version is refused."""
        if signals is None or "mixture" not in about:
            raise ValueError("its stack comes from an earlier version of confide: train it again")

        def part(name: str) -> dict[str, NDArray[Any]]:
            return {key.split(".", 1)[1]: value for key, value in arrays.items() if key.startswith(f"{name}.")}

        return cls(
            Probe.from_arrays(about, part("probe")),
            QuestionFamiliarity(about["question_layer"], ramps=about["ramps"], **part("questions")),
            Mixture.from_json(about["mixture"], signals, states=True),
            Logistic(**part("ungated")),
        )


def out_of_fold(view: View, features: NDArray[np.float32], right: Bools, training: TrainingSignals) -> Floats:
    """The logit [n] that a probe gives each training row which was fitted on the other folds' features [n, d]."""
    z = np.zeros(len(right))
    for inside, held in training.folds:
        z[held] = view.fit(features[inside], right[inside]).z(features[held])
    return z


def question_layer(depth: int) -> int:
    """Where questions are compared: 60 % of the way up, where kinds of questions lie farthest apart."""
    return max(1, round(0.6 * depth))


def prompt_states(states: States, layer: int) -> NDArray[np.float32]:
    """States [n, width] of one layer at the last prompt token."""
    return states.values[:, states.layers.index(layer), POSITIONS.index("prompt_end")].astype(np.float32)
