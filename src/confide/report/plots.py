"""The plots of the report: each takes arrays or a part of results.json and gives an `<svg>` element.

Every label says in words what the plot shows, because it is all that a screen reader gets.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from markupsafe import Markup

from confide.evaluation.breakdowns import along_answer
from confide.metrics.calibration_error import reliability
from confide.numeric import Bools, Floats
from confide.report.charts import LETTER, Chart, percent_tick, round_ticks
from confide.report.templating import clean, interval, number, percent, seconds, short
from confide.report.threshold_counts import Counts
from confide.sources import log_space

MAX_POINTS = 200
"""Points of a curve that are drawn: more cannot be seen and make the page large."""

MIN_KEPT = 20
"""Rows at which a risk–coverage curve starts: before, it swings between 0 and 1 and says nothing."""

BARS = 20
"""Bars of a histogram."""


def reliability_diagram(confidence: Floats, correct: Bools, *, kind: str, name: str) -> Markup:
    """Accuracy against confidence in ten bins with a band of Wilson intervals, and the rows of each bin below.

    ``confidence`` and ``correct`` are [n], the confidences in [0, 1].
    """
    bins = reliability(confidence, correct)
    chart = Chart(height=310, bottom=112)
    chart.y_axis("share that is right", form=percent_tick)
    chart.curve([0, 1], [0, 1], "guide")
    xs = [b.confidence for b in bins]
    chart.band(xs, [b.accuracy_low for b in bins], [b.accuracy_high for b in bins], kind)
    chart.curve(xs, [b.accuracy for b in bins], f"curve {kind}")
    for b in bins:
        chart.curve([b.confidence] * 2, [b.accuracy_low, b.accuracy_high], f"whisker {kind}")
    counts = Chart(y_range=(0, 1.35 * max(b.n for b in bins)), height=310, top=214)
    for b in bins:
        words = (
            f"confidence {b.low:.1f} to {b.high:.1f}: {b.n:,} rows say {percent(b.confidence, 1)} and "
            f"{percent(b.accuracy, 1)} are right, [{percent(b.accuracy_low, 1)}, {percent(b.accuracy_high, 1)}]"
        )
        chart.dot(b.confidence, b.accuracy, kind, words)
        counts.bar((b.low + 0.008, b.high - 0.008), (0, b.n), f"{kind} soft", words)
        counts.text(counts.x((b.low + b.high) / 2), counts.y(b.n) - 3, short(b.n), "tick", anchor="middle")
    counts.x_axis(f"confidence of {clean(name, 30)}, and rows in each tenth")
    summary = "; ".join(f"{b.n:,} rows at {number(b.confidence, 2)}: {percent(b.accuracy)} right" for b in bins)
    return chart.svg(f"Reliability diagram of {name}. {summary}.", over=counts)


def histogram(confidence: Floats, correct: Bools, *, name: str, cut: float) -> Markup:
    """How often each confidence occurs: right answers upwards, wrong ones downwards, a line at the threshold."""
    inside = confidence.min() >= 0 and confidence.max() <= 1
    low, high = (0.0, 1.0) if inside else (float(confidence.min()), float(confidence.max()))
    edges = np.linspace(low, high if high > low else low + 1, BARS + 1)
    right, wrong = np.histogram(confidence[correct], edges)[0], np.histogram(confidence[~correct], edges)[0]
    # Each side ends in a strip for its word, which no bar reaches.
    strip = 0.15 * max(1.0, float(right.max() + wrong.max()))
    top, bottom = float(right.max()) + strip, float(wrong.max()) + strip
    chart = Chart((float(edges[0]), float(edges[-1])), (-bottom, top))
    chart.y_axis("answers", form=lambda value: short(abs(value)))
    gap = 0.06 * (edges[1] - edges[0])
    for (a, b), up, down in zip(pairwise(edges.tolist()), right.tolist(), wrong.tolist(), strict=True):
        words = f"confidence {a:.3g} to {b:.3g}: {up:,} right, {down:,} wrong"
        for kind, height in (("right", up), ("wrong", -down)):
            if height:
                chart.bar((a + gap, b - gap), (0, height), kind, words)
    chart.horizontal(0, "zero")
    middle = (chart.left + chart.right) / 2
    chart.text(middle, chart.top + 10, "right answers", "name right", anchor="middle")
    chart.text(middle, chart.bottom - 6, "wrong answers", "name wrong", anchor="middle")
    chart.vertical(cut, "cut")
    chart.x_axis(f"confidence of {clean(name, 30)}" + ", in nats" * log_space(name))
    sure = confidence >= (edges[0] + edges[-1]) / 2
    return chart.svg(
        f"Histogram of {name}. In the upper half of its range lie {percent(float(sure[correct].mean()))} of the right "
        f"answers and {percent(float(sure[~correct].mean()))} of the wrong ones."
        if correct.any() and not correct.all()
        else f"Histogram of {name}."
    )


def risk_coverage_plot(counts: Mapping[str, Counts], main: str, other: str | None) -> Markup:
    """Share of wrong among the kept against share kept, one curve per source in the order of the page's list.

    ``main`` and ``other`` always show; the script shows the chosen one. An oracle of the accuracy of ``main`` is
    dotted.
    """
    of_main = counts[main]
    total = float(of_main.kept[0])
    accuracy = float(of_main.right[0]) / total
    chart = Chart(y_range=(0, min(1.0, 1.2 * (1 - accuracy)) or 1.0))
    chart.y_axis("wrong among the kept", form=percent_tick)
    grid = np.linspace(1 / MAX_POINTS, 1, MAX_POINTS)
    chart.curve(grid, np.maximum(0, 1 - accuracy / grid), "oracle", "oracle: every right answer kept first")
    chart.horizontal(1 - accuracy, "guide")
    for place, (name, found) in enumerate(counts.items()):
        drawn = np.flatnonzero(found.kept >= min(MIN_KEPT, found.kept[0]))
        drawn = drawn[np.unique(np.linspace(0, len(drawn) - 1, MAX_POINTS).astype(int))]
        risk = 1 - found.right[drawn] / found.kept[drawn]
        kind = _kind(name, main, other, "chosen")
        chart.curve(found.kept[drawn] / found.kept[0], risk, f"curve {kind}", name, source=place)
    start = of_main.start
    chart.dot(of_main.kept[start] / total, 1 - of_main.right[start] / of_main.kept[start], "here", radius=6)
    chart.x_axis("share kept, most confident first", form=percent_tick)
    points = [(r, of_main.loosest(r)) for r in (0.05, 0.1, 0.2)]
    summary = "; ".join(
        f"with {percent(r)} wrong it keeps {percent(float(of_main.kept[k]) / total)}"
        for r, k in points
        if k is not None
    )
    return chart.svg(f"Risk against coverage. {main}: {summary or 'no threshold keeps 20% wrong or less'}.")


def routing_plot(routing: dict[str, Any], sources: Sequence[str]) -> Markup:
    """Accuracy against the share that is escalated, from the routing part of results.json, for one or two sources."""
    low = min(routing["accuracy"], routing["expert_accuracy"])
    chart = Chart(y_range=(max(0.0, math.floor(20 * low - 0.5) / 20), 1.0))
    chart.y_axis("right, both together", form=percent_tick)
    chart.curve([0, 1], [routing["accuracy"], routing["expert_accuracy"]], "guide", "escalating at random")
    summary = []
    for name, kind in zip(sources, ("main", "other"), strict=False):
        curve = routing["sources"][name]
        chart.curve(curve["share"], curve["accuracy"], f"curve {kind}", name)
        at = float(np.interp(0.2, curve["share"], curve["accuracy"]))
        summary.append(f"{name}: {percent(at)} right when 20% are escalated")
    chart.x_axis("share escalated, least confident first", form=percent_tick)
    return chart.svg(f"Accuracy against share escalated. {'; '.join(summary)}.")


def quality_cost_plot(
    estimators: dict[str, dict[str, Any]], unit: str, main: str | None, other: str | None
) -> Markup | None:
    """AUROC against what a source costs beyond the answer; None where no source says what it cost.

    ``unit`` is "seconds" or "tokens". Free sources stand in a lane of their own, because the axis is logarithmic.
    """
    points = [
        (name, float(entry["cost"][unit]), entry["auroc"])
        for name, entry in estimators.items()
        if entry["cost"] and entry["auroc"] and entry["auroc"]["value"] is not None
    ]
    if not points:
        return None
    paid = [cost for _, cost, _ in points if cost > 0]
    first, last = (math.floor(math.log10(min(paid))), math.ceil(math.log10(max(paid)))) if paid else (0, 1)
    last = max(last, first + 1)
    free = first - 1.3  # the lane is to the left of the first decade
    chart = _auroc_chart((first - 1.6, last + 0.7), [entry for *_, entry in points], height=330)
    form = seconds if unit == "seconds" else short
    decades = [float(d) for d in range(first, last + 1)] if paid else []
    chart.x_axis(f"extra {unit} an answer", [free, *decades], lambda tick: "free" if tick == free else form(10.0**tick))
    names = []
    for name, cost, entry in points:
        x, kind = free if cost <= 0 else math.log10(cost), _kind(name, main, other)
        _estimate(chart, x, entry, kind, f"{name}: AUROC {number(entry['value'])} {interval(entry)}".strip())
        names.append((name, kind, chart.x(x), chart.y(entry["value"])))
    _write_names(chart, names)
    summary = "; ".join(f"{name} {number(entry['value'])} for {form(cost)}" for name, cost, entry in points)
    return chart.svg(f"Quality against cost: AUROC for extra {unit} an answer. {summary}.")


def positions_plot(series: dict[str, list[dict[str, Any]]], main: str | None) -> Markup:
    """AUROC at each position of the answer, one line per source, from ``auroc_by_position`` of results.json."""
    names: list[str] = sorted({point["position"] for points in series.values() for point in points}, key=along_answer)
    chart = _auroc_chart(
        (-0.4, max(1, len(names) - 1) + 0.4), [point for points in series.values() for point in points]
    )
    summary = []
    for source, points in series.items():
        kind = _kind(source, main, next(iter(series)), "chosen shown")
        known = [(float(names.index(p["position"])), p) for p in points if p["value"] is not None]
        if not known:
            continue
        chart.curve([x for x, _ in known], [p["value"] for _, p in known], f"curve {kind}", source)
        for x, point in known:
            _estimate(chart, x, point, kind, f"{source}, {point['position']}: {number(point['value'])}")
        summary.append(f"{source}: " + ", ".join(f"{p['position']} {number(p['value'], 2)}" for _, p in known))
    every = max(1, math.ceil(len(names) / 7))
    ticks = [float(i) for i in range(0, len(names), every)]
    chart.x_axis("token of the answer", ticks, lambda i: clean(names[int(i)], 12))
    return chart.svg(f"AUROC by position in the answer. {'; '.join(summary)}.")


def _kind(name: str, main: str | None, other: str | None, rest: str = "plain") -> str:
    """How a source looks: told apart by dashes as well as by colour."""
    return "main" if name == main else "other" if name == other else rest


def _auroc_chart(x_range: tuple[float, float], entries: Sequence[dict[str, Any]], height: int = 250) -> Chart:
    """A chart whose vertical axis holds the AUROCs ``entries`` with their intervals, and a line at 0.5."""
    values = [entry[end] for entry in entries for end in ("value", "low") if entry[end] is not None]
    low = min(0.5, math.floor(20 * min(values, default=0.5)) / 20)
    chart = Chart(x_range, (low, 1.0), height=height)
    chart.y_axis("AUROC", round_ticks(low, 1.0), lambda value: f"{value:.1f}")
    chart.horizontal(0.5, "guide")
    return chart


def _estimate(chart: Chart, x: float, entry: dict[str, Any], kind: str, title: str) -> None:
    """A dot at a value with its interval as an upright line."""
    if entry["low"] is not None:
        chart.curve([x, x], [entry["low"], entry["high"]], f"whisker {kind}")
    chart.dot(x, entry["value"], kind, title)


def _write_names(chart: Chart, points: Sequence[tuple[str, str, float, float]]) -> None:
    """Write each name (with its kind and its point's place) beside its point; names that would overlap move apart."""
    labels: list[tuple[float, float, float, str, str]] = []
    for name, kind, x, y in points:
        words = clean(name, 20)
        wide = LETTER * len(words)
        # To the right of the point, or to its left where the plot ends.
        start = x + 8 if x + 8 + wide <= chart.width else x - 8 - wide
        labels.append((y, start, start + wide, words, kind))
    labels.sort(key=lambda label: label[0])
    meet = [[a[1] < b[2] + 4 and b[1] < a[2] + 4 for a in labels] for b in labels]
    rows = spread([label[0] for label in labels], meet, low=chart.top, high=chart.bottom - 4)
    for (_, start, _, words, kind), row in zip(labels, rows, strict=True):
        chart.text(start, row + 4, words, f"name {kind}")


def spread(
    wanted: Sequence[float], meet: Sequence[Sequence[bool]], *, low: float, high: float, gap: float = 13.0
) -> list[float]:
    """Places near the ``wanted`` ones [n, ascending], ``gap`` apart where ``meet`` [n, n] says that two may collide.

    They lie in [``low``, ``high``] where there is room; where there is not, they run over ``high``.
    """
    n = len(wanted)

    def push_down(rows: list[float]) -> None:
        for i in range(n):
            rows[i] = max([rows[i], low, *(rows[j] + gap for j in range(i) if meet[i][j])])

    def push_up(rows: list[float]) -> None:
        for i in reversed(range(n)):
            rows[i] = min([rows[i], high, *(rows[j] - gap for j in range(i + 1, n) if meet[i][j])])

    down, up = list(wanted), [max(place, low) for place in wanted]
    push_down(down)
    push_up(up)
    # Half of the way from both sides keeps every gap: each pass does, and so does their mean.
    rows = [(a + b) / 2 for a, b in zip(down, up, strict=True)]
    push_up(rows)
    push_down(rows)
    return rows
