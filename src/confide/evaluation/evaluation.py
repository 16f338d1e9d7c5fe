"""The evaluation: everything that results.json says about the confidences in a file of records."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np

from confide.errors import ConfideError
from confide.evaluation.agreement import Agreement
from confide.evaluation.breakdowns import auroc_by_position, error_kinds, rejection
from confide.evaluation.contrasts import contrasts, coupling
from confide.evaluation.controls import controls
from confide.evaluation.figures import COMPARED
from confide.evaluation.judged import Judged, best
from confide.evaluation.matrix import matrix
from confide.evaluation.recommendation import recommendation
from confide.evaluation.record_columns import Rows, marks_of, select
from confide.evaluation.samples import WITHIN_QUESTION, Samples
from confide.evaluation.verdict import chosen, verdict
from confide.metrics.bootstrap import Bootstrap, estimate
from confide.metrics.calibration_error import wilson
from confide.metrics.routing import EXPERT_COST, MARGIN, POINTS, aiq
from confide.numeric import Floats
from confide.records import Record, RecordTable, ScoreColumns
from confide.signals import SIGNALS
from confide.sources import family

MIN_ROWS = 100
"""Graded rows below which no verdict is given: the standard deviation of AUROC is then above 0.03 or so."""


def evaluate(
    records: Sequence[Record],
    *,
    expert: Sequence[Record] | None = None,
    expert_cost: float | None = None,
    trained: Mapping[str, Sequence[Record]] | None = None,
    original: Sequence[Record] | None = None,
    file: str | None = None,
    columns: ScoreColumns | None = None,
    seed: int = 0,
    resamples: int = 1000,
    min_rows: int = MIN_ROWS,
    progress: Callable[[str], None] = lambda source: None,
) -> dict[str, Any]:
    """Judge every source in the records.

    Only graded rows count, and only the test split where records carry splits. Intervals are 95 % percentile
    intervals of a bootstrap by entity. Missing values are left out and counted, for a difference those of both sources.

    Args:
        records: The whole file, all splits.
        expert: The same questions answered by another model; None: routing assumes an expert who is always right.
        expert_cost: What an expert's answer costs, in answers of the model; None: ten.
        trained: Further rows of the matrix: what a confidence was trained on, to the records scored with it.
        original: The graded answers of the model before it was trained further.
        file, columns: The records' file and its columns, as commands name them.
        seed, resamples: Seed and draws of the bootstrap.
        min_rows: Rows below which the numbers stand but verdict and recommendation are refused.
        progress: Called with the name of each source as its turn comes.

    Returns:
        What results.json holds: numbers, text and None only.

    Raises:
        ConfideError: Nothing to judge (all answers right, say), several models, or an expert without these questions.
    """
    table, rows = _checked(records, expert_cost)
    bootstrap, right = rows.bootstrap(resamples, seed), _expert_right(rows, expert)
    samples, agreement = Samples.of(rows), Agreement(rows.consistency, rows.samples, bootstrap)
    judged = _judged(rows, bootstrap, right, agreement, progress)
    routing = _routing(rows, judged, right, expert is not None, expert_cost)
    estimators = _estimators(judged, samples, bootstrap, routing["expert_cost"])
    drawn = {"seed": seed, "resamples": resamples, "min_rows": min_rows}
    results = {
        **_overview(rows, bootstrap, file, columns or ScoreColumns()),
        "estimators": estimators,
        "differences": _differences(rows, judged, estimators, samples, bootstrap),
        "routing": routing,
        "agreement": _agreement(rows, agreement),
        "within_question": samples.summary(rows, bootstrap),
        "auroc_by_position": auroc_by_position(rows, bootstrap),
        "error_kinds": error_kinds(rows, bootstrap),
        "matrix": matrix(table, trained or {}, **drawn),
        "recommendation": recommendation(table, file=file, columns=columns, **drawn),
        "rejection": rejection(table, seed=seed, resamples=resamples),
        "coupling": None if original is None else coupling(rows, original, bootstrap),
        "controls": controls(table, rows, bootstrap.clusters, estimators, min_rows=min_rows)
        | contrasts(rows, bootstrap),
    }
    return results | {"verdict": verdict(results, rows, min_rows=min_rows)}


def _checked(records: Sequence[Record], expert_cost: float | None) -> tuple[RecordTable, Rows]:
    table = RecordTable.of(records)
    rows = select(table)
    if expert_cost is not None and not 0 < expert_cost < np.inf:
        raise ConfideError(f"an expert's answer must cost more than 0, not {expert_cost:g}")
    return table, rows


def _overview(rows: Rows, bootstrap: Bootstrap, file: str | None, columns: ScoreColumns) -> dict[str, Any]:
    """How many rows there are, how many of them are right, and what the intervals rest on."""
    n, y = len(rows.records), rows.correct.astype(np.float64)
    accuracy = estimate(bootstrap.mean(y, np.arange(n)))
    low, high = accuracy["low"], accuracy["high"]
    if low is None and bootstrap.clusters == n:
        low, high = wilson(float(y.sum()), n)
    return {
        "schema": 1,
        "records": None if file is None else {"file": file} | ({"columns": columns.given} if columns.named else {}),
        "n": n,
        "accuracy": int(y.sum()) / n,
        "accuracy_interval": {"low": low, "high": high},
        "cut": float(np.mean(~rows.ended)),
        "split": rows.split,
        "left_out": rows.left_out,
        "signal": _about(rows),
        "judge": None if rows.judge is None else rows.judge.model_dump(),
        "bootstrap": bootstrap.settings(),
    }


def _about(rows: Rows) -> dict[str, str] | None:
    """What the labels are about, in words for both sides; None: whether answers are right.

    Raises `ConfideError` for rows whose labels are about several things.
    """
    names = sorted(rows.records.coded("signal").present())
    if len(names) > 1:
        raise ConfideError(f"the labels of these rows are about {' and '.join(n or 'being right' for n in names)}")
    signal = SIGNALS.get(names[0])
    return None if signal is None else {"name": signal.name, "fine": signal.fine, "flagged": signal.flagged}


def _agreement(rows: Rows, agreement: Agreement) -> dict[str, Any] | None:
    """How the agreement is spread, and how many rows say that no confidence could be read from their text."""
    found = agreement.summary()
    unparsed = int(rows.records.extra("parsed").mark(lambda value: value is False).sum())
    return None if found is None else found | {"unparsed": unparsed}


def _judged(
    rows: Rows, bootstrap: Bootstrap, expert: Floats, agreement: Agreement, progress: Callable[[str], None]
) -> dict[str, Judged]:
    judged = {}
    for source in rows.sources:
        progress(source)
        judged[source] = Judged(rows, source, bootstrap, expert, agreement)
    return judged


def _expert_right(rows: Rows, expert: Sequence[Record] | None) -> Floats:
    """Whether the expert is right on each row [n], NaN where it gave no graded answer."""
    if expert is None:
        return np.ones(len(rows.records))
    found = marks_of(expert, rows.records)
    if np.isnan(found).all():
        raise ConfideError("no graded record of the expert file has the id of an evaluated record")
    return found


def _routing(
    rows: Rows, judged: dict[str, Judged], expert: Floats, recorded: bool, expert_cost: float | None
) -> dict[str, Any]:
    """Accuracy and cost against the share escalated for every source, on the rows that the expert answered too."""
    answered = np.isfinite(expert)
    price = EXPERT_COST if expert_cost is None else expert_cost
    routed = {source: one for source, one in judged.items() if "escalated" in one.sampled}
    overheads = {source: one.overhead() for source, one in routed.items()}
    limit = 1 + price + max(overheads.values(), default=0.0)
    share = np.linspace(0, 1, POINTS)
    curves = {}
    for source, one in routed.items():
        accuracy, area, overhead = one.sampled.pop("escalated"), one.sampled.pop("area"), overheads[source]
        one.sampled["aiq"] = aiq(accuracy, overhead=overhead, expert_cost=price, limit=limit)
        curves[source] = {
            "share": share.round(4).tolist(),
            "accuracy": accuracy[0].tolist(),
            "cost": (1 + overhead + price * share).tolist(),
            "overhead": overhead,
            "area": float(area[0]),
            "n": int(np.isfinite(one.confidence[answered]).sum()),
        }
    return {
        "expert": "records" if recorded else "perfect",
        "n": int(answered.sum()),
        "missing": int((~answered).sum()),
        "accuracy": float(rows.correct[answered].mean()),
        "expert_accuracy": float(expert[answered].mean()),
        "expert_cost": price,
        "expert_cost_given": expert_cost is not None,
        "margin": MARGIN,
        "sources": curves,
    }


def _estimators(
    judged: dict[str, Judged], samples: Samples, bootstrap: Bootstrap, expert_cost: float
) -> dict[str, dict[str, Any]]:
    """The entries of all sources, with what their values rest on: pairs of sampled answers, the expert's cost."""
    out = {}
    for source, one in judged.items():
        pairs = samples.pairs(source) if source in samples.confidence else None
        if pairs is not None and len(pairs.groups):
            one.sampled |= dict(zip(WITHIN_QUESTION, pairs.sampled(bootstrap, "auroc").values(), strict=True))
        entry = out[source] = one.summary()
        for name in WITHIN_QUESTION:
            if pairs is not None and entry[name] is not None:
                entry[name] |= {"questions": len(pairs.groups), "pairs": int(pairs.pairs.sum())}
        if entry["aiq"] is not None:
            entry["aiq"]["expert_cost"] = expert_cost
    return out


