"""Arguments of the Python API, checked where they come in: a wrong one is named in one sentence."""

from __future__ import annotations

from numbers import Integral
from pathlib import Path
from typing import Any

from confide.errors import ConfideError


def as_path(value: Any) -> Path:
    """A path that may be given as text; raises `ConfideError` for anything else."""
    if not isinstance(value, str | Path):
        raise ConfideError(f"a path is wanted, not {shown(value)}")
    return Path(value)


def whole_number(name: str, value: Any, *, least: int = 1) -> int:
    """A whole number from ``least`` up that 64 bits can hold; raises `ConfideError` with ``name`` for anything else."""
    if isinstance(value, bool) or not isinstance(value, Integral) or not least <= int(value) < 1 << 63:
        raise ConfideError(f"{name} is a whole number of at least {least}, not {shown(value)}")
    return int(value)


def shown(value: Any) -> str:
    """A value as an error shows it, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
