"""Wording: how counts, names and intervals read in sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal


def some(count: int, noun: str, plural: str | None = None) -> str:
    """A count with its noun: "1 row", "2 rows", "1,000 rows"."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def listed(names: Sequence[str]) -> str:
    """The names after a colon, such as ": stack, reader"; nothing without names."""
    return f": {', '.join(names)}" if names else ""


def interval(entry: Mapping[str, Any], *, sign: bool = False) -> str:
    """A value with its interval where it has one: "0.812 [0.790, 0.833]"."""
    form = "+.3f" if sign else ".3f"
    value = format(entry["value"], form)
    return value if entry["low"] is None else f"{value} [{entry['low']:{form}}, {entry['high']:{form}}]"


def side(entry: Mapping[str, Any]) -> Literal["above", "below", "level"]:
    """Where a difference lies by its interval: "above" 0, "below" it, or "level" (cannot be told apart)."""
    if entry["low"] is None or entry["low"] <= 0 <= entry["high"]:
        return "level"
    return "above" if entry["low"] > 0 else "below"
