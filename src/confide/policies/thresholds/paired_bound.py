"""Exact bounds of the accuracy that a pair of models loses against one of them: a paired test of small margins.

With d = 1 where a kept answer is wrong and the expert's right, −1 where it is the other way round, and 0 elsewhere, the
loss is E[d] over all questions. Of n rows, b lose and c gain, a trinomial with probabilities (p_b, p_c). Outcomes are
ordered by the score statistic of "E[d] = margin" (Tango 1998, "Equivalence test and confidence interval for the
difference in proportions for the paired-sample design"), and the p-value is the largest probability, over every
nuisance p_c, of an outcome at least as extreme: the unconditional exact test of Hsueh, Liu and Chen (2001, Biometrics
57). It relies on no normal approximation; and questions that both get right or both get wrong cost nothing.

The largest probability is searched on points that are spaced by the standard deviation of the outcome (p_c ∝ sin² θ has
counts of constant variance), and twice more between the neighbours of every peak. `_MISSED` is added for what lies
between the last points: the tests compare with a search a hundred times as fine.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import bdtr, gammaln, xlog1py, xlogy
from scipy.stats import norm

from confide.numeric import Floats, Ints
from confide.policies.thresholds.binomial_bound import POWER

# Standard deviations of the outcome between two points of the nuisance: this at both its ends, where outcomes are few
# and the size jumps, and more in proportion to the distance from the end beyond so many.
_STEP = 0.8
_FINE = 20.0
# So many of the highest peaks are searched again, twice, at so many points between their neighbours.
_PEAKS = 6
_CLOSER = 9
# Share of the size that the search may miss.
_MISSED = 5e-4
# Standard deviations of the number of gains beyond which outcomes are left out of the sum.
_WIDE = 6.5


@dataclass(frozen=True)
class PairedCount:
    """Of ``n`` independent rows the small model answers ``kept``; of those, it is wrong and the expert right on
    ``losses``, and it is right and the expert wrong on ``gains``.
    """

    n: int
    kept: int
    losses: int
    gains: int

    @property
    def counted(self) -> int:
        """Rows among which losses and gains count: all."""
        return self.n

    @property
    def observed(self) -> float:
        """The accuracy lost, negative where it is won; there must be a row."""
        return (self.losses - self.gains) / self.n

    def shows(self, limit: float, error: float) -> bool:
        """Whether "the loss is at least ``limit``" is rejected at ``error``."""
        return bool(self.losses <= critical_losses(self.n, limit, error)[self.gains])

    def interval(self, level: float) -> tuple[float, float]:
        """One-sided bounds of the loss, each at ``level``."""
        return loss_interval(self.losses, self.gains, self.n, level)


def loss_interval(losses: int, gains: int, n: int, level: float) -> tuple[float, float]:
    """One-sided bounds of E[d] from ``losses`` and ``gains`` among ``n`` rows, each at ``level``: (lower, upper).

    The margins at which the exact test just rejects, and their mirror image; (−1, 1) for no rows.
    """
    return -_upper(gains, losses, n, level), _upper(losses, gains, n, level)


def p_value(losses: int, gains: int, n: int, margin: float) -> float:
    """Exact p-value of "the loss is at least ``margin``" (−1 < margin < 1), for ``losses`` and ``gains`` of ``n``."""
    return _p_value(losses, gains, n, margin)


def _p_value(losses: int, gains: int, n: int, margin: float, *, roughly: bool = False) -> float:
    z = _score(np.array([losses]), np.array([gains]), n, margin)[0]
    return _size(_most_losses(float(z), n, margin), n, margin, roughly=roughly)


@lru_cache(maxsize=512)
def critical_losses(n: int, margin: float, error: float) -> Ints:
    """Most losses, for 0 to ``n`` gains, that reject "the loss is at least ``margin``" at ``error`` (−1: none do)."""
    # Discreteness makes the exact limit stricter than the normal one, seldom by as much as 1.
    low, high = float(norm.ppf(error)) - 1.5, float(norm.ppf(error)) + 0.25
    if _size(_most_losses(low, n, margin), n, margin) > error:
        return np.full(n + 1, -1)
    while high - low > 2e-3:
        middle = (low + high) / 2
        fits = _size(_most_losses(middle, n, margin), n, margin, roughly=True) <= error
        low, high = (middle, high) if fits else (low, middle)
    # The last word is the whole search's.
    step = 2e-3
    while _size(most := _most_losses(low, n, margin), n, margin) > error:
        low, step = low - step, 2 * step
    return most


def rows_that_decide(loss_rate: float, gain_rate: float, margin: float, level: float) -> int | None:
    """Rows that decide with probability `POWER` at these true rates, by the normal approximation (None: none)."""
    distance = margin - (loss_rate - gain_rate)
    if abs(distance) < 1e-9:
        return None
    # Rates of zero are never certain: one row more of each kind in a thousand.
    variance = max(loss_rate + gain_rate - (loss_rate - gain_rate) ** 2, abs(margin), 1e-3)
    z = float(norm.ppf(level) + norm.ppf(POWER))
    return int(np.ceil(variance * (z / distance) ** 2))


def _score(losses: Ints, gains: Ints, n: int, margin: float) -> Floats:
    """Tango's statistic: the difference from ``margin`` in standard errors, at the likeliest nuisance with that margin.

    ``losses`` and ``gains`` have one shape; low values speak for a smaller loss.
    """
    b, c, m = (losses, gains, margin) if margin >= 0 else (gains, losses, -margin)
    linear = b * (1 + m) + c * (1 - m) - 2 * n * m
    smaller = (linear + np.sqrt(linear**2 + 8 * n * c * m * (1 - m))) / (4 * n)
    variance = n * (2 * smaller + m - m**2)
    return np.asarray((losses - gains - n * margin) / np.sqrt(np.maximum(variance, 1e-12)))


def _most_losses(z: float, n: int, margin: float) -> Ints:
    """For 0 to ``n`` gains the most losses whose score is at most ``z`` (−1: none)."""
    gains = np.arange(n + 1)
    low, high = np.full(n + 1, -1), n - gains + 1
    while np.any(high - low > 1):
        middle = (low + high) // 2
        inside = _score(np.maximum(middle, 0), gains, n, margin) <= z + 1e-9
        low, high = np.where(inside, middle, low), np.where(inside, high, middle)
    # A row more that gains never speaks against: this keeps the largest probability on the margin itself.
    return np.minimum(np.maximum.accumulate(low), n - gains)


def _size(most: Ints, n: int, margin: float, *, roughly: bool = False) -> float:
    """Largest probability, over the nuisance, of at most ``most[gains]`` losses when the loss is ``margin``.

    ``roughly``, it is the largest on the first points, which may be a few per cent too small.
    """
    # An angle is 2√n standard deviations at most.
    deviations = np.pi / 2 * math.sqrt(n)
    steps = math.ceil(math.asinh(deviations / _FINE) * _FINE / _STEP) + 6
    from_end = np.pi / 4 * np.sinh(np.linspace(0, math.asinh(deviations / _FINE), steps)) * _FINE / deviations
    angles = np.unique(np.concatenate([from_end, np.pi / 2 - from_end]))
    sizes = _sizes(most, n, margin, angles)
    for _ in range(0 if roughly else 2):
        before, after = np.append(0.0, sizes[:-1]), np.append(sizes[1:], 0.0)
        peaks = np.flatnonzero((sizes >= before) & (sizes >= after))
        peaks = peaks[np.argsort(-sizes[peaks])[:_PEAKS]]
        low, high = angles[np.maximum(peaks - 1, 0)], angles[np.minimum(peaks + 1, len(angles) - 1)]
        angles = np.unique(np.concatenate([np.linspace(low, high, _CLOSER).ravel(), angles[peaks]]))
        sizes = _sizes(most, n, margin, angles)
    return float(min(1.0, (1 + _MISSED) * sizes.max()))


def _sizes(most: Ints, n: int, margin: float, angles: Floats) -> Floats:
    """Probability of at most ``most[gains]`` losses at each nuisance (1 − |margin|)/2 · sin² of ``angles``."""
    spread = (1 - abs(margin)) / 2 * np.sin(angles) ** 2
    p_gain, p_loss = spread + max(-margin, 0.0), spread + max(margin, 0.0)
    deviation = np.sqrt(n * p_gain * (1 - p_gain))
    low = np.maximum(np.floor(n * p_gain - _WIDE * deviation), 0).astype(np.int64)
    high = np.minimum(np.ceil(n * p_gain + _WIDE * deviation) + 12, n).astype(np.int64)
    width = high - low + 1
    start = np.concatenate([[0], np.cumsum(width)[:-1]])
    gains = np.arange(width.sum()) - np.repeat(start - low, width)
    share = np.repeat(np.minimum(p_loss / np.maximum(1 - p_gain, 1e-12), 1.0), width)
    coefficients = gammaln(n + 1) - gammaln(np.arange(n + 1) + 1) - gammaln(n - np.arange(n + 1) + 1)
    chance = np.exp(coefficients[gains] + xlogy(gains, np.repeat(p_gain, width))
                    + xlog1py(n - gains, -np.repeat(p_gain, width)))  # fmt: skip
    # Given the gains, the losses are binomial among the rows that are left.
    fewer = np.where(most[gains] < 0, 0.0, bdtr(np.maximum(most[gains], 0), n - gains, share))
    return np.asarray(np.add.reduceat(chance * fewer, start))


def _upper(losses: int, gains: int, n: int, level: float) -> float:
    """The margin at which the test just rejects at 1 − ``level``: it rejects for all larger ones."""
    if n == 0:
        return 1.0
    low, high = (losses - gains) / n, 1.0
    while high - low > 1e-5:
        middle = (low + high) / 2
        rejects = _p_value(losses, gains, n, middle, roughly=True) <= 1 - level
        low, high = (low, middle) if rejects else (middle, high)
    # The last word is the whole search's.
    step = 1e-5
    while high < 1 and p_value(losses, gains, n, high) > 1 - level:
        high, step = min(high + step, 1.0), 2 * step
    return high
