"""The page: verdict in words, tables, plots, a threshold slider and examples, in one HTML file that opens offline.

Questions and answers are hostile text. The template escapes everything; the one script and the one style sheet
are named by their hashes in a content security policy that forbids all others, and every request.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from importlib import resources
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from confide.evaluation.judged import LOWER_IS_BETTER
from confide.evaluation.record_columns import Rows, select
from confide.evaluation.verdict import chosen, side
from confide.metrics.metric import BoolArray, FloatArray
from confide.records import Record
from confide.report import plots
from confide.report.formatting import clean, exact, interval, number, percent, seconds, short
from confide.report.metric_tables import CALIBRATION, COMPARED, domains, metric_tables
from confide.report.threshold_counts import GOALS, Counts

EXAMPLES = 8
"""Answers shown of each kind."""

UNDRAWN = ("floor", "control")
"""Families that stand in tables but get no plot and no place at the slider: nobody would decide by them."""

HEADLINES = {
    "ahead": "{source} is ahead of the best free source",
    "behind": "{source} is behind {baseline}: use the free source",
    "level": "{source} and {baseline} cannot be told apart",
    "alone": "{source} has nothing to be compared with",
    "refused": "No verdict",
}


def render(results: dict[str, Any], records: list[Record]) -> str:
    """The report of ``results`` (from `confide.metrics.evaluate`) on the same ``records``, as HTML.

    Raises `ConfideError` where `evaluate` would: the records hold nothing to judge.
    """
    rows = select(records)
    source, baseline = chosen(results)
    drawn = [n for n, entry in results["estimators"].items() if n == source or entry["family"] not in UNDRAWN]
    present = {name: values for name in drawn if len((values := _present(rows, name))[0])}
    counts = [(name, Counts.of(*values)) for name, values in present.items()]
    style, script = (resources.files("confide.report").joinpath(f).read_text("utf-8") for f in ("page.css", "page.js"))
    environment = Environment(
        loader=PackageLoader("confide", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": number,
        "interval": interval,
        "text": clean,
        "percent": percent,
        "seconds": seconds,
        "short": short,
        "exact": exact,
    }
    headline = HEADLINES[results["verdict"]["status"]]
    return environment.get_template("page.html.j2").render(
        results=results,
        style=Markup(style),
        script=Markup(script),
        policy=_policy(style, script),
        headline=headline.format(source=source, baseline=baseline),
        source=source,
        baseline=baseline,
        kinds={source: "main", baseline: "other"},
        side=side,
        spark=plots.spark,
        calibration=CALIBRATION,
        compared=COMPARED,
        lower_is_better=LOWER_IS_BETTER,
        tasks=sorted({r.task for r in rows.records if r.task}),
        models=sorted({r.model for r in rows.records if r.model}),
        tables=metric_tables(results["estimators"]),
        faithful_missing=any(e["missing"] for e in results["estimators"].values() if e.get("cmfg_star")),
        domains=domains(results, rows, source),
        threshold=None if source is None else _threshold(results, rows, counts, source, baseline),
        figures=_figures(results, present, source, baseline),
        examples=_examples(rows, source),
        differences=_differences(results, source, baseline),
    )


def embedded(data: Any) -> Markup:
    """Data as JSON for a script element: nothing in it can end the element, whoever wrote the text.

    Everything outside ASCII is escaped as well, U+2028 and U+2029 among it.
    """
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _policy(style: str, script: str) -> str:
    """The content security policy: this very style sheet and this very script, and no request at all."""
    style_hash, script_hash = (
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script)
    )
    return (
        f"default-src 'none'; script-src 'sha256-{script_hash}'; style-src 'sha256-{style_hash}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _present(rows: Rows, source: str) -> tuple[FloatArray, BoolArray]:
    """A source's confidences and outcomes on the rows where it has a value."""
    confidence = rows.confidence(source)
    kept = np.isfinite(confidence)
    return confidence[kept], rows.correct[kept]


