"""Ranking: does a higher confidence mean right more often, whatever its scale, over all rows or within groups?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from confide.metrics.bootstrap import Bootstrap
from confide.metrics.metric import Correlation, Metric, Weighted, Weights
from confide.metrics.running_sums import by_confidence, columns, cumulated, ordered, preceding, ratio, weighted_sum
from confide.numeric import Floats, Ints


@Metric
def auroc(rows: Weighted) -> Floats:
    """Probability that a right answer has a higher confidence than a wrong one, ties counted half.

    The Mann-Whitney statistic over all pairs of a right and a wrong row (Hanley & McNeil 1982), in [0, 1];
    NaN without both kinds.
    """
    order, ends = rows.lasting(by_confidence)
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
        order, ends, starts = rows.lasting(_tied_within, groups)
        if not len(order):
            return cls(np.zeros((len(rows.weights), 1)), np.zeros((len(rows.weights), 1)))
        positives, negatives = _running(order, ends, rows)
        # Running sums cover all groups so far; what earlier groups brought is taken off again per group.
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
    x, x_squares = _centred_ranks(*rows.lasting(_ranked), rows.weights)
    y, y_squares = _centred_ranks(*rows.lasting(_ranked, of_outcome=True), rows.weights)
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
            drawn, drawn_pairs = w.sum(axis=1), weighted_sum(w, self.pairs)
            plain = {name: ratio(weighted_sum(w, x), drawn) for name, x in values.items()}
            by_pairs = {name: ratio(weighted_sum(w, self.pairs * x), drawn_pairs) for name, x in values.items()}
            return plain | {f"{name}_by_pairs": x for name, x in by_pairs.items()}

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


def _tied_within(confidence: Floats, _: Floats, groups: Ints) -> tuple[Ints, Ints, Ints]:
    """Rows in order of their group and confidence, the last place of every tie, and the first tie of every group."""
    kept = np.flatnonzero(groups >= 0)
    order = kept[np.lexsort((confidence[kept], groups[kept]))]
    values, codes = confidence[order], groups[order]
    if not len(order):
        return order, order, order
    ends = np.flatnonzero(np.append((codes[1:] != codes[:-1]) | (values[1:] != values[:-1]), True))
    starts = np.flatnonzero(np.append(True, codes[ends][1:] != codes[ends][:-1]))
    return order, ends, starts


def _ranked(confidence: Floats, outcome: Floats, *, of_outcome: bool = False) -> tuple[Ints, Ints, Ints]:
    """Rows in order of one of the two, the last place of every tie, and the tie [n] that each row belongs to."""
    order, ends = ordered(outcome if of_outcome else confidence)
    group = np.empty(len(order), dtype=np.int64)
    group[order] = np.repeat(np.arange(len(ends)), np.diff(ends, prepend=-1))
    return order, ends, group


def _centred_ranks(order: Ints, ends: Ints, group: Ints, weights: Weights) -> tuple[Floats, Floats]:
    """Mean ranks less their mean [resamples, n], as if rows were repeated, and the sum of their squares [resamples].

    ``order``, ``ends`` and ``group`` are as `_ranked` gives them.
    """
    after = cumulated(columns(weights, order), ends)
    before = preceding(after)
    # Ranks that are shared keep the mean of all ranks, half of the mass.
    middle = (before + after - after[:, -1:]) / 2
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
    """Concordant less discordant pairs, pairs that differ in x, and in y, by group [groups].

    Of all pairs of a group those that tie in x, in y and in both are known from the sizes of the ties (Knight 1966, "A
    computer method for calculating Kendall's tau"), and those in the wrong order are counted bit by bit.
    """
    pairs = _pairs(sizes)
    by_x, by_y = (np.unique(codes * np.int64(len(x)) + _dense(v), return_inverse=True)[1] for v in (x, y))
    tied_x, tied_y, tied_both = (
        _tied_pairs(places, codes, len(sizes)) for places in (by_x, by_y, by_x * np.int64(len(x)) + by_y)
    )
    discordant = _inversions(by_y[np.lexsort((by_y, by_x))], codes, len(sizes))
    balance = pairs - tied_x - tied_y + tied_both - 2 * discordant
    return balance, pairs - tied_x, pairs - tied_y


def _dense(values: Floats) -> Ints:
    return np.unique(values, return_inverse=True)[1].astype(np.int64)


def _pairs(counts: Ints) -> Floats:
    return counts * (counts - 1.0) / 2


def _tied_pairs(places: Ints, codes: Ints, groups: int) -> Floats:
    """Pairs of rows with the same of ``places`` [n], which rows of two groups never have, by group [groups]."""
    _, first, counts = np.unique(places, return_index=True, return_counts=True)
    return _sums(_pairs(counts), codes[first], groups)


def _inversions(ranks: Ints, codes: Ints, groups: int) -> Floats:
    """Pairs of a rank and a lower one that follows it, by group [groups].

    Groups are contiguous and their ranks rise from group to group. From the highest bit down, two ranks of a group that
    agree in all higher bits are in the wrong order when the earlier one has the bit and the later one has not.
    """
    found = np.zeros(groups)
    if not len(ranks):
        return found
    least = np.minimum.reduceat(ranks, np.flatnonzero(np.diff(codes, prepend=-1)))
    ranks = ranks - np.repeat(least, np.diff(np.flatnonzero(np.diff(codes, prepend=-1)), append=len(codes)))
    bits = int(ranks.max()).bit_length()
    ranks = (codes << bits) | ranks
    for bit in reversed(range(bits)):
        has = (ranks >> bit) & 1
        starts = np.flatnonzero(np.diff(ranks >> (bit + 1), prepend=-1))
        before = np.cumsum(has) - has
        before -= np.repeat(before[starts], np.diff(starts, append=len(ranks)))
        found += _sums(np.where(has == 0, before, 0).astype(np.float64), codes, groups)
        # Of those that agree in the higher bits the ones without this bit come first; otherwise the order stays.
        ranks = ranks[np.argsort(ranks >> bit, kind="stable")]
    return found
