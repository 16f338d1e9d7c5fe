"""Faithfulness: does the confidence state how often the model itself would stand by the answer?

The target is the consistency g of an answer: the share of the model's own sampled answers that agree with it
(the record's ``consistency``). Every metric here is 1 minus a mean of |c − g|; they differ in how much each g
weighs, which depends on the rows and never on the confidences. So the best constant, the floor, is a weighted
median of g.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import xlogy

from confide.metrics.metric import Correlation, Weighted, Weights
from confide.metrics.running_sums import columns, cumulated, ordered, preceding, ratio
from confide.numeric import Bools, Floats, Ints

BINS = 10

MIN_ROOM = 0.03
"""Distance from floor to ceiling below which there is nothing to be skilled at: noise alone makes up to that much
room where the model stands by all of its answers equally often.
"""

MIN_SAMPLES = 5
"""Samples an answer needs: fewer say next to nothing about how the rates are distributed."""

NODES = 101
"""Rates on which the distribution may put mass: 0, 0.01, …, 1."""

STEPS = 200
"""Steps of expectation–maximisation from the uniform start. More of them sharpen the distribution into a few
points and hardly move the ceiling; fewer leave it too smooth where all rates are nearly the same.
"""

BLOCK = 2_000_000
"""Numbers held at a time."""


@dataclass(frozen=True)
class Axis:
    """The distinct consistencies of the rows and how much mass each has in every resample."""

    order: Ints
    starts: Ints
    values: Floats
    after: Floats
    """Mass up to and with each value [resamples, values]."""
    whole: Bools
    """Whether all weights are whole numbers, so that they count rows [resamples]."""

    @classmethod
    def of(cls, consistency: Floats, weights: Weights) -> Axis:
        """The axis of ``consistency`` [n] under ``weights`` [resamples, n]."""
        order, ends = ordered(consistency)
        after = cumulated(columns(weights, order), ends).astype(np.float64)
        whole = np.all(weights == np.rint(weights), axis=1)
        return cls(order, np.concatenate([[0], ends[:-1] + 1]), consistency[order][ends], after, whole)

    @property
    def masses(self) -> Floats:
        """Mass of each value [resamples, values]."""
        return self.after - preceding(self.after)

    def by_width(self, bins: int) -> Floats:
        """Shares in which every filled bin of equal width weighs the same."""
        codes = np.minimum((self.values * bins).astype(np.int64), bins - 1)
        member = np.eye(bins)[codes]
        filled = self.masses @ member
        within = np.nan_to_num(ratio(self.masses, filled @ member.T))
        return ratio(within, (filled > 0).sum(axis=1, keepdims=True))

    def by_mass(self, bins: int) -> Floats:
        """Shares in which a bin of equal mass weighs as much as it is wide on the axis of consistency.

        A bin ends half-way between its last value and the next bin's first, the outer ones at the smallest and
        largest value. Rows of one value at an edge are shared between two bins, as random orders of them would on
        average. NaN where a resample drew none of the rows.
        """
        out = np.full_like(self.after, np.nan)
        for row in np.flatnonzero(self.after[:, -1]):
            after = self.after[row]
            edges = _edges(after[-1], bins, bool(self.whole[row]))
            slack = 1e-9 * after[-1]
            last = np.searchsorted(after, np.maximum(edges - slack, slack))
            first = np.searchsorted(after, np.minimum(edges + slack, after[-1] - slack))
            ends = (self.values[last] + self.values[np.minimum(first, len(after) - 1)]) / 2
            ends[0], ends[-1] = self.values[first[0]], self.values[last[-1]]
            width = ends[-1] - ends[0]
            # One value only: every bin has width 0 and they weigh the same.
            heights = (ends - ends[0]) / width if width > 0 else edges / after[-1]
            out[row] = np.diff(np.interp(after, edges, heights), prepend=0)
        return out

    def shares(self, bins: int = BINS) -> dict[str, Floats]:
        """What each value of g weighs in every metric [resamples, values]."""
        by_rows = ratio(self.masses, self.after[:, -1:])
        return {"mfg": by_rows, "cmfg": self.by_width(bins), "cmfg_star": self.by_mass(bins)}

    def gaps(self, confidence: Floats, consistency: Floats, weights: Weights) -> Floats:
        """Mean |c − g| of the rows at each value of g [resamples, values]; 0 where there are none."""
        summed = np.add.reduceat(columns(weights * np.abs(confidence - consistency), self.order), self.starts, axis=1)
        return np.nan_to_num(ratio(summed, self.masses))

    def floor(self, shares: Floats) -> tuple[Floats, Floats]:
        """The score of the best constant, and that constant (the weighted median of g) [resamples]."""
        middle = np.argmax(np.cumsum(shares, axis=1) >= 0.5 - 1e-12, axis=1)
        constant = self.values[middle]
        return 1 - (shares * np.abs(constant[:, None] - self.values)).sum(axis=1), constant


def _edges(total: float, bins: int, whole: bool) -> Floats:
    """Mass below each edge of bins of equal mass, of ``total`` in all.

    n rows fill min(``bins``, n) bins, as even as whole rows allow; the first n mod bins have the row more (the
    published code of cMFG*, and ``numpy.array_split``). Weights that are not ``whole`` count no rows: bins are even.
    """
    if not whole:
        return np.linspace(0, total, bins + 1)
    filled = min(bins, round(total))
    rows, more = divmod(round(total), filled)
    ends = np.arange(filled + 1)
    return (ends * rows + np.minimum(ends, more)).astype(np.float64)


class LatentRates:
    """The distribution of the latent rates behind rows that saw ``consistency`` [n] among ``samples`` [n] each.

    The latent rate says how often a model would stand by an answer if it were asked for ever. K samples show it with
    noise, so even a predictor that knows the rate of every answer misses the share g among these K. What such a
    predictor can score at best, the ceiling, follows from the distribution of the rates.

    Rows with the same share of the same number of samples are one *cell*; cells are in order of the share. Given
    its rate p, a row's agreements are independent: K g ~ Binomial(K, p).
    """

    def __init__(self, consistency: Floats, samples: Floats):
        self._order = np.lexsort((samples, consistency))
        g, k = consistency[self._order], samples[self._order]
        ends = np.flatnonzero(np.append((g[1:] != g[:-1]) | (k[1:] != k[:-1]), True))
        self._ends, self.values = ends, g[ends]
        agreeing, rates = self.values * k[ends], np.linspace(0, 1, NODES)
        logs = xlogy(agreeing[:, None], rates) + xlogy((k[ends] - agreeing)[:, None], 1 - rates)
        self._likelihood = np.exp(logs - logs.max(axis=1, keepdims=True))
        """Of every rate in a cell [cells, rates], as a share of the likeliest rate's."""

    def masses(self, weights: Weights) -> Floats:
        """Mass of every cell [resamples, cells] under ``weights`` [resamples, n]."""
        running = cumulated(columns(weights, self._order), self._ends).astype(np.float64)
        return np.diff(running, axis=1, prepend=0)

    def distribution(self, masses: Floats) -> Floats:
        """The maximum-likelihood distribution on the nodes [resamples, rates] (Laird 1978), `STEPS` steps of EM."""
        shares = ratio(masses, masses.sum(axis=1, keepdims=True))
        out = np.full((len(masses), NODES), 1 / NODES)
        for _ in range(STEPS):
            out *= np.nan_to_num(ratio(shares, out @ self._likelihood.T)) @ self._likelihood
        return out

    def ceilings(self, weights: Weights, by_value: dict[str, Floats], values: Floats) -> dict[str, Floats]:
        """The score of the best function of the rate, by metric [resamples].

        ``by_value`` [resamples, values] holds the share that a metric gives each of the distinct consistencies
        ``values``. With s the share of a cell at consistency v and P(p | cell) by Bayes' rule, the best
        prediction at the rate p is the median of v weighted by s·P(p | cell), and the ceiling is
        1 − Σ_cells s Σ_p P(p | cell) |best(p) − v|. A constant is such a function, so it is at least the floor.
        """
        where = np.searchsorted(values, self.values)
        masses = self.masses(weights)
        at_value = np.add.reduceat(masses, np.flatnonzero(np.diff(where, prepend=-1)), axis=1)
        within = np.nan_to_num(ratio(masses, at_value[:, where]))
        out = {name: np.empty(len(masses)) for name in by_value}
        step = max(1, BLOCK // self._likelihood.size)
        for start in range(0, len(masses), step):
            part = slice(start, start + step)
            prior = self.distribution(masses[part])
            posterior = np.nan_to_num(
                ratio(self._likelihood * prior[:, None, :], (prior @ self._likelihood.T)[:, :, None])
            )
            for name, shares in by_value.items():
                joint = (shares[part][:, where] * within[part])[:, :, None] * posterior
                running = np.cumsum(joint, axis=1)
                median = self.values[np.argmax(running >= running[:, -1:] / 2, axis=1)]
                gaps = np.abs(median[:, None, :] - self.values[:, None])
                out[name][part] = 1 - (joint * gaps).sum(axis=(1, 2))
        return out


def bounds(consistency: Floats, weights: Weights, rates: LatentRates | None = None) -> dict[str, Floats]:
    """What knowing nothing and knowing every latent rate would score, each [resamples].

    ``<metric>_floor`` is the score of the best constant, ``<metric>_constant`` that constant, and ``<metric>_ceiling``
    the score of the best function of the latent agreement rate (see `LatentRates`). ``consistency`` is [n],
    ``weights`` are [resamples, n]. There are no ceilings without the ``rates`` behind the same rows.
    """
    axis = Axis.of(consistency, weights)
    shares = axis.shares()
    out: dict[str, Floats] = {}
    for name, share in shares.items():
        out[f"{name}_floor"], out[f"{name}_constant"] = axis.floor(share)
    ceilings = {} if rates is None else rates.ceilings(weights, shares, axis.values)
    return out | {f"{name}_ceiling": ceiling for name, ceiling in ceilings.items()}


def scores(confidence: Floats, consistency: Floats, weights: Weights, *, bins: int = BINS) -> dict[str, Floats]:
    """MFG, cMFG and cMFG*, each [resamples], of confidences and consistencies [n], both in [0, 1]."""
    axis = Axis.of(consistency, weights)
    gaps = axis.gaps(confidence, consistency, weights)
    return {name: 1 - (share * gaps).sum(axis=1) for name, share in axis.shares(bins).items()}


def skill(score: Floats, floor: Floats, ceiling: Floats) -> Floats:
    """Share of the way from the best constant to the ceiling: (score − floor) / (ceiling − floor) [resamples].

    NaN where the two are closer than `MIN_ROOM`.
    """
    room = ceiling - floor
    return ratio(score - floor, np.where(room >= MIN_ROOM, room, 0.0))


@Correlation
def mfg(rows: Weighted) -> Floats:
    """Mean faithfulness of generation: 1 − mean |c − g| (Yona, Aharoni & Geva 2024, 2405.16908); in [0, 1]."""
    return scores(rows.confidence, rows.outcome, rows.weights)["mfg"]


@Correlation
def cmfg(rows: Weighted, *, bins: int = BINS) -> Floats:
    """Conditional MFG: `mfg` averaged over bins of equal width of g (Yona et al. 2024).

    Only filled bins count; code that counts an empty bin as 0 gives less.
    """
    return scores(rows.confidence, rows.outcome, rows.weights, bins=bins)["cmfg"]


@Correlation
def cmfg_star(rows: Weighted, *, bins: int = BINS) -> Floats:
    """cMFG*: `mfg` in bins of equal mass of g, each weighing as much as it is wide (Liu et al. 2026, 2606.32032).

    Where ``bins`` does not divide the rows the first bins have a row more; with fewer rows than bins each is one.

    A constant 0.5 scores 0.73–0.79, and with 20 samples nobody passes 0.93 or so: read it between its floor and
    its ceiling.
    """
    return scores(rows.confidence, rows.outcome, rows.weights, bins=bins)["cmfg_star"]


@Correlation
def cmfg_star_skill(rows: Weighted, *, ceiling: float = 1.0) -> Floats:
    """Share of the way from the best constant to ``ceiling``: (cMFG* − floor) / (ceiling − floor); 0 is the floor.

    The ceiling 1 takes g for the truth: with few samples the skill is then understated. The ceiling of K samples
    is in what `judge_faithfulness` returns.
    """
    floor = bounds(rows.outcome, rows.weights)["cmfg_star_floor"]
    return skill(cmfg_star.on(rows), floor, np.full(len(rows.weights), ceiling))
