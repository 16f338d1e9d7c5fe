"""Charts as inline SVG, drawn without a script: their colours are classes of the page (``charts.css``).

So one picture serves light, dark and print. A mark carries a `<title>`, which a browser shows where the pointer rests;
a screen reader reads out the chart's label.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from markupsafe import Markup, escape

from confide.report.templating import clean, short

WIDTH = 380
"""Units of a chart's width: about its pixels on a phone, so that letters keep their size there."""

LETTER = 6.6
"""Mean width of a letter at a chart's size of type, to place names before a browser knows their widths."""

_MINUTE, _DAY = 60, 86_400


def percent_tick(value: float) -> str:
    """A tick of an axis of shares: "40%"."""
    return f"{100 * value:.3g}%"


class Chart:
    """A pair of axes: data in, an `<svg>` element out. Values outside the axes are drawn at their edge.

    ``x_range`` and ``y_range`` are the values at the ends of the axes; the other lengths are in the chart's units.
    """

    def __init__(
        self,
        x_range: tuple[float, float] = (0.0, 1.0),
        y_range: tuple[float, float] = (0.0, 1.0),
        *,
        width: int = WIDTH,
        height: int = 250,
        left: int = 46,
        right: int = 18,
        top: int = 14,
        bottom: int = 40,
    ):
        self.x_range, self.y_range = x_range, y_range
        self.width, self.height = width, height
        self.left, self.right, self.top, self.bottom = left, width - right, top, height - bottom
        self._parts: list[str] = []

    def x(self, value: float) -> float:
        """Horizontal place of a value."""
        return _between(value, self.x_range, self.left, self.right)

    def y(self, value: float) -> float:
        """Vertical place of a value."""
        return _between(value, self.y_range, self.bottom, self.top)

    def x_axis(self, label: str, ticks: Sequence[float] | None = None, form: Callable[[float], str] = short) -> None:
        """Draw ticks and a label below the axis; it has no grid lines."""
        for tick in round_ticks(*self.x_range) if ticks is None else ticks:
            self._add("path", "line", d=f"M{self.x(tick):.1f} {self.bottom}v4")
            self.text(self.x(tick), self.bottom + 16, form(tick), "tick", anchor="middle")
        self.horizontal(self.y_range[0], "line")
        self.text((self.left + self.right) / 2, self.bottom + 33, label, "label", anchor="middle")

    def y_axis(self, label: str, ticks: Sequence[float] | None = None, form: Callable[[float], str] = short) -> None:
        """Draw grid lines with ticks on their left, and a label along the axis."""
        for tick in round_ticks(*self.y_range) if ticks is None else ticks:
            self.horizontal(tick, "line")
            self.text(self.left - 6, self.y(tick) + 4, form(tick), "tick", anchor="end")
        if label:
            turn = f"translate(11 {(self.top + self.bottom) / 2:.1f}) rotate(-90)"
            self._add("text", "label", escape(clean(label, 60)), text_anchor="middle", transform=turn)

    def curve(self, xs: Iterable[float], ys: Iterable[float], kind: str, title: str = "", *, source: int = -1) -> None:
        """Draw a line through points; ``source`` numbers it for a script."""
        self._add("path", kind, _title(title), source=source, d=self._path(xs, ys))

    def band(self, xs: Sequence[float], low: Sequence[float], high: Sequence[float], kind: str) -> None:
        """Fill the area between two lines."""
        back = self._path(xs[::-1], low[::-1]).replace("M", "L", 1)
        self._add("path", f"band {kind}", d=f"{self._path(xs, high)}{back}Z")

    def bar(self, x: tuple[float, float], y: tuple[float, float], kind: str, title: str = "") -> None:
        """Fill a rectangle between two values on each axis."""
        left, top = self.x(x[0]), self.y(max(y))
        width, height = self.x(x[1]) - left, self.y(min(y)) - top
        self._add("rect", f"bar {kind}", _title(title), x=left, y=top, width=width, height=height)

    def dot(self, x: float, y: float, kind: str, title: str = "", *, radius: float = 3.5) -> None:
        """Draw a circle."""
        self._add("circle", f"dot {kind}", _title(title), cx=self.x(x), cy=self.y(y), r=radius)

    def vertical(self, x: float, kind: str) -> None:
        """Draw a line across the whole height."""
        self._add("path", kind, d=f"M{self.x(x):.1f} {self.top}V{self.bottom}")

    def horizontal(self, y: float, kind: str) -> None:
        """Draw a line across the whole width."""
        self._add("path", kind, d=f"M{self.left} {self.y(y):.1f}H{self.right}")

    def text(self, x: float, y: float, words: str, kind: str, *, anchor: str = "start") -> None:
        """Write words at a place in the chart's own units."""
        self._add("text", kind, escape(clean(words, 60)), x=x, y=y, text_anchor=anchor)

    def svg(self, label: str, *, over: Chart | None = None) -> Markup:
        """The whole element; screen readers read out ``label``. The chart ``over`` is drawn into it on its own axes.

        A script finds the axes in ``data-x`` and ``data-y``: two places, then the two values that stand there.
        """
        axes = " ".join(
            f'data-{name}="{start:g} {end:g} {low:.9g} {high:.9g}"'
            for name, start, end, (low, high) in (
                ("x", self.left, self.right, self.x_range),
                ("y", self.bottom, self.top, self.y_range),
            )
        )
        return Markup(
            f'<svg class="plot" viewBox="0 0 {self.width} {self.height}" role="img" '
            f'aria-label="{escape(clean(label, 2000))}" {axes}>'
            f"{''.join(self._parts + (over._parts if over else []))}</svg>"
        )

    def _path(self, xs: Iterable[float], ys: Iterable[float]) -> str:
        return "M" + "L".join(f"{self.x(a):.1f} {self.y(b):.1f}" for a, b in zip(xs, ys, strict=True))

    def _add(self, tag: str, kind: str, inside: str = "", *, source: int = -1, **attributes: float | str) -> None:
        """Add an element; ``inside`` is escaped already."""
        start = f'<{tag} class="{kind}"' + (f' data-source="{source}"' if source >= 0 else "")
        for name, value in attributes.items():
            text = value if isinstance(value, str) else f"{value:.1f}"
            start += f' {name.replace("_", "-")}="{text}"'
        self._parts.append(f"{start}>{inside}</{tag}>")


