"""Plots as inline SVG that follows the page's colours, so light, dark and print work without scripts."""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup, escape

from confide.metrics.calibration import reliability
from confide.metrics.metric import BoolArray, FloatArray
from confide.metrics.selective import risk_coverage

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Stand-ins that matplotlib draws with; `_inline` swaps each for the page's variable of that name.
COLOURS = {
    "ink": "#a00001",
    "faint": "#a00002",
    "line": "#a00003",
    "main": "#a00004",
    "other": "#a00005",
    "right": "#a00006",
    "wrong": "#a00007",
}

MAX_POINTS = 300
"""Points of a curve that are drawn: more cannot be seen and make the page large."""

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "confide",
    "font.size": 9,
    "text.color": COLOURS["ink"],
    "axes.labelcolor": COLOURS["ink"],
    "axes.edgecolor": COLOURS["line"],
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": COLOURS["line"],
    "grid.linewidth": 0.5,
    "xtick.color": COLOURS["line"],
    "ytick.color": COLOURS["line"],
    "xtick.labelcolor": COLOURS["faint"],
    "ytick.labelcolor": COLOURS["faint"],
    "figure.facecolor": "none",
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.8,
    # Names of sources and domains are the user's: a dollar sign in one is no formula.
    "text.parse_math": False,
}


def reliability_diagram(confidence: FloatArray, correct: BoolArray, *, main: bool, label: str) -> Markup:
    """Accuracy against confidence in ten bins with Wilson intervals, and the rows of each bin below.

    ``confidence`` and ``correct`` are [n], the confidences in [0, 1]; screen readers read out ``label``.
    """
    colour = COLOURS["main" if main else "other"]
    bins = reliability(confidence, correct)
    x, y = np.array([b.confidence for b in bins]), np.array([b.accuracy for b in bins])
    errors = np.array([[b.accuracy - b.accuracy_low for b in bins], [b.accuracy_high - b.accuracy for b in bins]])
    with _figure(height=4.2) as figure:
        top, below = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
        top.plot([0, 1], [0, 1], color=COLOURS["faint"], linestyle="--", linewidth=1)
        top.errorbar(x, y, yerr=np.maximum(errors, 0), color=colour, marker="o", markersize=4, capsize=2, linewidth=1.4)
        _shares(top, "share that is right")
        centres = np.array([(b.low + b.high) / 2 for b in bins])
        counts = np.array([b.n for b in bins])
        below.bar(centres, counts, width=0.086, color=colour, alpha=0.55, linewidth=0)
        for centre, count in zip(centres, counts, strict=True):
            below.text(centre, count, f"{count}", ha="center", va="bottom", fontsize=7.5, color=COLOURS["faint"])
        below.set(ylim=(0, counts.max() * 1.45), yticks=[], ylabel="rows", xlabel="confidence")
        below.spines["left"].set_visible(False)
        below.grid(False)
        return _inline(figure, label)


def risk_coverage_plot(sources: Sequence[tuple[str, FloatArray, BoolArray]], *, label: str) -> Markup:
    """Share of wrong among the answered against share answered; the first source is the page's main one.

    ``sources`` are (name, confidence [n], correct [n]). An oracle of the first one's accuracy is dotted.
    """
    with _figure() as figure:
        axes = figure.subplots()
        correct = sources[0][2]
        coverage = np.linspace(1 / len(correct), 1, MAX_POINTS)
        accuracy = correct.mean()
        axes.plot(
            coverage,
            np.maximum(0, 1 - accuracy / coverage),
            color=COLOURS["faint"],
            linestyle=":",
            linewidth=1.2,
            label="oracle",
        )
        for (name, confidence, outcome), line in zip(sources, _lines(), strict=False):
            curve = risk_coverage(confidence, outcome)
            # The first few rows swing between 0 and 1 and say nothing.
            drawn = np.flatnonzero(curve.coverage * len(outcome) >= min(20, len(outcome)))
            drawn = drawn[np.unique(np.linspace(0, len(drawn) - 1, MAX_POINTS).astype(int))]
            axes.plot(curve.coverage[drawn], curve.risk[drawn], label=name, **line)
        axes.axhline(1 - accuracy, color=COLOURS["faint"], linestyle="--", linewidth=1)
        _shares(axes, "share of wrong among them")
        axes.set(xlabel="share answered, most confident first", ylim=(0, min(1, 1.15 * (1 - accuracy))))
        axes.legend(loc="lower right")
        return _inline(figure, label)


