"""The judged source: every metric of one source on its rows, with the draws of the bootstrap."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from confide.evaluation.agreement import FAITHFUL, Agreement, Faithful
from confide.evaluation.figures import COMPARED, FIGURES, LOWER_IS_BETTER, METRICS, PRINTED
from confide.evaluation.record_columns import Rows
from confide.evaluation.source_rows import PARTS, SourceRows
from confide.metrics.bootstrap import Bootstrap, estimate
from confide.metrics.calibration_error import smooth_ece
from confide.metrics.draw_cells import MERGED
from confide.numeric import Floats, Ints
from confide.sources import family

SMOOTH_RESAMPLES = 200
"""Resamples for the smooth ECE, whose interval costs more than all others together."""

SMOOTH_CHUNK = 2_000_000
"""Its cost is by bandwidth, shared by the resamples of a chunk, so they are large."""


class Judged:
    """One source on the rows where it has a value: its metrics, each ``sampled`` [1 + resamples].

    ``expert`` [n] is 1 where the expert is right, 0 where it is wrong and NaN where it gave no answer. ``bootstrap``
    and ``agreement``, which faithfulness is judged against, are of the same rows.
    """

    def __init__(self, rows: Rows, source: str, bootstrap: Bootstrap, expert: Floats, agreement: Agreement):
        self.rows, self.source, self.bootstrap, self.expert = rows, source, bootstrap, expert
        self.confidence = rows.confidence(source)
        self.present: Ints = np.flatnonzero(np.isfinite(self.confidence)).astype(np.int64)
        self.probability = rows.probability(source)
        self.sampled: dict[str, Floats] = {}
        self._on_rows = {self.present.tobytes(): self.sampled}
        self.faithful: Faithful | None = None
        if not len(self.present):
            return
        self.sampled |= self._sample(self.present, METRICS)
        if self.probability is not None:
            self.faithful = agreement.judge(self.probability)
            if self.faithful is not None:
                self.sampled |= self.faithful.scores
                if (found := self.faithful.skill("cmfg_star")) is not None:
                    self.sampled["cmfg_star_skill"] = found
            p, y = self.probability[self.present], rows.correct[self.present]
            self.sampled["smooth_ece"] = bootstrap.metric(
                smooth_ece, p, y, self.present, resamples=SMOOTH_RESAMPLES, chunk=SMOOTH_CHUNK
            )

    def on(self, kept: Ints, metric: str) -> Floats:
        """A metric of paired differences [1 + resamples] on some of the rows where the source has a value."""
        # Several comparisons leave out the same rows.
        key = kept.tobytes()
        if key not in self._on_rows:
            self._on_rows[key] = self._sample(kept, COMPARED) if len(kept) else {}
        return self._on_rows[key].get(metric, np.full(1 + self.bootstrap.resamples, np.nan))

    def _sample(self, kept: Ints, names: Sequence[str]) -> dict[str, Floats]:
        """The metrics called ``names`` of the rows ``kept``, each [1 + resamples]."""
        # What is sorted once need not be sorted by every resample.
        kept = kept[np.argsort(self.confidence[kept], kind="stable")]
        x, y = self.confidence[kept], self.rows.correct[kept].astype(np.float64)
        seen = SourceRows(
            x,
            y,
            None if self.probability is None else self.probability[kept],
            self.rows.ended[kept],
            self.expert[kept],
            self.rows.consistency[kept],
            self.rows.answered[kept],
        )
        if len(kept) <= MERGED:
            return self.bootstrap.sample(seen.statistics(names, PARTS), kept)
        found: dict[str, Floats] = {}
        for part in PARTS:
            if len(some := seen.known(part)):
                whole = seen.take(some)
                cells = whole.cells(part)
                merged = cells, whole.merged(cells).statistics(names, [part])
                found |= self.bootstrap.sample(whole.statistics(names, [part]), kept[some], merged=merged)
        return found

    def summary(self) -> dict[str, Any]:
        """The source's entry in results.json."""
        entry: dict[str, Any] = {}
        for figure in FIGURES:
            name, printed = figure.name, {PRINTED[o]: x for o, x in figure.options.items() if o in PRINTED}
            beside = self.faithful.beside(name) if self.faithful is not None and name in FAITHFUL else {}
            there = name in self.sampled
            entry[name] = {**estimate(self.sampled[name]), **printed, **beside} if there else None
        tokens, seconds = (self.rows.records.numbers(f"cost.{self.source}.{unit}") for unit in ("tokens", "seconds"))
        return entry | {
            "family": family(self.source),
            "n": len(self.present),
            "missing": len(self.confidence) - len(self.present),
            "distinct": len(np.unique(self.confidence[self.present])),
            "cost": {"tokens": float(np.nanmean(tokens)), "seconds": float(np.nanmean(seconds))}
            if np.isfinite(tokens).any()
            else None,
        }

    def overhead(self) -> float:
        """What reading the source costs, in answers of the model itself: extra tokens to tokens of an answer.

        0 where the records do not carry both.
        """
        extra, own = self.rows.records.numbers(f"cost.{self.source}.tokens"), self.rows.records.numbers("answer_ids")
        both = np.isfinite(extra) & np.isfinite(own)
        return float(extra[both].sum() / own[both].sum()) if both.any() else 0.0


def best(sources: Iterable[str], estimators: dict[str, dict[str, Any]], metric: str = "auroc") -> str | None:
    """The source with the best value of a metric, None where none has one; the first among equals."""
    values: dict[str, float] = {
        s: estimators[s][metric]["value"]
        for s in sources
        if estimators[s][metric] is not None and estimators[s][metric]["value"] is not None
    }
    pick = min if metric in LOWER_IS_BETTER else max
    return pick(values, key=values.__getitem__, default=None)
