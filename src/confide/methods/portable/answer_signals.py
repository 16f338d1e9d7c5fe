"""What question and answer tell, learned from graded records: kind of question, the answer's history, how both look.

How familiar they are is told beside it, for the answer and for the phrasing of the question, which are multiplied:

    k·known + (1 − k)·new,   k = n / (n + 1)

where training had n times this answer to this kind of question, or n times this phrasing. ``new`` is with which
probability one that training never had is of the long tail of a world that is still training's, by the traffic around
it (w in `confide.methods.answer_traffic`); ``known`` is 1 of phrasings and 1 − φ of answers. Neither is less than e⁴,
where e is the share of training rows that the other folds do not know: what training hardly ever had twice (answers
that are phrases or numbers, questions that everybody asks in words of their own) is nothing unfamiliar when it is new,
since the signals were fitted and judged on such rows alone, and can hold no prior over them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from confide.errors import ConfideError
from confide.methods.answer_traffic import FileTraffic, Surroundings, Traffic, UnseenShare
from confide.methods.method import labels
from confide.methods.portable.answer_history import HALF, KIND_STRENGTH, AnswerHistory, answer_keys, answer_text
from confide.methods.portable.question_kinds import QuestionKinds
from confide.methods.portable.text_model import PENALTIES, TextModel, counted
from confide.numeric import Bools, Floats, Ints, logistic_loss
from confide.records import Record

FOLDS = 5

WIDTH = 4
"""How many columns there are."""


@dataclass(frozen=True)
class Ground:
    """What the signals say of n answered records.

    Attributes:
        columns: [n, d].
        familiar: how familiar question and answer are in their traffic, [n] in [0, 1].
    """

    columns: Floats
    familiar: Floats


@dataclass(frozen=True)
class AnswerSignals:
    """Fitted on training rows; `fit_signals` makes it.

    Attributes:
        kind_history: how often answers to each kind of question were right.
        phrasings: how often training questions were phrased so, by the hash.
        open_answers: e² of answers: the share of them that no other fold gave, squared.
        open_phrasings: the same of phrasings.
    """

    kinds: QuestionKinds
    history: AnswerHistory
    kind_history: AnswerHistory
    text: TextModel
    phrasings: dict[str, int]
    open_answers: float
    open_phrasings: float

    def read(self, records: Sequence[Record], traffic: Surroundings | None = None) -> Ground:
        """What is known of answered records.

        Args:
            traffic: what surrounds each of them; None: they surround each other, as the rows of a file do.
        """
        if not records:
            return Ground(np.empty((0, WIDTH)), np.empty(0))
        kinds, keys, seen, asked = self._met(records)
        new = seen == 0, asked == 0
        around = (traffic or FileTraffic.of(records, *new)).around(records, *new)
        columns = _columns(self.history, self.kind_history, keys, kinds, self.text.z(counted(records)))
        return Ground(columns, self._familiar(seen, asked, around))

    def traffic(self, records: Sequence[Record]) -> FileTraffic:
        """The rows of a file as each other's traffic."""
        _, _, seen, asked = self._met(records)
        return FileTraffic.of(records, seen == 0, asked == 0)

    def unseen(self, traffic: Traffic) -> dict[str, UnseenShare]:
        """Of some traffic, the shares of ``answers`` and of ``phrasings`` that training never had."""
        usual = {"answers": self.open_answers, "phrasings": self.open_phrasings}
        return {
            name: UnseenShare(getattr(traffic, name), traffic.n, math.sqrt(squared)) for name, squared in usual.items()
        }

    def _met(self, records: Sequence[Record]) -> tuple[Ints, list[str], Floats, Floats]:
        """Kinds [n] and keys of answers, and how often training had each answer [n] and each phrasing [n]."""
        questions = [record.question for record in records]
        kinds = self.kinds.predict(questions)
        keys = answer_keys(kinds, records)
        asked = np.array([self.phrasings.get(p, 0) for p in self.kinds.phrasings(questions)], dtype=np.float64)
        return kinds, keys, self.history.seen(keys), asked

    def _familiar(self, seen: Floats, asked: Floats, around: Sequence[Traffic]) -> Floats:
        """How familiar answers are that were ``seen`` so often to questions that were ``asked`` so, each [n]."""
        shares = {traffic: self.unseen(traffic) for traffic in set(around)}
        answers, phrasings = ([shares[traffic][name] for traffic in around] for name in ("answers", "phrasings"))
        known = np.maximum(self.open_answers**2, [1 - share.shifted for share in answers])
        new = np.maximum(self.open_answers**2, [share.tail for share in answers])
        asked_anew = np.maximum(self.open_phrasings**2, [share.tail for share in phrasings])
        return familiarity(seen, new, known) * familiarity(asked, asked_anew)

    def to_json(self) -> dict[str, Any]:
        """The signals as JSON can hold them; questions and answers are hashes there."""
        parts = {name: getattr(self, name).to_json() for name in ("kinds", "history", "kind_history", "text")}
        return {**parts, **{name: getattr(self, name) for name in ("phrasings", "open_answers", "open_phrasings")}}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> AnswerSignals:
        """The signals that `to_json` came from."""
        return cls(
            QuestionKinds.from_json(data["kinds"]),
            AnswerHistory.from_json(data["history"]),
            AnswerHistory.from_json(data["kind_history"]),
            TextModel.from_json(data["text"]),
            **{name: data[name] for name in ("phrasings", "open_answers", "open_phrasings")},
        )


