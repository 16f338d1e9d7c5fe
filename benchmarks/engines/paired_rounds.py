"""Comparisons from paired, interleaved rounds: arms are measured in turn, and rounds are resampled whole."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.common import Json
from confide.metrics.bootstrap import Bootstrap, estimate
from confide.numeric import Floats

STRETCH_S = 5.0
"""Requests of so many seconds stay together in the bootstrap: a hiccup hits them all."""


def in_turn(names: Sequence[str], number: int) -> list[str]:
    """The names in the order of round ``number``: each is first as often as the others."""
    first = number % len(names)
    return [*names[first:], *names[:first]]


def ratio(one: Sequence[float], other: Sequence[float], *, seed: int = 0) -> Json:
    """What rounds of ``one`` gave in all, as a multiple of those of ``other``: value and 95 % interval."""
    a, b = np.asarray(one, dtype=np.float64), np.asarray(other, dtype=np.float64)
    bootstrap = Bootstrap(range(len(a)), resamples=2000, seed=seed)
    drawn = bootstrap.sample(lambda weights: {"ratio": (weights @ a) / (weights @ b)}, np.arange(len(a)))["ratio"]
    return {**estimate(drawn), "rounds": len(a)}


def stretches(rounds: Sequence[Json]) -> dict[tuple[int, int], Floats]:
    """Latencies (ms) by round and stretch."""
    found: dict[tuple[int, int], list[float]] = {}
    for number, one in enumerate(rounds):
        for due, latency in zip(one["due_s"], one["latency_ms"], strict=True):
            found.setdefault((number, int(due / STRETCH_S)), []).append(latency)
    return {key: np.array(values) for key, values in found.items()}


def added_p50(through: Sequence[Json], alone: Sequence[Json], *, draws: int = 1000, seed: int = 0) -> Json:
    """What ``through`` adds to the median latency of ``alone`` (ms), and its 95 % interval.

    Both had the same questions at the same times, so each draw takes the same stretches of both.
    """
    parts = [stretches(rounds) for rounds in (through, alone)]
    keys = sorted(parts[0].keys() & parts[1].keys())
    rng = np.random.default_rng(seed)

    def added(chosen: Sequence[tuple[int, int]]) -> float:
        medians = [np.median(np.concatenate([part[key] for key in chosen])) for part in parts]
        return float(medians[0] - medians[1])

    drawn = [added([keys[i] for i in rng.integers(0, len(keys), len(keys))]) for _ in range(draws)]
    return {**estimate(np.array([added(keys), *drawn])), "stretches": len(keys)}
