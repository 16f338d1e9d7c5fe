"""Ranking: does a higher confidence mean right more often, whatever its scale?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from confide.metrics.metric import (
    Correlation,
    FloatArray,
    IntArray,
    Metric,
    Weights,
    columns,
    cumulated,
    ordered,
    preceding,
    ratio,
)


@Metric
def auroc(confidence: FloatArray, correct: FloatArray, weights: Weights) -> FloatArray:
    """Probability that a right answer has a higher confidence than a wrong one, ties counted half.

    The Mann-Whitney statistic over all pairs of a right and a wrong row (Hanley & McNeil 1982), in [0, 1];
    NaN without both kinds.
    """
    order, ends = ordered(confidence)
    positives, negatives = _running(order, ends, correct, weights)
    concordant = _concordant(positives, negatives).sum(axis=1)
    return ratio(concordant, positives[:, -1].astype(np.float64) * negatives[:, -1])


@dataclass(frozen=True)
class GroupPairs:
    """Pairs of a right and a wrong row of the same group, and how many are in order [resamples, groups]."""

    concordant: FloatArray
    pairs: FloatArray

    def pooled(self) -> FloatArray:
        """Share in order among all pairs [resamples]."""
        return ratio(self.concordant.sum(axis=1), self.pairs.sum(axis=1))

    def averaged(self) -> FloatArray:
        """Mean over groups that hold both kinds of the share in order [resamples]."""
        mixed = self.pairs > 0
        shares = np.divide(self.concordant, self.pairs, out=np.zeros_like(self.pairs), where=mixed)
        return ratio(shares.sum(axis=1), mixed.sum(axis=1))


def group_pairs(confidence: FloatArray, correct: FloatArray, weights: Weights, groups: IntArray) -> GroupPairs:
    """Count the pairs of rows with the same number in ``groups`` [n]; negative numbers are in no group."""
    kept = np.flatnonzero(groups >= 0)
    if not len(kept):
        return GroupPairs(np.zeros((len(weights), 1)), np.zeros((len(weights), 1)))
    order = kept[np.lexsort((confidence[kept], groups[kept]))]
    values, codes = confidence[order], groups[order]
    tie_ends = (codes[1:] != codes[:-1]) | (values[1:] != values[:-1])
    ends = np.flatnonzero(np.append(tie_ends, True))
    positives, negatives = _running(order, ends, correct, weights)
    # Running sums cover all groups so far; what earlier groups brought is taken off again per group.
    starts = np.flatnonzero(np.append(True, codes[ends][1:] != codes[ends][:-1]))
    lasts = np.append(starts[1:] - 1, len(ends) - 1)
    all_right = columns(positives, lasts).astype(np.float64)
    all_wrong = columns(negatives, lasts).astype(np.float64)
    right, wrong = np.diff(all_right, axis=1, prepend=0), np.diff(all_wrong, axis=1, prepend=0)
    concordant = np.add.reduceat(_concordant(positives, negatives), starts, axis=1)
    return GroupPairs(concordant - right * (all_wrong - wrong), right * wrong)


@Metric
def within_auroc(
    confidence: FloatArray,
    correct: FloatArray,
    weights: Weights,
    *,
    groups: IntArray,
    average: bool = False,
) -> FloatArray:
    """AUROC over pairs of a right and a wrong row of the same group only.

    ``groups`` [n] holds the number of every row's group (the answer it names, the question it belongs to);
    negative means none. A source that only knows which groups are usually right scores 0.5. Pairs weigh the
    same, or groups do with ``average``. NaN when no group holds both kinds.
    """
    found = group_pairs(confidence, correct, weights, groups)
    return found.averaged() if average else found.pooled()


@Correlation
def spearman(confidence: FloatArray, target: FloatArray, weights: Weights) -> FloatArray:
    """Rank correlation of the confidence with any number, ties sharing their mean rank; in [-1, 1].

    Pearson's correlation of the two rankings (Spearman 1904); NaN when either side is constant.
    """
    x, x_squares = _centred_ranks(confidence, weights)
    y, y_squares = _centred_ranks(target, weights)
    x *= y
    return ratio(np.einsum("rn,rn->r", x, weights), np.sqrt(x_squares * y_squares))


def _running(order: IntArray, ends: IntArray, correct: FloatArray, weights: Weights) -> tuple[Weights, Weights]:
    """Mass of right and of wrong rows up to the end of every tie [resamples, ties]."""
    masses = columns(weights, order)
    right = masses * correct[order].astype(masses.dtype)
    return cumulated(right, ends), cumulated(masses - right, ends)


def _concordant(positives: Weights, negatives: Weights) -> FloatArray:
    """Concordant pairs [resamples, ties] that each tie's right rows make with wrong rows up to here."""
    right = positives - preceding(positives)
    # The mean of the wrong mass before and after a tie is "all below, half of the equal ones".
    twice = negatives + preceding(negatives)
    return np.asarray(np.multiply(right, twice, dtype=np.float64) * 0.5)


def _centred_ranks(values: FloatArray, weights: Weights) -> tuple[FloatArray, FloatArray]:
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
