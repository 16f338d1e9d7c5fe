"""Puts the figures of ``results/speed.json`` into docs/results/speed.md."""

from __future__ import annotations

from benchmarks.common import Json


def write(result: Json) -> None:
    pass
