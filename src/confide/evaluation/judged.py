"""The judged source: every metric of one source on its rows, with the draws of the bootstrap."""

from __future__ import annotations

from typing import Any

import numpy as np

from confide.evaluation.agreement import FAITHFUL, Agreement, Faithful
from confide.evaluation.record_columns import Rows
from confide.metrics.bootstrap import Bootstrap, Statistics, estimate
from confide.metrics.calibration_error import Binned, brier, log_loss, smooth_ece
from confide.metrics.metric import FloatArray, IntArray, Weights, columns, ratio
from confide.metrics.ranking import auroc, group_pairs, spearman
from confide.metrics.routing import MARGIN, POINTS, Escalated
from confide.metrics.selective import Answered
from confide.sources import family

SMOOTH_RESAMPLES = 200
"""Resamples for the smooth ECE, whose interval costs more than all others together."""

SMOOTH_CHUNK = 2_000_000
"""Its cost is by bandwidth, shared by the resamples of a chunk, so they are large."""

BINS = 10

RISK, COVERAGE = 0.1, 0.8

PARAMETERS: dict[str, dict[str, float | str]] = {
    "ece": {"bins": BINS, "binning": "width"},
    "ece_mass": {"bins": BINS, "binning": "mass"},
    "mce": {"bins": BINS},
    "brier_reliability": {"bins": BINS},
    "brier_resolution": {"bins": BINS},
    "brier_uncertainty": {"bins": BINS},
    "brier_within": {"bins": BINS},
    "coverage_at_risk": {"risk": RISK},
    "risk_at_coverage": {"coverage": COVERAGE},
    "parity_share": {"margin": MARGIN},
    "cmfg": {"bins": BINS},
    "cmfg_star": {"bins": BINS},
}
"""What a metric was computed with; stands beside its value in results.json."""

METRICS = (
    "auroc",
    "auroc_ended",
    "within_question_auroc",
    "within_question_auroc_pooled",
    "within_answer_auroc",
    "within_answer_auroc_averaged",
    "brier",
    "brier_reliability",
    "brier_resolution",
    "brier_uncertainty",
    "brier_within",
    "brier_skill",
    "log_loss",
    "ece",
    "ece_mass",
    "smooth_ece",
    "mce",
    "aurc",
    "excess_aurc",
    "prr",
    "coverage_at_risk",
    "risk_at_coverage",
    "apgr",
    "cpt_50",
    "cpt_80",
    "cpt_95",
    "parity_share",
    "aiq",
    "mfg",
    "cmfg",
    "cmfg_star",
    "cmfg_star_skill",
    "spearman",
)
"""Every metric of a source, in the order of results.json."""

COMPARED = (
    "auroc",
    "within_question_auroc",
    "within_question_auroc_pooled",
    "within_answer_auroc",
    "within_answer_auroc_averaged",
    "brier",
    "log_loss",
    "aurc",
    "prr",
    "apgr",
)
"""Metrics of the paired differences."""

LOWER_IS_BETTER = frozenset({"brier", "log_loss", "aurc"})


