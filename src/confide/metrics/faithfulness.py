"""Faithfulness: does the confidence state how often the model itself would stand by the answer?

The target is the consistency g of an answer: the share of the model's own sampled answers that agree with it
(the record's ``consistency``). Every metric here is 1 minus a mean of |c − g|; they differ in how much each g
weighs, which depends on the rows and never on the confidences. So the best constant, the floor, is a weighted
median of g.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from confide.metrics.latent import LatentRates
from confide.metrics.metric import (
    Correlation,
    FloatArray,
    IntArray,
    Weights,
    columns,
    cumulated,
    ordered,
    preceding,
    ratio,
)

BINS = 10

MIN_ROOM = 0.03
"""Distance from floor to ceiling below which there is nothing to be skilled at: noise alone makes up to that much
room where the model stands by all of its answers equally often.
"""


@dataclass(frozen=True)
class Axis:
    """The distinct consistencies of the rows and how much mass each has in every resample."""

    order: IntArray
    starts: IntArray
    values: FloatArray
    after: FloatArray
    """Mass up to and with each value [resamples, values]."""

    @classmethod
    def of(cls, consistency: FloatArray, weights: Weights) -> Axis:
        """The axis of ``consistency`` [n] under ``weights`` [resamples, n]."""
        order, ends = ordered(consistency)
        after = cumulated(columns(weights, order), ends).astype(np.float64)
        return cls(order, np.concatenate([[0], ends[:-1] + 1]), consistency[order][ends], after)

    @property
    def masses(self) -> FloatArray:
        """Mass of each value [resamples, values]."""
        return self.after - preceding(self.after)

    def by_rows(self) -> FloatArray:
        """Shares [resamples, values] in which every row weighs the same."""
        return ratio(self.masses, self.after[:, -1:])

    def by_width(self, bins: int) -> FloatArray:
        """Shares in which every filled bin of equal width weighs the same."""
        codes = np.minimum((self.values * bins).astype(np.int64), bins - 1)
        member = np.eye(bins)[codes]
        filled = self.masses @ member
        within = np.nan_to_num(ratio(self.masses, filled @ member.T))
        return ratio(within, (filled > 0).sum(axis=1, keepdims=True))

    def by_mass(self, bins: int) -> FloatArray:
        """Shares in which a bin of equal mass weighs as much as it is wide on the axis of consistency.

        A bin ends half-way between its last value and the next bin's first, the outer ones at the smallest and
        largest value. Rows at an edge are shared between two bins, so every bin has exactly its part.
        """
        out = np.empty_like(self.after)
        for row, after in enumerate(self.after):
            edges = np.linspace(0, after[-1], bins + 1)
            slack = 1e-9 * max(after[-1], 1e-300)
            last = np.searchsorted(after, np.maximum(edges - slack, slack))
            first = np.searchsorted(after, np.minimum(edges + slack, after[-1] - slack))
            ends = (self.values[last] + self.values[np.minimum(first, len(after) - 1)]) / 2
            ends[0], ends[-1] = self.values[first[0]], self.values[last[-1]]
            width = ends[-1] - ends[0]
            # One value only: every bin has width 0 and they weigh the same.
            heights = (ends - ends[0]) / width if width > 0 else edges / after[-1]
            out[row] = np.diff(np.interp(after, edges, heights), prepend=0)
        return out

    def shares(self, bins: int = BINS) -> dict[str, FloatArray]:
        """What each value of g weighs in every metric [resamples, values]."""
        return {"mfg": self.by_rows(), "cmfg": self.by_width(bins), "cmfg_star": self.by_mass(bins)}

    def gaps(self, confidence: FloatArray, consistency: FloatArray, weights: Weights) -> FloatArray:
        """Mean |c − g| of the rows at each value of g [resamples, values]; 0 where there are none."""
        summed = np.add.reduceat(columns(weights * np.abs(confidence - consistency), self.order), self.starts, axis=1)
        return np.nan_to_num(ratio(summed, self.masses))

    def floor(self, shares: FloatArray) -> tuple[FloatArray, FloatArray]:
        """The score of the best constant, and that constant (the weighted median of g) [resamples]."""
        middle = np.argmax(np.cumsum(shares, axis=1) >= 0.5 - 1e-12, axis=1)
        constant = self.values[middle]
        return 1 - (shares * np.abs(constant[:, None] - self.values)).sum(axis=1), constant


@dataclass(frozen=True)
class Bounds:
    """What knowing nothing and knowing every latent rate would score, by metric, each [resamples].

    A floor is the score of the best constant, a ceiling that of the best function of the latent agreement rate
    (see `confide.metrics.latent`). There are no ceilings where the number of samples is unknown.
    """

    floors: dict[str, FloatArray]
    constants: dict[str, FloatArray]
    ceilings: dict[str, FloatArray]

    @classmethod
    def of(cls, consistency: FloatArray, weights: Weights, rates: LatentRates | None = None) -> Bounds:
        """Of consistencies [n] under weights [resamples, n]; ``rates`` are those behind the same rows."""
        axis = Axis.of(consistency, weights)
        shares = axis.shares()
        found = {name: axis.floor(share) for name, share in shares.items()}
        return cls(
            {name: floor for name, (floor, _) in found.items()},
            {name: constant for name, (_, constant) in found.items()},
            {} if rates is None else rates.ceilings(weights, shares, axis.values),
        )


def scores(
    confidence: FloatArray, consistency: FloatArray, weights: Weights, *, bins: int = BINS
) -> dict[str, FloatArray]:
    """MFG, cMFG and cMFG*, each [resamples], of confidences and consistencies [n], both in [0, 1]."""
    axis = Axis.of(consistency, weights)
    gaps = axis.gaps(confidence, consistency, weights)
    return {name: 1 - (share * gaps).sum(axis=1) for name, share in axis.shares(bins).items()}


def skill(score: FloatArray, floor: FloatArray, ceiling: FloatArray) -> FloatArray:
    """Share of the way from the best constant to the ceiling: (score − floor) / (ceiling − floor) [resamples].

    NaN where the two are closer than `MIN_ROOM`.
    """
    room = ceiling - floor
    return ratio(score - floor, np.where(room >= MIN_ROOM, room, 0.0))


@Correlation
def mfg(confidence: FloatArray, consistency: FloatArray, weights: Weights) -> FloatArray:
    """Mean faithfulness of generation: 1 − mean |c − g| (Yona, Aharoni & Geva 2024, 2405.16908); in [0, 1]."""
    return scores(confidence, consistency, weights)["mfg"]


@Correlation
def cmfg(confidence: FloatArray, consistency: FloatArray, weights: Weights, *, bins: int = BINS) -> FloatArray:
    """Conditional MFG: `mfg` averaged over bins of equal width of g (Yona et al. 2024).

    Only filled bins count; code that counts an empty bin as 0 gives less.
    """
    return scores(confidence, consistency, weights, bins=bins)["cmfg"]


@Correlation
def cmfg_star(confidence: FloatArray, consistency: FloatArray, weights: Weights, *, bins: int = BINS) -> FloatArray:
    """cMFG*: `mfg` in bins of equal mass of g, each weighing as much as it is wide (Liu et al. 2026, 2606.32032).

    A constant 0.5 scores 0.73–0.79, and with 20 samples nobody passes 0.93 or so: read it between its floor and
    its ceiling.
    """
    return scores(confidence, consistency, weights, bins=bins)["cmfg_star"]


@Correlation
def cmfg_star_skill(
    confidence: FloatArray, consistency: FloatArray, weights: Weights, *, ceiling: float = 1.0
) -> FloatArray:
    """Share of the way from the best constant to ``ceiling``: (cMFG* − floor) / (ceiling − floor); 0 is the floor.

    The ceiling 1 takes g for the truth: with few samples the skill is then understated. The ceiling of K samples
    is in what `judge_faithfulness` returns.
    """
    floor = Bounds.of(consistency, weights).floors["cmfg_star"]
    return skill(scores(confidence, consistency, weights)["cmfg_star"], floor, np.full(len(weights), ceiling))
