"""The judged source: every metric of one source on its rows, with the draws of the bootstrap."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from confide.evaluation.agreement import FAITHFUL, Agreement, Faithful
from confide.evaluation.record_columns import Rows
from confide.metrics.bootstrap import Bootstrap, estimate
from confide.metrics.calibration_error import brier, brier_skill, brier_term, ece, log_loss, mce, smooth_ece
from confide.metrics.metric import Weighted, Weights
from confide.metrics.ranking import auroc, spearman, within_auroc
from confide.metrics.routing import MARGIN, POINTS, Escalated, apgr, cpt, parity_share
from confide.metrics.running_sums import columns
from confide.metrics.selective import aurc, coverage_at_risk, excess_aurc, prr, risk_at_coverage
from confide.numeric import Floats, Ints
from confide.sources import family

SMOOTH_RESAMPLES = 200
"""Resamples for the smooth ECE, whose interval costs more than all others together."""

SMOOTH_CHUNK = 2_000_000
"""Its cost is by bandwidth, shared by the resamples of a chunk, so they are large."""

BINS = 10


class Figure(NamedTuple):
    """A metric of a source as it stands in results.json.

    ``needs`` says what it is computed from: all "rows", rows of a source whose values are "probabilities", rows that
    the "expert" answered too, or pairs of the same "answer". Figures without a ``metric`` are computed elsewhere.
    ``shown`` figures stand in tables by default; paired differences are taken of those that are ``compared``.
    """

    name: str
    metric: Callable[..., Floats] | None = None
    needs: str = "rows"
    options: Mapping[str, Any] = {}
    shown: bool = False
    compared: bool = False
    lower_is_better: bool = False


FIGURES = (
    Figure("auroc", auroc.on, shown=True, compared=True),
    Figure("auroc_ended"),
    Figure("within_question_auroc", shown=True, compared=True),
    Figure("within_question_auroc_pooled", compared=True),
    Figure("within_answer_auroc", within_auroc.on, "answer", shown=True, compared=True),
    Figure("within_answer_auroc_averaged", within_auroc.on, "answer", {"average": True}, compared=True),
    Figure("brier", brier.on, "probabilities", shown=True, compared=True, lower_is_better=True),
    Figure("brier_reliability", brier_term.on, "probabilities", {"term": "reliability", "bins": BINS}),
    Figure("brier_resolution", brier_term.on, "probabilities", {"term": "resolution", "bins": BINS}),
    Figure("brier_uncertainty", brier_term.on, "probabilities", {"term": "uncertainty", "bins": BINS}),
    Figure("brier_within", brier_term.on, "probabilities", {"term": "within", "bins": BINS}),
    Figure("brier_skill", brier_skill.on, "probabilities"),
    Figure("log_loss", log_loss.on, "probabilities", shown=True, compared=True, lower_is_better=True),
    Figure("ece", ece.on, "probabilities", {"bins": BINS, "kind": "width"}, shown=True),
    Figure("ece_mass", ece.on, "probabilities", {"bins": BINS, "kind": "mass"}),
    Figure("smooth_ece", shown=True),
    Figure("mce", mce.on, "probabilities", {"bins": BINS}),
    Figure("aurc", aurc.on, compared=True, lower_is_better=True),
    Figure("excess_aurc", excess_aurc.on),
    Figure("prr", prr.on, shown=True, compared=True),
    Figure("coverage_at_risk", coverage_at_risk.on, options={"risk": 0.1}, shown=True),
    Figure("risk_at_coverage", risk_at_coverage.on, options={"coverage": 0.8}),
    Figure("apgr", apgr.on, "expert", shown=True, compared=True),
    Figure("cpt_50", cpt.on, "expert", {"part": 0.5}),
    Figure("cpt_80", cpt.on, "expert", {"part": 0.8}),
    Figure("cpt_95", cpt.on, "expert", {"part": 0.95}),
    Figure("parity_share", parity_share.on, "expert", {"margin": MARGIN}),
    Figure("aiq", shown=True),
    Figure("mfg"),
    Figure("cmfg", options={"bins": BINS}),
    Figure("cmfg_star", options={"bins": BINS}),
    Figure("cmfg_star_skill", shown=True),
    Figure("spearman"),
)
"""Every metric of a source, in the order of results.json."""

METRICS = tuple(figure.name for figure in FIGURES)

SHOWN = tuple(figure.name for figure in FIGURES if figure.shown)
"""The twelve metrics that tables show by default; the others are in results.json."""

COMPARED = tuple(figure.name for figure in FIGURES if figure.compared)
"""Metrics of the paired differences."""

LOWER_IS_BETTER = frozenset(figure.name for figure in FIGURES if figure.lower_is_better)

PRINTED = {"bins": "bins", "kind": "binning", "risk": "risk", "coverage": "coverage", "margin": "margin"}
"""Options of a metric that stand beside its value in results.json, and their names there."""


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
        p = x if self.probability is None else self.probability[kept]
        agreement, answered, expert = self.rows.consistency[kept], self.rows.answered[kept], self.expert[kept]
        known, ended, routed = (
            np.flatnonzero(m) for m in (np.isfinite(agreement), self.rows.ended[kept], np.isfinite(expert))
        )
        given: dict[str, dict[str, Any]] = {"rows": {}}
        given |= {"probabilities": {}} if self.probability is not None else {}
        given |= {"answer": {"groups": answered}} if (answered >= 0).any() else {}
        given |= {"expert": {"expert": expert[routed]}} if len(routed) else {}
        figures = [f for f in FIGURES if f.name in names and f.metric is not None and f.needs in given]

        once = np.ones((1, len(x)), dtype=np.int32)

        def some(outcome: Floats, places: Ints) -> Weighted:
            return Weighted(x[places], outcome[places], columns(once, places))

        of_rows, of_probabilities, of_expert = Weighted(x, y, once), Weighted(p, y, once), some(y, routed)
        of_agreement, of_ended = some(agreement, known), some(y, ended)

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
            if len(routed) and "aiq" in names:
                curve = asked.shared(Escalated.of, given["expert"]["expert"])
                out |= {"escalated": curve.accuracy(POINTS), "area": curve.area()}
            if len(known) and "spearman" in names:
                out["spearman"] = spearman.on(under(of_agreement, known))
            if len(ended) and "auroc_ended" in names:
                out["auroc_ended"] = out["auroc"] if len(ended) == len(x) else auroc.on(under(of_ended, ended))
            return out

        return self.bootstrap.sample(compute, kept)

    def summary(self) -> dict[str, Any]:
        """The source's entry in results.json."""
        entry: dict[str, Any] = {}
        for figure in FIGURES:
            name, printed = figure.name, {PRINTED[o]: x for o, x in figure.options.items() if o in PRINTED}
            beside = self.faithful.beside(name) if self.faithful is not None and name in FAITHFUL else {}
            there = name in self.sampled
            entry[name] = {**estimate(self.sampled[name]), **printed, **beside} if there else None
        costs = [cost for record in self.rows.records if (cost := record.cost.get(self.source)) is not None]
        return entry | {
            "family": family(self.source),
            "n": len(self.present),
            "missing": len(self.confidence) - len(self.present),
            "distinct": len(np.unique(self.confidence[self.present])),
            "cost": {unit: float(np.mean([getattr(cost, unit) for cost in costs])) for unit in ("tokens", "seconds")}
            if costs
            else None,
        }

    def overhead(self) -> float:
        """What reading the source costs, in answers of the model itself: extra tokens to tokens of an answer.

        0 where the records do not carry both.
        """
        pairs = [
            (cost.tokens, len(record.answer_ids))
            for record in self.rows.records
            if (cost := record.cost.get(self.source)) is not None and record.answer_ids
        ]
        return sum(extra for extra, _ in pairs) / sum(own for _, own in pairs) if pairs else 0.0


def best(sources: Iterable[str], estimators: dict[str, dict[str, Any]], metric: str = "auroc") -> str | None:
    """The source with the best value of a metric, None where none has one; the first among equals."""
    values: dict[str, float] = {
        s: estimators[s][metric]["value"]
        for s in sources
        if estimators[s][metric] is not None and estimators[s][metric]["value"] is not None
    }
    pick = min if metric in LOWER_IS_BETTER else max
    return pick(values, key=values.__getitem__, default=None)
