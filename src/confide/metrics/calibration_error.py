"""Calibration: does 0.8 mean right eight times out of ten? All confidences are probabilities in [0, 1]."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.fft import irfft, rfft
from scipy.sparse import csr_array
from scipy.special import ndtri

from confide.errors import ConfideError
from confide.metrics.metric import (
    FloatArray,
    IntArray,
    ProbabilityMetric,
    Weights,
    columns,
    cumulated,
    ordered,
    preceding,
    ratio,
)

Binning = Literal["width", "mass"]

LOG_CLIP = 1e-6
"""`log_loss` keeps confidences this far from 0 and 1: one sure mistake costs 13.8 and not infinity."""


@ProbabilityMetric
def brier(confidence: FloatArray, correct: FloatArray, weights: Weights) -> FloatArray:
    """Mean squared distance of the confidence from the outcome (Brier 1950), in [0, 1]; lower is better."""
    return ratio(weights @ (confidence - correct) ** 2, weights.sum(axis=1))


@ProbabilityMetric
def brier_skill(confidence: FloatArray, correct: FloatArray, weights: Weights) -> FloatArray:
    """Share of the Brier score that is gained over always saying the rows' own accuracy; at most 1.

    1 - Brier / (p (1 - p)) with p the accuracy; 0 is that constant, NaN when all are right or all wrong.
    """
    total = weights.sum(axis=1)
    accuracy = ratio(weights @ correct, total)
    return 1 - ratio(ratio(weights @ (confidence - correct) ** 2, total), accuracy * (1 - accuracy))


@ProbabilityMetric
def log_loss(confidence: FloatArray, correct: FloatArray, weights: Weights, *, clip: float = LOG_CLIP) -> FloatArray:
    """Mean negative log-likelihood in nats, of confidences clipped to [``clip``, 1 - ``clip``]."""
    p = np.clip(confidence, clip, 1 - clip)
    return ratio(weights @ -np.log(np.where(correct == 1, p, 1 - p)), weights.sum(axis=1))


@ProbabilityMetric
def ece(
    confidence: FloatArray,
    correct: FloatArray,
    weights: Weights,
    *,
    bins: int = 10,
    kind: Binning = "width",
) -> FloatArray:
    """Expected calibration error: mean distance between confidence and accuracy of a bin, weighted by rows.

    Naeini, Cooper & Hauskrecht 2015. ``kind`` makes bins of equal width, or of equal mass (equal confidences
    stay together). It shrinks with the number of rows even for a perfect forecaster, and depends on the
    number of bins: print both.
    """
    return Binned.of(confidence, correct, weights, bins=bins, kind=kind).ece()


@ProbabilityMetric
def mce(
    confidence: FloatArray,
    correct: FloatArray,
    weights: Weights,
    *,
    bins: int = 10,
    kind: Binning = "width",
) -> FloatArray:
    """Maximum calibration error: the largest distance between confidence and accuracy over filled bins."""
    return Binned.of(confidence, correct, weights, bins=bins, kind=kind).mce()


@dataclass(frozen=True)
class Binned:
    """Mass, summed confidence less outcome, and summed outcome of every bin [resamples, bins]."""

    mass: FloatArray
    gap: FloatArray
    correct: FloatArray

    @classmethod
    def of(
        cls, confidence: FloatArray, correct: FloatArray, weights: Weights, *, bins: int, kind: Binning = "width"
    ) -> Binned:
        """Sums over ``bins`` of equal width or of equal mass; see `ece`."""
        if bins < 1:
            raise ConfideError(f"bins must be at least 1, not {bins}")
        gap = confidence - correct
        if kind == "width":
            member = np.eye(bins)[_width_bins(confidence, bins)]
            sums = weights @ np.hstack([member, member * gap[:, None], member * correct[:, None]])
            return cls(*(np.ascontiguousarray(part) for part in np.split(sums, 3, axis=1)))
        order, ends = ordered(confidence)
        masses = columns(weights, order)
        after = cumulated(masses, ends)
        last = _last_ties(after, bins)
        gaps = cumulated(masses * gap[order], ends)
        right = cumulated(masses * correct[order].astype(masses.dtype), ends)
        return cls(*(_per_bin(running, last) for running in (after, gaps, right)))

    def ece(self) -> FloatArray:
        """See `ece` [resamples]."""
        return ratio(np.abs(self.gap).sum(axis=1), self.mass.sum(axis=1))

    def mce(self) -> FloatArray:
        """See `mce` [resamples]."""
        return np.asarray(np.nan_to_num(ratio(np.abs(self.gap), self.mass)).max(axis=1))

    def reliability(self) -> FloatArray:
        """Mean squared distance between confidence and accuracy of a bin, weighted by rows; lower is better."""
        return self._mean(ratio(self.gap**2, self.mass))

    def resolution(self) -> FloatArray:
        """Mean squared distance between the accuracy of a bin and of all rows; higher is better."""
        return self._mean(ratio(self.correct**2, self.mass)) - self._accuracy() ** 2

    def uncertainty(self) -> FloatArray:
        """Variance p (1 − p) of the outcomes: what the rows leave to be known."""
        return self._accuracy() * (1 - self._accuracy())

    def within(self, brier: FloatArray) -> FloatArray:
        """Variance of confidence within bins less twice its covariance with the outcomes there.

        Stephenson, Coelho & Jolliffe 2008: what the other three terms leave of the Brier score, because
        confidences differ within a bin.
        """
        return brier - self.reliability() + self.resolution() - self.uncertainty()

    def _accuracy(self) -> FloatArray:
        return ratio(self.correct.sum(axis=1), self.mass.sum(axis=1))

    def _mean(self, summed: FloatArray) -> FloatArray:
        return ratio(np.nan_to_num(summed).sum(axis=1), self.mass.sum(axis=1))


BRIER_TERMS = ("reliability", "resolution", "uncertainty", "within")


@ProbabilityMetric
def brier_term(
    confidence: FloatArray,
    correct: FloatArray,
    weights: Weights,
    *,
    term: Literal["reliability", "resolution", "uncertainty", "within"],
    bins: int = 10,
) -> FloatArray:
    """One term of the Brier score over bins of equal width (Murphy 1973; Stephenson et al. 2008).

    Brier = reliability − resolution + uncertainty + within; see `Binned` for each.
    """
    sums = Binned.of(confidence, correct, weights, bins=bins)
    if term == "within":
        return sums.within(brier.resampled(confidence, correct, weights))
    return {"reliability": sums.reliability, "resolution": sums.resolution, "uncertainty": sums.uncertainty}[term]()


@ProbabilityMetric
def smooth_ece(confidence: FloatArray, correct: FloatArray, weights: Weights) -> FloatArray:
    """Calibration error without bins: residuals smoothed by a reflected Gaussian kernel, then averaged.

    Błasiok & Nakkiran 2023 (2309.12236): smECE at the bandwidth that equals the error itself, found by ten
    halvings of [0, 1]. Grids follow the authors' package, so that values agree with it.
    """
    residual = confidence - correct
    low, high = np.zeros(len(weights)), np.ones(len(weights))
    above = _smoothed(confidence, residual, weights, 1.0) > 1.0
    for _ in range(10):
        middle = (low + high) / 2
        for width in np.unique(middle[~above]):
            rows = np.flatnonzero(~above & (middle == width))
            narrow = np.full(len(rows), True)
            if width >= 1e-3:
                narrow = width < _smoothed(confidence, residual, weights[rows], float(width))
            low[rows[narrow]] = width
            high[rows[~narrow]] = width
    out = np.empty(len(weights))
    for width in np.unique(high):
        rows = np.flatnonzero(high == width)
        out[rows] = _smoothed(confidence, residual, weights[rows], float(width))
    return out


@dataclass(frozen=True)
class Bin:
    """One bin of a reliability diagram: its bounds, rows, mean confidence and accuracy with its interval."""

    low: float
    high: float
    n: int
    confidence: float
    accuracy: float
    accuracy_low: float
    accuracy_high: float


def reliability(
    confidence: ArrayLike, correct: ArrayLike, *, bins: int = 10, kind: Binning = "width", level: float = 0.95
) -> list[Bin]:
    """The filled bins of a reliability diagram of ``confidence`` and ``correct`` [n].

    Accuracies carry Wilson intervals at ``level``.
    """
    x, y = np.asarray(confidence, dtype=np.float64), np.asarray(correct, dtype=np.float64)
    codes = _width_bins(x, bins) if kind == "width" else _mass_bins(x, bins)
    out = []
    for code in np.unique(codes):
        rows = codes == code
        n, right = int(rows.sum()), float(y[rows].sum())
        bounds = (code / bins, (code + 1) / bins) if kind == "width" else (x[rows].min(), x[rows].max())
        low, high = wilson(right, n, level=level)
        out.append(Bin(float(bounds[0]), float(bounds[1]), n, float(x[rows].mean()), right / n, low, high))
    return out


def wilson(right: float, n: int, *, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval (1927) for a share of ``right`` among ``n`` independent rows."""
    if n <= 0:
        raise ConfideError("an interval needs at least one row")
    z = float(ndtri((1 + level) / 2))
    share = right / n
    centre = share + z * z / (2 * n)
    spread = z * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, float((centre - spread) / scale)), min(1.0, float((centre + spread) / scale))


