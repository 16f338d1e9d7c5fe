"""The latent agreement rate: how often a model would stand by an answer if it were asked for ever.

K samples show it with noise, so even a predictor that knows the rate of every answer misses the share g among
these K. What such a predictor can score at best, the ceiling, follows from the distribution of the rates.
"""

from __future__ import annotations

import numpy as np
from scipy.special import xlogy

from confide.metrics.metric import FloatArray, Weights, columns, cumulated, ratio

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


class LatentRates:
    """The distribution of the latent rates behind rows that saw ``consistency`` [n] among ``samples`` [n] each.

    Rows with the same share of the same number of samples are one *cell*; cells are in order of the share. Given
    its rate p, a row's agreements are independent: K g ~ Binomial(K, p).
    """

    def __init__(self, consistency: FloatArray, samples: FloatArray):
        self._order = np.lexsort((samples, consistency))
        g, k = consistency[self._order], samples[self._order]
        ends = np.flatnonzero(np.append((g[1:] != g[:-1]) | (k[1:] != k[:-1]), True))
        self._ends, self.values = ends, g[ends]
        agreeing, rates = self.values * k[ends], np.linspace(0, 1, NODES)
        logs = xlogy(agreeing[:, None], rates) + xlogy((k[ends] - agreeing)[:, None], 1 - rates)
        self._likelihood = np.exp(logs - logs.max(axis=1, keepdims=True))
        """Of every rate in a cell [cells, rates], as a share of the likeliest rate's."""

    def masses(self, weights: Weights) -> FloatArray:
        """Mass of every cell [resamples, cells] under ``weights`` [resamples, n]."""
        running = cumulated(columns(weights, self._order), self._ends).astype(np.float64)
        return np.diff(running, axis=1, prepend=0)

    def distribution(self, masses: FloatArray) -> FloatArray:
        """The maximum-likelihood distribution on the nodes [resamples, rates] (Laird 1978), `STEPS` steps of EM."""
        shares = ratio(masses, masses.sum(axis=1, keepdims=True))
        out = np.full((len(masses), NODES), 1 / NODES)
        for _ in range(STEPS):
            out *= np.nan_to_num(ratio(shares, out @ self._likelihood.T)) @ self._likelihood
        return out

    def ceilings(self, weights: Weights, by_value: dict[str, FloatArray], values: FloatArray) -> dict[str, FloatArray]:
        """The score of the best function of the rate, by metric [resamples].

        ``by_value`` [resamples, values] holds the share that a metric gives each of the distinct consistencies
        ``values``. With s the share of a cell at consistency v and P(p | cell) by Bayes' rule, the best
        prediction at the rate p is the median of v weighted by s·P(p | cell), and the ceiling is
        1 − Σ_cells s Σ_p P(p | cell) |best(p) − v|. A constant is such a function, so it is at least the floor.
        """
        where = np.searchsorted(values, self.values)
        masses = self.masses(weights)
        at_value = masses @ np.eye(len(values))[where]
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
                out[name][part] = self._best((shares[part][:, where] * within[part])[:, :, None] * posterior)
        return out

    def _best(self, joint: FloatArray) -> FloatArray:
        """1 − mean gap of the weighted median of every rate; ``joint`` is [resamples, cells, rates]."""
        running = np.cumsum(joint, axis=1)
        middle = np.argmax(running >= running[:, -1:] / 2, axis=1)
        gaps = np.abs(self.values[middle][:, None, :] - self.values[:, None])
        return np.asarray(1 - (joint * gaps).sum(axis=(1, 2)))
