"""The evaluation: everything that results.json says about the confidences in a file of records."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from confide.errors import ConfideError
from confide.metrics.bootstrap import CHUNK, Bootstrap, Statistics, estimate
from confide.metrics.calibration import brier, brier_skill, ece, log_loss, mce, smooth_ece, wilson
from confide.metrics.controls import controls
from confide.metrics.metric import BoolArray, FloatArray, IntArray, Weights, columns
from confide.metrics.ranking import auroc, group_pairs, spearman
from confide.metrics.routing import routing_curve
from confide.metrics.rows import Rows, select
from confide.metrics.selective import Answered
from confide.metrics.sources import family
from confide.metrics.verdict import verdict
from confide.records import Record

MIN_ROWS = 100
"""Graded rows below which no verdict is given: the standard deviation of AUROC is then above 0.03 or so."""

SMOOTH_RESAMPLES = 200
"""Resamples for the smooth ECE, whose interval costs more than all others together."""

BINS = 10

PARAMETERS: dict[str, dict[str, float]] = {
    "ece": {"bins": BINS},
    "mce": {"bins": BINS},
    "coverage_at_risk": {"risk": 0.1},
    "risk_at_coverage": {"coverage": 0.8},
}
"""What a metric was computed with; stands beside its value in results.json."""

COMPARED = ("auroc", "within_answer_auroc", "brier", "log_loss", "aurc")
"""Metrics of the paired differences."""

HIGHER_IS_BETTER = frozenset({"auroc", "within_answer_auroc"})


def evaluate(
    records: list[Record],
    *,
    expert: list[Record] | None = None,
    seed: int = 0,
    resamples: int = 1000,
    min_rows: int = MIN_ROWS,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Judge every source in the records; the result is what results.json holds (numbers, text and None only).

    Only graded rows count, and only the test split where records carry splits. Intervals are 95 % percentile
    intervals of a bootstrap by entity; a source's own missing rows are left out and counted, and a paired
    difference is taken where both sources have a value. Without ``expert`` (the same questions answered by
    another model) routing assumes an expert who is always right. Below ``min_rows`` rows the numbers stand
    but the verdict is refused. ``progress`` is called with each source as its turn comes.

    Raises `ConfideError` where there is nothing to judge: no graded row, all right, all wrong, no confidence,
    no test split, or an expert that answered none of the questions.
    """
    rows = select(records)
    bootstrap = Bootstrap([record.cluster for record in rows.records], resamples=resamples, seed=seed)
    judged = {}
    for source in rows.sources:
        if progress is not None:
            progress(source)
        judged[source] = _Judged(rows, source, bootstrap)
    estimators = {source: one.summary() for source, one in judged.items()}
    right = int(rows.correct.sum())
    n = len(rows.records)
    low, high = _accuracy_interval(rows, bootstrap)
    results: dict[str, Any] = {
        "schema": 1,
        "n": n,
        "accuracy": right / n,
        "accuracy_interval": {"low": low, "high": high},
        "cut": float(np.mean(~rows.ended)),
        "split": rows.split,
        "left_out": rows.left_out,
        "bootstrap": {"resamples": resamples, "seed": seed, "level": 0.95, "clusters": bootstrap.clusters},
        "estimators": estimators,
        "differences": _differences(judged, estimators, bootstrap),
        "routing": _routing(rows, expert),
        "controls": controls(records, rows, bootstrap.clusters, estimators, min_rows=min_rows),
    }
    results["verdict"] = verdict(results, rows, min_rows=min_rows)
    return results


