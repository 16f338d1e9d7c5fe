"""Ranking: does a higher confidence mean right more often, whatever its scale, over all rows or within groups?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from confide.metrics.bootstrap import Bootstrap
from confide.metrics.metric import Correlation, Metric, Weighted, Weights
from confide.metrics.running_sums import columns, cumulated, ordered, preceding, ratio
from confide.numeric import Floats, Ints


@Metric
def auroc(rows: Weighted) -> Floats:
    """Probability that a right answer has a higher confidence than a wrong one, ties counted half.

    The Mann-Whitney statistic over all pairs of a right and a wrong row (Hanley & McNeil 1982), in [0, 1];
    NaN without both kinds.
    """
    order, ends = ordered(rows.confidence)
    positives, negatives = _running(order, ends, rows)
    concordant = _concordant(positives, negatives).sum(axis=1)
    return ratio(concordant, positives[:, -1].astype(np.float64) * negatives[:, -1])


@dataclass(frozen=True)
class GroupPairs:
    """Pairs of a right and a wrong row of the same group, and how many are in order [resamples, groups]."""

    concordant: Floats
    pairs: Floats

    @classmethod
    def of(cls, rows: Weighted, groups: Ints) -> GroupPairs:
        """Count the pairs of rows with the same number in ``groups`` [n]; negative numbers are in no group."""
        kept = np.flatnonzero(groups >= 0)
        if not len(kept):
            return cls(np.zeros((len(rows.weights), 1)), np.zeros((len(rows.weights), 1)))
        order = kept[np.lexsort((rows.confidence[kept], groups[kept]))]
        values, codes = rows.confidence[order], groups[order]
        tie_ends = (codes[1:] != codes[:-1]) | (values[1:] != values[:-1])
        ends = np.flatnonzero(np.append(tie_ends, True))
        positives, negatives = _running(order, ends, rows)
        # Running sums cover all groups so far; what earlier groups brought is taken off again per group.
        starts = np.flatnonzero(np.append(True, codes[ends][1:] != codes[ends][:-1]))
        lasts = np.append(starts[1:] - 1, len(ends) - 1)
        all_right = columns(positives, lasts).astype(np.float64)
        all_wrong = columns(negatives, lasts).astype(np.float64)
        right, wrong = np.diff(all_right, axis=1, prepend=0), np.diff(all_wrong, axis=1, prepend=0)
        concordant = np.add.reduceat(_concordant(positives, negatives), starts, axis=1)
        return cls(concordant - right * (all_wrong - wrong), right * wrong)


@Metric
def within_auroc(rows: Weighted, *, groups: Ints, average: bool = False) -> Floats:
    """AUROC over pairs of a right and a wrong row of the same group only.

    ``groups`` [n] holds the number of every row's group (the answer it names, the question it belongs to);
    negative means none. A source that only knows which groups are usually right scores 0.5. Pairs weigh the
    same, or groups do with ``average``. NaN when no group holds both kinds.
    """
    found = rows.shared(GroupPairs.of, groups)
    if not average:
        return ratio(found.concordant.sum(axis=1), found.pairs.sum(axis=1))
    mixed = found.pairs > 0
    shares = np.divide(found.concordant, found.pairs, out=np.zeros_like(found.pairs), where=mixed)
    return ratio(shares.sum(axis=1), mixed.sum(axis=1))


@Correlation
def spearman(rows: Weighted) -> Floats:
    """Rank correlation of the confidence with any number, ties sharing their mean rank; in [-1, 1].

    Pearson's correlation of the two rankings (Spearman 1904); NaN when either side is constant.
    """
    x, x_squares = _centred_ranks(rows.confidence, rows.weights)
    y, y_squares = _centred_ranks(rows.outcome, rows.weights)
    x *= y
    return ratio(np.einsum("rn,rn->r", x, rows.weights), np.sqrt(x_squares * y_squares))


@dataclass(frozen=True)
class GroupCorrelations:
    """How a signal orders the members of every mixed group by a target, all [groups].

    A group is mixed when its targets differ. A signal that is the same throughout a mixed group does not order it
    and counts as 0 there (0.5 in ``auroc``): to leave such groups out would flatter it. ``groups`` holds their
    numbers, ``sizes`` their members and ``pairs`` their pairs with different targets. ``auroc`` is the share of these
    pairs in order, ``spearman`` is ρ and ``kendall`` τ_b.
    """

    groups: Ints
    sizes: Ints
    pairs: Floats
    auroc: Floats
    spearman: Floats
    kendall: Floats

    @classmethod
    def of(cls, signal: Floats, target: Floats, groups: Ints) -> GroupCorrelations:
        """Of ``n`` signals and targets, and the number of every row's group [n]."""
        order = np.argsort(groups, kind="stable")
        x, y = signal[order], target[order]
        numbers, codes, sizes = np.unique(groups[order], return_inverse=True, return_counts=True)
        p, q = _ranks_within(x, codes, sizes), _ranks_within(y, codes, sizes)
        xy, xx, yy = (_sums(product, codes, len(sizes)) for product in (p * q, p * p, q * q))
        balance, untied_x, untied_y = _compared(x, y, codes, sizes)
        mixed = untied_y > 0
        correlations = [
            (ratio(balance, untied_y) + 1) / 2,
            np.nan_to_num(ratio(xy, np.sqrt(xx * yy))),
            np.nan_to_num(ratio(balance, np.sqrt(untied_x * untied_y))),
        ]
        return cls(numbers[mixed], sizes[mixed], untied_y[mixed], *(values[mixed] for values in correlations))

    def sampled(self, bootstrap: Bootstrap, *names: str) -> dict[str, Floats]:
        """Means over groups of the fields ``names`` and, as ``<name>_by_pairs``, weighted by pairs [1 + resamples].

        The rows of ``bootstrap`` are the groups. A group that is drawn twice brings its pairs twice, and none between
        its copies. NaN without a group.
        """
        if not len(self.groups):
            undefined = np.full(1 + bootstrap.resamples, np.nan)
            return {f"{name}{by}": undefined for by in ("", "_by_pairs") for name in names}
        values: dict[str, Floats] = {name: getattr(self, name) for name in names}

        def statistics(w: Weights) -> dict[str, Floats]:
            real = w.astype(np.float64)
            drawn, drawn_pairs = real.sum(axis=1), real @ self.pairs
            plain = {name: ratio(real @ x, drawn) for name, x in values.items()}
            return plain | {f"{n}_by_pairs": ratio(real @ (self.pairs * x), drawn_pairs) for n, x in values.items()}

        return bootstrap.sample(statistics, self.groups)