class Judged:
    """One source on the rows where it has a value: its metrics, each sampled [1 + resamples].

    ``expert`` [rows] is 1 where the expert is right, NaN where there is no expert's answer. Faithfulness is judged
    against ``agreement``, which belongs to the same rows.
    """

    def __init__(self, rows: Rows, source: str, bootstrap: Bootstrap, expert: FloatArray, agreement: Agreement):
        self.rows, self.source, self.expert = rows, source, expert
        self._on_rows: dict[bytes, dict[str, FloatArray]] = {}
        self.confidence = rows.confidence(source)
        self.present: IntArray = np.flatnonzero(np.isfinite(self.confidence)).astype(np.int64)
        values = self.confidence[self.present]
        self.probability = bool(len(values)) and bool(values.min() >= 0 and values.max() <= 1)
        self.sampled: dict[str, FloatArray] = {}
        self.faithful: Faithful | None = None
        if not len(values):
            return
        kept = self.ranked(self.present)
        self.sampled = bootstrap.sample(self.statistics(kept), kept)
        if self.probability:
            self.faithful = agreement.judge(self.confidence)
            if self.faithful is not None:
                self.sampled |= self.faithful.scores
                if (found := self.faithful.skill("cmfg_star")) is not None:
                    self.sampled["cmfg_star_skill"] = found
            x, y = self.confidence[kept], rows.correct[kept]
            self.sampled |= bootstrap.sample(
                lambda w: {"smooth_ece": smooth_ece.resampled(x, y, w)},
                kept,
                resamples=SMOOTH_RESAMPLES,
                chunk=SMOOTH_CHUNK,
            )

    def ranked(self, kept: IntArray) -> IntArray:
        """Rows in order of confidence: what every resample sorts again is then sorted already."""
        return kept[np.argsort(self.confidence[kept], kind="stable")]

    def on(self, kept: IntArray, bootstrap: Bootstrap) -> dict[str, FloatArray]:
        """The compared metrics sampled on some of the rows where the source has a value."""
        if len(kept) == len(self.present):
            return self.sampled
        # Several comparisons leave out the same rows.
        key = kept.tobytes()
        if key not in self._on_rows:
            ranked = self.ranked(kept)
            self._on_rows[key] = bootstrap.sample(self.statistics(ranked, compared_only=True), ranked)
        return self._on_rows[key]

    def statistics(self, kept: IntArray, *, compared_only: bool = False) -> Statistics:
        """The metrics of the rows ``kept`` as a function of their weights.

        Metrics that read the same curve are computed together: the curve is nearly all of the work.
        """
        x, y = self.confidence[kept], self.rows.correct[kept].astype(np.float64)
        answered = self.rows.answered[kept]
        routed = np.flatnonzero(np.isfinite(self.expert[kept]))
        expert = self.expert[kept][routed]

        def compute(w: Weights) -> dict[str, FloatArray]:
            out = {"auroc": auroc.resampled(x, y, w)}
            if (answered >= 0).any():
                pairs = group_pairs(x, y, w, answered)
                out["within_answer_auroc"] = pairs.pooled()
                out["within_answer_auroc_averaged"] = pairs.averaged()
            curve = Answered.of(x, y, w)
            out |= curve.areas()
            real = w.astype(np.float64)
            if self.probability:
                out["brier"] = brier.resampled(x, y, real)
                out["log_loss"] = log_loss.resampled(x, y, real)
            if len(routed):
                some = w if len(routed) == len(x) else columns(w, routed)
                escalated = Escalated.of(x[routed], y[routed], expert, some)
                out["apgr"] = escalated.apgr()
                if not compared_only:
                    out |= _routing(escalated)
            if compared_only:
                return out
            out["coverage_at_risk"] = curve.coverage_at_risk(RISK)
            out["risk_at_coverage"] = curve.risk_at_coverage(COVERAGE)
            out |= self._ended(kept, w, out["auroc"]) | self._consistency(kept, w)
            return out | self._calibration(kept, w, real, out)

        return compute

    def _ended(self, kept: IntArray, w: Weights, whole: FloatArray) -> dict[str, FloatArray]:
        ended = np.flatnonzero(self.rows.ended[kept])
        if len(ended) == len(kept):
            return {"auroc_ended": whole}
        x, y = self.confidence[kept][ended], self.rows.correct[kept][ended]
        return {"auroc_ended": auroc.resampled(x, y, columns(w, ended))} if len(ended) else {}

    def _consistency(self, kept: IntArray, w: Weights) -> dict[str, FloatArray]:
        known = np.flatnonzero(np.isfinite(self.rows.consistency[kept]))
        if not len(known):
            return {}
        x, g = self.confidence[kept][known], self.rows.consistency[kept][known]
        some = w if len(known) == len(kept) else columns(w, known)
        return {"spearman": spearman.resampled(x, g, some)}

    def _calibration(
        self, kept: IntArray, w: Weights, real: Weights, out: dict[str, FloatArray]
    ) -> dict[str, FloatArray]:
        if not self.probability:
            return {}
        x, y = self.confidence[kept], self.rows.correct[kept].astype(np.float64)
        width = Binned.of(x, y, real, bins=BINS)
        return {
            "ece": width.ece(),
            "mce": width.mce(),
            "ece_mass": Binned.of(x, y, w, bins=BINS, kind="mass").ece(),
            "brier_reliability": width.reliability(),
            "brier_resolution": width.resolution(),
            "brier_uncertainty": width.uncertainty(),
            "brier_within": width.within(out["brier"]),
            "brier_skill": 1 - ratio(out["brier"], width.uncertainty()),
        }

    def summary(self) -> dict[str, Any]:
        """The source's entry in results.json."""
        entry: dict[str, Any] = {}
        for name in METRICS:
            metric = estimate(self.sampled[name]).as_dict() if name in self.sampled else None
            beside = self.faithful.beside(name) if self.faithful is not None and name in FAITHFUL else {}
            entry[name] = metric if metric is None else {**metric, **PARAMETERS.get(name, {}), **beside}
        costs = [cost for record in self.rows.records if (cost := record.cost.get(self.source)) is not None]
        return entry | {
            "family": family(self.source),
            "n": len(self.present),
            "missing": len(self.confidence) - len(self.present),
            "distinct": len(np.unique(self.confidence[self.present])),
            "cost": {
                "tokens": float(np.mean([cost.tokens for cost in costs])),
                "seconds": float(np.mean([cost.seconds for cost in costs])),
            }
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


def _routing(escalated: Escalated) -> dict[str, FloatArray]:
    return {
        "cpt_50": escalated.share_recovering(0.5),
        "cpt_80": escalated.share_recovering(0.8),
        "cpt_95": escalated.share_recovering(0.95),
        "parity_share": escalated.share_reaching(escalated.expert - MARGIN),
        "escalated": escalated.accuracy(POINTS),
        "area": escalated.area(),
    }
