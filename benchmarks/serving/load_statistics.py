"""What a router adds to latency, and whether memory grows, with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import Json

QUANTILES = {"p50": 0.5, "p99": 0.99}


def blocks(runs: Sequence[Json], seconds: float = 5.0) -> list[NDArray[np.float64]]:
    """Latencies (ms) in stretches of a few seconds, so that hiccups stay together in the bootstrap."""
    found: dict[tuple[int, int], list[float]] = {}
    for number, run in enumerate(runs):
        for due, latency in zip(run["due_s"], run["latency_ms"], strict=True):
            found.setdefault((number, int(due / seconds)), []).append(latency)
    return [np.array(values) for values in found.values()]


def interval(values: NDArray[np.float64]) -> list[float]:
    """The middle 95 % of values."""
    low, high = np.quantile(values, [0.025, 0.975])
    return [low, high]


def compare(runs: dict[str, list[Json]], *, draws: int = 500, seed: int = 0) -> Json:
    """Quantiles of each system, what a router adds over the stub alone, and confide's share of what LiteLLM adds.

    Intervals: 95 %, bootstrap over stretches of five seconds, each system on its own.
    """
    rng = np.random.default_rng(seed)
    parts = {name: blocks(tallies) for name, tallies in runs.items()}

    def quantiles(pick: bool) -> dict[str, NDArray[np.float64]]:
        found = {}
        for name, part in parts.items():
            chosen = [part[i] for i in rng.integers(0, len(part), len(part))] if pick else part
            found[name] = np.quantile(np.concatenate(chosen), list(QUANTILES.values()))
        return found

    seen, drawn = quantiles(pick=False), [quantiles(pick=True) for _ in range(draws)]
    made: Json = {"n": {name: sum(map(len, part)) for name, part in parts.items()}, "latency_ms": {}}
    for at, quantile in enumerate(QUANTILES):
        made["latency_ms"][quantile] = {name: values[at] for name, values in seen.items()}
        # What a router adds over the stub alone: as seen, then in every draw.
        added = {
            name: np.array([one[name][at] - one["stub"][at] for one in [seen, *drawn]])
            for name in ("confide", "litellm")
        }
        share = added["confide"] / added["litellm"]
        made[quantile] = {
            name: {"added_ms": values[0], "interval": interval(values[1:])} for name, values in added.items()
        } | {"ratio": share[0], "ratio_interval": interval(share[1:])}
    return made


def slope(at: NDArray[np.float64], rss: NDArray[np.float64], *, draws: int = 1000, seed: int = 0) -> Json:
    """Growth of resident memory in MB a minute (least squares), 95 % interval by bootstrap of stretches.

    Residuals are resampled in stretches of a tenth of the run, because memory moves in steps.
    """
    rng = np.random.default_rng(seed)
    fit = np.polyfit(at, rss, 1)
    residual = rss - np.polyval(fit, at)
    length = max(2, len(at) // 10)
    starts = rng.integers(0, len(at) - length + 1, (draws, -(-len(at) // length)))
    noise = residual[(starts[..., None] + np.arange(length)).reshape(draws, -1)[:, : len(at)]]
    slopes = np.array([np.polyfit(at, np.polyval(fit, at) + row, 1)[0] for row in noise])
    return {"mb_a_minute": fit[0], "interval": interval(slopes)}
