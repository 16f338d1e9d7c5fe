"""The evaluation: everything that results.json says about the confidences in a file of records."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from confide.errors import ConfideError
from confide.evaluation.agreement import Agreement
from confide.evaluation.contrasts import contrasts
from confide.evaluation.controls import controls
from confide.evaluation.coupling import coupling
from confide.evaluation.error_kinds import auroc_by_position, error_kinds
from confide.evaluation.judged import COMPARED, LOWER_IS_BETTER, Judged
from confide.evaluation.matrix import matrix
from confide.evaluation.record_columns import Rows, extra, select
from confide.evaluation.rejection import rejection
from confide.evaluation.samples import Samples
from confide.evaluation.verdict import verdict
from confide.metrics.bootstrap import Bootstrap, estimate
from confide.metrics.calibration_error import wilson
from confide.metrics.metric import FloatArray
from confide.metrics.routing import EXPERT_COST, MARGIN, POINTS, aiq
from confide.records import Record
from confide.sources import NO_RIVALS, family

MIN_ROWS = 100
"""Graded rows below which no verdict is given: the standard deviation of AUROC is then above 0.03 or so."""


def evaluate(
    records: list[Record],
    *,
    expert: list[Record] | None = None,
    expert_cost: float | None = None,
    trained: dict[str, list[Record]] | None = None,
    original: list[Record] | None = None,
    seed: int = 0,
    resamples: int = 1000,
    min_rows: int = MIN_ROWS,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Judge every source in the records; the result is what results.json holds (numbers, text and None only).

    Only graded rows count, and only the test split where records carry splits. Intervals are 95 % percentile
    intervals of a bootstrap by entity; a source's own missing rows are left out and counted, and a paired
    difference is taken where both sources have a value. Without ``expert`` (the same questions answered by
    another model) routing assumes an expert who is always right; an expert's answer costs ``expert_cost``
    answers of the model (ten where nobody says). ``trained`` adds rows to the matrix: what a confidence was
    trained on to records scored with it. ``original`` holds the graded answers of the model before it was
    trained further. Below ``min_rows`` rows the numbers stand but the verdict is refused. ``progress`` is
    called with each source as its turn comes.

    Raises `ConfideError` where there is nothing to judge: no graded row, all right, all wrong, no confidence,
    no test split, or an expert that answered none of the questions.
    """
    rows = select(records)
    if expert_cost is not None and not 0 < expert_cost < np.inf:
        raise ConfideError(f"an expert's answer must cost more than 0, not {expert_cost:g}")
    bootstrap = Bootstrap([record.cluster for record in rows.records], resamples=resamples, seed=seed)
    helper = np.ones(len(rows.records)) if expert is None else _marks(rows, expert)
    samples = Samples.of(rows)
    agreement = Agreement(rows.consistency, rows.samples, bootstrap)
    judged = {}
    for source in rows.sources:
        if progress is not None:
            progress(source)
        judged[source] = Judged(rows, source, bootstrap, helper, agreement)
    routing = _routing(rows, judged, helper, given=expert is not None, expert_cost=expert_cost)
    _within_question(judged, samples, bootstrap)
    estimators = {source: one.summary() for source, one in judged.items()}
    for source, entry in estimators.items():
        _annotate(entry, samples, source, routing["expert_cost"])
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
        "differences": _differences(judged, estimators, samples, bootstrap),
        "routing": routing,
        "agreement": _agreement(rows, agreement),
        "within_question": samples.summary(rows, bootstrap),
        "auroc_by_position": auroc_by_position(rows, bootstrap),
        "error_kinds": error_kinds(rows, bootstrap),
        "matrix": matrix(records, trained or {}, seed=seed, resamples=resamples, min_rows=min_rows),
        "rejection": rejection(records, seed=seed, resamples=resamples),
        "coupling": None if original is None else coupling(rows, original, bootstrap),
        "controls": controls(records, rows, bootstrap.clusters, estimators, min_rows=min_rows)
        | contrasts(rows, bootstrap),
    }
    results["verdict"] = verdict(results, rows, min_rows=min_rows)
    return results


def _accuracy_interval(rows: Rows, bootstrap: Bootstrap) -> tuple[float | None, float | None]:
    y = rows.correct.astype(np.float64)
    sampled = bootstrap.sample(lambda w: {"accuracy": w @ y / w.sum(axis=1)}, np.arange(len(y)))
    result = estimate(sampled["accuracy"])
    if result.low is None and bootstrap.clusters == len(y):
        return wilson(float(y.sum()), len(y))
    return result.low, result.high


def _agreement(rows: Rows, agreement: Agreement) -> dict[str, Any] | None:
    """How the agreement is spread, and how many rows say that no confidence could be read from their text."""
    found = agreement.summary()
    if found is None:
        return None
    return {**found, "unparsed": sum(extra(record, "parsed") is False for record in rows.records)}