class _Judged:
    """One source on the rows where it has a value: its metrics, each sampled [1 + resamples]."""

    def __init__(self, rows: Rows, source: str, bootstrap: Bootstrap):
        self.rows, self.source = rows, source
        self._on_rows: dict[bytes, dict[str, FloatArray]] = {}
        self.confidence = rows.confidence(source)
        self.present: IntArray = np.flatnonzero(np.isfinite(self.confidence)).astype(np.int64)
        values = self.confidence[self.present]
        self.probability = bool(len(values)) and bool(values.min() >= 0 and values.max() <= 1)
        self.sampled = bootstrap.sample(self.statistics(self.present), self.present) if len(values) else {}
        if self.probability:
            y = rows.correct[self.present]
            self.sampled |= bootstrap.sample(
                lambda w: {"smooth_ece": smooth_ece.resampled(values, y, w)},
                self.present,
                resamples=SMOOTH_RESAMPLES,
                chunk=20 * CHUNK,  # its cost is by bandwidth, shared by the resamples of a chunk
            )

    def on(self, kept: IntArray, bootstrap: Bootstrap) -> dict[str, FloatArray]:
        """The metrics sampled on some of the rows where the source has a value."""
        if len(kept) == len(self.present):
            return self.sampled
        # Several comparisons leave out the same rows.
        key = kept.tobytes()
        if key not in self._on_rows:
            self._on_rows[key] = bootstrap.sample(self.statistics(kept), kept)
        return self._on_rows[key]

    def statistics(self, kept: IntArray) -> Statistics:
        """The metrics of the rows ``kept`` as a function of their weights.

        Metrics that read the same curve are computed together: the curve is nearly all of the work.
        """
        x, y = self.confidence[kept], self.rows.correct[kept].astype(np.float64)
        ended, answered = self.rows.ended[kept], self.rows.answered[kept]
        known = np.isfinite(self.rows.consistency[kept])
        consistency = self.rows.consistency[kept][known]

        def compute(w: Weights) -> dict[str, FloatArray]:
            out = {"auroc": auroc.resampled(x, y, w)}
            if ended.all():
                out["auroc_ended"] = out["auroc"]
            elif ended.any():
                out["auroc_ended"] = auroc.resampled(x[ended], y[ended], columns(w, np.flatnonzero(ended)))
            if (answered >= 0).any():
                pairs = group_pairs(x, y, w, answered)
                out["within_answer_auroc"] = pairs.pooled()
                out["within_answer_auroc_averaged"] = pairs.averaged()
            curve = Answered.of(x, y, w)
            out["aurc"] = curve.aurc()
            out["excess_aurc"] = out["aurc"] - curve.oracle().aurc()
            out["coverage_at_risk"] = curve.coverage_at_risk(PARAMETERS["coverage_at_risk"]["risk"])
            out["risk_at_coverage"] = curve.risk_at_coverage(PARAMETERS["risk_at_coverage"]["coverage"])
            if known.any():
                out["spearman"] = spearman.resampled(x[known], consistency, columns(w, np.flatnonzero(known)))
            if self.probability:
                out["brier"] = brier.resampled(x, y, w)
                out["brier_skill"] = brier_skill.resampled(x, y, w)
                out["log_loss"] = log_loss.resampled(x, y, w)
                out["ece"] = ece.resampled(x, y, w, bins=BINS)
                out["mce"] = mce.resampled(x, y, w, bins=BINS)
            return out

        return compute

    def summary(self) -> dict[str, Any]:
        """The source's entry in results.json."""
        names = [
            "auroc",
            "auroc_ended",
            "within_answer_auroc",
            "within_answer_auroc_averaged",
            "brier",
            "brier_skill",
            "log_loss",
            "ece",
            "smooth_ece",
            "mce",
            "aurc",
            "excess_aurc",
            "coverage_at_risk",
            "risk_at_coverage",
            "spearman",
        ]
        entry: dict[str, Any] = {}
        for name in names:
            metric = estimate(self.sampled[name]).as_dict() if name in self.sampled else None
            entry[name] = metric if metric is None else {**metric, **PARAMETERS.get(name, {})}
        costs = [cost for record in self.rows.records if (cost := record.cost.get(self.source)) is not None]
        return entry | {
            "family": family(self.source),
            "n": len(self.present),
            "missing": len(self.confidence) - len(self.present),
            "cost": {
                "tokens": float(np.mean([cost.tokens for cost in costs])),
                "seconds": float(np.mean([cost.seconds for cost in costs])),
            }
            if costs
            else None,
        }


