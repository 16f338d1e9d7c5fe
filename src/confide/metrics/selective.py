"""Selective answering: how wrong is what is still answered when the least confident answers are held back?

Rows of equal confidence cannot be told apart by a threshold, so they are answered together; where a number
needs a point inside such a tie, it is the expected value over a random order of the tied rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import digamma

from confide.metrics.metric import (
    FloatArray,
    Metric,
    Weights,
    columns,
    cumulated,
    ordered,
    preceding,
    ratio,
)


@dataclass(frozen=True)
class RiskCoverage:
    """Risk–coverage curve: one point a distinct threshold, the most confident first [points]."""

    coverage: FloatArray
    risk: FloatArray
    threshold: FloatArray


def risk_coverage(confidence: ArrayLike, correct: ArrayLike) -> RiskCoverage:
    """Share answered and share of wrong among them when everything at or above a threshold is answered.

    ``confidence`` and ``correct`` are [n]; the curve has one point a distinct confidence
    (El-Yaniv & Wiener 2010).
    """
    x, y = np.asarray(confidence, dtype=np.float64), np.asarray(correct, dtype=np.float64)
    order, ends = ordered(x, descending=True)
    kept = (ends + 1).astype(np.float64)
    wrong = np.cumsum(1 - y[order])[ends]
    return RiskCoverage(kept / len(x), wrong / kept, x[order][ends])


@dataclass(frozen=True)
class Answered:
    """Mass answered and mass wrong among it [resamples, ties], the most confident tie first."""

    kept: Weights
    wrong: Weights

    @classmethod
    def of(cls, confidence: FloatArray, correct: FloatArray, weights: Weights) -> Answered:
        """Answer tie after tie of ``confidence`` [n]; ``weights`` are [resamples, n]."""
        order, ends = ordered(confidence, descending=True)
        masses = columns(weights, order)
        return cls(cumulated(masses, ends), cumulated(masses * (1 - correct[order]).astype(masses.dtype), ends))

    def aurc(self) -> FloatArray:
        """See `aurc` [resamples]."""
        return _area(self.kept, self.wrong)

    def areas(self) -> dict[str, FloatArray]:
        """See `aurc`, `excess_aurc` and `prr`, which share their work [resamples]."""
        area, oracle = self.aurc(), self.oracle().aurc()
        random = ratio(self.wrong[:, -1], self.kept[:, -1])
        gain = random - oracle
        # All right or all wrong leaves only rounding between chance and the oracle.
        prr = ratio(random - area, np.where(gain > 1e-12, gain, 0.0))
        return {"aurc": area, "excess_aurc": area - oracle, "prr": prr}

    def oracle(self) -> Answered:
        """The same rows, with every right one answered before any wrong one."""
        total, errors = self.kept[:, -1:], self.wrong[:, -1:]
        return Answered(np.hstack([total - errors, total]), np.hstack([np.zeros_like(errors), errors]))

    def coverage_at_risk(self, risk: float) -> FloatArray:
        """See `coverage_at_risk` [resamples]."""
        # The allowance for rounding keeps 1 wrong of 10 within a risk of 0.1.
        allowed = self.wrong <= risk * self.kept + 1e-9
        return ratio(np.max(self.kept * allowed, axis=1), self.kept[:, -1])

    def risk_at_coverage(self, coverage: float) -> FloatArray:
        """See `risk_at_coverage` [resamples]."""
        target = coverage * self.kept[:, -1]
        after = np.argmax(self.kept >= target[:, None] - 1e-9, axis=1)
        rows = np.arange(len(target))
        kept, wrong = self.kept[rows, after], self.wrong[rows, after]
        first, before = after == 0, np.maximum(after - 1, 0)
        kept_before = np.where(first, 0, self.kept[rows, before])
        wrong_before = np.where(first, 0, self.wrong[rows, before])
        share = np.nan_to_num(ratio(target - kept_before, kept - kept_before))
        return ratio(wrong_before + share * (wrong - wrong_before), target)


@Metric
def aurc(confidence: FloatArray, correct: FloatArray, weights: Weights) -> FloatArray:
    """Area under the risk–coverage curve: the mean, over k = 1..n, of the risk of the k most confident rows.

    Geifman, Uziel & El-Yaniv 2019 (1805.08206); lower is better.
    """
    return Answered.of(confidence, correct, weights).aurc()


@Metric
def excess_aurc(confidence: FloatArray, correct: FloatArray, weights: Weights) -> FloatArray:
    """`aurc` minus that of an oracle with the same accuracy, which answers every right row first.

    Geifman, Uziel & El-Yaniv 2019, with the oracle's exact area instead of their approximation; 0 is best.
    """
    return Answered.of(confidence, correct, weights).areas()["excess_aurc"]


@Metric
def prr(confidence: FloatArray, correct: FloatArray, weights: Weights) -> FloatArray:
    """Prediction–rejection ratio: the share of an oracle's gain over rejecting at random (Malinin & Gales 2021).

    (risk − AURC) / (risk − AURC of the oracle), with every share of rejection counted; 1 is the oracle, 0 is
    chance, below 0 is worse. NaN when all are right or all wrong.
    """
    return Answered.of(confidence, correct, weights).areas()["prr"]


@Metric
def coverage_at_risk(confidence: FloatArray, correct: FloatArray, weights: Weights, *, risk: float = 0.1) -> FloatArray:
    """The largest share that some threshold answers with at most ``risk`` of it wrong; 0 when none does.

    Seen on these rows: a promise about new ones needs a bound, which is a policy's business.
    """
    return Answered.of(confidence, correct, weights).coverage_at_risk(risk)


@Metric
def risk_at_coverage(
    confidence: FloatArray, correct: FloatArray, weights: Weights, *, coverage: float = 0.8
) -> FloatArray:
    """The share of wrong among the most confident ``coverage`` (in (0, 1]) of the rows."""
    return Answered.of(confidence, correct, weights).risk_at_coverage(coverage)


def _area(kept: Weights, wrong: Weights) -> FloatArray:
    """Mean over k of the expected risk of the k most confident, for curves [resamples, ties].

    Inside a tie that starts after a rows with E errors and goes on at error rate r, the risk at k is
    (E + (k - a) r) / k; summed over k = a+1..b that is (b - a) r + (E - a r)(H(b) - H(a)), H the harmonic
    numbers. Whole ties at a time, it needs no expansion of weights into rows.
    """
    before, errors = preceding(kept), preceding(wrong)
    size = kept - before
    # A tie without mass adds nothing: its steps are 0, so its rate may be anything finite.
    rate = (wrong - errors) / np.where(size > 0, size, 1)
    rate *= before
    np.subtract(errors, rate, out=rate)
    rate *= np.diff(_harmonic(kept), axis=1, prepend=0)
    return ratio(wrong[:, -1] + rate.sum(axis=1), kept[:, -1])


def _harmonic(x: Weights) -> FloatArray:
    """Harmonic numbers of non-negative x; a table for whole numbers, the digamma function between them."""
    if x.dtype.kind == "i":
        return np.concatenate([[0.0], np.cumsum(1 / np.arange(1, int(x.max()) + 1))])[x]
    return np.asarray(digamma(x + 1) + np.euler_gamma, dtype=np.float64)
