"""Selective answering: how wrong is what is still answered when the least confident answers are held back?

Rows of equal confidence cannot be told apart by a threshold, so they are answered together; where a number
needs a point inside such a tie, it is the expected value over a random order of the tied rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from scipy.special import digamma

from confide.metrics.metric import Metric, Weighted, Weights
from confide.metrics.running_sums import by_confidence, columns, cumulated, preceding, ratio
from confide.numeric import Floats


@dataclass(frozen=True)
class Answered:
    """Mass answered and mass wrong among it [resamples, ties], the most confident tie first.

    A point of the risk–coverage curve (El-Yaniv & Wiener 2010) for every threshold.
    """

    kept: Weights
    wrong: Weights

    @classmethod
    def of(cls, rows: Weighted) -> Answered:
        """Answer tie after tie of equal confidence."""
        order, ends = rows.lasting(by_confidence, descending=True)
        masses = columns(rows.weights, order)
        return cls(cumulated(masses, ends), cumulated(masses * (1 - rows.outcome[order]).astype(masses.dtype), ends))

    @cached_property
    def area(self) -> Floats:
        """Mean over k of the expected risk of the k most confident [resamples].

        Inside a tie that starts after a rows with E errors and goes on at error rate r, the risk at k is
        (E + (k - a) r) / k; summed over k = a+1..b that is (b - a) r + (E - a r)(H(b) - H(a)), H the harmonic
        numbers. Whole ties at a time, it needs no expansion of weights into rows.
        """
        before, errors = preceding(self.kept), preceding(self.wrong)
        size = self.kept - before
        # A tie without mass adds nothing: its steps are 0, so its rate may be anything finite.
        rate = (self.wrong - errors) / np.where(size > 0, size, 1)
        rate *= before
        np.subtract(errors, rate, out=rate)
        rate *= np.diff(_harmonic(self.kept), axis=1, prepend=0)
        return ratio(self.wrong[:, -1] + rate.sum(axis=1), self.kept[:, -1])

    @cached_property
    def oracle(self) -> Answered:
        """The same rows, with every right one answered before any wrong one."""
        total, errors = self.kept[:, -1:], self.wrong[:, -1:]
        return Answered(np.hstack([total - errors, total]), np.hstack([np.zeros_like(errors), errors]))


@Metric
def aurc(rows: Weighted) -> Floats:
    """Area under the risk–coverage curve: the mean, over k = 1..n, of the risk of the k most confident rows.

    Geifman, Uziel & El-Yaniv 2019 (1805.08206); lower is better.
    """
    return rows.shared(Answered.of).area


@Metric
def excess_aurc(rows: Weighted) -> Floats:
    """`aurc` minus that of an oracle with the same accuracy, which answers every right row first.

    Geifman, Uziel & El-Yaniv 2019, with the oracle's exact area instead of their approximation; 0 is best.
    """
    curve = rows.shared(Answered.of)
    return curve.area - curve.oracle.area


@Metric
def prr(rows: Weighted) -> Floats:
    """Prediction–rejection ratio: the share of an oracle's gain over rejecting at random (Malinin & Gales 2021).

    (risk − AURC) / (risk − AURC of the oracle), with every share of rejection counted; 1 is the oracle, 0 is
    chance, below 0 is worse. NaN when all are right or all wrong.
    """
    curve = rows.shared(Answered.of)
    random = ratio(curve.wrong[:, -1], curve.kept[:, -1])
    gain = random - curve.oracle.area
    # All right or all wrong leaves only rounding between chance and the oracle.
    return ratio(random - curve.area, np.where(gain > 1e-12, gain, 0.0))


@Metric
def coverage_at_risk(rows: Weighted, *, risk: float = 0.1) -> Floats:
    """The largest share that some threshold answers with at most ``risk`` of it wrong; 0 when none does.

    Seen on these rows: a promise about new ones needs a bound, which is a policy's business.
    """
    curve = rows.shared(Answered.of)
    # The allowance for rounding keeps 1 wrong of 10 within a risk of 0.1.
    allowed = curve.wrong <= risk * curve.kept + 1e-9
    return ratio(np.max(curve.kept * allowed, axis=1), curve.kept[:, -1])


@Metric
def risk_at_coverage(rows: Weighted, *, coverage: float = 0.8) -> Floats:
    """The share of wrong among the most confident ``coverage`` (in (0, 1]) of the rows."""
    curve = rows.shared(Answered.of)
    target = coverage * curve.kept[:, -1]
    # Inside a tie the expected number of errors lies on the line between its ends.
    kept, wrong = (np.pad(running, ((0, 0), (1, 0))) for running in (curve.kept, curve.wrong))
    errors = np.array([np.interp(*point) for point in zip(target, kept, wrong, strict=True)])
    return ratio(errors, target)


def _harmonic(x: Weights) -> Floats:
    """Harmonic numbers of non-negative x; a table for whole numbers, the digamma function between them."""
    if x.dtype.kind == "i":
        # A size that grows by doubling, so that draws of about as much mass share one table.
        return _harmonic_numbers(1 << int(x.max()).bit_length())[x]
    return np.asarray(digamma(x + 1) + np.euler_gamma, dtype=np.float64)


@lru_cache(maxsize=1)
def _harmonic_numbers(count: int) -> Floats:
    """The harmonic numbers of 0, …, ``count`` − 1."""
    return np.concatenate([[0.0], np.cumsum(1 / np.arange(1, count))])