def _width_bins(confidence: FloatArray, bins: int) -> IntArray:
    """The equal-width bin [n] of every confidence; 1.0 belongs to the last."""
    return np.minimum((confidence * bins).astype(np.int64), bins - 1)


def _mass_bins(confidence: FloatArray, bins: int) -> IntArray:
    """The equal-mass bin [n] of every row: where the middle of its tie falls in the ranking."""
    order, ends = ordered(confidence)
    last = _last_ties(ends[None, :] + 1, bins)[0]
    codes = np.searchsorted(last, np.arange(1, len(ends) + 1), side="left")
    out = np.empty(len(confidence), dtype=np.int64)
    out[order] = np.repeat(codes, np.diff(ends, prepend=-1))
    return out


def _last_ties(after: Weights, bins: int) -> IntArray:
    """How many ties lie in each equal-mass bin or before it [resamples, bins], from mass after each tie."""
    last = np.full((len(after), bins), after.shape[1], dtype=np.int64)
    # A tie belongs to the bin b with b <= bins * (middle of the tie) / total < b + 1.
    twice_middle = preceding(after) + after
    for row, twice in enumerate(twice_middle):
        edges = 2 * after[row, -1] * np.arange(1, bins) / bins
        last[row, :-1] = np.searchsorted(twice, edges - 1e-9 * edges, side="left")
    return last


