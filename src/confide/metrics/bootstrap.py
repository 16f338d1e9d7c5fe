"""Bootstrap by entity: rows that share an entity are drawn together, so intervals respect that."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_array
from scipy.stats import poisson

from confide.errors import ConfideError
from confide.metrics.draw_cells import MERGED, Cells
from confide.metrics.metric import Metric, Weighted, Weights
from confide.metrics.running_sums import columns, ratio, weighted_mean, weighted_sum
from confide.numeric import Bools, Floats, Ints

Counts = NDArray[np.int16]

Statistics = Callable[[Weights], Mapping[str, Floats]]
"""From weights [resamples, n] to named numbers, one per resample [resamples]."""

Estimate = dict[str, float | None]
"""``{"value", "low", "high"}``: a number and the ends of its interval, as in results.json; None where undefined."""

LEVEL = 0.95

CHUNK = 300_000
"""Weights held at a time: what fits a processor's cache is quickest."""

HELD = 100_000_000
"""Multiplicities that are held at most, two bytes each; of more clusters they are drawn anew for every statistic."""

WIDE = 2_000_000
"""Multiplicities that are summed over cells at a time, of at least `TOGETHER` draws."""

TOGETHER = 8

_POISSON = np.searchsorted(poisson.cdf(np.arange(20), 1), (np.arange(2**16) + 0.5) / 2**16).astype(np.int16)
"""The quantiles of a Poisson variable of mean 1: of a 16-bit number the multiplicity."""


