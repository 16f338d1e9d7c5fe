"""The samples: several answers to the same question, so that what the question gives away cancels out.

A source that only senses hard questions gives every answer to a question the same confidence, and scores 0.5 on
pairs of a right and a wrong answer to the same question.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from confide.evaluation.record_columns import Rows
from confide.metrics.bootstrap import Bootstrap, estimate
from confide.metrics.metric import BoolArray, FloatArray, IntArray, Weights, ratio
from confide.metrics.ranking import group_pairs
from confide.records import Record, Sample


@dataclass(frozen=True)
class QuestionPairs:
    """Pairs of a right and a wrong answer to the same question, and how many are in order [questions].

    ``rows`` holds the row of every question that has such pairs.
    """

    rows: IntArray
    concordant: FloatArray
    pairs: FloatArray

    def sampled(self, bootstrap: Bootstrap) -> tuple[FloatArray, FloatArray]:
        """AUROC averaged over questions, and over all pairs [1 + resamples]; NaN without a pair.

        A question that is drawn twice brings its pairs twice, and none between its copies.
        """
        if not len(self.rows):
            undefined = np.full(1 + bootstrap.resamples, np.nan)
            return undefined, undefined

        def statistics(w: Weights) -> dict[str, FloatArray]:
            real = w.astype(np.float64)
            averaged = ratio(real @ (self.concordant / self.pairs), real.sum(axis=1))
            return {"averaged": averaged, "pooled": ratio(real @ self.concordant, real @ self.pairs)}

        found = bootstrap.sample(statistics, self.rows)
        return found["averaged"], found["pooled"]


@dataclass(frozen=True)
class Samples:
    """Distinct graded sampled answers: the row of their question, outcome and confidences, all [answers]."""

    question: IntArray
    correct: BoolArray
    confidence: dict[str, FloatArray]
    counts: dict[str, int]

    @classmethod
    def of(cls, rows: Rows) -> Samples:
        """The sampled answers of the records; duplicates are merged, answers that name nothing are left out.

        Duplicates are answers that the grader took for the same candidate (``answered``) or, in files without
        candidates, the same text but for case, spaces and punctuation; their confidences are averaged.
        """
        named = any(s.answered is not None for record in rows.records for s in record.samples or ())
        counts = {"questions": 0, "samples": 0, "ungraded": 0, "unnamed": 0, "merged": 0}
        question, correct = [], []
        kept: list[list[Sample]] = []
        for row, record in enumerate(rows.records):
            counts["questions"] += bool(record.samples)
            for mark, same in _distinct(record, named=named, counts=counts):
                question.append(row)
                correct.append(mark)
                kept.append(same)
        sources = {source for same in kept for sample in same for source in sample.confidence}
        return cls(
            np.array(question, dtype=np.int64),
            np.array(correct, dtype=np.bool_),
            {source: np.array([_mean(same, source) for same in kept]) for source in sources},
            counts,
        )

    def pairs(self, source: str, present: BoolArray | None = None) -> QuestionPairs:
        """The pairs of sampled answers where the source has values (and that are ``present`` [answers])."""
        values = self.confidence[source]
        kept = np.isfinite(values) if present is None else np.isfinite(values) & present
        return _pairs(values[kept], self.correct[kept], self.question[kept])

    def greedy_pairs(self, source: str, rows: Rows) -> QuestionPairs:
        """Pairs of the greedy answer and a sampled one of the other mark."""
        greedy = rows.confidence(source)
        values = self.confidence[source]
        other = np.isfinite(values) & (self.correct != rows.correct[self.question])
        asked = np.unique(self.question[other])
        asked = asked[np.isfinite(greedy[asked])]
        return _pairs(
            np.concatenate([greedy[asked], values[other]]),
            np.concatenate([rows.correct[asked], self.correct[other]]),
            np.concatenate([asked, self.question[other]]),
        )

    def difference(self, a: str, b: str, bootstrap: Bootstrap) -> dict[str, tuple[FloatArray, int]]:
        """Within-question AUROC of ``a`` minus that of ``b`` [1 + resamples], and the mixed questions, by kind."""
        both = np.isfinite(self.confidence[a]) & np.isfinite(self.confidence[b])
        one, other = self.pairs(a, both), self.pairs(b, both)
        names = ("within_question_auroc", "within_question_auroc_pooled")
        sampled = zip(names, one.sampled(bootstrap), other.sampled(bootstrap), strict=True)
        return {name: (x - y, len(one.rows)) for name, x, y in sampled}

    def summary(self, rows: Rows, bootstrap: Bootstrap) -> dict[str, Any] | None:
        """The block ``within_question`` of results.json; None without a sampled answer that has a confidence."""
        if not any(np.isfinite(values).any() for values in self.confidence.values()):
            return None
        mixed = _pairs(np.zeros(len(self.correct)), self.correct, self.question)
        sources = {}
        for source in (s for s in rows.sources if s in self.confidence):
            found = self.pairs(source)
            averaged, pooled = found.sampled(bootstrap)
            greedy, _ = self.greedy_pairs(source, rows).sampled(bootstrap)
            sources[source] = {
                "averaged": estimate(averaged).as_dict(),
                "pooled": estimate(pooled).as_dict(),
                "greedy": estimate(greedy).as_dict(),
                "mixed": len(found.rows),
                "pairs": int(found.pairs.sum()),
            }
        return {**self.counts, "mixed": len(mixed.rows), "sources": sources}


def _pairs(confidence: FloatArray, correct: BoolArray, question: IntArray) -> QuestionPairs:
    if not len(question):
        return QuestionPairs(question, np.zeros(0), np.zeros(0))
    ones = np.ones((1, len(question)), dtype=np.int32)
    found = group_pairs(confidence, correct.astype(np.float64), ones, question)
    mixed = found.pairs[0] > 0
    return QuestionPairs(np.unique(question)[mixed], found.concordant[0][mixed], found.pairs[0][mixed])


def _distinct(record: Record, *, named: bool, counts: dict[str, int]) -> list[tuple[bool, list[Sample]]]:
    """The distinct graded answers of one record, each with its mark; what is left out is counted."""
    groups: dict[tuple[str, bool], list[Sample]] = {}
    for sample in record.samples or ():
        counts["samples"] += 1
        key = sample.answered if named else folded(sample.answer)
        if sample.correct is None:
            counts["ungraded"] += 1
        elif not key:
            counts["unnamed"] += 1
        else:
            counts["merged"] += (key, sample.correct) in groups
            groups.setdefault((key, sample.correct), []).append(sample)
    return [(mark, same) for (_, mark), same in groups.items()]


def folded(text: str) -> str:
    """A text without case, spaces and punctuation, by which answers without candidates are the same."""
    return " ".join(re.findall(r"\w+", text.casefold()))


def _mean(same: list[Sample], source: str) -> float:
    values = [v for sample in same if (v := sample.confidence.get(source)) is not None and np.isfinite(v)]
    return float(np.mean(values)) if values else np.nan
