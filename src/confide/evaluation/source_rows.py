"""The rows of one source, as its metrics read them: in order of confidence, under the weights of a draw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from confide.evaluation.figures import FIGURES
from confide.metrics.bootstrap import Statistics
from confide.metrics.draw_cells import Cells, places
from confide.metrics.metric import Weighted, Weights
from confide.metrics.ranking import auroc, spearman
from confide.metrics.routing import POINTS, Escalated
from confide.metrics.running_sums import columns
from confide.numeric import Bools, Floats, Ints

Part = Literal["rows", "answer", "agreement"]
"""What metrics are computed from: the rows (and the expert's), pairs of the same answer, agreement among samples."""

PARTS: tuple[Part, ...] = ("rows", "answer", "agreement")

FEW = 256
"""Cells of confidence where further numbers tell rows apart."""


@dataclass(frozen=True)
class SourceRows:
    """The rows of a source, in order of confidence; all arrays are [n].

    ``probability`` is None for a source whose values are none. ``expert`` and ``agreement`` are NaN where unknown, and
    ``answered`` is negative where an answer names no candidate.
    """

    confidence: Floats
    outcome: Floats
    probability: Floats | None
    ended: Bools
    expert: Floats
    agreement: Floats
    answered: Ints

    def known(self, part: Part) -> Ints:
        """The rows that the metrics of a part are about [k]."""
        if part == "answer":
            # Candidates that are always right, or always wrong, make no pair.
            codes, of = np.unique(self.answered, return_inverse=True)
            right, n = np.bincount(of, self.outcome), np.bincount(of)
            return np.flatnonzero(((codes >= 0) & (right > 0) & (right < n))[of]).astype(np.int64)
        some = np.isfinite(self.agreement) if part == "agreement" else np.full(len(self.confidence), True)
        return np.flatnonzero(some).astype(np.int64)

    def take(self, rows: Ints) -> SourceRows:
        """These rows [k] alone."""
        p = None if self.probability is None else self.probability[rows]
        return SourceRows(
            self.confidence[rows],
            self.outcome[rows],
            p,
            self.ended[rows],
            self.expert[rows],
            self.agreement[rows],
            self.answered[rows],
        )

    def cells(self, part: Part) -> Cells:
        """The cells that draws see of the metrics of a part."""
        x = self.confidence
        if part == "answer":
            return Cells.of(x, self.outcome, self.answered, cells=FEW)
        if part == "agreement":
            return Cells.of(x, places(self.agreement, FEW), cells=FEW)
        if self.probability is not None and not np.array_equal(self.probability, x):
            # Log-probabilities that are all 0 as probabilities still have an order.
            return Cells.of(x, places(self.probability), self.outcome, self.expert, self.ended)
        return Cells.of(x, self.outcome, self.expert, self.ended)

    def merged(self, cells: Cells) -> SourceRows:
        """One row for each cell, at the mean confidence of its place."""
        p = None if self.probability is None else cells.means(self.probability)
        return replace(self.take(cells.example), confidence=cells.means(self.confidence), probability=p)

    def statistics(self, names: Sequence[str], parts: Sequence[Part]) -> Statistics:
        """The metrics called ``names`` that belong to ``parts``, under weights [resamples, n]."""
        x, y = self.confidence, self.outcome
        p = x if self.probability is None else self.probability
        known, ended, routed = (
            np.flatnonzero(m) for m in (np.isfinite(self.agreement), self.ended, np.isfinite(self.expert))
        )
        given: dict[str, dict[str, Any]] = {}
        if "rows" in parts:
            given |= {"rows": {}}
            given |= {"probabilities": {}} if self.probability is not None else {}
            given |= {"expert": {"expert": self.expert[routed]}} if len(routed) else {}
        if "answer" in parts and (self.answered >= 0).any():
            given |= {"answer": {"groups": self.answered}}
        figures = [f for f in FIGURES if f.name in names and f.metric is not None and f.needs in given]
        once = np.ones((1, len(x)), dtype=np.int32)

        def some(outcome: Floats, places: Ints) -> Weighted:
            return Weighted(x[places], outcome[places], columns(once, places))

        of_rows, of_probabilities, of_expert = Weighted(x, y, once), Weighted(p, y, once), some(y, routed)
        of_agreement, of_ended = some(self.agreement, known), some(y, ended)

        def compute(w: Weights) -> dict[str, Floats]:
            def under(rows: Weighted, places: Ints) -> Weighted:
                return rows.under(w if len(places) == len(x) else columns(w, places))

            whole, asked = of_rows.under(w), under(of_expert, routed)
            of = {"expert": asked, "probabilities": of_probabilities.under(w)}
            out = {
                name: metric(of.get(needs, whole), **given[needs], **options)
                for name, metric, needs, options, *_ in figures
                if metric is not None
            }
            if "expert" in given and "aiq" in names:
                curve = asked.shared(Escalated.of, given["expert"]["expert"])
                out |= {"escalated": curve.accuracy(POINTS), "area": curve.area()}
            if "agreement" in parts and len(known) and "spearman" in names:
                out["spearman"] = spearman.on(under(of_agreement, known))
            if "rows" in parts and len(ended) and "auroc_ended" in names:
                out["auroc_ended"] = out["auroc"] if len(ended) == len(x) else auroc.on(under(of_ended, ended))
            return out

        return compute