def _differences(
    rows: Rows, judged: dict[str, Judged], estimators: dict[str, dict[str, Any]], samples: Samples, bootstrap: Bootstrap
) -> list[dict[str, Any]]:
    """Every source that is not free, prior, floor or control against the best free source and each prior.

    The best free source is chosen on these very rows, metric by metric, which favours the free side. Where none is
    free, the source that the report is about stands against every other one; if it was chosen on these rows, that
    favours it.
    """
    out = []
    main, _ = chosen({"estimators": estimators})
    others = [s for s in rows.competing if s != main and not any(family(one) == "free" for one in judged)]
    priors = [s for s in judged if family(s) == "prior"]
    for metric in COMPARED:
        free = best((s for s in judged if family(s) == "free"), estimators, metric)
        opponents = [*([free] if free is not None else []), *priors]
        for a, b in [*product(rows.competing, opponents), *((main, other) for other in others)]:
            if a is None or estimators[a][metric] is None or estimators[b][metric] is None:
                continue
            if metric in WITHIN_QUESTION:
                paired, n = samples.difference(a, b, bootstrap)[metric]
            else:
                common = rows.present(a, b)
                paired, n = judged[a].on(common, metric) - judged[b].on(common, metric), len(common)
            if n:
                out.append({"a": a, "b": b, "metric": metric, **estimate(paired), "n": n})
    return out
