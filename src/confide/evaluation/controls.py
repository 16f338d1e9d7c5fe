"""Controls that can fail: what would make the numbers mean less than they seem, each with a verdict.

A verdict is "ok", "warning" (read the numbers with this in mind), "failed" (they are not what they claim) or
"not checked" (the records do not say).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from json import dumps
from typing import Any, Literal

import numpy as np
from scipy.special import stdtrit

from confide.evaluation.record_columns import Rows
from confide.evaluation.wording import interval, listed, some
from confide.metrics.ranking import auroc
from confide.records import RecordTable
from confide.records.coded_column import Coded
from confide.sources import Source, as_probability, family

Verdict = Literal["ok", "warning", "failed", "not checked"]

MIN_CLUSTERS = 20
"""Entities below which a bootstrap over entities is known to give intervals that are too short."""

MAX_CUT = 0.02
"""Share of cut answers above which AUROC with and without them may tell different stories."""

SHUFFLES = 5
"""Fits to shuffled labels below which their mean AUROC shows nothing: a warning, whatever it is."""

MIN_KIND = 10
"""Right and wrong rows that a domain needs before its AUROC is shown."""


def controls(
    records: RecordTable, rows: Rows, clusters: int, estimators: dict[str, dict[str, Any]], *, min_rows: int
) -> dict[str, dict[str, Any]]:
    """Every control by name: ``{"verdict", "detail", …counts}``.

    ``records`` is the whole file, ``rows`` what was evaluated, ``clusters`` the number of entities in it.
    """
    n, cut, ungraded = len(rows.records), int((~rows.ended).sum()), rows.left_out["ungraded"]
    where = "in the test split" if rows.split else "(the records carry no split)"
    about = f"{some(n, 'row')} about {some(clusters, 'entity', 'entities')}; intervals take {MIN_CLUSTERS}"
    enough = f"{some(n, 'graded row')} {where}; a verdict takes {min_rows}"
    return {
        "rows": control("ok" if n >= min_rows else "failed", enough, n=n, wanted=min_rows),
        "entities": warning_if(clusters < MIN_CLUSTERS, about, clusters=clusters),
        "split_entities": _split_entities(records),
        "leaked_prompts": _leaked_prompts(records, rows),
        **_repeated(rows),
        "models": _models(rows),
        "ungraded": warning_if(ungraded, f"{some(ungraded, 'row')} without a grade left out", count=ungraded),
        # Unfinished answers are wrong and easy to tell, which flatters every source that sees their length.
        "cut": warning_if(cut > MAX_CUT * n, f"{some(cut, 'answer')} cut short", count=cut),
        **_values(rows),
        "shuffled": _shuffled(estimators),
        "shuffled_labels": _shuffled_labels(estimators),
        "domains": _domains(rows),
    }


def control(verdict: Verdict, detail: str, **counts: Any) -> dict[str, Any]:
    """One control as it stands in results.json."""
    return {"verdict": verdict, "detail": detail, **counts}


def warning_if(found: object, detail: str, **counts: Any) -> dict[str, Any]:
    """A control that warns when anything is found."""
    return control("warning" if found else "ok", detail, **counts)


def _leak(found: Sequence[str], detail: str) -> dict[str, Any]:
    """A control that fails when anything is found."""
    return control("failed" if found else "ok", detail, count=len(found), examples=list(found[:5]))


def _split_entities(records: RecordTable) -> dict[str, Any]:
    """Entities asked about both in the test split and in one that something was fitted on."""
    splits = records.coded("split")
    test = set(records.take(splits.where("test")).coded("entity").present()) - {None}
    fitted = set(records.take(~splits.where("test", None)).coded("entity").present()) - {None}
    if not test or not fitted:
        return control("not checked", "needs entities and another split in the same file")
    both = sorted(test & fitted)
    return _leak(both, f"{some(len(both), 'entity', 'entities')} on both sides of the split")


def _leaked_prompts(records: RecordTable, rows: Rows) -> dict[str, Any]:
    others = records.take(~records.coded("split").where("test", None))
    fitted = set(others.coded("prompt").present()) - {None}
    if not fitted:
        return control("not checked", "needs messages and another split in the same file")
    leaked = rows.records.ids[rows.records.coded("prompt").where(*fitted)].tolist()
    return _leak(leaked, f"{some(len(leaked), 'test prompt')} also in another split")


def _repeated(rows: Rows) -> dict[str, dict[str, Any]]:
    """The same question more than once, and one row that is counted as if it were more.

    Such rows have the same question, reference and answer under several ids. Parts of an answer are asked by its
    question and their names.
    """
    first: dict[tuple[object, ...], str] = {}
    again = []
    table = rows.records
    asked, part = table.coded("prompt"), table.coded("part")
    if asked.present() == [None]:
        unknown = control("not checked", "the records carry no messages")
        return {"duplicate_prompts": unknown, "duplicate_rows": unknown}
    prompts = [
        None if prompt is None else (prompt, name) for prompt, name in zip(asked.each(), part.each(), strict=True)
    ]
    for prompt, record in zip(prompts, table, strict=True):
        row = (prompt, record.answer, dumps(record.reference, sort_keys=True, default=str))
        if prompt is not None and first.setdefault(row, record.id) != record.id:
            again.append(record.id)
    known = [prompt for prompt in prompts if prompt is not None]
    extra = len(known) - len(set(known))
    detail = f"{some(len(again), 'test row')} repeating another one's question and answer under a new id"
    return {
        "duplicate_prompts": warning_if(
            extra, f"{some(extra, 'test prompt')} more than once in the test rows", count=extra
        ),
        "duplicate_rows": _leak(again, detail),
    }


def _models(rows: Rows) -> dict[str, Any]:
    """Between models a confidence may only tell who answered."""
    # One model has one identity, however its name is spelt.
    names: dict[str, str] = {}
    counts = Counter[str]()
    model, identity = rows.records.coded("model"), rows.records.coded("identity")
    for code, n in Coded.both(model, identity).counts().items():
        name, weights = code
        if name:
            counts[names.setdefault(weights, name) if weights else name] += n
    if not counts:
        return control("not checked", "the records do not name their model")
    models = sorted(counts)
    several = len(models) > 1
    shown = listed([f"{model} ({counts[model]:,} rows)" for model in models[:5]] if several else [])
    return warning_if(several, f"answers of {some(len(models), 'model')}{shown}", models=models, counts=dict(counts))


def _values(rows: Rows) -> dict[str, dict[str, Any]]:
    """Sources with missing values, with one value throughout (which floors may have), and outside [0, 1]."""
    values = {source: rows.confidence(source) for source in rows.sources}
    meant = {source: as_probability(source, x) for source, x in values.items()}
    missing = {s: int(np.isnan(x).sum()) for s, x in values.items() if np.isnan(x).any()}
    outside = {s: count for s, x in meant.items() if (count := int(np.sum((x < 0) | (x > 1))))}
    constant = [s for s, x in values.items() if np.isfinite(x).sum() > 1 and np.nanmin(x) == np.nanmax(x)]
    unmeant = sum(family(source) != "floor" for source in constant)
    same = f"{some(unmeant, 'source')} with the same value throughout, floors aside"
    ranked = f"{some(len(outside), 'source')} outside [0, 1]: ranked, no calibration"
    return {
        "missing": warning_if(missing, f"{some(len(missing), 'source')} without a value on some rows", sources=missing),
        "constant_sources": warning_if(unmeant, same, sources=constant),
        "outside_unit_interval": warning_if(outside, ranked, sources=outside),
    }


def _shuffled(estimators: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Random confidences must not rank."""
    entry = estimators.get("shuffled")
    if entry is None or entry["auroc"] is None or entry["auroc"]["low"] is None:
        return control("not checked", "no source `shuffled` in the records")
    value = entry["auroc"]["value"]
    fine = _chance(entry["auroc"], 2)
    return control("ok" if fine else "failed", f"the shuffled floor has AUROC {value:.3f}, 0.5 is due", auroc=value)


