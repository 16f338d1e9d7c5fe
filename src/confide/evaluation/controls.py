"""Controls that can fail: what would make the numbers mean less than they seem, each with a verdict.

A verdict is "ok", "warning" (read the numbers with this in mind), "failed" (they are not what they claim) or
"not checked" (the records do not say).
"""

from __future__ import annotations

import re
from collections import Counter
from json import dumps
from typing import Any, Literal

import numpy as np
from scipy.special import stdtrit

from confide.evaluation.record_columns import Rows
from confide.metrics.ranking import auroc
from confide.records import Record
from confide.sources import SHUFFLED, family

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
    records: list[Record], rows: Rows, clusters: int, estimators: dict[str, dict[str, Any]], *, min_rows: int
) -> dict[str, dict[str, Any]]:
    """Every control by name: ``{"verdict", "detail", …counts}``.

    ``records`` is the whole file, ``rows`` what was evaluated, ``clusters`` the number of entities in it.
    """
    return {
        "rows": _rows(rows, min_rows),
        "entities": _entities(clusters, len(rows.records)),
        "split_entities": _split_entities(records),
        "leaked_prompts": _leaked_prompts(records, rows),
        "duplicate_prompts": _duplicate_prompts(rows),
        "duplicate_rows": _duplicate_rows(rows),
        "models": _models(rows),
        "ungraded": _ungraded(rows),
        "cut": _cut(rows),
        "missing": _missing(estimators),
        "constant_sources": _constant(rows),
        "outside_unit_interval": _outside(rows),
        "shuffled": _shuffled(estimators),
        "shuffled_labels": _shuffled_labels(estimators),
        "domains": _domains(rows),
    }


def control(verdict: Verdict, detail: str, **counts: Any) -> dict[str, Any]:
    """One control as it stands in results.json."""
    return {"verdict": verdict, "detail": detail, **counts}