def _between(value: float, limits: tuple[float, float], start: float, end: float) -> float:
    low, high = limits
    return start + (min(max(value, low), high) - low) / (high - low) * (end - start)


def _title(words: str) -> str:
    return f"<title>{escape(clean(words))}</title>" if words else ""


def round_step(least: float, digits: Sequence[float] = (1, 2, 5, 10)) -> float:
    """The smallest of ``digits`` times a power of ten that is not below ``least``."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(digit * power for digit in digits if digit * power >= least * (1 - 1e-9))


def round_ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round values between two limits, about ``wanted`` of them."""
    if not high > low:
        return [low]
    step = round_step(0.75 * (high - low) / wanted)
    return [round(k * step, 12) for k in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def enclosing_ticks(low: float, high: float) -> list[float]:
    """Three to six round values from at most ``low`` to at least ``high``."""
    low, high = (low, high) if low < high else (min(low, high), min(low, high) + 1e-9)
    step = round_step((high - low) / 4, (1, 2, 2.5, 5, 10))
    return [k * step for k in range(math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9) + 1)]


@dataclass(frozen=True)
class TimeLine:
    """Values over unix ``times``, with a band from ``lower`` to ``upper`` where given; ``style``: main or other."""

    times: Sequence[float]
    values: Sequence[float]
    style: str = "main"
    lower: Sequence[float] = field(default_factory=list)
    upper: Sequence[float] = field(default_factory=list)


def time_chart(
    lines: Sequence[TimeLine],
    *,
    label: str,
    form: Callable[[float], str],
    level: tuple[float, str] | None = None,
    zone: tuple[float, float] | None = None,
    maximum: float = math.inf,
    from_zero: bool = True,
) -> Markup:
    """Draw lines, each of one point or more, over a common time axis (UTC).

    ``form`` writes a value of the vertical axis, which holds 0 where ``from_zero`` is set and ends at ``maximum`` at
    the latest. A dashed line marks the ``level``, with words on it. The values of ``zone`` are shaded: they are as
    they should be.
    """
    times = [t for line in lines for t in line.times]
    shown = [*(level or ())[:1], *(zone or ()), *([0.0] * from_zero)]
    for line in lines:
        # The first rows' values jump and their band spans everything; what follows is what matters.
        late = len(line.times) // 4
        shown += [*line.values[late:], *line.lower[late:], *line.upper[late:]]
    first, last = min(times), max(times)
    if first == last:
        first, last = first - 1, last + 1
    ticks = enclosing_ticks(min(shown), min(max(shown), maximum))
    chart = Chart((first, last), (ticks[0], ticks[-1]), width=440, height=210, right=10, top=12, bottom=26)
    if zone:
        chart.bar((first, last), zone, "zone")
    chart.y_axis("", ticks, form)
    for at, anchor, words in time_labels(min(times), max(times)):
        chart.text(chart.x(at), chart.height - 7, words, "tick", anchor=anchor)
    for line in lines:
        if line.lower:
            chart.band(line.times, line.lower, line.upper, line.style)
    if level:
        chart.horizontal(level[0], "level")
    for line in lines:
        if len(line.times) == 1:
            chart.dot(line.times[0], line.values[0], line.style)
        else:
            chart.curve(line.times, line.values, f"curve {line.style}")
    if level:
        place = chart.y(level[0])
        above = place > chart.top + 14
        chart.text(chart.right, place - 5 if above else place + 14, level[1], "word", anchor="end")
    return chart.svg(label)


def time_labels(first: float, last: float) -> list[tuple[float, str, str]]:
    """The labels of a time axis: place, anchor and words, no words twice."""
    middle, span = (first + last) / 2, last - first
    start, between, end = (moment(at, span) for at in (first, middle, last))
    if start == end:
        return [(middle, "middle", start)]
    inner = [(middle, "middle", between)] if between not in (start, end) else []
    return [(first, "start", start), *inner, (last, "end", end)]


def moment(seconds: float, span: float) -> str:
    """A unix time as short as a time axis of ``span`` seconds allows."""
    at = datetime.fromtimestamp(seconds, UTC)
    if span < 5 * _MINUTE:
        return f"{at:%H:%M:%S}"
    if span > 365 * _DAY:
        return f"{at:%b %Y}"
    if span < _DAY:
        return f"{at:%H:%M}"
    return f"{at.day} {at:%b}" if span > 4 * _DAY else f"{at.day} {at:%b %H:%M}"
