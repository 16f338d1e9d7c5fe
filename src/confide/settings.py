"""Settings that a file or folder was made with, and those of a run that is to continue it: they must agree."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from confide.errors import ConfideError

_SHOWN = 40
"""Characters of a value that an error shows."""
_MOST = 3
"""Differing settings that an error shows."""


def check_settings(what: str, known: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Raise `ConfideError` naming the settings, with both values, in which ``known`` and ``wanted`` differ.

    What only one side knows is taken to agree: earlier versions wrote down fewer settings.

    Args:
        what: what was made, as the sentence starts.
    """
    if differ := different(known, wanted):
        told = "; ".join(f"{name} {a}, now {b}" for name, (a, b) in list(differ.items())[:_MOST])
        more = f" and {len(differ) - _MOST} more" if len(differ) > _MOST else ""
        raise ConfideError(
            f"{what} was made with other settings ({told}{more}): go on with those, or write to another place"
        )


def different(known: Mapping[str, Any], wanted: Mapping[str, Any], prefix: str = "") -> dict[str, tuple[str, str]]:
    """The settings that both know and that differ, by dotted name, with both values as they are shown.

    >>> different({"config": {"rank": 8, "seed": 0}}, {"config": {"rank": 4, "seed": 0}, "base": "m"})
    {'config.rank': ('8', '4')}
    """
    found: dict[str, tuple[str, str]] = {}
    for name in (name for name in wanted if name in known):
        a, b = known[name], wanted[name]
        if isinstance(a, Mapping) and isinstance(b, Mapping) and a and b and a.keys() & b.keys():
            found |= different(a, b, f"{prefix}{name}.")
        elif a != b:
            found[prefix + name] = _shown(a, b)
    return found


def _shown(a: Any, b: Any) -> tuple[str, str]:
    """Two values in few characters, long ones from shortly before where they part."""
    first, second = (value if isinstance(value, str) else repr(value) for value in (a, b))
    if max(len(first), len(second)) <= _SHOWN:
        return repr(a), repr(b)
    pairs = enumerate(zip(first, second, strict=False))
    apart = next((place for place, (one, other) in pairs if one != other), min(len(first), len(second)))
    start = max(0, apart - _SHOWN // 4)
    parts = (text[start : start + _SHOWN] for text in (first, second))
    left, right = (repr(part) for part in parts)
    return (f"…{left}", f"…{right}") if start else (left, right)
