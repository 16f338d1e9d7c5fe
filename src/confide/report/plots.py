"""The plots of the report: each takes arrays or a part of results.json and gives an `<svg>` element.

Every label says in words what the plot shows, because it is all that a screen reader gets.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from markupsafe import Markup

from confide.evaluation.error_kinds import along_answer
from confide.metrics.calibration_error import reliability
from confide.metrics.metric import BoolArray, FloatArray
from confide.report.formatting import clean, number, percent, seconds, short
from confide.report.svg import LETTER, WIDTH, Plot, nice_ticks, share
from confide.report.threshold_counts import Counts

LINES = ("main", "other")
"""How the first and the second source of a plot look: told apart by dashes as well as by colour."""

MAX_POINTS = 200
"""Points of a curve that are drawn: more cannot be seen and make the page large."""

FEWEST = 20
"""Rows at which a risk–coverage curve starts: before, it swings between 0 and 1 and says nothing."""

BARS = 20
"""Bars of a histogram."""


def reliability_diagram(confidence: FloatArray, correct: BoolArray, *, kind: str, name: str) -> Markup:
    """Accuracy against confidence in ten bins with a band of Wilson intervals, and the rows of each bin below.

    ``confidence`` and ``correct`` are [n], the confidences in [0, 1].
    """
    bins = reliability(confidence, correct)
    most = max(b.n for b in bins)
    plot = Plot(height=310, bottom=112)
    plot.y_axis("share that is right", form=share)
    plot.curve([0, 1], [0, 1], "guide")
    xs = [b.confidence for b in bins]
    plot.band(xs, [b.accuracy_low for b in bins], [b.accuracy_high for b in bins], kind)
    plot.curve(xs, [b.accuracy for b in bins], f"curve {kind}")
    for b in bins:
        plot.curve([b.confidence] * 2, [b.accuracy_low, b.accuracy_high], f"whisker {kind}")
    counts = Plot(y=(0, 1.35 * most), height=310, top=214)
    for b in bins:
        words = (
            f"confidence {b.low:.1f} to {b.high:.1f}: {b.n:,} rows say {percent(b.confidence, 1)} and "
            f"{percent(b.accuracy, 1)} are right, [{percent(b.accuracy_low, 1)}, {percent(b.accuracy_high, 1)}]"
        )
        plot.dot(b.confidence, b.accuracy, kind, words)
        counts.bar((b.low + 0.008, b.high - 0.008), (0, b.n), f"{kind} soft", words)
        counts.text(counts.x((b.low + b.high) / 2), counts.y(b.n) - 3, short(b.n), "tick", anchor="middle")
    counts.x_axis(f"confidence of {clean(name, 30)}, and rows in each tenth")
    said = "; ".join(f"{b.n:,} rows at {number(b.confidence, 2)}: {percent(b.accuracy)} right" for b in bins)
    return plot.svg(f"Reliability diagram of {name}. {said}.", over=counts)


def histogram(confidence: FloatArray, correct: BoolArray, *, name: str, cut: float) -> Markup:
    """How often each confidence occurs: right answers upwards, wrong ones downwards, a line at a threshold."""
    inside = confidence.min() >= 0 and confidence.max() <= 1
    low, high = (0.0, 1.0) if inside else (float(confidence.min()), float(confidence.max()))
    edges = np.linspace(low, high if high > low else low + 1, BARS + 1)
    right, wrong = np.histogram(confidence[correct], edges)[0], np.histogram(confidence[~correct], edges)[0]
    most = max(1, int(right.max()), int(wrong.max()))
    # Room for the word even on a side with hardly any rows.
    top, bottom = (1.1 * max(float(side), 0.3 * most) for side in (right.max(), wrong.max()))
    plot = Plot((float(edges[0]), float(edges[-1])), (-bottom, top))
    plot.y_axis("answers", form=lambda value: short(abs(value)))
    gap = 0.06 * (edges[1] - edges[0])
    for (a, b), up, down in zip(pairwise(edges.tolist()), right.tolist(), wrong.tolist(), strict=True):
        words = f"confidence {a:.3g} to {b:.3g}: {up:,} right, {down:,} wrong"
        if up:
            plot.bar((a + gap, b - gap), (0, up), "right", words)
        if down:
            plot.bar((a + gap, b - gap), (0, -down), "wrong", words)
    plot.across(0, "zero")
    middle = (plot.left + plot.right) / 2
    plot.text(middle, plot.top + 10, "right answers", "name right", anchor="middle")
    plot.text(middle, plot.bottom - 6, "wrong answers", "name wrong", anchor="middle")
    plot.upright(cut, "cut")
    plot.x_axis(f"confidence of {clean(name, 30)}")
    sure = confidence >= (edges[0] + edges[-1]) / 2
    return plot.svg(
        f"Histogram of {name}. In the upper half of its range lie {percent(float(sure[correct].mean()))} of the right "
        f"answers and {percent(float(sure[~correct].mean()))} of the wrong ones."
        if correct.any() and not correct.all()
        else f"Histogram of {name}."
    )


def risk_coverage_plot(sources: Sequence[tuple[str, Counts]], first: int, second: int | None) -> Markup:
    """Share of wrong among the kept against share kept, a curve a source; the script shows the chosen one.

    ``sources`` are in the order of the page's list; ``first`` and ``second`` number the two that always show.
    An oracle of the first one's accuracy is dotted.
    """
    name, counts = sources[first]
    total = float(counts.kept[0])
    accuracy = float(counts.right[0]) / total
    plot = Plot(y=(0, min(1.0, 1.2 * (1 - accuracy)) or 1.0))
    plot.y_axis("wrong among the kept", form=share)
    grid = np.linspace(1 / MAX_POINTS, 1, MAX_POINTS)
    plot.curve(grid, np.maximum(0, 1 - accuracy / grid), "oracle", "oracle: every right answer kept first")
    plot.across(1 - accuracy, "guide")
    for place, (other, found) in enumerate(sources):
        kind = "main" if place == first else "other" if place == second else "chosen"
        drawn = np.flatnonzero(found.kept >= min(FEWEST, found.kept[0]))
        drawn = drawn[np.unique(np.linspace(0, len(drawn) - 1, MAX_POINTS).astype(int))]
        risk = 1 - found.right[drawn] / found.kept[drawn]
        plot.curve(found.kept[drawn] / found.kept[0], risk, f"curve {kind}", other, source=place)
    start = counts.start()
    plot.dot(counts.kept[start] / total, 1 - counts.right[start] / counts.kept[start], "here", radius=6)
    plot.x_axis("share kept, most confident first", form=share)
    points = [(r, counts.loosest(r)) for r in (0.05, 0.1, 0.2)]
    said = "; ".join(
        f"with {percent(r)} wrong it keeps {percent(float(counts.kept[k]) / total)}" for r, k in points if k is not None
    )
    return plot.svg(f"Risk against coverage. {name}: {said or 'no threshold keeps 20% wrong or less'}.")


def routing_plot(routing: dict[str, Any], sources: Sequence[str]) -> Markup:
    """Accuracy against the share that is escalated, from the routing part of results.json."""
    low = min(routing["accuracy"], routing["expert_accuracy"])
    plot = Plot(y=(max(0.0, math.floor(20 * low - 0.5) / 20), 1.0))
    plot.y_axis("right, both together", form=share)
    plot.curve([0, 1], [routing["accuracy"], routing["expert_accuracy"]], "guide", "escalating at random")
    said = []
    for name, kind in zip(sources, LINES, strict=False):
        curve = routing["sources"][name]
        plot.curve(curve["share"], curve["accuracy"], f"curve {kind}", name)
        at = float(np.interp(0.2, curve["share"], curve["accuracy"]))
        said.append(f"{name}: {percent(at)} right when 20% are escalated")
    plot.x_axis("share escalated, least confident first", form=share)
    return plot.svg(f"Accuracy against share escalated. {'; '.join(said)}.")


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
    values = [v for _, _, entry in points for v in (entry["value"], entry["low"], entry["high"]) if v is not None]
    low = min(0.5, math.floor(20 * min(values)) / 20)
    # To the left of the first decade is the lane of what is free.
    plot = Plot((first - 1.6, last + 0.7), (low, 1.0), height=330)
    plot.y_axis("AUROC", nice_ticks(low, 1.0), lambda v: f"{v:.1f}")
    plot.across(0.5, "guide")
    form = seconds if unit == "seconds" else short
    decades = [float(d) for d in range(first, last + 1)]
    ticks = [first - 1.3, *(decades if paid else [])]
    words = {first - 1.3: "free"} | {d: form(10.0**d) for d in decades}
    plot.x_axis(f"extra {unit} an answer", ticks, words.__getitem__)
    places = [(name, first - 1.3 if cost <= 0 else math.log10(cost), entry) for name, cost, entry in points]
    for name, where, entry in places:
        kind = "main" if name == main else "other" if name == other else "plain"
        if entry["low"] is not None:
            plot.curve([where, where], [entry["low"], entry["high"]], f"whisker {kind}")
        interval = "" if entry["low"] is None else f" [{number(entry['low'])}, {number(entry['high'])}]"
        plot.dot(where, entry["value"], kind, f"{name}: AUROC {number(entry['value'])}{interval}")
    _names(plot, [(name, plot.x(where), plot.y(entry["value"])) for name, where, entry in places], main, other)
    said = "; ".join(f"{name} {number(entry['value'])} for {form(cost)}" for name, cost, entry in points)
    return plot.svg(f"Quality against cost: AUROC for extra {unit} an answer. {said}.")


def positions_plot(series: dict[str, list[dict[str, Any]]], main: str | None) -> Markup:
    """AUROC at each position of the answer, a line a source, from ``auroc_by_position`` of results.json."""
    names: list[str] = sorted({point["position"] for points in series.values() for point in points}, key=along_answer)
    ends = [v for points in series.values() for p in points for v in (p["value"], p["low"]) if v is not None]
    low = min(0.5, math.floor(20 * min(ends, default=0.5)) / 20)
    plot = Plot((-0.4, max(1, len(names) - 1) + 0.4), (low, 1.0))
    plot.y_axis("AUROC", nice_ticks(low, 1.0), lambda v: f"{v:.1f}")
    plot.across(0.5, "guide")
    said = []
    for place, (source, points) in enumerate(series.items()):
        kind = "main" if source == main else "other" if place == 0 else "chosen shown"
        known = [(float(names.index(p["position"])), p) for p in points if p["value"] is not None]
        if not known:
            continue
        plot.curve([x for x, _ in known], [p["value"] for _, p in known], f"curve {kind}", source)
        for x, point in known:
            if point["low"] is not None:
                plot.curve([x, x], [point["low"], point["high"]], f"whisker {kind}")
            plot.dot(x, point["value"], kind, f"{source}, {point['position']}: {number(point['value'])}")
        said.append(f"{source}: " + ", ".join(f"{p['position']} {number(p['value'], 2)}" for _, p in known))
    every = max(1, math.ceil(len(names) / 7))
    ticks = [float(i) for i in range(0, len(names), every)]
    plot.x_axis("token of the answer", ticks, lambda i: clean(names[int(i)], 12))
    return plot.svg(f"AUROC by position in the answer. {'; '.join(said)}.")


def spark(entry: dict[str, Any], low: float, high: float, kind: str) -> Markup:
    """A metric with its interval as a small picture for a table's cell; the numbers beside it say the same."""

    def place(value: float) -> float:
        return 2 + 86 * (min(max(value, low), high) - low) / (high - low)

    bar = ""
    if entry["low"] is not None:
        bar = f'<path class="whisker {kind}" d="M{place(entry["low"]):.1f} 7H{place(entry["high"]):.1f}"/>'
    dot = f'<circle class="dot {kind}" cx="{place(entry["value"]):.1f}" cy="7" r="3.2"/>'
    return Markup(
        f'<svg class="spark" viewBox="0 0 90 14" width="90" height="14" aria-hidden="true">'
        f'<path class="line" d="M2 7H88"/>{bar}{dot}</svg>'
    )