def some(count: int, noun: str, plural: str | None = None) -> str:
    """A count with its noun: "1 row", "2 rows", "1,000 rows"."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def _ungraded(rows: Rows) -> dict[str, Any]:
    count = rows.left_out["ungraded"]
    return control("warning" if count else "ok", f"{some(count, 'row')} without a grade left out", count=count)


def _cut(rows: Rows) -> dict[str, Any]:
    """Unfinished answers are wrong and easy to tell, which flatters every source that sees their length."""
    count = int((~rows.ended).sum())
    verdict: Verdict = "warning" if count > MAX_CUT * len(rows.records) else "ok"
    return control(verdict, f"{some(count, 'answer')} cut short", count=count)


def _rows(rows: Rows, min_rows: int) -> dict[str, Any]:
    n = len(rows.records)
    where = "in the test split" if rows.split else "(the records carry no split)"
    return control(
        "ok" if n >= min_rows else "failed",
        f"{some(n, 'graded row')} {where}; a verdict takes {min_rows}",
        n=n,
        wanted=min_rows,
    )


def _entities(clusters: int, n: int) -> dict[str, Any]:
    return control(
        "ok" if clusters >= MIN_CLUSTERS else "warning",
        f"{some(n, 'row')} about {some(clusters, 'entity', 'entities')}; intervals take {MIN_CLUSTERS}",
        clusters=clusters,
    )


def _split_entities(records: list[Record]) -> dict[str, Any]:
    """Entities asked about both in the test split and in one that something was fitted on."""
    test = {r.entity for r in records if r.split == "test" and r.entity is not None}
    fitted = {r.entity for r in records if r.split not in (None, "test") and r.entity is not None}
    if not test or not fitted:
        return control("not checked", "needs entities and another split in the same file")
    both = sorted(test & fitted)
    return control(
        "failed" if both else "ok",
        f"{some(len(both), 'entity', 'entities')} on both sides of the split",
        count=len(both),
        examples=both[:5],
    )


def _prompt(record: Record) -> tuple[tuple[str, str], ...] | None:
    return tuple((message.role, message.content) for message in record.messages) or None


def _leaked_prompts(records: list[Record], rows: Rows) -> dict[str, Any]:
    fitted = {_prompt(r) for r in records if r.split not in (None, "test")} - {None}
    if not fitted:
        return control("not checked", "needs messages and another split in the same file")
    leaked = [r.id for r in rows.records if _prompt(r) in fitted]
    return control(
        "failed" if leaked else "ok",
        f"{some(len(leaked), 'test prompt')} also in another split",
        count=len(leaked),
        examples=leaked[:5],
    )


def _duplicate_prompts(rows: Rows) -> dict[str, Any]:
    prompts = Counter(p for r in rows.records if (p := _prompt(r)) is not None)
    if not prompts:
        return control("not checked", "the records carry no messages")
    extra = sum(prompts.values()) - len(prompts)
    return control(
        "warning" if extra else "ok",
        f"{some(extra, 'test prompt')} more than once in the test rows",
        count=extra,
    )


def _duplicate_rows(rows: Rows) -> dict[str, Any]:
    """The same question, reference and answer under several ids: one row that is counted as if it were more."""
    first: dict[tuple[object, ...], str] = {}
    again = []
    for record in rows.records:
        if (prompt := _prompt(record)) is not None:
            row = (prompt, record.answer, dumps(record.reference, sort_keys=True, default=str))
            if first.setdefault(row, record.id) != record.id:
                again.append(record.id)
    if not first:
        return control("not checked", "the records carry no messages")
    return control(
        "failed" if again else "ok",
        f"{some(len(again), 'test row')} repeating another one's question and answer under a new id",
        count=len(again),
        examples=again[:5],
    )


def _models(rows: Rows) -> dict[str, Any]:
    """Between models a confidence may only tell who answered."""
    counts = Counter(r.model for r in rows.records if r.model)
    if not counts:
        return control("not checked", "the records do not name their model")
    models = sorted(counts)
    shown = ", ".join(f"{model or 'unnamed'} ({counts[model]:,} rows)" for model in models[:5])
    return control(
        "ok" if len(models) == 1 else "warning",
        f"answers of {some(len(models), 'model')}" + (f": {shown}" if len(models) > 1 else ""),
        models=models,
        counts=dict(counts),
    )


def _missing(estimators: dict[str, dict[str, Any]]) -> dict[str, Any]:
    counts = {source: entry["missing"] for source, entry in estimators.items() if entry["missing"]}
    return control(
        "warning" if counts else "ok",
        f"{some(len(counts), 'source')} without a value on some rows",
        sources=counts,
    )


def _constant(rows: Rows) -> dict[str, Any]:
    """Sources with one value throughout; the floor ``constant`` is meant to be."""
    found = []
    for source in rows.sources:
        values = rows.confidence(source)
        values = values[np.isfinite(values)]
        if len(values) > 1 and values.min() == values.max():
            found.append(source)
    unmeant = [source for source in found if family(source) != "floor"]
    return control(
        "warning" if unmeant else "ok",
        f"{some(len(unmeant), 'source')} with the same value throughout, floors aside",
        sources=found,
    )


def _outside(rows: Rows) -> dict[str, Any]:
    found = {}
    for source in rows.sources:
        values = rows.confidence(source)
        values = values[np.isfinite(values)]
        if count := int(np.sum((values < 0) | (values > 1))):
            found[source] = count
    return control(
        "warning" if found else "ok",
        f"{some(len(found), 'source')} outside [0, 1]: ranked, no calibration",
        sources=found,
    )


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
    for source, entry in estimators.items():
        named = re.fullmatch(rf"(.+){SHUFFLED}(?:_\d+)?", source)
        if named and entry["auroc"] is not None and entry["auroc"]["low"] is not None:
            drawn.setdefault(named[1], []).append(entry["auroc"])
    if not drawn:
        return control("not checked", "no source was trained on shuffled labels", sources={})
    found = {source: _over_shuffles(aurocs) for source, aurocs in drawn.items()}
    beyond = [source for source, auroc in found.items() if not _chance(auroc, 1)]
    far = [source for source in beyond if found[source]["n"] >= SHUFFLES and not _chance(found[source], 2)]
    few = any(auroc["n"] < SHUFFLES for auroc in found.values())
    shown = ", ".join(
        f"{name} {auroc['value']:.3f} [{auroc['low']:.3f}, {auroc['high']:.3f}] ({some(auroc['n'], 'shuffle')})"
        for name, auroc in found.items()
    )
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
    names = sorted({record.domain for record in rows.records})
    if names == [""]:
        return control("not checked", "the records carry no domains", domains={})
    confidence = {source: rows.confidence(source) for source in rows.sources}
    domains: dict[str, Any] = {}
    for name in names:
        inside = np.array([record.domain == name for record in rows.records])
        right = int(rows.correct[inside].sum())
        wrong = int(inside.sum()) - right
        entry: dict[str, Any] = {"n": right + wrong, "right": right, "wrong": wrong, "auroc": {}}
        for source, values in confidence.items():
            kept = inside & np.isfinite(values)
            kinds = np.bincount(rows.correct[kept].astype(np.int64), minlength=2)
            enough = kinds.min() >= MIN_KIND
            entry["auroc"][source] = auroc(values[kept], rows.correct[kept]) if enough else None
        domains[name] = entry
    thin = [name for name, entry in domains.items() if min(entry["right"], entry["wrong"]) < MIN_KIND]
    return control(
        "warning" if thin else "ok",
        f"{len(thin)} of {len(domains)} domains hold fewer than {MIN_KIND} right or wrong answers",
        domains=domains,
    )
