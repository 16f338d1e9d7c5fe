"""Comparisons from paired, interleaved rounds: arms are measured in turn, and rounds are resampled whole."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.common import Json
from confide.metrics.bootstrap import Bootstrap, estimate


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


def added_p50(through: Sequence[Sequence[float]], alone: Sequence[Sequence[float]], *, seed: int = 0) -> Json:
    """What ``through`` adds to the latency of ``alone`` (ms): median and its 95 % interval.

    Both are rounds of latencies of the same questions in the same order; a draw takes whole questions.
    """
    more = np.asarray(through, dtype=np.float64) - np.asarray(alone, dtype=np.float64)
    rng, n = np.random.default_rng(seed), more.shape[1]
    drawn = [float(np.median(more[:, rng.integers(0, n, n)])) for _ in range(2000)]
    return {**estimate(np.array([float(np.median(more)), *drawn])), "questions": n, "rounds": len(more)}