def routing_plot(routing: dict[str, Any], sources: Sequence[str], *, label: str) -> Markup:
    """Accuracy against the share that is escalated, from the routing part of results.json."""
    with _figure() as figure:
        axes = figure.subplots()
        axes.plot(
            [0, 1],
            [routing["accuracy"], routing["expert_accuracy"]],
            color=COLOURS["faint"],
            linestyle="--",
            linewidth=1,
            label="at random",
        )
        for source, line in zip(sources, _lines(), strict=False):
            curve = routing["sources"][source]
            axes.plot(curve["share"], curve["accuracy"], label=source, **line)
        low = min(routing["accuracy"], routing["expert_accuracy"])
        _shares(axes, "accuracy of the pair")
        axes.set(xlabel="share escalated, least confident first", ylim=(max(0, low - 0.05), 1.02))
        axes.legend(loc="lower right")
        return _inline(figure, label)


def histogram(confidence: FloatArray, correct: BoolArray, *, label: str) -> Markup:
    """How often each confidence occurs: right answers upwards, wrong ones downwards."""
    inside = confidence.min() >= 0 and confidence.max() <= 1
    low, high = (0.0, 1.0) if inside else (float(confidence.min()), float(confidence.max()))
    edges = np.linspace(low, high if high > low else low + 1, 21)
    right, wrong = np.histogram(confidence[correct], edges)[0], np.histogram(confidence[~correct], edges)[0]
    centres, width = (edges[:-1] + edges[1:]) / 2, 0.9 * (edges[1] - edges[0])
    with _figure() as figure:
        axes = figure.subplots()
        axes.bar(centres, right, width=width, color=COLOURS["right"], linewidth=0)
        axes.bar(centres, -wrong, width=width, color=COLOURS["wrong"], linewidth=0)
        axes.axhline(0, color=COLOURS["ink"], linewidth=0.8)
        most = max(1, int(right.max()), int(wrong.max()))
        # Room for the word even on a side with hardly any rows.
        top, bottom = (1.2 * max(side, 0.25 * most) for side in (right.max(), wrong.max()))
        middle = (edges[0] + edges[-1]) / 2
        axes.text(middle, 0.97 * top, "right", ha="center", va="top", color=COLOURS["right"])
        axes.text(middle, -0.97 * bottom, "wrong", ha="center", va="bottom", color=COLOURS["wrong"])
        axes.set(xlabel="confidence", ylabel="rows", ylim=(-bottom, top), xlim=(edges[0], edges[-1]))
        axes.xaxis.set_major_formatter("{x:.3g}")
        axes.yaxis.set_major_formatter(lambda value, _: f"{abs(value):.0f}")
        axes.grid(axis="x", visible=False)
        return _inline(figure, label)


@contextmanager
def _figure(*, height: float = 3.3) -> Iterator[Figure]:
    """A figure in the page's style, without pyplot's global state."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        yield Figure(figsize=(4.6, height), layout="constrained")


def _lines() -> list[dict[str, Any]]:
    """How the first, second and third curve look: told apart by dashes as well as by colour."""
    return [
        {"color": COLOURS["main"]},
        {"color": COLOURS["other"], "linestyle": (0, (5, 1.5))},
        {"color": COLOURS["faint"], "linestyle": (0, (1, 1)), "linewidth": 1.4},
    ]


def _shares(axes: Axes, label: str) -> None:
    axes.set(xlim=(0, 1), ylim=(0, 1), ylabel=label)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:.2g}")


def _inline(figure: Figure, label: str) -> Markup:
    """The figure as an <svg> element for a page: no prolog, no metadata, its own ids, the page's colours."""
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    svg = out.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    # Ids are unique within a figure only; several figures share the page.
    prefix = f"p{zlib.crc32(svg.encode()):x}-"
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}\1)", svg)
    svg = re.sub(r'href="#([^"]+)"', rf'href="#{prefix}\1"', svg)
    svg = re.sub(r"(font: (?:\w+ )*[\d.]+px) [^;\"]+", r"\1 system-ui, sans-serif", svg)
    for name, colour in COLOURS.items():
        svg = svg.replace(colour, f"var(--{name})")
    head = f'<svg role="img" aria-label="{escape(label)}" '
    return Markup(re.sub(r'<svg (.*?)(?:width|height)="[^"]*" ', r"<svg \1", svg, count=1).replace("<svg ", head, 1))
