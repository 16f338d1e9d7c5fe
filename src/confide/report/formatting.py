"""Text on the page: numbers as people read them, and words from outside made harmless."""

from __future__ import annotations

import re
from typing import Any

MAX_TEXT = 400
"""Characters of a question or an answer that are shown."""

UNFIT = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""Characters that a page cannot hold, that break lines of a script, or that turn the direction of text."""


def number(value: float | None, digits: int = 3) -> str:
    """A number with so many digits after the point; a dash when there is none."""
    if value is None:
        return "–"
    text = f"{value:,.{digits}f}".replace("-", "−")
    return text.lstrip("−") if not text.strip("−0.") else text


def percent(value: float | None, digits: int = 0) -> str:
    """A share in percent; a dash when there is none."""
    return "–" if value is None else f"{number(100 * value, digits)}%"


def interval(entry: dict[str, Any] | None, digits: int = 3) -> str:
    """The interval of a metric in brackets; nothing when there is none."""
    if entry is None or entry["low"] is None:
        return ""
    return f"[{number(entry['low'], digits)}, {number(entry['high'], digits)}]"


def short(value: float) -> str:
    """A count or a threshold in few characters: "0.25", "940", "12k"."""
    if abs(value) >= 10_000:
        return f"{value / 1000:.3g}k".replace("-", "−")
    return f"{value:.3g}".replace("-", "−") if abs(value) < 1000 else f"{value:,.0f}".replace("-", "−")


def exact(value: float) -> str:
    """A threshold as the script would write it: all of its digits."""
    text = repr(int(value) if value == int(value) and abs(value) < 1e15 else value)
    return text.replace("-", "−")


def seconds(value: float) -> str:
    """A duration with its unit: "0", "4 ms", "1.3 s"."""
    if value <= 0:
        return "0"
    if value < 0.0005:
        return "under 1 ms"
    return f"{value * 1000:.0f} ms" if value < 0.9995 else f"{value:.1f} s"


def clean(value: Any, limit: int = MAX_TEXT) -> str:
    """Text from outside, shortened, without characters that a page cannot hold or that turn its direction.

    This does not escape: the template does, and so does `confide.report.svg`.
    """
    text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    text = UNFIT.sub("�", text.encode("utf-8", "replace").decode("utf-8"))
    return text if len(text) <= limit else text[: limit - 1] + "…"