def _shuffled_labels(estimators: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What was trained on shuffled outcomes must not rank: if it does, the outcome reaches it by another way.

    One fit to noise is one direction, and may rank either way; the mean over `SHUFFLES` of them may not.
    """
    drawn: dict[str, list[dict[str, float]]] = {}
    for name, entry in estimators.items():
        source, auroc = Source.parse(name), entry["auroc"]
        if source.shuffled and not source.calibrated and auroc is not None and auroc["low"] is not None:
            drawn.setdefault(str(replace(source, shuffled=False, seed=None)), []).append(auroc)
    if not drawn:
        return control("not checked", "no source was trained on shuffled labels", sources={})
    found = {source: _over_shuffles(aurocs) for source, aurocs in drawn.items()}
    beyond = [source for source, auroc in found.items() if not _chance(auroc, 1)]
    far = [source for source in beyond if found[source]["n"] >= SHUFFLES and not _chance(found[source], 2)]
    few = any(auroc["n"] < SHUFFLES for auroc in found.values())
    shown = ", ".join(f"{name} {interval(auroc)} ({some(auroc['n'], 'shuffle')})" for name, auroc in found.items())
    return control(
        "failed" if far else "warning" if beyond or few else "ok",
        f"{some(len(beyond), 'source')} of {len(found)} trained on shuffled labels with a mean AUROC whose interval is "
        f"without 0.5: {shown}" + (f"; fewer than {SHUFFLES} shuffles may lie to either side of 0.5" if few else ""),
        sources=found,
    )


def _over_shuffles(aurocs: list[dict[str, float]]) -> dict[str, Any]:
    """Mean AUROC of n fits with its t interval over the fits; of too few, with the ends of their own intervals."""
    values = np.array([auroc["value"] for auroc in aurocs])
    mean, n = float(values.mean()), len(values)
    if n < SHUFFLES:
        low, high = min(auroc["low"] for auroc in aurocs), max(auroc["high"] for auroc in aurocs)
    else:
        half = float(stdtrit(n - 1, 0.975) * values.std(ddof=1) / np.sqrt(n))
        low, high = mean - half, mean + half
    return {"value": mean, "low": low, "high": high, "n": n}


def _chance(auroc: dict[str, float], width: float) -> bool:
    """Whether 0.5 lies in the interval, stretched ``width`` times: by chance one plain one in twenty misses it."""
    value, low, high = (auroc[key] for key in ("value", "low", "high"))
    return value - width * (value - low) <= 0.5 <= value + width * (high - value)


def _domains(rows: Rows) -> dict[str, Any]:
    """Right and wrong counts of every domain, and each source's AUROC where both are enough."""
    domains_of = rows.records.coded("domain")
    names = sorted(domains_of.present())
    if names == [""]:
        return control("not checked", "the records carry no domains", domains={})
    confidence = {source: rows.confidence(source) for source in rows.sources}
    domains: dict[str, Any] = {}
    for name in names:
        inside = domains_of.where(name)
        n, right = int(inside.sum()), int(rows.correct[inside].sum())
        entry = domains[name] = {"n": n, "right": right, "wrong": n - right, "auroc": {}}
        for source, values in confidence.items():
            kept = inside & np.isfinite(values)
            y = rows.correct[kept]
            entry["auroc"][source] = auroc(values[kept], y) if min(y.sum(), (~y).sum()) >= MIN_KIND else None
    thin = sum(min(entry["right"], entry["wrong"]) < MIN_KIND for entry in domains.values())
    detail = f"{thin} of {len(domains)} domains hold fewer than {MIN_KIND} right or wrong answers"
    return warning_if(thin, detail, domains=domains)
