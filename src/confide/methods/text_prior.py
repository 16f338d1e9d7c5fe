"""Priors that see only text: how far one gets without looking into the model at all.

A confidence that does not beat these has learned which questions are hard or which answers are usually right.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from confide.methods.method import Column, Method, Scope, check_labels, labels
from confide.records import Record

Part = Literal["question", "answer"]
STRENGTHS = (0.1, 1.0, 10.0)


class TextPrior:
    """Logistic regression on character and word TF-IDF of the question or of the answer.

    Args:
        part: which text it sees.
        C: inverse strength of the L2 penalty.
    """

    def __init__(self, part: Part, C: float = 1.0):
        self.part = part
        self.C = C

    def fit(self, records: Sequence[Record], correct: NDArray[np.bool_]) -> Self:
        """Fit on graded records; ``correct`` [n]."""
        from sklearn.dummy import DummyClassifier
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline, make_union

        self.model_: Any = make_pipeline(
            make_union(
                TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), min_df=2, sublinear_tf=True),
                TfidfVectorizer(token_pattern=r"(?u)\b\w+\b", min_df=1, sublinear_tf=True),
            ),
            LogisticRegression(C=self.C, max_iter=500),
        )
        try:
            self.model_.fit(self._texts(records), correct)
        except ValueError:  # texts without a word, or none that share anything, tell nothing
            self.model_ = DummyClassifier(strategy="prior").fit(self._texts(records), correct)
        return self

    def predict(self, records: Sequence[Record]) -> NDArray[np.float64]:
        """P(correct) [n]."""
        return np.asarray(self.model_.predict_proba(self._texts(records))[:, 1], dtype=np.float64)

    def _texts(self, records: Sequence[Record]) -> list[str]:
        return [(r.question if self.part == "question" else r.answer) or "∅" for r in records]


class AnswerTable:
    """How often each answered candidate was right in training, shrunk towards the base rate.

    Args:
        strength: rows' worth of base rate that each candidate starts with.
    """

    def __init__(self, strength: float = 2.0):
        self.strength = strength

    def fit(self, records: Sequence[Record], correct: NDArray[np.bool_]) -> Self:
        """Count on graded records; ``correct`` [n]."""
        self.base_ = float(np.mean(correct))
        counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
        for record, right in zip(records, correct, strict=True):
            counts[_key(record)][0] += int(right)
            counts[_key(record)][1] += 1
        self.table_ = {
            key: (right + self.strength * self.base_) / (n + self.strength) for key, (right, n) in counts.items()
        }
        return self

    def predict(self, records: Sequence[Record]) -> NDArray[np.float64]:
        """P(correct) [n]; a candidate never seen gets the base rate."""
        return np.array([self.table_.get(_key(record), self.base_) for record in records])


Prior = TextPrior | AnswerTable
CANDIDATES: dict[str, list[Prior]] = {
    "question_only": [TextPrior("question", C) for C in STRENGTHS],
    "answer_only": [TextPrior("answer", C) for C in STRENGTHS],
    "answer_only_table": [AnswerTable(strength) for strength in (1.0, 2.0, 5.0)],
}


class TextPriors(Method):
    """The method of the priors: fitted on the train rows, strength chosen on the validation rows."""

    name = "text_prior"
    sources = tuple(CANDIDATES)

    def available(self, scope: Scope) -> Sequence[str]:
        """All, where there are graded train and validation rows."""
        return self.sources if scope.has("train", "validation") else ()

    def fit(self, scope: Scope) -> None:
        """For each source the candidate with the least log loss on validation rows."""
        train, validation = scope.graded("train"), scope.graded("validation")
        check_labels(train)
        self.priors_ = {source: _fit_best(CANDIDATES[source], train, validation) for source in self.wanted_}

    def read(self, records: Sequence[Record]) -> Mapping[str, Column]:
        """P(correct) [n] by source; it costs nothing."""
        return {source: Column(prior.predict(records)) for source, prior in self.priors_.items()}


def _fit_best(candidates: Sequence[Prior], train: Sequence[Record], validation: Sequence[Record]) -> Prior:
    from sklearn.metrics import log_loss

    fitted = [copy(candidate).fit(train, labels(train)) for candidate in candidates]
    held = labels(validation)
    return min(fitted, key=lambda candidate: log_loss(held, candidate.predict(validation), labels=[False, True]))


def _key(record: Record) -> str:
    return record.answered if record.answered is not None else "∅"