class Bootstrap:
    """Draws of whole clusters with replacement, the same ones for every source: differences are paired.

    A resample draws as many clusters as there are; a row's weight is how often its cluster was drawn (cluster
    bootstrap, Field & Welsh 2007). Of clusters so many that the draws are not held, each is drawn a Poisson number of
    times (Hanley & MacGibbon 2006, Chamandy et al. 2012), which needs no count over all of them.

    Args:
        clusters: What each row belongs to, such as the entity of its question, shape [n].
        resamples: Number of draws; 0 gives values without intervals.
        seed: Seed of the draws.

    Raises:
        ConfideError: A negative number of resamples, or no rows.

    Example:
        >>> bootstrap = Bootstrap(["Paris", "Paris", "Rome"], resamples=100)
        >>> estimate(bootstrap.mean(np.array([1.0, 0.0, 1.0]), np.arange(3)))["low"]
        0.5
    """

    def __init__(self, clusters: Sequence[Hashable], *, resamples: int = 1000, seed: int = 0):
        if resamples < 0:
            raise ConfideError(f"resamples must be at least 0, not {resamples}")
        if not clusters:
            raise ConfideError("no rows to resample")
        codes: dict[Hashable, int] = {}
        self.index: Ints = np.array([codes.setdefault(c, len(codes)) for c in clusters], dtype=np.int64)
        self.clusters = len(codes)
        self.resamples = resamples
        self.seed = seed
        self._held: Counts | None = None

    def counts(self, total: int, step: int) -> Iterator[Counts]:
        """How often each cluster was drawn in the first ``total`` resamples, ``step`` at a time [some, clusters]."""
        if self.resamples * self.clusters > HELD:
            yield from self._drawn(total, step)
            return
        if self._held is None:
            self._held = np.concatenate([np.empty((0, self.clusters), np.int16), *self._drawn(self.resamples, 1000)])
        for start in range(0, total, step):
            yield self._held[start : min(total, start + step)]

    def _drawn(self, total: int, step: int) -> Iterator[Counts]:
        rng = np.random.default_rng(self.seed)
        for start in range(0, total, step):
            # Multiplicities hardly pass 20, so 16 bits hold them; row by row keeps the draw itself small.
            some = np.empty((min(step, total - start), self.clusters), dtype=np.int16)
            for row in some:
                if self.resamples * self.clusters > HELD:
                    np.take(_POISSON, rng.integers(2**16, size=self.clusters, dtype=np.uint16), out=row)
                else:
                    row[:] = np.bincount(rng.integers(self.clusters, size=self.clusters), minlength=self.clusters)
            yield some

    def weights(self, rows: Ints, resamples: int | None = None, chunk: int = CHUNK) -> Iterator[Weights]:
        """Weights of ``rows`` [k] in the first ``resamples`` draws, ``chunk`` numbers [some, k] at a time."""
        total = self.resamples if resamples is None else min(resamples, self.resamples)
        step = max(1, chunk // max(1, len(rows)))
        if self.resamples * self.clusters > HELD:
            # Few rows of very many clusters would draw all resamples of all of them at once.
            step = min(step, max(1, HELD // self.clusters))
        clusters = self.index[rows]
        for some in self.counts(total, step):
            yield columns(some, clusters).astype(np.int32)

    def cell_weights(self, rows: Ints, of_row: Ints, resamples: int | None = None) -> Iterator[Weights]:
        """Weights of cells in the first ``resamples`` draws, some at a time [some, cells]: the sums over their rows.

        ``of_row`` [k] is the cell of each of the ``rows`` [k].
        """
        total = self.resamples if resamples is None else min(resamples, self.resamples)
        shape, cells = (int(of_row.max()) + 1, self.clusters), (of_row, self.index[rows])
        belongs = csc_array((np.ones(len(rows), dtype=np.int32), cells), shape=shape)
        for some in self.counts(total, max(TOGETHER, WIDE // self.clusters)):
            yield np.ascontiguousarray((belongs @ some.T.astype(np.int32)).T)

    def sample(
        self,
        statistics: Statistics,
        rows: Ints,
        *,
        resamples: int | None = None,
        chunk: int = CHUNK,
        merged: tuple[Cells, Statistics] | None = None,
    ) -> dict[str, Floats]:
        """Every statistic of ``rows``: its value on the rows themselves first, then one per resample.

        Each result is [1 + resamples]; the statistics see whole-number weights [resamples, len(rows)].

        Args:
            statistics: of the rows under weights.
            rows: what they are of [k].
            resamples: how many of the draws; None: all.
            chunk: weights held at a time.
            merged: the cells of the rows, and the same statistics of cells under their weights [resamples, cells]. The
                draws are of cells then, moved by what cells change in the value.
        """
        values = statistics(np.ones((1, len(rows)), dtype=np.int32))
        if merged is None:
            return _joined([values, *(statistics(some) for some in self.weights(rows, resamples, chunk))])
        cells, coarse = merged
        parts = [coarse(np.bincount(cells.of_row)[None].astype(np.int32))]
        for some in self.cell_weights(rows, cells.of_row, resamples):
            step = max(1, chunk // len(cells))
            parts += [coarse(some[start : start + step]) for start in range(0, len(some), step)]
        return {name: _moved(drawn, values[name]) for name, drawn in _joined(parts).items()}

    def settings(self) -> dict[str, float]:
        """The block ``bootstrap`` of results.json."""
        return {"resamples": self.resamples, "seed": self.seed, "level": LEVEL, "clusters": self.clusters}

    def mean(self, values: Floats, rows: Ints) -> Floats:
        """Mean of ``values`` [k], which belong to ``rows`` [k], and its draws [1 + resamples]."""
        if len(rows) <= MERGED:
            return self.sample(lambda w: {"mean": weighted_mean(w, values)}, rows)["mean"]
        clusters = self.index[rows]
        counted = (values, np.ones(len(rows)))
        sums, sizes = (np.bincount(clusters, of, self.clusters).astype(np.float64) for of in counted)
        draws = self.counts(self.resamples, max(1, CHUNK // self.clusters))
        drawn = [ratio(weighted_sum(some, sums), weighted_sum(some, sizes)) for some in draws]
        return np.concatenate([[values.mean()], *drawn])

    def metric(
        self,
        metric: Metric[[]],
        confidence: Floats,
        outcome: Floats | Bools,
        rows: Ints,
        *,
        resamples: int | None = None,
        chunk: int = CHUNK,
    ) -> Floats:
        """A metric of ``confidence`` and ``outcome`` [k], which belong to ``rows`` [k], as [1 + resamples]."""
        # What is sorted once need not be sorted by every resample.
        order = np.argsort(confidence, kind="stable")
        x, y, rows = confidence[order], outcome[order].astype(np.float64), rows[order]

        def of(x: Floats, y: Floats) -> Statistics:
            whole = Weighted(x, y, np.ones((1, len(x)), dtype=np.int32))
            return lambda w: {"": metric.on(whole.under(w))}

        cells = Cells.of(x, y) if len(rows) > MERGED else None
        merged = None if cells is None else (cells, of(cells.means(x), y[cells.example]))
        return self.sample(of(x, y), rows, resamples=resamples, chunk=chunk, merged=merged)[""]


def _joined(parts: Sequence[Mapping[str, Floats]]) -> dict[str, Floats]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _moved(drawn: Floats, value: Floats) -> Floats:
    """Draws of cells [1 + resamples], moved so that the first is the ``value`` [1] of the rows."""
    by = np.where(np.isfinite(value) & np.isfinite(drawn[:1]), value - drawn[:1], 0.0)
    return np.concatenate([value, drawn[1:] + by])


def estimate(sampled: Floats) -> Estimate:
    """Value and 95 % percentile interval from [1 + resamples] numbers, as `Bootstrap.sample` gives them.

    Resamples in which the number is undefined are left out.
    """
    value, draws = float(sampled[0]), sampled[1:][np.isfinite(sampled[1:])]
    if not np.isfinite(value):
        return {"value": None, "low": None, "high": None}
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).tolist() if len(draws) else (None, None)
    return {"value": value, "low": low, "high": high}
