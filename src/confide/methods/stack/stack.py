"""The stack: the confidence that users get.

Two small logistic models, mixed by familiarity. Where answer and question are familiar, the probe counts together with
everything the engine knows for free. Elsewhere a learned readout carries a prior over other answers, and even weights
on free signals are fitted to the answers that training gave (docs/experiments.md): only the answer's own probability is
left, and the ranking is exactly that of ``logprob_sum``, or of ``option_probability`` where the answer was chosen among
options. Answers that came about in a way that training never saw (chosen where it had written ones, or the other way
round) are such ground whatever the question: their features mean something else.

    P = f · familiar + (1 − f) · unfamiliar,   f = q · a

with q the familiarity of the question and a that of the answer (where training answers hardly ever come twice, a new
one is nothing unfamiliar). The probe's values that the first model is
fitted on are out of fold (folds by entity), so no row is judged by a probe that saw it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from confide.engines.engine import POSITIONS
from confide.errors import ConfideError
from confide.methods.free import free_features, option_probability
from confide.methods.method import labels
from confide.methods.stack.familiarity import AnswerFamiliarity, QuestionFamiliarity, answer_key
from confide.methods.stack.probe import Logistic, Probe, View
from confide.methods.stack.states import States
from confide.numeric import Floats, logit, logit_of_exp, sigmoid
from confide.records import Record, answer_log_probability

FOLDS = 5
CLIP = 1e-6


@dataclass(frozen=True)
class Stack:
    """A fitted stack; `Stack.fit` makes one.

    ``options`` tells whether training held answers chosen by likelihood: their probability among the options is then
    a feature too; ``written``, whether it held answers that were written.
    """

    probe: Probe
    answers: AnswerFamiliarity
    questions: QuestionFamiliarity
    familiar: Logistic
    unfamiliar: Logistic
    ungated: Logistic
    options: bool = False
    written: bool = True

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers whose states a reading needs."""
        return tuple(sorted({*self.probe.view.layers, self.questions.layer}))

    @classmethod
    def fit(cls, view: View, question_layer: int, states: States, records: Sequence[Record], seed: int = 0) -> Stack:
        """Fit on graded training records and their states; folds keep an entity's rows together."""
        right, features = labels(records), view.select(states)
        fold = out_of_fold(view, features, records, seed)
        options = any(record.option_logprobs for record in records)
        free, probability = free_matrix(records, options), probability_matrix(records)
        return cls(
            probe=Probe(view, view.fit(features, right)),
            answers=fold.answers,
            questions=QuestionFamiliarity.fit(
                question_layer, prompt_states(states, question_layer), [r.cluster for r in records], seed
            ),
            familiar=Logistic.fit(on_ground(fold.z, fold.seen, free), right, fold.answers.predict(fold.seen)),
            unfamiliar=rising(probability, right),
            ungated=Logistic.fit(np.column_stack([fold.z, free]), right),
            options=options,
            written=not all(record.option_logprobs for record in records),
        )

    def read(self, states: States, records: Sequence[Record]) -> dict[str, Floats]:
        """Confidences [n] by source and ``familiarity`` [n] of answered records, from states and token probabilities.

        ``stack`` and ``probe_logprobs`` are NaN without token probabilities: not available, never a guess.
        """
        z, free = self.probe.z(states), free_matrix(records, self.options)
        seen = self.answers.count([answer_key(record) for record in records])
        met = [self.options if record.option_logprobs else self.written for record in records]
        q = self.questions.predict(prompt_states(states, self.questions.layer)) * np.array(met, dtype=np.float64)
        f = q * self.answers.predict(seen)
        known_ground = self.familiar.predict(on_ground(z, seen, free))
        off_ground = self.unfamiliar.predict(probability_matrix(records))
        known = np.where([bool(record.logprobs or record.option_logprobs) for record in records], 1.0, np.nan)
        return {
            "stack": known * (f * known_ground + (1 - f) * off_ground),
            "probe": sigmoid(z),
            "probe_logprobs": known * self.ungated.predict(np.column_stack([z, free])),
            "familiarity": f,
        }

    def to_arrays(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """``(description, arrays)`` for a checkpoint's JSON and safetensors files."""
        about = {
            **vars(self.probe.view),
            "question_layer": self.questions.layer,
            "ramps": self.questions.ramps,
            "half": self.answers.half,
            "openness": self.answers.openness,
            "answers": self.answers.counts,
            "options": self.options,
            "written": self.written,
        }
        parts = {name: vars(getattr(self, name)) for name in _MODELS} | {"probe": self.probe.arrays()}
        parts["questions"] = {name: getattr(self.questions, name) for name in ("mean", "scale", "seen")}
        return about, {f"{name}.{key}": value for name, part in parts.items() for key, value in part.items()}

    @classmethod
    def from_arrays(cls, about: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Stack:
        """The stack that `to_arrays` came from; one of an earlier version is refused."""
        if "unfamiliar" not in {key.split(".", 1)[0] for key in arrays}:
            raise ValueError("its stack comes from an earlier version of confide: train it again")

        def part(name: str) -> dict[str, NDArray[Any]]:
            return {key.split(".", 1)[1]: value for key, value in arrays.items() if key.startswith(f"{name}.")}

        return cls(
            Probe.from_arrays(about, part("probe")),
            AnswerFamiliarity(dict(about["answers"]), about["half"], about["openness"]),
            QuestionFamiliarity(about["question_layer"], ramps=about["ramps"], **part("questions")),
            **{name: Logistic(**part(name)) for name in _MODELS},
            options=about["options"],
            written=about["written"],
        )


_MODELS = ("familiar", "unfamiliar", "ungated")


@dataclass(frozen=True)
class OutOfFold:
    """What training rows look like to a probe and to counts that did not see them, [n] each, and all their answers."""

    z: Floats
    seen: Floats
    answers: AnswerFamiliarity


def out_of_fold(view: View, features: NDArray[np.float32], records: Sequence[Record], seed: int = 0) -> OutOfFold:
    """Read every training row by what the other folds teach; folds keep an entity's rows together.

    Raises `ConfideError` where right or wrong answers are about fewer than two entities.
    """
    from sklearn.model_selection import GroupKFold

    right = labels(records)
    clusters, keys = (np.array(column) for column in zip(*((r.cluster, answer_key(r)) for r in records), strict=True))
    for label, name in ((True, "right"), (False, "wrong")):
        if (entities := len(set(clusters[right == label]))) < 2:
            raise ConfideError(f"a stack needs {name} answers about at least 2 entities; there are {entities}")
    folds = min(FOLDS, *(len(set(clusters[right == label])) for label in (True, False)))
    z, seen = np.zeros(len(records)), np.zeros(len(records))
    for inside, held in GroupKFold(folds, shuffle=True, random_state=seed).split(features, groups=clusters):
        z[held] = view.fit(features[inside], right[inside]).z(features[held])
        # Scaled up to what the whole training set will have counted.
        seen[held] = AnswerFamiliarity.fit(keys[inside].tolist()).count(keys[held].tolist()) * folds / (folds - 1)
    # The share of answers that no other fold gave, squared: a mostly closed set of answers counts as closed.
    return OutOfFold(z, seen, AnswerFamiliarity.fit(keys.tolist(), openness=float(np.mean(seen == 0)) ** 2))


def question_layer(depth: int) -> int:
    """Where questions are compared: 60 % of the way up, where kinds of questions lie farthest apart."""
    return max(1, round(0.6 * depth))


def prompt_states(states: States, layer: int) -> NDArray[np.float32]:
    """States [n, width] of one layer at the last prompt token."""
    return states.values[:, states.layers.index(layer), POSITIONS.index("prompt_end")].astype(np.float32)


def probability_matrix(records: Sequence[Record]) -> Floats:
    """[n, 2]: the answer's probability and its logit, which falls on below one in a million: long answers never tie.

    The probability is that of the answer's tokens, or among the options where the answer is the likeliest of them.
    """
    chosen = [option_probability(record) for record in records]
    whole = np.array([answer_log_probability(record.logprobs) for record in records], dtype=np.float64)
    logs = np.minimum(
        [c if o is None else np.log(max(o, CLIP)) for c, o in zip(whole, chosen, strict=True)], np.log1p(-CLIP)
    )
    return np.column_stack([np.maximum(np.exp(logs), CLIP), logit_of_exp(logs)])


def free_matrix(records: Sequence[Record], options: bool = False) -> Floats:
    """[n, 13]: `free_features`, probability and its logit of the whole answer, probability of its least likely token.

    With ``options`` [n, 15]: the probability among the options and its logit too, NaN where there were none.
    """
    whole = _with_logit([np.exp(sum(r.logprobs)) for r in records])
    least = np.exp([min(r.logprobs, default=0.0) for r in records])
    columns = [free_features(records), whole, least]
    if options:
        columns.append(_with_logit([np.nan if (o := option_probability(r)) is None else o for r in records]))
    return np.column_stack(columns)


def _with_logit(probability: Sequence[float]) -> Floats:
    p = np.clip(np.asarray(probability, dtype=np.float64), CLIP, 1 - CLIP)
    return np.column_stack([p, logit(p)])


def rising(probability: Floats, right: NDArray[np.bool_]) -> Logistic:
    """A model of the answer's probability that never falls: a column with a negative weight is left out."""
    columns = probability.copy()
    model = Logistic.fit(columns, right)
    while (model.weight < 0).any():
        columns[:, model.weight < 0] = 0.0  # a constant column gets the weight 0
        model = Logistic.fit(columns, right)
    return model


def on_ground(z: Floats, seen: Floats, free: Floats) -> Floats:
    """What the model of familiar ground is fitted on: z, the free signals, how often training gave the answer."""
    # How often training gave this answer is itself a sign: default answers are given often and seldom right.
    return np.column_stack([z, free, np.log1p(seen)])