def _within_question(judged: dict[str, Judged], samples: Samples, bootstrap: Bootstrap) -> None:
    for source, one in judged.items():
        if source in samples.confidence and len((pairs := samples.pairs(source)).rows):
            averaged, pooled = pairs.sampled(bootstrap)
            one.sampled |= {"within_question_auroc": averaged, "within_question_auroc_pooled": pooled}


def _annotate(entry: dict[str, Any], samples: Samples, source: str, expert_cost: float) -> None:
    """Say how many pairs and which cost a value rests on."""
    if entry["within_question_auroc"] is not None:
        pairs = samples.pairs(source)
        for name in ("within_question_auroc", "within_question_auroc_pooled"):
            entry[name] |= {"questions": len(pairs.rows), "pairs": int(pairs.pairs.sum())}
    if entry["aiq"] is not None:
        entry["aiq"]["expert_cost"] = expert_cost


def _differences(
    judged: dict[str, Judged], estimators: dict[str, dict[str, Any]], samples: Samples, bootstrap: Bootstrap
) -> list[dict[str, Any]]:
    """Every source that is not free, prior, floor or control against the best free source and each prior.

    The best free source is chosen on these very rows, metric by metric, which favours the free side.
    """
    out = []
    rivals = [s for s in judged if family(s) not in NO_RIVALS]
    priors = [s for s in judged if family(s) == "prior"]
    for metric in COMPARED:
        free = best((s for s in judged if family(s) == "free"), estimators, metric)
        opponents = [*([free] if free is not None else []), *priors]
        for a in rivals:
            for b in opponents:
                if estimators[a][metric] is None or estimators[b][metric] is None:
                    continue
                if metric.startswith("within_question"):
                    paired, n = samples.difference(a, b, bootstrap)[metric]
                else:
                    paired, n = _paired(judged[a], judged[b], metric, bootstrap)
                if n:
                    out.append({"a": a, "b": b, "metric": metric, **estimate(paired).as_dict(), "n": n})
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
    pick = min if metric in LOWER_IS_BETTER else max
    return pick(values, key=values.__getitem__)


def _paired(a: Judged, b: Judged, metric: str, bootstrap: Bootstrap) -> tuple[FloatArray, int]:
    """The metric of ``a`` minus that of ``b`` where both have a value, and the number of those rows."""
    common = np.intersect1d(a.present, b.present)
    if not len(common):
        return np.zeros(1), 0
    undefined = np.full(1 + bootstrap.resamples, np.nan)
    one, other = (s.on(common, bootstrap).get(metric, undefined) for s in (a, b))
    return one - other, len(common)


def _marks(rows: Rows, expert: list[Record]) -> FloatArray:
    """Whether the expert is right on each row [n], NaN where it gave no graded answer."""
    marks = {record.id: record.correct for record in expert}
    found = [marks.get(record.id) for record in rows.records]
    if all(mark is None for mark in found):
        raise ConfideError("no graded record of the expert file has the id of an evaluated record")
    return np.array([np.nan if mark is None else float(mark) for mark in found])


def _routing(
    rows: Rows, judged: dict[str, Judged], helper: FloatArray, *, given: bool, expert_cost: float | None
) -> dict[str, Any]:
    """Accuracy and cost against the share escalated for every source, on the rows that the expert answered too."""
    kept = np.isfinite(helper)
    price = EXPERT_COST if expert_cost is None else expert_cost
    routed = {source: one for source, one in judged.items() if "escalated" in one.sampled}
    overheads = {source: one.overhead() for source, one in routed.items()}
    limit = 1 + price + max(overheads.values(), default=0.0)
    share = np.linspace(0, 1, POINTS)
    out: dict[str, Any] = {
        "expert": "records" if given else "perfect",
        "n": int(kept.sum()),
        "missing": int((~kept).sum()),
        "accuracy": float(rows.correct[kept].mean()),
        "expert_accuracy": float(helper[kept].mean()),
        "expert_cost": price,
        "expert_cost_given": expert_cost is not None,
        "margin": MARGIN,
        "sources": {},
    }
    for source, one in routed.items():
        accuracy, area = one.sampled.pop("escalated"), one.sampled.pop("area")
        one.sampled["aiq"] = aiq(accuracy, overhead=overheads[source], expert_cost=price, limit=limit)
        out["sources"][source] = {
            "share": [round(float(s), 4) for s in share],
            "accuracy": [float(a) for a in accuracy[0]],
            "cost": [float(1 + overheads[source] + price * s) for s in share],
            "overhead": overheads[source],
            "area": float(area[0]),
            "n": int(np.isfinite(one.confidence[kept]).sum()),
        }
    return out
