"""Calibration: does 0.8 mean right eight times out of ten? All confidences are probabilities in [0, 1]."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.fft import irfft, rfft
from scipy.sparse import csr_array
from scipy.special import ndtri

from confide.errors import ConfideError
from confide.metrics.metric import ProbabilityMetric, Weighted, Weights
from confide.metrics.running_sums import (
    by_confidence,
    columns,
    cumulated,
    preceding,
    ratio,
    weighted_mean,
    weighted_sum,
)
from confide.numeric import Floats, Ints

Binning = Literal["width", "mass"]

LOG_CLIP = 1e-6
"""`log_loss` keeps confidences this far from 0 and 1: one sure mistake costs 13.8 and not infinity."""


@ProbabilityMetric
def brier(rows: Weighted) -> Floats:
    """Mean squared distance of the confidence from the outcome (Brier 1950), in [0, 1]; lower is better."""
    return weighted_mean(rows.weights, rows.lasting(_squared))


@ProbabilityMetric
def brier_skill(rows: Weighted) -> Floats:
    """Share of the Brier score that is gained over always saying the rows' own accuracy; at most 1.

    1 - Brier / (p (1 - p)) with p the accuracy; 0 is that constant, NaN when all are right or all wrong.
    """
    accuracy = weighted_mean(rows.weights, rows.outcome)
    return 1 - ratio(brier.on(rows), accuracy * (1 - accuracy))


@ProbabilityMetric
def log_loss(rows: Weighted, *, clip: float = LOG_CLIP) -> Floats:
    """Mean negative log-likelihood in nats, of confidences clipped to [``clip``, 1 - ``clip``]."""
    return weighted_mean(rows.weights, rows.lasting(_surprise, clip))


@dataclass(frozen=True)
class Binned:
    """Mass, summed confidence less outcome, and summed outcome of every bin [resamples, bins]."""

    mass: Floats
    gap: Floats
    correct: Floats

    @classmethod
    def of(cls, rows: Weighted, bins: int, kind: Binning = "width") -> Binned:
        """Sums over ``bins`` of equal width or of equal mass; see `ece`."""
        if bins < 1:
            raise ConfideError(f"bins must be at least 1, not {bins}")
        if kind == "width" and len(rows.weights) == 1:  # no draws that a sort would serve
            return cls(*_binned(rows, _width_bins(rows.confidence, bins), bins))
        order, ends = rows.lasting(by_confidence)
        masses = columns(rows.weights, order)
        gap, outcome = (rows.confidence - rows.outcome)[order], rows.outcome[order]
        if kind == "width":
            edges = np.searchsorted(_width_bins(rows.confidence[order], bins), np.arange(bins + 1))
            return cls(*(_between(masses, edges, values) for values in (None, gap, outcome)))
        after = cumulated(masses, ends)
        # A tie belongs to the bin that holds the middle of its mass.
        twice = preceding(after) + after
        upper = 2 * after[:, -1:] * np.arange(1, bins) / (bins * (1 + 1e-9))
        first = np.append(0, ends + 1)
        out = [np.empty((len(masses), bins)) for _ in range(3)]
        for draw, limits in enumerate(upper):
            edges = first[np.concatenate([[0], np.searchsorted(twice[draw], limits), [len(ends)]])]
            for sums, values in zip(out, (None, gap, outcome), strict=True):
                sums[draw] = _between(masses[draw : draw + 1], edges, values)
        return cls(*out)


@ProbabilityMetric
def ece(rows: Weighted, *, bins: int = 10, kind: Binning = "width") -> Floats:
    """Expected calibration error: mean distance between confidence and accuracy of a bin, weighted by rows.

    Naeini, Cooper & Hauskrecht 2015. ``kind`` makes bins of equal width, or of equal mass (equal confidences
    stay together). It shrinks with the number of rows even for a perfect forecaster, and depends on the
    number of bins: print both.
    """
    binned = rows.shared(Binned.of, bins, kind)
    return ratio(np.abs(binned.gap).sum(axis=1), binned.mass.sum(axis=1))


@ProbabilityMetric
def mce(rows: Weighted, *, bins: int = 10, kind: Binning = "width") -> Floats:
    """Maximum calibration error: the largest distance between confidence and accuracy over filled bins."""
    binned = rows.shared(Binned.of, bins, kind)
    return np.asarray(np.nan_to_num(ratio(np.abs(binned.gap), binned.mass)).max(axis=1))


BrierTerm = Literal["reliability", "resolution", "uncertainty", "within"]


@ProbabilityMetric
def brier_term(rows: Weighted, *, term: BrierTerm, bins: int = 10) -> Floats:
    """One term of the Brier score over bins of equal width (Murphy 1973; Stephenson, Coelho & Jolliffe 2008).

    Brier = reliability − resolution + uncertainty + within. ``reliability`` is the mean squared distance between
    confidence and accuracy of a bin, ``resolution`` that between the accuracy of a bin and of all rows, both
    weighted by rows. ``uncertainty`` is the variance p (1 − p) of the outcomes. ``within`` is what these three leave
    of the Brier score: the variance of confidence within bins less twice its covariance with the outcomes there.
    """
    binned = rows.shared(Binned.of, bins, "width")
    total = binned.mass.sum(axis=1)
    accuracy = ratio(binned.correct.sum(axis=1), total)
    gap, right = (
        ratio(np.nan_to_num(ratio(summed**2, binned.mass)).sum(axis=1), total)
        for summed in (binned.gap, binned.correct)
    )
    terms = {"reliability": gap, "resolution": right - accuracy**2, "uncertainty": accuracy * (1 - accuracy)}
    if term == "within":
        return brier.on(rows) - terms["reliability"] + terms["resolution"] - terms["uncertainty"]
    return terms[term]


@ProbabilityMetric
def smooth_ece(rows: Weighted) -> Floats:
    """Calibration error without bins: residuals smoothed by a reflected Gaussian kernel, then averaged.

    Błasiok & Nakkiran 2023 (2309.12236): smECE at the bandwidth that equals the error itself, found by ten
    halvings of [0, 1]. Grids follow the authors' package, so that values agree with it.
    """
    low, high = np.zeros(len(rows.weights)), np.ones(len(rows.weights))
    everyone = np.arange(len(low))
    above = _smoothed(rows, everyone, 1.0) > 1.0
    for _ in range(10):
        middle = (low + high) / 2
        for width in np.unique(middle[~above]):
            draws = np.flatnonzero(~above & (middle == width))
            narrow = np.full(len(draws), True)
            if width >= 1e-3:
                narrow = width < _smoothed(rows, draws, float(width))
            low[draws[narrow]] = width
            high[draws[~narrow]] = width
    out = np.empty(len(low))
    for width in np.unique(high):
        draws = np.flatnonzero(high == width)
        out[draws] = _smoothed(rows, draws, float(width))
    return out


@dataclass(frozen=True)
class Bin:
    """One bin of a reliability diagram: its bounds, rows, mean confidence and accuracy with Wilson's interval."""

    low: float
    high: float
    n: int
    confidence: float
    accuracy: float
    accuracy_low: float
    accuracy_high: float


