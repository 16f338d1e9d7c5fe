"""Evidence from rows that were drawn with different shares: every row counts, whatever the share was.

An *era* is all rows that were drawn with one probability; within it every request had the same chance to be seen.
Eras may alternate or run at the same time, as with replicas that are configured differently. Each has a capital of its
own (`confide.metrics.confidence_sequences`). A row changes one of them, by a factor of expectation at most 1, so their
product is a supermartingale, too, and Ville's inequality holds for it: no error rate is split, and no row is thrown
away.

What is bounded is the share of hits among all requests, to which an era adds by the number of requests that it stands
for: rows / probability. The chances of the eras (θ₁, θ₂, …) lie, at all times, with probability 1 − α in

    { θ : Σⱼ log Eⱼ(θⱼ) < log 1/α }

and the bound is the largest Σⱼ wⱼ θⱼ in that region (Lagrange duality gives a value that is never below it).

A row whose label is missing is a hit in the upper bound and none in the lower one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np

from confide.metrics.confidence_sequences import log_evidence_above, upper_sequence
from confide.numeric import Floats, Ints

_GRID = np.sin(np.linspace(0, np.pi / 2, 301)) ** 2  # closer together near 0 and 1
_MULTIPLIERS = np.geomspace(1e-5, 1, 40)


@dataclass(frozen=True)
class Steps:
    """Rows in the order of their arrival, one by one or several a step; all arrays have shape (steps,).

    Of the ``n`` rows of a step at least ``least`` and at most ``most`` are hits; they differ by the rows without a
    label. ``share`` is the probability with which the rows were drawn, ``times`` when the step ended (unix seconds).
    """

    times: Floats
    n: Floats
    least: Floats
    most: Floats
    share: Floats

    @cached_property
    def shares(self) -> Floats:
        """The probability of each era (eras,)."""
        return np.unique(self.share)

    def until(self, step: int) -> Steps:
        """The steps up to and with ``step``."""
        return Steps(*(getattr(self, field.name)[: step + 1] for field in fields(self)))

    def counts(self, at: Ints) -> tuple[Floats, Floats, Floats]:
        """Rows, least and most hits of each era up to and with the steps ``at``: three (len(at), eras) arrays."""
        member = self.share[:, None] == self.shares
        n, least, most = (np.cumsum(member * values[:, None], axis=0)[at] for values in (self.n, self.least, self.most))
        return n, least, most

    def first_above(self, limit: float, alpha: float) -> int | None:
        """The first step after which the evidence that a chance is above ``limit`` reached 1/``alpha`` (None: none).

        It is not taken back: later rows do not undo what was shown.
        """
        n, least, _ = self.counts(np.arange(len(self.n)))
        reached = log_evidence_above(n, least, limit).sum(axis=1) >= -math.log(alpha)
        return int(np.argmax(reached)) if reached.any() else None

    def bounds(self, at: Ints, alpha: float) -> tuple[Floats, Floats]:
        """Lower and upper bounds of the share of hits among all requests after the steps ``at``, each at ``alpha``."""
        n, least, most = self.counts(at)
        weights = _shares_of(n / self.shares)
        return 1 - _upper(n, n - least, weights, alpha), _upper(n, most, weights, alpha)

    def estimates(self, at: Ints) -> Floats:
        """The share of hits among labelled rows after the steps ``at``, weighed as in `bounds` (nan: no label)."""
        n, least, most = self.counts(at)
        labelled = n - (most - least)
        # An era counts by the requests it stands for, of which the labelled ones speak for the others.
        weights = _shares_of(np.where(labelled > 0, n / self.shares, 0.0))
        with np.errstate(invalid="ignore"):
            seen = (weights * (least / np.maximum(labelled, 1))).sum(axis=1)
            return np.asarray(np.where(labelled.sum(axis=1) > 0, seen, np.nan))


def last_bounds(parts: Sequence[Steps], alpha: float) -> list[tuple[float, float]]:
    """Lower and upper bounds of each part after its last step, each at ``alpha``; parts of one era go together."""
    found = [(0.0, 1.0)] * len(parts)
    single = [number for number, steps in enumerate(parts) if len(steps.shares) == 1]
    if single:
        sums = [[parts[i].n.sum(), parts[i].least.sum(), parts[i].most.sum()] for i in single]
        n, least, most = np.array(sums).T[..., None]
        lower, upper = 1 - _upper(n, n - least, n, alpha), _upper(n, most, n, alpha)
        for number, low, high in zip(single, lower.tolist(), upper.tolist(), strict=True):
            found[number] = (low, high)
    for number, steps in enumerate(parts):
        if len(steps.shares) > 1:
            lower, upper = steps.bounds(np.array([len(steps.n) - 1]), alpha)
            found[number] = (float(lower[0]), float(upper[0]))
    return found


def _shares_of(sizes: Floats) -> Floats:
    """``sizes`` (points, eras) over their sums; zeros where the sum is zero."""
    return np.asarray(sizes / np.maximum(sizes.sum(axis=1, keepdims=True), 1e-300))


def _upper(n: Floats, k: Floats, weights: Floats, alpha: float) -> Floats:
    """The largest weighed sum of chances in the region of the module's text; all arrays are (points, eras)."""
    if n.shape[1] == 1:
        return upper_sequence(n[:, 0], k[:, 0], alpha)
    evidence = log_evidence_above(n[..., None], (n - k)[..., None], 1 - _GRID)
    best = np.ones(len(n))
    for multiplier in _MULTIPLIERS:
        # The evidence grows with the chance: between two grid points it is at least that of the lower one.
        value = weights[..., None] * _GRID[1:] - multiplier * evidence[..., :-1]
        best = np.minimum(best, -multiplier * math.log(alpha) + value.max(axis=2).sum(axis=1))
    return np.where(n.sum(axis=1) > 0, best, 1.0)