def _per_bin(running: Weights, last: IntArray) -> FloatArray:
    """What running sums [resamples, ties] gain in each bin [resamples, bins] that ends after ``last`` ties."""
    read = np.take_along_axis(running, np.maximum(last - 1, 0), axis=1)
    return np.diff(np.where(last > 0, read, 0), axis=1, prepend=0).astype(np.float64)


def _smoothed(confidence: FloatArray, residual: FloatArray, weights: Weights, width: float) -> FloatArray:
    """smECE [resamples] at the bandwidth ``width``: |smoothed residual| summed over a mesh of [0, 1],
    divided by the smoothed density summed over the same mesh.
    """
    points = max(2000, round(20 / width)) // 2 + 1
    position = confidence * (points - 1)
    left = np.clip(position.astype(np.int64), 0, points - 2)
    share = position - left
    rows = np.arange(len(confidence))
    # Every row is shared out between the two grid points around it.
    grid = csr_array(
        (
            np.concatenate([1 - share, share]),
            (np.concatenate([left, left + 1]), np.concatenate([rows, rows])),
        ),
        shape=(points, len(confidence)),
    )
    # Reflection at both ends makes the line periodic, so smoothing is a product of Fourier transforms.
    period = 2 * (points - 1)
    offsets = np.linspace(0, 1, points) - 0.5
    kernel = np.zeros(period)
    kernel[np.arange(points) - points // 2] = np.exp(-(offsets**2) / (2 * width**2))
    # The centre of an even number of grid points lies between two of them, half a step to the left.
    spectrum = np.conj(rfft(kernel))
    mesh = np.linspace(0, 1, max(round(10 / width), 200)) * (points - 1)
    below = np.clip(mesh.astype(np.int64), 0, points - 2)
    fraction = mesh - below
    values = (grid @ (weights * residual).T).T
    periodic = np.concatenate([values, values[:, -2:0:-1]], axis=1)
    smooth = irfft(rfft(periodic, axis=1) * spectrum, n=period, axis=1)
    errors = smooth[:, below] * (1 - fraction) + smooth[:, below + 1] * fraction
    # Only the density's sum is wanted: what one row adds to it follows from the adjoint of all steps above.
    reading = np.bincount(below, 1 - fraction, period) + np.bincount(below + 1, fraction, period)
    adjoint = irfft(rfft(reading) * np.conj(spectrum), n=period)
    density = adjoint[:points].copy()
    density[1:-1] += adjoint[: points - 1 : -1]
    return ratio(np.abs(errors).sum(axis=1), weights @ (density @ grid))
