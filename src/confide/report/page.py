"""The page: verdict in words, tables, plots, a threshold slider and examples, in one HTML file that opens offline."""

from __future__ import annotations

import math
from collections.abc import Sequence
from shlex import quote
from typing import Any

import numpy as np
from markupsafe import Markup

from confide.evaluation.figures import COMPARED, LOWER_IS_BETTER, METRICS, SHOWN
from confide.evaluation.record_columns import Rows, probabilities, select
from confide.evaluation.verdict import chosen
from confide.evaluation.wording import side
from confide.numeric import Bools, Floats
from confide.records import Record, ScoreColumns
from confide.report import plots
from confide.report.templating import (
    clean,
    content_security_policy,
    embedded,
    page_environment,
    page_script,
    page_style,
)
from confide.report.terms import REPORT, glossary
from confide.report.threshold_counts import GOALS, Counts
from confide.signals import SIGNALS
from confide.sources import as_probability

EXAMPLES = 8
"""Answers shown of each kind."""

UNDRAWN = ("floor", "control")
"""Families that stand in tables but get no plot and no place at the slider: nobody would decide by them."""


def render(results: dict[str, Any], records: Sequence[Record]) -> str:
    """Write the report as one HTML page.

    Args:
        results: What `confide.evaluation.evaluate` found; ``records`` in it may name the ``file``.
        records: The same records that were evaluated.

    Raises:
        ConfideError: The records hold nothing to evaluate.
    """
    rows, estimators = select(records), results["estimators"]
    measured = _measured(estimators)
    file, flags = _named(results.get("records") or {})
    source, baseline = chosen(results)
    drawn = [name for name, entry in estimators.items() if name == source or entry["family"] not in UNDRAWN]
    present = {n: (rows.confidence(n)[kept], rows.correct[kept]) for n in drawn if len(kept := rows.present(n))}
    counts = {name: Counts.of(*values) for name, values in present.items()}
    goals = {risk: {n: counts[n].goal(risk) for n in (source, baseline) if n in counts} for risk in GOALS}
    diagrams = {
        name: plots.reliability_diagram(p, correct, kind="other" if name == baseline else "main", name=name)
        for name, (values, correct) in present.items()
        if probabilities(p := as_probability(name, values))
    }
    style, script = page_style("report/templates", "page.css"), page_script("page.js", "print.js")
    template = page_environment("report/templates").get_template("page.html.j2")
    return template.render(
        results=results,
        style=style,
        script=script,
        policy=content_security_policy(style, script),
        source=source,
        baseline=baseline,
        kinds={source: "main", baseline: "other"},
        side=side,
        lower_is_better=LOWER_IS_BETTER,
        compared=COMPARED,
        main_metrics=[name for name in SHOWN if name in measured],
        measured=measured,
        tasks=sorted({task for task in rows.records.coded("task").present() if task}),
        models=sorted({model for model in rows.records.coded("model").present() if model}),
        faithful_missing=any(e["missing"] for e in estimators.values() if e.get("cmfg_star")),
        means=_means_by_domain(rows, source) if source else {},
        counts=counts,
        goals={risk: found for risk, found in goals.items() if any(found.values())},
        data=_data(rows, file, flags, counts),
        file=file,
        flags=flags,
        spark_low=_spark_low(estimators),
        family_shown=_family_shown,
        terms=glossary(REPORT),
        max_risk=max_risk,
        differences=_differences(results, source, baseline),
        plots=plots,
        present=present,
        priced={name: estimators[name] for name in present},
        cost_unit=_cost_unit(estimators),
        diagrams=diagrams,
        examples=_examples(rows, source) if source else {},
        veiled=SIGNALS[results["signal"]["name"]].veiled if results["signal"] else False,
    )


def max_risk(kept: float, right: float) -> float:
    """The goal to ask `confide calibrate` for: the observed share of wrong, rounded up to a whole percent."""
    return min(0.99, max(0.01, math.ceil(round(100 * (1 - right / kept), 9)) / 100))


def _measured(estimators: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The metrics that any source has a value of, each with one source's entry."""
    entries = (pair for entry in estimators.values() for pair in entry.items())
    return {name: entry for name, entry in entries if name in METRICS and entry and entry["value"] is not None}


def _named(records: dict[str, Any]) -> tuple[str, str]:
    """How a command names the file of ``records``, and the flags that name its columns."""
    columns = {name: clean(value) for name, value in records.get("columns", {}).items()}
    return quote(clean(records.get("file", "scored.jsonl"))), ScoreColumns(**columns).flags()


def _data(rows: Rows, file: str, flags: str, counts: dict[str, Counts]) -> Markup:
    """What the page's script reads."""
    sources = [found.payload(name) for name, found in counts.items()]
    return embedded({"rows": len(rows.records), "file": file, "flags": flags, "sources": sources})


def _family_shown(name: str, family: str) -> bool:
    """Whether a source's family tells more than its name, as it does not of ``given`` and ``given:2``."""
    return name != family and not name.startswith(f"{family}:")


def _spark_low(estimators: dict[str, dict[str, Any]]) -> float:
    """Where the drawn scale of AUROC starts: at 0.5, or at the tenth below the lowest value and interval."""
    ends = [e["auroc"][end] for e in estimators.values() if e["auroc"] for end in ("value", "low")]
    lowest = min((float(end) for end in ends if end is not None), default=0.5)
    return min(0.5, math.floor(10 * lowest) / 10)


def _cost_unit(estimators: dict[str, dict[str, Any]]) -> str:
    """Seconds where they are known of every source that costs any: an untimed one would stand among the free."""
    costs = [entry["cost"] for entry in estimators.values() if entry["cost"]]
    timed = all(cost["seconds"] > 0 for cost in costs if cost["tokens"] > 0)
    return "seconds" if timed and any(cost["seconds"] > 0 for cost in costs) else "tokens"


def _examples(rows: Rows, source: str) -> dict[str, list[tuple[Record, float]]]:
    """The most confident wrong answers and the least confident right ones, with their confidences."""
    confidence = rows.confidence(source)
    shown = as_probability(source, confidence)

    def smallest(wanted: Bools, keys: Floats) -> list[tuple[Record, float]]:
        places = np.flatnonzero(wanted & np.isfinite(keys))
        order = places[np.argsort(keys[places], kind="stable")][:EXAMPLES]
        return [(rows.records[i], float(shown[i])) for i in order.tolist()]

    return {"wrong": smallest(~rows.correct, -confidence), "right": smallest(rows.correct, confidence)}


def _differences(results: dict[str, Any], source: str | None, baseline: str | None) -> list[dict[str, Any]]:
    """The differences that the page lists: all of the main source, AUROC of the others."""
    return [
        d
        for d in results["differences"]
        if d["value"] is not None and (d["a"] == source or (d["metric"] == "auroc" and d["b"] == baseline))
    ]


def _means_by_domain(rows: Rows, source: str) -> dict[str, tuple[float, float]]:
    """Mean confidence and share of right answers of each domain's rows with a value; {} for no probabilities."""
    confidence, correct = rows.probability(source), rows.correct
    if confidence is None:
        return {}
    present = np.isfinite(confidence)
    domains = rows.records.coded("domain")
    inside = {name: kept for name in domains.present() if (kept := present & domains.where(name)).any()}
    return {name: (float(confidence[i].mean()), float(correct[i].mean())) for name, i in inside.items()}
