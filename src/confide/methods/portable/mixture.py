"""The mixture: a confidence from an answer's signals where they are familiar, from its probability alone elsewhere.

    P = f · familiar + (1 − f) · unfamiliar,   f = q · a

``familiar`` is a logistic model of everything that is known of the answer, ``unfamiliar`` one of its probability alone
that ranks exactly as ``logprob_sum`` does (or as ``option_probability`` where the answer was chosen among options).
a is how familiar question and answer are by their texts, in their traffic (`AnswerSignals`), q how familiar the
question is by its state, where that is known.
Answers that came about in a way that training never saw (chosen where it had written ones, or the other way round) are
unfamiliar: their signals mean something else.

Without a reading of the model's states this is the source ``portable``; with one, a source of the stack's family.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from confide.methods.method import labels
from confide.methods.portable.answer_signals import WIDTH, AnswerSignals, Ground, TrainingSignals
from confide.methods.portable.free_matrix import free_matrix, probability_matrix
from confide.methods.portable.logistic import Logistic
from confide.numeric import Bools, Floats
from confide.records import Message, Record

_SWITCHES = ("entropies", "options", "written")


@dataclass(frozen=True)
class Mixture:
    """A fitted mixture; `Mixture.fit` makes one.

    Attributes:
        entropies: whether entropies are among the signals, which only an engine in this process tells.
        options: whether training held answers chosen by likelihood: their probability among the options is then a
            signal too.
        written: whether it held answers that were written.
    """

    signals: AnswerSignals
    familiar: Logistic
    unfamiliar: Logistic
    entropies: bool = False
    options: bool = False
    written: bool = True

    @classmethod
    def fit(
        cls,
        training: TrainingSignals,
        records: Sequence[Record],
        z: Floats | None = None,
        *,
        entropies: bool = False,
    ) -> Mixture:
        """Fit on graded records and what `fit_signals` found of them.

        Args:
            z: what a reading of states by the other folds says of each record, [n].
        """
        right, options = labels(records), any(record.option_logprobs for record in records)
        columns = _together(training.columns, free_matrix(records, options, entropies), z)
        return cls(
            training.signals,
            Logistic.fit(columns, right),
            Logistic.rising(probability_matrix(records), right),
            entropies=entropies,
            options=options,
            written=not all(record.option_logprobs for record in records),
        )

    def read(
        self,
        records: Sequence[Record],
        z: Floats | None = None,
        q: Floats | float = 1.0,
        *,
        ground: Ground | None = None,
    ) -> tuple[Floats, Floats]:
        """Confidences and familiarities [n] of answered records.

        Args:
            ground: what its signals say of them in their traffic; None: they are each other's, as the rows of a file.
            z: what a reading of states says of each record, [n], where the mixture was fitted with one.
            q: familiarity of the questions, [n] in [0, 1].

        Returns:
            Confidences, NaN where the engine told nothing of an answer's tokens or z is missing; familiarities.
        """
        if not records:
            return np.empty(0), np.empty(0)
        ground = self.signals.read(records) if ground is None else ground
        met = np.array([self.options if record.option_logprobs else self.written for record in records], dtype=float)
        f = met * q * ground.familiar
        free = free_matrix(records, self.options, self.entropies)
        on_ground = self.familiar.predict(_together(ground.columns, free, z))
        mixed = f * on_ground + (1 - f) * self.unfamiliar.predict(probability_matrix(records))
        known = told(records) if z is None else told(records) & np.isfinite(z)
        return np.where(known, mixed, np.nan), f

    def to_json(self, *, signals: bool = True) -> dict[str, Any]:
        """The mixture as JSON can hold it; without its ``signals`` where they are kept once for several mixtures."""
        about: dict[str, Any] = {name: getattr(self, name) for name in _SWITCHES}
        about |= {"familiar": self.familiar.to_json(), "unfamiliar": self.unfamiliar.to_json()}
        return {"signals": self.signals.to_json(), **about} if signals else about

    @classmethod
    def from_json(
        cls, data: Mapping[str, Any], signals: AnswerSignals | None = None, *, states: bool = False
    ) -> Mixture:
        """The mixture that `to_json` came from, fitted with a reading of ``states`` or without.

        Raises ValueError for parts that do not fit each other.
        """
        mixture = cls(
            signals or AnswerSignals.from_json(data["signals"]),
            Logistic.from_json(data["familiar"]),
            Logistic.from_json(data["unfamiliar"]),
            **{name: data[name] for name in _SWITCHES},
        )
        width = free_matrix([], mixture.options, mixture.entropies).shape[1] + WIDTH + states
        if (len(mixture.familiar.weight), len(mixture.unfamiliar.weight)) != (width, probability_matrix([]).shape[1]):
            raise ValueError("the weights of its mixture do not fit its signals")
        mixture._try(np.zeros(1) if states else None)
        return mixture

    def _try(self, z: Floats | None) -> None:
        """Read one answer, so that parts that cannot be used are told now, and whatever reads is imported before it is
        waited for.

        Raises ValueError where that gives no confidence.
        """
        answer = Record(id="", messages=[Message(role="user", content="?")], answer="?", logprobs=[-1.0])
        try:
            with np.errstate(all="ignore"):
                (value,), _ = self.read([answer], z)
        except (ArithmeticError, AttributeError, LookupError, TypeError) as error:
            raise ValueError(f"its parts cannot be used: {error}") from None
        if not np.isfinite(value):
            raise ValueError("it gives an answer no confidence")


def told(records: Sequence[Record]) -> Bools:
    """Of which answers [n] the engine told how likely they were."""
    return np.array([bool(record.logprobs or record.option_logprobs) for record in records], dtype=np.bool_)


def _together(signals: Floats, free: Floats, z: Floats | None) -> Floats:
    return np.column_stack([free, signals] if z is None else [free, signals, np.nan_to_num(z)])