def _names(
    plot: Plot, points: Sequence[tuple[str, float, float]], main: str | None = None, other: str | None = None
) -> None:
    """Write each name beside its point; names that would overlap move apart and keep their order."""
    labels: list[tuple[str, str, float, float, float]] = []
    for name, x, y in points:
        words = clean(name, 20)
        wide = LETTER * len(words)
        # To the right of the point, or to its left where the plot ends.
        start = x + 8 if x + 8 + wide <= WIDTH else x - 8 - wide
        kind = "main" if name == main else "other" if name == other else "plain"
        labels.append((words, kind, start, start + wide, y))
    labels.sort(key=lambda label: label[4])
    rows = spread(
        [label[4] for label in labels],
        [[a[2] < b[3] + 4 and b[2] < a[3] + 4 for a in labels] for b in labels],
        low=plot.top,
        high=plot.bottom - 4,
    )
    for (words, kind, start, _, _), row in zip(labels, rows, strict=True):
        plot.text(start, row + 4, words, f"name {kind}")


def spread(
    wanted: Sequence[float], meet: Sequence[Sequence[bool]], *, low: float, high: float, gap: float = 13.0
) -> list[float]:
    """Places near the ``wanted`` ones [n, ascending], ``gap`` apart where ``meet`` [n, n] says that two may collide.

    They lie in [``low``, ``high``] where there is room; where there is not, they run over ``high``.
    """
    n = len(wanted)
    down = [min(max(place, low), high) for place in wanted]
    up = list(down)
    for i in range(n):
        down[i] = max([down[i], *(down[j] + gap for j in range(i) if meet[i][j])])
    for i in reversed(range(n)):
        up[i] = min([up[i], *(up[j] - gap for j in range(i + 1, n) if meet[i][j])])
    # Half of the way from both sides keeps every gap: each pass does, and so does their mean.
    rows = [(a + b) / 2 for a, b in zip(down, up, strict=True)]
    for i in reversed(range(n)):
        rows[i] = min([rows[i], high, *(rows[j] - gap for j in range(i + 1, n) if meet[i][j])])
    for i in range(n):
        rows[i] = max([rows[i], low, *(rows[j] + gap for j in range(i) if meet[i][j])])
    return rows
