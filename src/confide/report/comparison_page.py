"""The page of a comparison: two runs on the same questions, in one HTML file that opens offline."""

from __future__ import annotations

from typing import Any

import numpy as np
from markupsafe import Markup

from confide.evaluation.comparison import LOWER, better, points, unpaired
from confide.evaluation.pairs import Pairs
from confide.evaluation.record_columns import probabilities
from confide.report import plots
from confide.report.templating import content_security_policy, page_environment, page_script, page_style
from confide.report.terms import COMPARISON, glossary
from confide.report.threshold_counts import Counts
from confide.sources import as_probability

NAMES = ("A", "B")

_FOLDER = "report/templates"


def render_comparison(results: dict[str, Any], pairs: Pairs) -> str:
    """Write a comparison as one HTML page.

    Args:
        results: What `confide.evaluation.comparison.compare` found.
        pairs: The same rows that were compared.
    """
    style, script = page_style(_FOLDER, "page.css"), page_script("print.js")
    figures = {
        name: {source: entry[name] for source, entry in results["sources"].items() if _known(entry[name])}
        for name in ("auroc", "brier", "ece", "coverage_at_risk")
    }
    curves = _curves(pairs, results["main"], results["max_risk"])
    return (
        page_environment(_FOLDER)
        .get_template("comparison.html.j2")
        .render(
            results=results,
            style=style,
            script=script,
            policy=content_security_policy(style, script),
            main=results["sources"].get(results["main"]),
            figures={name: entries for name, entries in figures.items() if entries},
            reach={name: _reach(entries) for name, entries in figures.items()},
            lower_is_better=LOWER,
            better=better,
            points=points,
            unpaired=unpaired(results),
            diagrams=_diagrams(pairs, results["main"]),
            reached=bool(curves) and curves["B"].loosest(results["max_risk"]) is not None,
            risk_coverage=plots.risk_coverage_plot(curves, "B", "A") if curves else None,
            terms=glossary(COMPARISON),
        )
    )


def _known(entry: dict[str, Any] | None) -> bool:
    return entry is not None and entry["difference"]["value"] is not None


def _reach(entries: dict[str, dict[str, Any]]) -> float:
    """The largest distance from 0 of a figure's differences and their intervals."""
    ends = [entry["difference"][end] for entry in entries.values() for end in ("value", "low", "high")]
    return max((abs(end) for end in ends if end), default=1.0)


def _curves(pairs: Pairs, main: str | None, risk: float) -> dict[str, Counts]:
    """Rows and right ones at every threshold of the main source, for both runs, from ``risk`` on; {} without one."""
    if main is None:
        return {}
    kept = np.intersect1d(pairs.a.present(main), pairs.b.present(main))
    runs = zip(NAMES, (pairs.a, pairs.b), strict=True)
    return {name: Counts.of(rows.confidence(main)[kept], rows.correct[kept], risk) for name, rows in runs}


def _diagrams(pairs: Pairs, main: str | None) -> dict[str, Markup]:
    """Reliability diagrams of the main source, for both runs where its values are probabilities."""
    if main is None:
        return {}
    kept = np.intersect1d(pairs.a.present(main), pairs.b.present(main))
    out = {}
    for name, rows, kind in (("A", pairs.a, "other"), ("B", pairs.b, "main")):
        values = as_probability(main, rows.confidence(main)[kept])
        if probabilities(values):
            out[name] = plots.reliability_diagram(values, rows.correct[kept], kind=kind, name=f"{main} in {name}")
    return out