@dataclass(frozen=True)
class TrainingSignals:
    """What training rows look like to signals that did not see them.

    Attributes:
        signals: fitted on all rows.
        folds: (rows inside, rows held out) of each fold.
        columns: what the other folds say of each row, [n, d].
    """

    signals: AnswerSignals
    folds: list[tuple[Ints, Ints]]
    columns: Floats


def fit_signals(records: Sequence[Record], seed: int = 0) -> TrainingSignals:
    """Fit on graded records; folds keep an entity's rows together.

    Raises `ConfideError` where right or wrong answers are about fewer than two entities.
    """
    right, folds = labels(records), grouped_folds(records, seed)
    questions = [record.question for record in records]
    found = QuestionKinds.fit(questions, [answer_text(record) for record in records], seed)
    kinds, phrasings = found.predict(questions), np.array(found.phrasings(questions))
    keys, counts, named = np.array(answer_keys(kinds, records)), counted(records), np.array(_names(kinds))
    scale = len(folds) / (len(folds) - 1)
    columns: Floats = np.zeros((len(records), WIDTH))
    seen, asked = np.zeros(len(records)), np.zeros(len(records))
    penalty, letters = _text_out_of_fold(counts, right, folds)
    for inside, held in folds:
        history = AnswerHistory.fit(keys[inside].tolist(), right[inside], scale)
        rates = AnswerHistory.fit(named[inside].tolist(), right[inside], scale, KIND_STRENGTH)
        columns[held] = _columns(history, rates, keys[held].tolist(), kinds[held], letters[held])
        seen[held] = history.seen(keys[held].tolist())
        times = Counter(phrasings[inside].tolist())
        asked[held] = scale * np.array([times[phrasing] for phrasing in phrasings[held].tolist()])
    signals = AnswerSignals(
        found,
        AnswerHistory.fit(keys.tolist(), right),
        AnswerHistory.fit(named.tolist(), right, strength=KIND_STRENGTH),
        TextModel.fit(counts, right, penalty),
        dict(Counter(phrasings.tolist())),
        open_answers=float(np.mean(seen == 0)) ** 2,
        open_phrasings=float(np.mean(asked == 0)) ** 2,
    )
    return TrainingSignals(signals, folds, columns)


def familiarity(times: Floats, new: Floats | float, known: Floats | float = 1.0) -> Floats:
    """Familiarity [n] in [0, 1] of what training had so many ``times`` [n]: from ``new`` for none to ``known``."""
    k = times / (times + HALF)
    return np.asarray(k * known + (1 - k) * new)


def grouped_folds(records: Sequence[Record], seed: int = 0) -> list[tuple[Ints, Ints]]:
    """(rows inside, rows held out) of up to `FOLDS` folds; an entity's rows are in one, right and wrong rows in each
    inside.

    Raises `ConfideError` where right or wrong answers are about fewer than two entities.
    """
    from sklearn.model_selection import GroupKFold

    right = labels(records)
    # Without an entity the same question may stand in several rows, each of which would tell the other's label.
    clusters = np.array([record.entity or record.question or record.id for record in records])
    for label, name in ((True, "right"), (False, "wrong")):
        if (entities := len(set(clusters[right == label]))) < 2:
            raise ConfideError(f"training needs {name} answers about at least 2 entities; there are {entities}")
    count = min(FOLDS, *(len(set(clusters[right == label])) for label in (True, False)))
    # Where few entities have a label, they may all be held out at once: drawn anew then.
    drawn = (GroupKFold(count, shuffle=True, random_state=seed + again) for again in range(200))
    splits = (list(folds.split(clusters, groups=clusters)) for folds in drawn)
    return next(folds for folds in splits if all(len(set(right[inside])) == 2 for inside, _ in folds))


def _text_out_of_fold(counts: Any, right: Bools, folds: Sequence[tuple[Ints, Ints]]) -> tuple[float, Floats]:
    """The penalty with the least log loss on rows held out, and what models with it say of these rows, [n]."""
    found: dict[float, Floats] = {}
    for penalty in PENALTIES:
        z = np.zeros(len(right))
        for inside, held in folds:
            z[held] = TextModel.fit(counts[inside], right[inside], penalty).z(counts[held])
        found[penalty] = z
    best = min(found, key=lambda penalty: logistic_loss(found[penalty], right.astype(np.float64)))
    return best, found[best]


def _names(kinds: Ints) -> list[str]:
    return [str(kind) for kind in kinds.tolist()]


def _columns(
    history: AnswerHistory, kind_history: AnswerHistory, keys: Sequence[str], kinds: Ints, text: Floats
) -> Floats:
    return np.column_stack([history.columns(keys), kind_history.columns(_names(kinds))[:, 0], text])