def _running(order: Ints, ends: Ints, rows: Weighted) -> tuple[Weights, Weights]:
    """Mass of right and of wrong rows up to the end of every tie [resamples, ties]."""
    masses = columns(rows.weights, order)
    right = masses * rows.outcome[order].astype(masses.dtype)
    return cumulated(right, ends), cumulated(masses - right, ends)


def _concordant(positives: Weights, negatives: Weights) -> Floats:
    """Concordant pairs [resamples, ties] that each tie's right rows make with wrong rows up to here."""
    right = positives - preceding(positives)
    # The mean of the wrong mass before and after a tie is "all below, half of the equal ones".
    twice = negatives + preceding(negatives)
    return np.asarray(np.multiply(right, twice, dtype=np.float64) * 0.5)


def _centred_ranks(values: Floats, weights: Weights) -> tuple[Floats, Floats]:
    """Mean ranks less their mean [resamples, n], as if rows were repeated, and the sum of their squares [resamples]."""
    order, ends = ordered(values)
    after = cumulated(columns(weights, order), ends)
    before = preceding(after)
    # Ranks that are shared keep the mean of all ranks, half of the mass.
    middle = (before + after - after[:, -1:]) / 2
    group = np.empty(len(values), dtype=np.int64)
    group[order] = np.repeat(np.arange(len(ends)), np.diff(ends, prepend=-1))
    squares = np.einsum("rg,rg,rg->r", middle, middle, after - before)
    return columns(middle, group), np.asarray(squares, dtype=np.float64)


def _ranks_within(values: Floats, codes: Ints, sizes: Ints) -> Floats:
    """Ranks [n] within groups, which are contiguous, less their mean; equal values share theirs."""
    from scipy.stats import rankdata

    # Ordered by group first, so a group's ranks follow those of all groups before it.
    _, places = np.unique(values, return_inverse=True)
    middle = np.cumsum(sizes) - (sizes - 1) / 2
    return np.asarray(rankdata(codes * len(values) + places) - middle[codes])


def _sums(values: Floats, codes: Ints, groups: int) -> Floats:
    """Sums by group [groups]."""
    return np.bincount(codes, values, groups).astype(np.float64)


def _compared(x: Floats, y: Floats, codes: Ints, sizes: Ints) -> tuple[Floats, Floats, Floats]:
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
