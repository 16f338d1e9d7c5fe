"""Bounds for a share that may be looked at after every row: confidence sequences and change detection.

An interval for a fixed number of rows is wrong far more often than promised when somebody looks at it every day and
stops at the first alarm. What is here holds at all times at once. Everything works on counts: of ``n`` rows so far
``k`` were hits (wrong answers, or answered requests).

The evidence against "every row's chance of a hit, given the rows before it, is at most m" is the capital of a gambler
who bets on hits at the odds of m. The bets are a mixture over all chances θ ≥ m (Jeffreys prior, cut off at m):

    E = ∫ (θ/m)^k ((1 − θ)/(1 − m))^(n − k) dπ(θ)

Each factor has expectation at most 1 under the hypothesis, so E is a supermartingale and P(E ever ≥ 1/α) ≤ α by
Ville's inequality. This is testing by betting (Waudby-Smith & Ramdas 2024, "Estimating means of bounded random
variables by betting", JRSS B 86, sections 2 and 4) for 0/1 values, with the mixture of Robbins (1970) in the place
of plug-in bets: it has a closed form and depends on the counts alone. Rows need not be independent; what is assumed is
that the past does not tell the next row's chance of a hit.

Values of −1, 0 and 1 (won, equal, lost) are bet on in the same way, with a mixture over the share of the capital that
is put on each row.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betaincc, betaln, xlog1py, xlogy

from confide.numeric import Floats

_BISECTIONS = 28
_MOST_ROWS = 10_000_000
_UNDERFLOW = -690.0  # log of what a double still holds in full precision
_ODDS = (1.5, 2.5, 5.0)
_STAKES = np.geomspace(5e-3, 0.95, 40)


def log_evidence_above(n: ArrayLike, k: ArrayLike, mean: ArrayLike) -> Floats:
    """Log of the evidence E (above) that the chance of a hit exceeds ``mean``; all arguments broadcast.

    0 means none either way, log(1/α) rejects at α whenever it is reached.
    """
    n, k, mean = np.broadcast_arrays(*(np.asarray(a, dtype=float) for a in (n, k, mean)))
    inside = np.clip(mean, 1e-12, 1 - 1e-12)
    # Jeffreys' prior is the arcsine law: density 1 / (π √(θ (1 − θ))), mass 2/π arccos √m above m.
    mass = np.log(2 * np.arccos(np.sqrt(inside)))
    with np.errstate(divide="ignore", invalid="ignore"):
        tail = np.log(betaincc(k + 0.5, n - k + 0.5, inside))
        # Far above the share seen the integral underflows. Laplace: the integrand falls from 1 at m with this slope.
        slope = (n - k) / (1 - inside) - k / inside
        far = -np.log(slope) - 0.5 * np.log(inside * (1 - inside)) - mass
    evidence = tail + betaln(k + 0.5, n - k + 0.5) - mass - xlogy(k, inside) - xlog1py(n - k, -inside)
    return np.asarray(np.where(tail < _UNDERFLOW, far, evidence))


def lower_sequence(n: ArrayLike, k: ArrayLike, alpha: float) -> Floats:
    """Lower bounds of the chance of a hit after ``k`` hits in ``n`` rows, in the shape of ``n``.

    With probability at least 1 − ``alpha`` none of the bounds of one stream of rows is ever above the chance, however
    often one looks.
    """
    n, k = np.broadcast_arrays(np.asarray(n, dtype=float), np.asarray(k, dtype=float))
    low, high = np.zeros(n.shape), np.where(n > 0, k / np.maximum(n, 1), 0.0)
    for _ in range(_BISECTIONS):  # the evidence falls from the left to the share seen, where there is none
        middle = (low + high) / 2
        rejected = log_evidence_above(n, k, middle) >= -math.log(alpha)
        low, high = np.where(rejected, middle, low), np.where(rejected, high, middle)
    return low


def upper_sequence(n: ArrayLike, k: ArrayLike, alpha: float) -> Floats:
    """Upper bounds, the mirror image of `lower_sequence`; together they hold with probability 1 − 2 ``alpha``."""
    n, k = np.asarray(n, dtype=float), np.asarray(k, dtype=float)
    return 1 - lower_sequence(n, n - k, alpha)


def log_evidence_of_loss(n: ArrayLike, losses: ArrayLike, gains: ArrayLike, margin: ArrayLike) -> Floats:
    """Log of the evidence that the mean of ``n`` values is above ``margin``: 1 (a loss), −1 (a gain) and 0 otherwise.

    The capital of stake s is ∏ (1 + s ((1 + x) / (1 + margin) − 1)) over the values x, which has expectation at most 1
    at each row while the mean, given the past, is at most ``margin`` (−1 < margin < 1). It is averaged over stakes from
    0.005 to 0.95, and falls as the margin grows. All arguments broadcast.
    """
    n, losses, gains, margin = np.broadcast_arrays(*(np.asarray(a, dtype=float) for a in (n, losses, gains, margin)))
    factors = [np.log1p(_STAKES * ((1 + x) / (1 + margin[..., None]) - 1)) for x in (1, 0, -1)]
    counts = (losses, n - losses - gains, gains)
    capital = sum(factor * count[..., None] for factor, count in zip(factors, counts, strict=True))
    return np.asarray(np.logaddexp.reduce(capital, axis=-1) - math.log(len(_STAKES)))


def log_change_above(n: ArrayLike, k: ArrayLike, mean: float) -> Floats:
    """Log of the evidence, after each block of rows, that the chance of a hit has risen above ``mean`` at some time.

    ``n`` and ``k`` of shape (blocks,) count the rows and hits of each block. A sequence since the start forgives a
    late change because of the many good rows before it; this does not. It is a Shiryaev–Roberts e-detector (Shin,
    Ramdas & Rinaldo 2024, "E-detectors", NEJSDS 2, section 2), R ← (R + 1) · e with e the likelihood ratio of the
    block, averaged over odds 1.5, 2.5 and 5 times those of ``mean``: as long as the chance stays at or below
    ``mean``, the average number of blocks until the evidence reaches log(c) is at least c.
    """
    n, k = np.asarray(n, dtype=float), np.asarray(k, dtype=float)
    paths = []
    for ratio in _ODDS:
        # θ has `ratio` times the odds of the mean: θ/m = ratio / (1 + (ratio − 1) m), and so on.
        gained = np.cumsum(k * math.log(ratio) - n * math.log1p((ratio - 1) * mean))
        # The recursion, written out: R after block t is the sum over starts s ≤ t of the gains from s to t.
        starts = np.concatenate([[0.0], gained[:-1]]) if len(gained) else gained
        paths.append(gained + np.logaddexp.accumulate(-starts))
    return np.asarray(np.logaddexp.reduce(paths) - math.log(len(_ODDS)))


def rows_that_show(bound: float, risk: float, alpha: float) -> int | None:
    """Rows after which the upper sequence is at or under ``bound`` if the share seen is ``risk`` (None: never)."""
    if risk >= bound:
        return None
    grid = np.unique(np.geomspace(1, _MOST_ROWS, 300).astype(int))
    # The mirror image of evidence above: that the chance is under the bound.
    shown = log_evidence_above(grid, grid * (1 - risk), 1 - bound) >= -math.log(alpha)
    return int(grid[np.argmax(shown)]) if shown.any() else None
