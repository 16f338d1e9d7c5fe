"""The page: verdict in words, tables, plots and examples, in one HTML file that opens offline.

Questions and answers are hostile text. The template escapes everything, nothing on the page is a script, and
a content security policy forbids scripts and requests besides.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from confide.metrics.metric import BoolArray, FloatArray
from confide.metrics.rows import Rows, select
from confide.metrics.sources import family
from confide.metrics.verdict import chosen, side
from confide.records import Record
from confide.report.plots import histogram, reliability_diagram, risk_coverage_plot, routing_plot

EXAMPLES = 8
"""Answers shown of each kind."""

MAX_TEXT = 400
"""Characters of a question or an answer that are shown."""

METRICS = {
    "auroc": "AUROC",
    "within_answer_auroc": "AUROC within the same answer",
    "brier": "Brier score",
    "log_loss": "log loss",
    "aurc": "area under risk–coverage",
}
"""The metrics of the paired differences as the page names them."""


def render(results: dict[str, Any], records: list[Record]) -> str:
    """The report of ``results`` (from `confide.metrics.evaluate`) on the same ``records``, as HTML.

    Raises `ConfideError` where `evaluate` would: the records hold nothing to judge.
    """
    rows = select(records)
    source, baseline = chosen(results)
    environment = Environment(
        loader=PackageLoader("confide", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "interval": interval, "text": clean, "percent": percent}
    return environment.get_template("template.html.j2").render(
        results=results,
        verdict=results["verdict"],
        source=source,
        baseline=baseline,
        family=family,
        metrics=METRICS,
        side=side,
        tasks=sorted({r.task for r in rows.records if r.task}),
        models=sorted({r.model for r in rows.records if r.model}),
        figures=_figures(results, rows, source, baseline),
        examples=_examples(rows, source),
        differences=_differences(results, source, baseline),
        domains=results["controls"]["domains"]["domains"],
    )


def number(value: float | None, digits: int = 3) -> str:
    """A number with so many digits after the point; a dash when there is none."""
    if value is None:
        return "–"
    text = f"{value:.{digits}f}".replace("-", "−")
    return text.lstrip("−") if not text.strip("−0.") else text


def percent(value: float | None) -> str:
    """A share in percent; a dash when there is none."""
    return "–" if value is None else f"{value:.0%}"


def interval(entry: dict[str, Any] | None, digits: int = 3) -> str:
    """The interval of a metric in brackets; nothing when there is none."""
    if entry is None or entry["low"] is None:
        return ""
    return f"[{number(entry['low'], digits)}, {number(entry['high'], digits)}]"


def clean(value: Any) -> str:
    """Text from outside, shortened, without characters that a page cannot hold or that turn its direction."""
    text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    text = text.encode("utf-8", "replace").decode("utf-8")
    text = re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]", "�", text)
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"


def _present(rows: Rows, source: str) -> tuple[FloatArray, BoolArray]:
    """A source's confidences and outcomes on the rows where it has a value."""
    confidence = rows.confidence(source)
    kept = np.isfinite(confidence)
    return confidence[kept], rows.correct[kept]


def _figures(
    results: dict[str, Any], rows: Rows, source: str | None, baseline: str | None
) -> list[dict[str, str | Markup]]:
    """Title, SVG and caption of every plot that the rows allow."""
    if source is None:
        return []
    shown = [name for name in (source, baseline) if name is not None]
    data = {name: _present(rows, name) for name in shown}
    figures: list[dict[str, str | Markup]] = []
    for name in shown:
        confidence, correct = data[name]
        if confidence.min() < 0 or confidence.max() > 1:
            continue
        ece = results["estimators"][name]["ece"]
        caption = (
            f"On the dashed line, 0.8 means 80%. ECE with {ece['bins']} bins of equal width: "
            f"{number(ece['value'])} {interval(ece)}. Bars: 95% Wilson intervals."
        )
        svg = reliability_diagram(confidence, correct, main=name == source, label=f"Reliability of {name}")
        figures.append({"title": f"Does {name} mean what it says?", "svg": svg, "caption": caption})
    curves: Sequence[tuple[str, FloatArray, BoolArray]] = [(name, *data[name]) for name in shown]
    held = results["estimators"][source]["coverage_at_risk"]
    figures.append(
        {
            "title": "What if only confident answers are given?",
            "svg": risk_coverage_plot(curves, label="Share of wrong answers against share answered"),
            "caption": f"{source} can answer {percent(held['value'])} with at most {percent(held['risk'])} "
            "of them wrong, on these rows. Dashed: everything answered. Dotted: an oracle.",
        }
    )
    routing = results["routing"]
    expert = "always right" if routing["expert"] == "perfect" else f"right {percent(routing['expert_accuracy'])}"
    figures.append(
        {
            "title": "What if doubtful ones are escalated?",
            "svg": routing_plot(
                routing,
                [name for name in shown if name in routing["sources"]],
                label="Accuracy against share escalated",
            ),
            "caption": f"The expert is {expert} ({routing['n']:,} rows). Dashed: escalating at random.",
        }
    )
    for name in shown:
        svg = histogram(*data[name], label=f"Histogram of {name} for right and wrong answers")
        caption = "Right answers upwards, wrong ones downwards. The further apart, the better."
        figures.append({"title": f"Where does {name} put right and wrong?", "svg": svg, "caption": caption})
    return figures


def _examples(rows: Rows, source: str | None) -> list[dict[str, Any]]:
    """The most confident wrong answers and the least confident right ones."""
    if source is None:
        return []
    confidence = rows.confidence(source)
    out = []
    for title, wanted, sign in (
        ("Most confident wrong answers", ~rows.correct, -1),
        ("Least confident right answers", rows.correct, 1),
    ):
        found = np.flatnonzero(wanted & np.isfinite(confidence))
        order = found[np.argsort(sign * confidence[found], kind="stable")][:EXAMPLES]
        out.append({"title": title, "rows": [(rows.records[i], float(confidence[i])) for i in order]})
    return out


def _differences(results: dict[str, Any], source: str | None, baseline: str | None) -> list[dict[str, Any]]:
    """The differences that the page lists: all of the main source, AUROC of the others."""
    return [
        d
        for d in results["differences"]
        if d["value"] is not None and (d["a"] == source or (d["metric"] == "auroc" and d["b"] == baseline))
    ]
