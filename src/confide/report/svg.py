"""The plot: axes and marks as inline SVG, coloured by classes of the page, so light, dark and print need no script.

Marks carry a `<title>`, which a browser shows where the pointer rests; screen readers read the plot's label.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

from markupsafe import Markup, escape

from confide.report.formatting import clean, short

WIDTH = 380
"""Units of a plot's width: about the pixels that it gets on a phone, so that its letters keep their size there."""

LETTER = 6.6
"""Mean width of a letter at the size that plots use, to place labels before a browser knows their widths."""


def share(value: float) -> str:
    """A tick of an axis of shares: "40%"."""
    return f"{100 * value:.3g}%"


class Plot:
    """One pair of axes; data in, an `<svg>` element out. Values outside the axes are drawn at their edge."""

    def __init__(
        self,
        x: tuple[float, float] = (0.0, 1.0),
        y: tuple[float, float] = (0.0, 1.0),
        *,
        height: int = 250,
        left: int = 46,
        right: int = 18,
        top: int = 14,
        bottom: int = 40,
    ):
        self.x_range, self.y_range = x, y
        self.height, self.bottom, self.left = height, height - bottom, left
        self.right, self.top = WIDTH - right, top
        self._parts: list[str] = []

    def x(self, value: float) -> float:
        """Horizontal place of a value."""
        return self._place(value, self.x_range, self.left, self.right)

    def y(self, value: float) -> float:
        """Vertical place of a value."""
        return self._place(value, self.y_range, self.bottom, self.top)

    @staticmethod
    def _place(value: float, limits: tuple[float, float], start: float, end: float) -> float:
        low, high = limits
        where = (min(max(value, low), high) - low) / (high - low)
        return start + where * (end - start)

    def x_axis(self, label: str, ticks: Sequence[float] | None = None, form: Callable[[float], str] = short) -> None:
        """Ticks and a label below; no grid lines, which bars and curves do not need upright."""
        for tick in nice_ticks(*self.x_range) if ticks is None else ticks:
            self._parts.append(f'<path class="line" d="M{self.x(tick):.1f} {self.bottom}v4"/>')
            self.text(self.x(tick), self.bottom + 16, form(tick), "tick", anchor="middle")
        self._parts.append(f'<path class="line" d="M{self.left} {self.bottom}H{self.right}"/>')
        self.text((self.left + self.right) / 2, self.bottom + 33, label, "label", anchor="middle")

    def y_axis(self, label: str, ticks: Sequence[float] | None = None, form: Callable[[float], str] = short) -> None:
        """Grid lines with ticks on the left; the label stands along the axis."""
        for tick in nice_ticks(*self.y_range) if ticks is None else ticks:
            self._parts.append(f'<path class="line" d="M{self.left} {self.y(tick):.1f}H{self.right}"/>')
            self.text(self.left - 6, self.y(tick) + 4, form(tick), "tick", anchor="end")
        middle = (self.top + self.bottom) / 2
        self._parts.append(
            f'<text class="label" text-anchor="middle" transform="translate(11 {middle:.1f}) rotate(-90)">'
            f"{escape(clean(label, 60))}</text>"
        )

    def curve(self, xs: Iterable[float], ys: Iterable[float], kind: str, title: str = "", *, source: int = -1) -> None:
        """A line through points; ``source`` numbers it for the script."""
        self._parts.append(f'<path class="{kind}"{_numbered(source)} d="{self._path(xs, ys)}">{_title(title)}</path>')

    def band(self, xs: Sequence[float], low: Sequence[float], high: Sequence[float], kind: str) -> None:
        """The area between two lines."""
        there = self._path(xs, high)
        back = self._path(xs[::-1], low[::-1]).replace("M", "L", 1)
        self._parts.append(f'<path class="band {kind}" d="{there}{back}Z"/>')

    def _path(self, xs: Iterable[float], ys: Iterable[float]) -> str:
        points = [f"{self.x(a):.1f} {self.y(b):.1f}" for a, b in zip(xs, ys, strict=True)]
        return "M" + "L".join(points)

    def bar(self, x: tuple[float, float], y: tuple[float, float], kind: str, title: str = "") -> None:
        """A rectangle between two values on each axis."""
        left, right = self.x(x[0]), self.x(x[1])
        top, bottom = self.y(max(y)), self.y(min(y))
        self._parts.append(
            f'<rect class="bar {kind}" x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" '
            f'height="{bottom - top:.1f}">{_title(title)}</rect>'
        )

    def dot(self, x: float, y: float, kind: str, title: str = "", *, radius: float = 3.5) -> None:
        """A filled circle."""
        place = f'cx="{self.x(x):.1f}" cy="{self.y(y):.1f}"'
        self._parts.append(f'<circle class="dot {kind}" {place} r="{radius:g}">{_title(title)}</circle>')

    def upright(self, x: float, kind: str) -> None:
        """A line across the whole height at a value."""
        self._parts.append(f'<path class="{kind}" d="M{self.x(x):.1f} {self.top}V{self.bottom}"/>')

    def across(self, y: float, kind: str) -> None:
        """A line across the whole width at a value."""
        self._parts.append(f'<path class="{kind}" d="M{self.left} {self.y(y):.1f}H{self.right}"/>')

    def text(self, x: float, y: float, words: str, kind: str, *, anchor: str = "start", source: int = -1) -> None:
        """Words at a place in the plot's own units, escaped."""
        self._parts.append(
            f'<text class="{kind}"{_numbered(source)} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">'
            f"{escape(clean(words, 60))}</text>"
        )

    def svg(self, label: str, *, over: Plot | None = None) -> Markup:
        """The whole element; screen readers read out ``label``. ``over`` is drawn into it too, on its own axes.

        The script finds the axes in ``data-x`` and ``data-y``: two places, then the two values that stand there.
        """
        axes = " ".join(
            f'data-{name}="{start:g} {end:g} {low:.9g} {high:.9g}"'
            for name, start, end, (low, high) in (
                ("x", self.left, self.right, self.x_range),
                ("y", self.bottom, self.top, self.y_range),
            )
        )
        return Markup(
            f'<svg class="plot" viewBox="0 0 {WIDTH} {self.height}" role="img" '
            f'aria-label="{escape(clean(label, 2000))}" {axes}>'
            f"{''.join(self._parts + (over._parts if over else []))}</svg>"
        )


def _numbered(source: int) -> str:
    return f' data-source="{source}"' if source >= 0 else ""


def _title(words: str) -> str:
    return f"<title>{escape(clean(words))}</title>" if words else ""


def nice_ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round values between two limits: steps of 1, 2 or 5 times a power of ten, about ``wanted`` of them."""
    if not high > low:
        return [low]
    rough = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.75)
    first = math.ceil(low / step - 1e-9)
    return [round(k * step, 12) for k in range(first, math.floor(high / step + 1e-9) + 1)]
