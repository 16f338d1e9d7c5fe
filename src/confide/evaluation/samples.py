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
from confide.metrics.ranking import GroupCorrelations
from confide.numeric import Bools, Floats, Ints
from confide.records import Sample
from confide.sources import log_space

WITHIN_QUESTION = ("within_question_auroc", "within_question_auroc_pooled")
"""AUROC of pairs of answers to the same question: averaged over questions, and over all pairs."""

_COUNTS = ("questions", "samples", "ungraded", "unnamed", "merged")


@dataclass(frozen=True)
class Samples:
    """Distinct graded sampled answers: the row of their question, outcome and confidences, all [answers]."""

    question: Ints
    correct: Bools
    confidence: dict[str, Floats]
    counts: dict[str, int]

    @classmethod
    def of(cls, rows: Rows) -> Samples:
        """The sampled answers of the records; duplicates are merged, answers that name nothing are left out.

        Duplicates are answers that the grader took for the same candidate (``answered``) or, in files without
        candidates, the same text but for case, spaces and punctuation; their confidences are averaged.
        """
        if not np.isfinite(rows.samples).any():
            return cls(np.array([], dtype=np.int64), np.array([], dtype=np.bool_), {}, dict.fromkeys(_COUNTS, 0))
        named = any(s.answered is not None for record in rows.records for s in record.samples or ())
        counts = dict.fromkeys(_COUNTS, 0)
        groups: dict[tuple[int, str, bool], list[Sample]] = {}
        for row, record in enumerate(rows.records):
            counts["questions"] += bool(record.samples)
            for sample in record.samples or ():
                counts["samples"] += 1
                text = sample.answered if named else folded(sample.answer)
                if sample.correct is None:
                    counts["ungraded"] += 1
                elif not text:
                    counts["unnamed"] += 1
                else:
                    key = row, text, sample.correct
                    counts["merged"] += key in groups
                    groups.setdefault(key, []).append(sample)
        sources = {source for same in groups.values() for sample in same for source in sample.confidence}
        return cls(
            np.array([row for row, _, _ in groups], dtype=np.int64),
            np.array([mark for _, _, mark in groups], dtype=np.bool_),
            {source: np.array([_mean(same, source) for same in groups.values()]) for source in sources},
            counts,
        )

    def pairs(self, source: str, present: Bools | None = None) -> GroupCorrelations:
        """The pairs of sampled answers where the source has values (and that are ``present`` [answers])."""
        values = self.confidence[source]
        kept = np.isfinite(values) if present is None else np.isfinite(values) & present
        return GroupCorrelations.of(values[kept], self.correct[kept].astype(np.float64), self.question[kept])

    def greedy_pairs(self, source: str, rows: Rows) -> GroupCorrelations:
        """Pairs of the greedy answer and a sampled one of the other mark."""
        greedy = rows.confidence(source)
        values = self.confidence[source]
        other = np.isfinite(values) & (self.correct != rows.correct[self.question])
        asked = np.unique(self.question[other])
        asked = asked[np.isfinite(greedy[asked])]
        return GroupCorrelations.of(
            np.concatenate([greedy[asked], values[other]]),
            np.concatenate([rows.correct[asked], self.correct[other]]).astype(np.float64),
            np.concatenate([asked, self.question[other]]),
        )

    def difference(self, a: str, b: str, bootstrap: Bootstrap) -> dict[str, tuple[Floats, int]]:
        """Within-question AUROC of ``a`` minus that of ``b`` [1 + resamples], and the mixed questions, by kind."""
        both = np.isfinite(self.confidence[a]) & np.isfinite(self.confidence[b])
        one, other = self.pairs(a, both), self.pairs(b, both)
        pairs = zip(*(found.sampled(bootstrap, "auroc").values() for found in (one, other)), strict=True)
        return {name: (x - y, len(one.groups)) for name, (x, y) in zip(WITHIN_QUESTION, pairs, strict=True)}

    def summary(self, rows: Rows, bootstrap: Bootstrap) -> dict[str, Any] | None:
        """The block ``within_question`` of results.json; None without a sampled answer that has a confidence."""
        if not any(np.isfinite(values).any() for values in self.confidence.values()):
            return None
        mixed = GroupCorrelations.of(np.zeros(len(self.correct)), self.correct.astype(np.float64), self.question)
        sources = {}
        for source in (s for s in rows.sources if s in self.confidence):
            found = self.pairs(source)
            averaged, pooled = found.sampled(bootstrap, "auroc").values()
            sources[source] = {
                "averaged": estimate(averaged),
                "pooled": estimate(pooled),
                "greedy": estimate(self.greedy_pairs(source, rows).sampled(bootstrap, "auroc")["auroc"]),
                "mixed": len(found.groups),
                "pairs": int(found.pairs.sum()),
            }
        return {**self.counts, "mixed": len(mixed.groups), "sources": sources}


def folded(text: str) -> str:
    """A text without case, spaces and punctuation, by which answers without candidates are the same."""
    return " ".join(re.findall(r"\w+", text.casefold()))


def _mean(same: list[Sample], source: str) -> float:
    """The mean confidence; of log-probabilities the logarithm of their mean probability."""
    values = [v for sample in same if (v := sample.confidence.get(source)) is not None and np.isfinite(v)]
    if not values:
        return np.nan
    return float(np.logaddexp.reduce(values) - np.log(len(values)) if log_space(source) else np.mean(values))