def reliability(confidence: ArrayLike, correct: ArrayLike, *, bins: int = 10) -> list[Bin]:
    """The filled bins of equal width of a reliability diagram of ``confidence`` and ``correct`` [n]."""
    x, y = np.asarray(confidence, dtype=np.float64), np.asarray(correct, dtype=np.float64)
    codes = _width_bins(x, bins)
    out = []
    for code in np.unique(codes):
        rows = codes == code
        n, right = int(rows.sum()), float(y[rows].sum())
        ends = float(code / bins), float((code + 1) / bins)
        out.append(Bin(*ends, n, float(x[rows].mean()), right / n, *wilson(right, n)))
    return out


def wilson(right: float, n: int) -> tuple[float, float]:
    """Wilson's 95 % score interval (1927) for a share of ``right`` among ``n`` independent rows."""
    if n <= 0:
        raise ConfideError("an interval needs at least one row")
    z = float(ndtri(0.975))
    share = right / n
    centre = share + z * z / (2 * n)
    spread = z * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, float((centre - spread) / scale)), min(1.0, float((centre + spread) / scale))


def _width_bins(confidence: Floats, bins: int) -> Ints:
    """The equal-width bin [n] of every confidence; 1.0 belongs to the last."""
    return np.minimum((confidence * bins).astype(np.int64), bins - 1)