def _threshold(
    results: dict[str, Any], rows: Rows, counts: list[tuple[str, Counts]], source: str, baseline: str | None
) -> dict[str, Any]:
    """What the threshold's section shows before anyone moves the slider, and the data for the script."""
    names = [name for name, _ in counts]
    first, second = names.index(source), None if baseline is None else names.index(baseline)
    routing = results["routing"]
    payloads = [found.payload(name) for name, found in counts]
    found = counts[first][1]
    start, total = found.start(), float(found.kept[0])
    price = float(routing["expert_cost"])
    kept, right, expert = float(found.kept[start]), float(found.right[start]), float(routing["expert_accuracy"])
    goals = []
    for risk in GOALS:
        places = [(name, c, c.loosest(risk)) for name, c in counts if name in (source, baseline)]
        if any(place is not None for *_, place in places):
            cells = {
                name: None if place is None else (float(c.kept[place] / c.kept[0]), float(c.threshold[place]))
                for name, c, place in places
            }
            goals.append({"risk": risk, "cells": cells})
    return {
        "data": embedded({"rows": len(rows.records), "sources": payloads}),
        "names": names,
        "first": first,
        "steps": len(found.threshold) - 1,
        "start": start,
        "value": float(found.threshold[start]),
        "argument": payloads[first]["argument"],
        "right": right / kept,
        "kept": kept / total,
        "kept_rows": int(kept),
        "total": int(total),
        "missing": len(rows.records) - int(total),
        "together": (right + (total - kept) * expert) / total,
        "cost": 1 + (1 - kept / total) * price,
        "price": price,
        "expert": expert,
        "max_risk": max_risk(kept, right),
        "goals": goals,
        "histograms": [
            plots.histogram(*_present(rows, name), name=name, cut=float(c.threshold[c.start()])) for name, c in counts
        ],
        "risk_coverage": plots.risk_coverage_plot(counts, first, second),
    }


def max_risk(kept: float, right: float) -> float:
    """The goal to ask `confide calibrate` for: the observed share of wrong, rounded up to a whole percent."""
    return min(0.99, max(0.01, math.ceil(round(100 * (1 - right / kept), 9)) / 100))


def _figures(
    results: dict[str, Any],
    present: dict[str, tuple[FloatArray, BoolArray]],
    source: str | None,
    baseline: str | None,
) -> dict[str, Any]:
    """The plots that the rows allow, by the section that shows them."""
    shown = [name for name in (source, baseline) if name is not None]
    diagrams = {
        name: plots.reliability_diagram(*values, kind="other" if name == baseline else "main", name=name)
        for name, values in present.items()
        if values[0].min() >= 0 and values[0].max() <= 1
    }
    costs = [entry["cost"] for entry in results["estimators"].values() if entry["cost"]]
    # A source whose time nobody took would stand among the free ones.
    timed = all(cost["seconds"] > 0 for cost in costs if cost["tokens"] > 0)
    unit = "seconds" if timed and any(cost["seconds"] > 0 for cost in costs) else "tokens"
    compared = {name: results["estimators"][name] for name in present}
    routed = [name for name in shown if name in results["routing"]["sources"]]
    series = results.get("auroc_by_position")
    return {
        "reliability": {name: diagrams[name] for name in shown if name in diagrams},
        "other_reliability": {name: svg for name, svg in diagrams.items() if name not in shown},
        "quality_cost": plots.quality_cost_plot(compared, unit, source, baseline),
        "unpriced": [name for name, entry in compared.items() if not entry["cost"]],
        "routing": plots.routing_plot(results["routing"], routed) if routed else None,
        "positions": plots.positions_plot(series, source) if series else None,
    }


def _examples(rows: Rows, source: str | None) -> list[dict[str, Any]]:
    """The most confident wrong answers and the least confident right ones."""
    if source is None:
        return []
    confidence = rows.confidence(source)
    out = []
    for title, wanted, sign, kind in (
        ("Most confident wrong answers", ~rows.correct, -1, "wrong"),
        ("Least confident right answers", rows.correct, 1, "right"),
    ):
        found = np.flatnonzero(wanted & np.isfinite(confidence))
        order = found[np.argsort(sign * confidence[found], kind="stable")][:EXAMPLES]
        shown = [(rows.records[i], float(confidence[i])) for i in order]
        out.append({"title": title, "kind": kind, "rows": shown})
    return out


def _differences(results: dict[str, Any], source: str | None, baseline: str | None) -> list[dict[str, Any]]:
    """The differences that the page lists: all of the main source, AUROC of the others."""
    return [
        d
        for d in results["differences"]
        if d["value"] is not None and (d["a"] == source or (d["metric"] == "auroc" and d["b"] == baseline))
    ]
