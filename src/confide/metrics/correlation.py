"""The rank correlation within groups: does a number order the members of a group, whatever it says of the group?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from confide.metrics.bootstrap import Bootstrap
from confide.metrics.metric import FloatArray, IntArray, Weights, ratio


@dataclass(frozen=True)
class GroupCorrelations:
    """Spearman's ρ and Kendall's τ_b of a signal with a target in every mixed group, all [groups].

    A group is mixed when its targets differ. A signal that is the same throughout a mixed group does not order it
    and counts as 0 there: to leave such groups out would flatter it. ``groups`` holds their numbers, ``sizes`` their
    members and ``pairs`` their pairs with different targets.
    """

    groups: IntArray
    sizes: IntArray
    pairs: FloatArray
    spearman: FloatArray
    kendall: FloatArray

    @classmethod
    def of(cls, signal: FloatArray, target: FloatArray, groups: IntArray) -> GroupCorrelations:
        """Of ``n`` signals and targets, and the number of every row's group [n]."""
        order = np.argsort(groups, kind="stable")
        x, y = signal[order], target[order]
        numbers, codes, sizes = np.unique(groups[order], return_inverse=True, return_counts=True)
        p, q = _centred_ranks(x, codes, sizes), _centred_ranks(y, codes, sizes)
        xy, xx, yy = (_sums(product, codes, len(sizes)) for product in (p * q, p * p, q * q))
        balance, untied_x, untied_y = _pairs(x, y, codes, sizes)
        mixed = untied_y > 0
        return cls(
            numbers[mixed].astype(np.int64),
            sizes[mixed].astype(np.int64),
            untied_y[mixed],
            np.nan_to_num(ratio(xy, np.sqrt(xx * yy)))[mixed],
            np.nan_to_num(ratio(balance, np.sqrt(untied_x * untied_y)))[mixed],
        )

    def sampled(self, bootstrap: Bootstrap) -> dict[str, FloatArray]:
        """Means over groups, and over groups by their ``pairs``, [1 + resamples]; NaN without a mixed group.

        The rows of ``bootstrap`` are the groups.
        """
        if not len(self.groups):
            return dict.fromkeys(WITHIN, np.full(1 + bootstrap.resamples, np.nan))

        def statistics(w: Weights) -> dict[str, FloatArray]:
            real = w.astype(np.float64)
            groups, pairs = real.sum(axis=1), real @ self.pairs
            return {
                "spearman": ratio(real @ self.spearman, groups),
                "kendall": ratio(real @ self.kendall, groups),
                "spearman_by_pairs": ratio(real @ (self.pairs * self.spearman), pairs),
                "kendall_by_pairs": ratio(real @ (self.pairs * self.kendall), pairs),
            }

        return bootstrap.sample(statistics, self.groups)


WITHIN = ("spearman", "kendall", "spearman_by_pairs", "kendall_by_pairs")
"""The correlations within groups: averaged over groups, and weighed by their pairs."""


def _centred_ranks(values: FloatArray, codes: IntArray, sizes: IntArray) -> FloatArray:
    """Ranks [n] within groups, which are contiguous, less their mean; equal values share theirs."""
    order = np.lexsort((values, codes))
    v, c = values[order], codes[order]
    starts = np.flatnonzero(np.append(True, (v[1:] != v[:-1]) | (c[1:] != c[:-1])))
    lengths = np.diff(np.append(starts, len(v)))
    shared = np.repeat(starts + (lengths - 1) / 2, lengths)
    first = np.cumsum(sizes) - sizes
    out = np.empty(len(values))
    out[order] = shared - (first + (sizes - 1) / 2)[c]
    return out


def _sums(values: FloatArray, codes: IntArray, groups: int) -> FloatArray:
    """Sums by group [groups]."""
    return np.bincount(codes, values, groups).astype(np.float64)


def _pairs(x: FloatArray, y: FloatArray, codes: IntArray, sizes: IntArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Concordant less discordant pairs, pairs that differ in x, and in y, by group [groups]."""
    ends = np.cumsum(sizes)[codes]
    balance, untied_x, untied_y = (np.zeros(len(sizes)) for _ in range(3))
    first = np.arange(len(x))
    # Every member with the one so many places further on: memory for one partner, whatever a group's size.
    for distance in range(1, int(sizes.max(initial=0))):
        first = first[first + distance < ends[first]]
        code = codes[first]
        dx, dy = (np.sign(v[first + distance] - v[first]) for v in (x, y))
        balance += _sums(dx * dy, code, len(sizes))
        untied_x += _sums(np.abs(dx), code, len(sizes))
        untied_y += _sums(np.abs(dy), code, len(sizes))
    return balance, untied_x, untied_y