def _squared(confidence: Floats, outcome: Floats) -> Floats:
    return np.asarray((confidence - outcome) ** 2)


def _surprise(confidence: Floats, outcome: Floats, clip: float) -> Floats:
    p = np.clip(confidence, clip, 1 - clip)
    return np.asarray(-np.log(np.where(outcome == 1, p, 1 - p)))


def _between(masses: Weights, edges: Ints, values: Floats | None) -> Floats:
    """Sums [resamples, bins] of ``masses`` [resamples, n] times ``values`` [n] between neighbouring ``edges``."""
    out = np.zeros((len(masses), len(edges) - 1))
    for place, (start, end) in enumerate(pairwise(edges.tolist())):
        part = masses[:, start:end]
        out[:, place] = part.sum(axis=1) if values is None else weighted_sum(part, values[start:end])
    return out


def _binned(rows: Weighted, codes: Ints, bins: int) -> list[Floats]:
    """Mass, gap and outcome [1, bins] of rows whose bin is known."""
    weight = rows.real[0]
    parts = (weight, weight * (rows.confidence - rows.outcome), weight * rows.outcome)
    return [np.bincount(codes, part, bins).astype(np.float64)[None] for part in parts]


def _points(width: float) -> int:
    """Points of the grid for the bandwidth ``width``, as in the authors' package."""
    return max(2000, round(20 / width)) // 2 + 1


def _grid(confidence: Floats, _: Floats, points: int) -> csr_array:
    """Shares every row out between the two of so many grid points around it: [points, n]."""
    position = confidence * (points - 1)
    left = np.clip(position.astype(np.int64), 0, points - 2)
    share = position - left
    rows = np.arange(len(confidence))
    entries = np.concatenate([1 - share, share])
    places = np.concatenate([left, left + 1]), np.concatenate([rows, rows])
    return csr_array((entries, places), shape=(points, len(confidence)))


def _on_grid(rows: Weighted, points: int) -> tuple[Floats, Floats]:
    """Mass and residual mass at the points of the grid [resamples, points]: all that smoothing needs of the rows."""
    grid = rows.lasting(_grid, points)
    residual = rows.confidence - rows.outcome
    return (grid @ rows.real.T).T, (grid @ (rows.real * residual).T).T


def _smoothed(rows: Weighted, draws: Ints, width: float) -> Floats:
    """smECE [draws] at the bandwidth ``width``: |smoothed residual| summed over a mesh of [0, 1],
    divided by the smoothed density summed over the same mesh.
    """
    points = _points(width)
    mass, values = (each[draws] for each in rows.shared(_on_grid, points))
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
    periodic = np.concatenate([values, values[:, -2:0:-1]], axis=1)
    smooth = irfft(rfft(periodic, axis=1) * spectrum, n=period, axis=1)
    errors = smooth[:, below] * (1 - fraction) + smooth[:, below + 1] * fraction
    # Only the density's sum is wanted: what one row adds to it follows from the adjoint of all steps above.
    reading = np.bincount(below, 1 - fraction, period) + np.bincount(below + 1, fraction, period)
    adjoint = irfft(rfft(reading) * np.conj(spectrum), n=period)
    density = adjoint[:points].copy()
    density[1:-1] += adjoint[: points - 1 : -1]
    return ratio(np.abs(errors).sum(axis=1), (mass * density).sum(axis=1))
