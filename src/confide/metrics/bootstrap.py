"""Bootstrap by entity: rows that share an entity are drawn together, so intervals respect that."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from confide.errors import ConfideError
from confide.metrics.metric import BoolArray, FloatArray, IntArray, Weights, columns, ratio
from confide.metrics.ranking import auroc

Statistics = Callable[[Weights], Mapping[str, FloatArray]]
"""From weights [resamples, n] to named numbers, one a resample [resamples]."""

CHUNK = 300_000
"""Weights held at a time: what fits a processor's cache is quickest."""


@dataclass(frozen=True)
class Estimate:
    """A number with its percentile interval; None where it is undefined."""

    value: float | None
    low: float | None
    high: float | None

    def as_dict(self) -> dict[str, float | None]:
        """The estimate as it stands in results.json."""
        return {"value": self.value, "low": self.low, "high": self.high}


class Bootstrap:
    """Draws of whole clusters with replacement, the same ones for every source: differences are paired.

    ``clusters`` [n] names what each row belongs to. A resample draws as many clusters as there are; a row's
    weight is how often its cluster was drawn (cluster bootstrap, Field & Welsh 2007). ``counts`` is
    [resamples, number of clusters].
    """

    def __init__(self, clusters: Sequence[Hashable], *, resamples: int = 1000, seed: int = 0):
        if resamples < 0:
            raise ConfideError(f"resamples must be at least 0, not {resamples}")
        if not clusters:
            raise ConfideError("no rows to resample")
        codes: dict[Hashable, int] = {}
        self.index: IntArray = np.array([codes.setdefault(c, len(codes)) for c in clusters], dtype=np.int64)
        self.clusters = len(codes)
        self.resamples = resamples
        self.seed = seed
        rng = np.random.default_rng(seed)
        # Multiplicities hardly pass 20, so 16 bits hold them; row by row keeps the draw itself small.
        self.counts = np.empty((resamples, self.clusters), dtype=np.int16)
        for row in self.counts:
            row[:] = np.bincount(rng.integers(self.clusters, size=self.clusters), minlength=self.clusters)

    def weights(self, rows: IntArray, resamples: int | None = None, chunk: int = CHUNK) -> Iterator[Weights]:
        """Weights of ``rows`` [k] in the first ``resamples`` draws, ``chunk`` numbers [some, k] at a time."""
        total = self.resamples if resamples is None else min(resamples, self.resamples)
        step = max(1, chunk // max(1, len(rows)))
        clusters = self.index[rows]
        for start in range(0, total, step):
            yield columns(self.counts[start : min(total, start + step)], clusters).astype(np.int32)

    def sample(
        self, statistics: Statistics, rows: IntArray, *, resamples: int | None = None, chunk: int = CHUNK
    ) -> dict[str, FloatArray]:
        """Every statistic of ``rows``: its value on the rows themselves first, then one a resample.

        Each result is [1 + resamples]; the statistics see whole-number weights [resamples, len(rows)].
        """
        parts = [statistics(np.ones((1, len(rows)), dtype=np.int32))]
        parts += [statistics(chunk) for chunk in self.weights(rows, resamples, chunk)]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def sampled_mean(values: FloatArray, rows: IntArray, bootstrap: Bootstrap) -> FloatArray:
    """Mean of ``values`` [k], which belong to ``rows`` [k], and its draws [1 + resamples]."""
    return bootstrap.sample(lambda w: {"mean": ratio(w @ values, w.sum(axis=1))}, rows)["mean"]


def sampled_auroc(confidence: FloatArray, correct: BoolArray, rows: IntArray, bootstrap: Bootstrap) -> FloatArray:
    """AUROC of ``confidence`` and ``correct`` [k], which belong to ``rows`` [k], and its draws [1 + resamples]."""
    # What is sorted once need not be sorted by every resample.
    order = np.argsort(confidence, kind="stable")
    x, y = confidence[order], correct[order]
    return bootstrap.sample(lambda w: {"auroc": auroc.resampled(x, y, w)}, rows[order])["auroc"]


def estimate(sampled: FloatArray, *, level: float = 0.95) -> Estimate:
    """Value and percentile interval from [1 + resamples] numbers, as `Bootstrap.sample` gives them.

    Resamples in which the number is undefined are left out.
    """
    value, draws = float(sampled[0]), sampled[1:]
    draws = draws[np.isfinite(draws)]
    if not np.isfinite(value):
        return Estimate(None, None, None)
    if not len(draws):
        return Estimate(value, None, None)
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(value, float(low), float(high))