def _accuracy_interval(rows: Rows, bootstrap: Bootstrap) -> tuple[float | None, float | None]:
    y = rows.correct.astype(np.float64)
    sampled = bootstrap.sample(lambda w: {"accuracy": w @ y / w.sum(axis=1)}, np.arange(len(y)))
    result = estimate(sampled["accuracy"])
    if result.low is None and bootstrap.clusters == len(y):
        return wilson(float(y.sum()), len(y))
    return result.low, result.high


def _differences(
    judged: dict[str, _Judged], estimators: dict[str, dict[str, Any]], bootstrap: Bootstrap
) -> list[dict[str, Any]]:
    """Every source that is not free, prior or floor against the best free source and against each prior.

    The best free source is chosen on these very rows, metric by metric, which favours the free side.
    """
    out = []
    rivals = [s for s in judged if family(s) not in ("free", "prior", "floor")]
    priors = [s for s in judged if family(s) == "prior"]
    for metric in COMPARED:
        free = best((s for s in judged if family(s) == "free"), estimators, metric)
        opponents = [*([free] if free is not None else []), *priors]
        for a in rivals:
            for b in opponents:
                if estimators[a][metric] is None or estimators[b][metric] is None:
                    continue
                one, other, n = _paired(judged[a], judged[b], metric, bootstrap)
                if n:
                    out.append({"a": a, "b": b, "metric": metric, **estimate(one - other).as_dict(), "n": n})
    return out


def best(sources: Iterable[str], estimators: dict[str, dict[str, Any]], metric: str = "auroc") -> str | None:
    """The source with the best value of a metric, None where none has one; the first among equals."""
    values: dict[str, float] = {
        s: estimators[s][metric]["value"]
        for s in sources
        if estimators[s][metric] is not None and estimators[s][metric]["value"] is not None
    }
    if not values:
        return None
    pick = max if metric in HIGHER_IS_BETTER else min
    return pick(values, key=values.__getitem__)


def _paired(a: _Judged, b: _Judged, metric: str, bootstrap: Bootstrap) -> tuple[FloatArray, FloatArray, int]:
    """The metric of both sources on the rows where both have a value, and the number of those rows."""
    common = np.intersect1d(a.present, b.present)
    if not len(common):
        return np.zeros(1), np.zeros(1), 0
    one, other = (s.on(common, bootstrap) for s in (a, b))
    undefined = np.full(1 + bootstrap.resamples, np.nan)
    return one.get(metric, undefined), other.get(metric, undefined), len(common)


def _routing(rows: Rows, expert: list[Record] | None) -> dict[str, Any]:
    """Accuracy against share escalated for every source, on the rows that the expert answered too."""
    kept: BoolArray = np.full(len(rows.records), True)
    helper: FloatArray = np.ones(len(rows.records))
    if expert is not None:
        marks = {record.id: record.correct for record in expert}
        found = [marks.get(record.id) for record in rows.records]
        kept = np.array([mark is not None for mark in found])
        helper = np.array([bool(mark) for mark in found], dtype=np.float64)
        if not kept.any():
            raise ConfideError("no graded record of the expert file has the id of an evaluated record")
    out: dict[str, Any] = {
        "expert": "perfect" if expert is None else "records",
        "n": int(kept.sum()),
        "missing": int((~kept).sum()),
        "accuracy": float(rows.correct[kept].mean()),
        "expert_accuracy": float(helper[kept].mean()),
        "sources": {},
    }
    for source in rows.sources:
        confidence = rows.confidence(source)
        present = kept & np.isfinite(confidence)
        if not present.any():
            continue
        curve = routing_curve(confidence[present], rows.correct[present], helper[present])
        out["sources"][source] = {
            "share": [round(float(s), 4) for s in curve.share],
            "accuracy": [float(a) for a in curve.accuracy],
            "area": curve.area,
            "n": int(present.sum()),
        }
    return out
