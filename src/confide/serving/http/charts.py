"""Small line charts over time as inline SVG, drawn on the server: no script, and the page's colours by class."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from markupsafe import Markup, escape

WIDTH, HEIGHT = 440, 210
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 10, 12, 26
_DAY = 86_400


@dataclass(frozen=True)
class Line:
    """A line of a chart: values over unix ``times``, with a band from ``lower`` to ``upper`` where given.

    ``style`` is a class of the page: main or other.
    """

    times: Sequence[float]
    values: Sequence[float]
    style: str = "main"
    lower: Sequence[float] = field(default_factory=list)
    upper: Sequence[float] = field(default_factory=list)


@dataclass(frozen=True)
class Level:
    """A dashed horizontal line with a word on it."""

    value: float
    word: str


def time_chart(
    lines: Sequence[Line],
    *,
    label: str,
    form: Callable[[float], str],
    levels: Sequence[Level] = (),
    zone: tuple[float, float] | None = None,
    most: float | None = None,
    from_zero: bool = True,
) -> Markup:
    """An SVG of ``lines`` over a common time axis (UTC).

    ``form`` writes a value of the vertical axis, which holds 0 unless ``from_zero`` is off and ends at ``most`` at the
    latest; ``zone`` shades values that are as they should be; screen readers read out ``label``.
    """
    times = [t for line in lines for t in line.times]
    shown = [level.value for level in levels] + list(zone or ()) + [0.0] * from_zero
    for line in lines:
        # The first rows' values jump and their band spans everything; what follows is what matters.
        late = len(line.times) // 4
        shown += [*line.values[late:], *line.lower[late:], *line.upper[late:]]
    first, last = min(times), max(times)
    if first == last:
        first, last = first - 1, last + 1
    ticks = _ticks(min(shown), max(shown), most)
    bottom, top = ticks[0], ticks[-1]

    def x(t: float) -> float:
        return _LEFT + (t - first) / (last - first) * (WIDTH - _LEFT - _RIGHT)

    def y(v: float) -> float:
        return HEIGHT - _BOTTOM - (min(max(v, bottom), top) - bottom) / (top - bottom) * (HEIGHT - _TOP - _BOTTOM)

    def path(points: Sequence[tuple[float, float]]) -> str:
        return " ".join(f"{x(t):.1f},{y(v):.1f}" for t, v in points)

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">']
    if zone:
        height = y(zone[0]) - y(zone[1])
        parts.append(
            f'<rect class="zone" x="{_LEFT}" y="{y(zone[1]):.1f}" '
            f'width="{WIDTH - _LEFT - _RIGHT}" height="{height:.1f}"/>'
        )
    for tick in ticks:
        parts.append(f'<line class="rule" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{escape(form(tick))}</text>')
    for share, anchor in ((0, "start"), (0.5, "middle"), (1, "end")):
        at = first + share * (last - first)
        parts.append(
            f'<text x="{x(at):.1f}" y="{HEIGHT - 7}" text-anchor="{anchor}">{escape(moment(at, last - first))}</text>'
        )
    for line in lines:
        if line.lower:
            upper, lower = zip(line.times, line.upper, strict=True), zip(line.times, line.lower, strict=True)
            outline = path([*upper, *reversed(list(lower))])
            parts.append(f'<polygon class="band {line.style}" points="{outline}"/>')
    for level in levels:
        at = y(level.value)
        parts.append(f'<line class="level" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
    for line in lines:
        points = list(zip(line.times, line.values, strict=True))
        if len(points) == 1:
            ((t, v),) = points
            parts.append(f'<circle class="dot {line.style}" cx="{x(t):.1f}" cy="{y(v):.1f}" r="3"/>')
        else:
            parts.append(f'<polyline class="line {line.style}" points="{path(points)}"/>')
    for level in levels:
        at = y(level.value)
        parts.append(
            f'<text class="word" x="{WIDTH - _RIGHT}" y="{at - 5 if at > _TOP + 14 else at + 14:.1f}" '
            f'text-anchor="end">{escape(level.word)}</text>'
        )
    return Markup("".join(parts) + "</svg>")


def moment(seconds: float, span: float) -> str:
    """A unix time as short as a time axis of ``span`` seconds allows."""
    at = datetime.fromtimestamp(seconds, UTC)
    if span < _DAY:
        return f"{at:%H:%M}"
    return f"{at.day} {at:%b}" if span > 4 * _DAY else f"{at.day} {at:%b %H:%M}"


def _ticks(low: float, high: float, most: float | None) -> list[float]:
    """Three to six round values from at most ``low`` to at least ``high``, which ``most`` may cut."""
    if most is not None:
        high = min(high, most)
    if high <= low:
        low, high = min(low, high), low + 1e-9
    raw = (high - low) / 4
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * size for factor in (1, 2, 2.5, 5, 10) if factor * size >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, last + 1)]
