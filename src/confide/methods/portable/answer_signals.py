"""What question and answer tell, learned from graded records: kind of question, the answer's history, how both look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from confide.errors import ConfideError
from confide.methods.method import labels
from confide.methods.portable.answer_history import AnswerHistory, answer_keys
from confide.methods.portable.question_kinds import QuestionKinds
from confide.methods.portable.text_model import TextModel, counted
from confide.numeric import Floats, Ints
from confide.records import Record

FOLDS = 5


@dataclass(frozen=True)
class AnswerSignals:
    """Fitted on training rows; `fit_signals` makes it."""

    kinds: QuestionKinds
    history: AnswerHistory
    text: TextModel

    @property
    def width(self) -> int:
        """How many columns there are."""
        return 3 + len(self.kinds.centres)

    def read(self, records: Sequence[Record]) -> tuple[Floats, Floats]:
        """Columns [n, d] of answered records, and how often training gave each answer to its kind of question [n]."""
        kinds = self.kinds.predict([record.question for record in records])
        keys = answer_keys(kinds, records)
        return _columns(self, kinds, keys, self.text.z(counted(records))), self.history.seen(keys)

    def to_json(self) -> dict[str, Any]:
        """The signals as JSON can hold them; questions and answers are hashes there."""
        return {name: part.to_json() for name, part in vars(self).items()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> AnswerSignals:
        """The signals that `to_json` came from."""
        return cls(
            QuestionKinds.from_json(data["kinds"]),
            AnswerHistory.from_json(data["history"]),
            TextModel.from_json(data["text"]),
        )


@dataclass(frozen=True)
class TrainingSignals:
    """What training rows look like to signals that did not see them.

    Attributes:
        signals: fitted on all rows.
        folds: (rows inside, rows held out) of each fold.
        columns: what the other folds say of each row, [n, d].
        seen: how often the others gave its answer, scaled up to what all rows will have counted, [n].
    """

    signals: AnswerSignals
    folds: list[tuple[Ints, Ints]]
    columns: Floats
    seen: Floats


def fit_signals(records: Sequence[Record], seed: int = 0) -> TrainingSignals:
    """Fit on graded records; folds keep an entity's rows together.

    Raises `ConfideError` where right or wrong answers are about fewer than two entities.
    """
    right, folds = labels(records), grouped_folds(records, seed)
    found = QuestionKinds.fit([record.question for record in records], seed)
    kinds = found.predict([record.question for record in records])
    keys, counts = np.array(answer_keys(kinds, records)), counted(records)
    signals = AnswerSignals(found, AnswerHistory.fit(keys.tolist(), right), TextModel.fit(counts, right))
    scale = len(folds) / (len(folds) - 1)
    columns, seen = _columns(signals, kinds, keys.tolist(), np.zeros(len(records))), np.zeros(len(records))
    for inside, held in folds:
        history = AnswerHistory.fit(keys[inside].tolist(), right[inside], scale)
        part = AnswerSignals(found, history, TextModel.fit(counts[inside], right[inside]))
        columns[held] = _columns(part, kinds[held], keys[held].tolist(), part.text.z(counts[held]))
        seen[held] = history.seen(keys[held].tolist())
    return TrainingSignals(signals, folds, columns, seen)


def grouped_folds(records: Sequence[Record], seed: int = 0) -> list[tuple[Ints, Ints]]:
    """(rows inside, rows held out) of up to `FOLDS` folds; an entity's rows are in one, right and wrong rows in each
    inside.

    Raises `ConfideError` where right or wrong answers are about fewer than two entities.
    """
    from sklearn.model_selection import GroupKFold

    right, clusters = labels(records), np.array([record.cluster for record in records])
    for label, name in ((True, "right"), (False, "wrong")):
        if (entities := len(set(clusters[right == label]))) < 2:
            raise ConfideError(f"training needs {name} answers about at least 2 entities; there are {entities}")
    count = min(FOLDS, *(len(set(clusters[right == label])) for label in (True, False)))
    # Where few entities have a label, they may all be held out at once: drawn anew then.
    drawn = (GroupKFold(count, shuffle=True, random_state=seed + again) for again in range(200))
    splits = (list(folds.split(clusters, groups=clusters)) for folds in drawn)
    return next(folds for folds in splits if all(len(set(right[inside])) == 2 for inside, _ in folds))


def _columns(signals: AnswerSignals, kinds: Ints, keys: Sequence[str], text: Floats) -> Floats:
    return np.column_stack([signals.history.columns(keys), signals.kinds.one_hot(kinds), text])
