"""Calibrators map a raw confidence to the probability that the answer is right; one is fitted per source.

Four kinds: Platt, temperature, beta and isotonic. Each holds its fitted parameters, as they stand in a policy file.
`fit_calibrator` fits one by name, or the one with the lowest cross-validated log loss. All are monotone: a higher
confidence never gets a lower probability. All learn from Platt's (1999) smoothed targets, (n₊ + 1)/(n₊ + 2) for right
and 1/(n₋ + 2) for wrong answers, so that no probability is exactly 0 or 1 and the fit stays finite on separable rows,
and on rows that are all right or all wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike
from pydantic import BaseModel, Field, SerializerFunctionWrapHandler, model_serializer, model_validator
from scipy.optimize import minimize, minimize_scalar

from confide.errors import ConfideError
from confide.numeric import Floats, logistic_loss, logit, logit_of_exp, sigmoid

Kind = Literal["platt", "temperature", "beta", "isotonic"]
Transform = Literal["logit", "identity", "logit_of_exp"]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Slope = Annotated[float, Field(ge=0, allow_inf_nan=False)]

MIN_ROWS = 20
"""Fewest rows a calibrator is fitted on: two parameters from fewer are mostly noise."""

_FOLDS = 5
_CV_ROWS = 50
_CV_EITHER = 2 * _FOLDS
# Keeps the logit of a confidence of exactly 0 or 1 finite (at ±13.8).
_CLIP = 1e-6
# The same for log-probabilities, which need it at the upper end alone: far below 0 their logit is about themselves.
_LOG_CLIP = float(np.log1p(-_CLIP))
# Temperatures between these are searched; outside, probabilities are 0.5 or a step anyway.
_TEMPERATURES = (1e-3, 1e3)


class _Calibrator(BaseModel, extra="forbid"):
    def predict(self, confidence: ArrayLike) -> Floats:
        """Probability of being right, in [0, 1], in the shape of ``confidence``; NaN stays NaN."""
        return self._curve(np.asarray(confidence, dtype=float))

    def _curve(self, c: Floats) -> Floats:
        raise NotImplementedError


class PlattParameters(BaseModel, extra="forbid"):
    """Probability = σ(slope · transform(confidence) + intercept)."""

    transform: Transform
    slope: Slope
    intercept: Finite


class PlattCalibrator(_Calibrator):
    """Logistic calibration (Platt 1999, "Probabilistic outputs for support vector machines").

    The input is the logit of the confidence when every confidence seen in fitting lies in [0, 1], and the
    confidence itself otherwise (margins). Of a log-probability c it is logit(e^c), not cut off below. The slope is kept
    at 0 or above: a confidence that points the wrong way gets the base rate for every row.
    """

    kind: Literal["platt"] = "platt"
    parameters: PlattParameters

    def _curve(self, c: Floats) -> Floats:
        p = self.parameters
        return sigmoid(p.slope * _transformed(c, p.transform) + p.intercept)


class TemperatureParameters(BaseModel, extra="forbid"):
    """Probability = σ(transform(confidence) / temperature)."""

    transform: Transform
    temperature: float = Field(gt=0, allow_inf_nan=False)


class TemperatureCalibrator(_Calibrator):
    """Temperature scaling (Guo et al. 2017, arXiv 1706.04599): one parameter, no shift.

    Right for a confidence that is a probability already, only too sure or not sure enough. The input is that of
    `PlattCalibrator`.
    """

    kind: Literal["temperature"] = "temperature"
    parameters: TemperatureParameters

    def _curve(self, c: Floats) -> Floats:
        return sigmoid(_transformed(c, self.parameters.transform) / self.parameters.temperature)


class BetaParameters(BaseModel, extra="forbid"):
    """Probability = σ(a · ln c − b · ln(1 − c) + intercept); with ``logit_of_exp``, of e^c in place of c."""

    a: Slope
    b: Slope
    intercept: Finite
    transform: Literal["logit", "logit_of_exp"] = "logit"

    @model_serializer(mode="wrap")
    def _without_logit(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # As in files that were written before there was a choice.
        data: dict[str, Any] = serialize(self)
        return {key: value for key, value in data.items() if (key, value) != ("transform", "logit")}


class BetaCalibrator(_Calibrator):
    """Beta calibration (Kull, Silva Filho, Flach 2017, "Beta calibration", AISTATS) of confidences in [0, 1].

    A logistic curve in ln c and −ln(1 − c) with a coefficient for each, so the two ends bend independently; both
    are kept at 0 or above. Equal coefficients are Platt's curve, (1, 1) with no intercept leaves c as it is.
    """

    kind: Literal["beta"] = "beta"
    parameters: BetaParameters

    def _curve(self, c: Floats) -> Floats:
        p, x = self.parameters, _two_logarithms(c, self.parameters.transform)
        return sigmoid(p.a * x[..., 0] + p.b * x[..., 1] + p.intercept)


class IsotonicParameters(BaseModel, extra="forbid"):
    """Straight lines between the points, level outside them."""

    confidence: list[Finite] = Field(min_length=1)
    probability: list[Annotated[float, Field(ge=0, le=1)]] = Field(min_length=1)

    @model_validator(mode="after")
    def _ascend(self) -> Self:
        if len(self.confidence) != len(self.probability):
            raise ValueError(f"{len(self.confidence)} confidences and {len(self.probability)} probabilities")
        if np.any(np.diff(self.confidence) <= 0) or np.any(np.diff(self.probability) < 0):
            raise ValueError("confidences must rise and probabilities must not fall")
        return self


class IsotonicCalibrator(_Calibrator):
    """Isotonic regression (Zadrozny and Elkan 2002), by scikit-learn: any monotone curve, many rows wanted."""

    kind: Literal["isotonic"] = "isotonic"
    parameters: IsotonicParameters

    def _curve(self, c: Floats) -> Floats:
        return np.asarray(np.interp(c, self.parameters.confidence, self.parameters.probability))


Calibrator = Annotated[
    PlattCalibrator | TemperatureCalibrator | BetaCalibrator | IsotonicCalibrator, Field(discriminator="kind")
]


def fit_calibrator(
    confidence: ArrayLike,
    correct: ArrayLike,
    kind: Kind | Literal["auto"] = "auto",
    clusters: Sequence[str] | None = None,
    seed: int = 0,
    *,
    log_space: bool = False,
) -> Calibrator:
    """Fit the calibrator of ``kind``.

    Args:
        confidence: raw confidences, shape [n].
        correct: whether the answers are right, shape [n].
        kind: one of the four, or ``auto``: the one with the lowest log loss in five-fold cross-validation that keeps
            the rows of a cluster together; Platt when there are too few rows, clusters or labels of either kind to
            compare.
        clusters: what dependent rows share, length n (None: rows are independent).
        seed: draws the folds.
        log_space: the confidences are log-probabilities (`confide.sources.log_space` of their source).

    Raises:
        ConfideError: for fewer than `MIN_ROWS` rows, a confidence that is not finite, or beta calibration of one
            outside [0, 1].

    >>> calibrator = fit_calibrator([0.2, 0.4, 0.6, 0.8] * 10, [False, False, True, True] * 10, "platt")
    >>> bool(calibrator.predict([0.9])[0] > calibrator.predict([0.1])[0])
    True
    """
    c, target = _checked(confidence, correct)
    transform = _transform_for(c, log_space)
    if kind != "auto":
        return _FITS[kind](c, target, transform)
    losses = cross_validated_log_loss(confidence, correct, clusters, seed, log_space=log_space)
    return _FITS[min(losses, key=losses.__getitem__) if losses else "platt"](c, target, transform)


def base_rate(correct: ArrayLike, *, log_space: bool = False, margins: bool = False) -> Calibrator:
    """The calibrator of too few rows to fit one: the same probability for every confidence, (n₊ + 1)/(n + 2) (Laplace).

    ``correct`` has shape [n]; ``log_space`` is as in `fit_calibrator`; ``margins`` may be any number.
    """
    y = np.asarray(correct, dtype=bool)
    rate = (int(y.sum()) + 1) / (len(y) + 2)
    transform: Transform = "logit_of_exp" if log_space else "identity" if margins else "logit"
    return PlattCalibrator(parameters=PlattParameters(transform=transform, slope=0.0, intercept=float(logit(rate))))


def cross_validated_log_loss(
    confidence: ArrayLike,
    correct: ArrayLike,
    clusters: Sequence[str] | None = None,
    seed: int = 0,
    *,
    log_space: bool = False,
) -> dict[Kind, float]:
    """Mean log loss of each kind on rows it was not fitted on; empty when the rows are too few to compare.

    ``confidence``, ``correct`` and ``clusters`` have shape [n]. Five folds, stratified by label, no cluster in two of
    them. Beta is left out when a confidence lies outside [0, 1].
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    _checked(confidence, correct)
    c, y = np.asarray(confidence, dtype=float), np.asarray(correct, dtype=bool)
    names = np.arange(len(c)) if clusters is None else np.asarray(clusters, dtype=str)
    groups = np.unique(names, return_inverse=True)[1]
    # A label that lives in few clusters cannot be in every training part.
    either = min(len(np.unique(groups[y])), len(np.unique(groups[~y])))
    if len(c) < _CV_ROWS or either < _CV_EITHER:
        return {}
    kinds = [kind for kind in _FITS if kind != "beta" or _transform_for(c, log_space) != "identity"]
    losses = dict.fromkeys(kinds, 0.0)
    # The grouped splitter goes through the clusters one by one; it is needed only where some have several rows.
    grouped = len(np.unique(groups)) < len(c)
    splitter = (StratifiedGroupKFold if grouped else StratifiedKFold)(_FOLDS, shuffle=True, random_state=seed)
    for train, test in splitter.split(c, y, groups if grouped else None):
        for kind in kinds:
            # A steep curve rounds to 0 or 1 far out; one such row must not decide by itself.
            fitted = fit_calibrator(c[train], y[train], kind, log_space=log_space)
            p = np.clip(fitted.predict(c[test]), 1e-12, 1 - 1e-12)
            losses[kind] -= float(np.log(np.where(y[test], p, 1 - p)).sum()) / len(c)
    return losses


def _fit_platt(c: Floats, target: Floats, transform: Transform) -> PlattCalibrator:
    x = _transformed(c, transform)
    # Standardised inputs keep the optimisation well conditioned whatever the source's scale.
    centre, scale = float(x.mean()), float(x.std())
    slope, intercept = 0.0, float(logit(target.mean()))
    if scale > 1e-12 * max(1.0, abs(centre)):
        slope, intercept = _fit_logistic(((x - centre) / scale)[:, None], target)
    slope = slope / scale if slope > 0 else 0.0
    parameters = PlattParameters(transform=transform, slope=slope, intercept=intercept - slope * centre)
    return PlattCalibrator(parameters=parameters)


def _fit_temperature(c: Floats, target: Floats, transform: Transform) -> TemperatureCalibrator:
    x = _transformed(c, transform)

    def loss(log_temperature: float) -> float:
        return logistic_loss(x * np.exp(-log_temperature), target)

    # The loss is convex in 1/temperature, so it has one valley in its logarithm.
    low, high = np.log(_TEMPERATURES)
    best = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-9}).x
    return TemperatureCalibrator(parameters=TemperatureParameters(transform=transform, temperature=float(np.exp(best))))


def _fit_beta(c: Floats, target: Floats, transform: Transform) -> BetaCalibrator:
    if transform == "identity":
        raise ConfideError(f"beta calibration needs confidences in [0, 1], got {c.min():g} to {c.max():g}")
    x = _two_logarithms(c, transform)
    scale = np.where(x.std(axis=0) > 1e-12, x.std(axis=0), 1.0)
    a, b, intercept = _fit_logistic(x / scale, target)
    parameters = BetaParameters(a=a / scale[0], b=b / scale[1], intercept=intercept, transform=transform)
    return BetaCalibrator(parameters=parameters)


def _fit_isotonic(c: Floats, target: Floats, _: Transform) -> IsotonicCalibrator:
    from sklearn.isotonic import IsotonicRegression

    fitted = IsotonicRegression(increasing=True).fit(c, target)
    # Pooled means may differ in the last digit where they should be equal.
    probability = np.maximum.accumulate(np.asarray(fitted.y_thresholds_, dtype=float))
    points = np.asarray(fitted.X_thresholds_, dtype=float)
    return IsotonicCalibrator(
        parameters=IsotonicParameters(confidence=points.tolist(), probability=probability.tolist())
    )


# From few to many parameters: of two that are equally good the first is taken.
_FITS: dict[Kind, Callable[[Floats, Floats, Transform], Calibrator]] = {
    "temperature": _fit_temperature,
    "platt": _fit_platt,
    "beta": _fit_beta,
    "isotonic": _fit_isotonic,
}


def _checked(confidence: ArrayLike, correct: ArrayLike) -> tuple[Floats, Floats]:
    """Confidences and smoothed targets, both [n]; `ConfideError` for what no calibrator can be fitted on."""
    c, y = np.asarray(confidence, dtype=float), np.asarray(correct, dtype=bool)
    if c.ndim != 1 or c.shape != y.shape:
        raise ConfideError(f"confidence and correct must be two lists of one length, not {c.shape}, {y.shape}")
    if len(c) < MIN_ROWS:
        raise ConfideError(f"a calibrator needs {MIN_ROWS} rows or more with a confidence and a label, got {len(c)}")
    if not np.isfinite(c).all():
        raise ConfideError(f"{int((~np.isfinite(c)).sum())} of {len(c)} confidences are not finite numbers")
    right = int(y.sum())
    wrong = len(y) - right
    return c, np.where(y, (right + 1) / (right + 2), 1 / (wrong + 2))


def _transform_for(confidence: Floats, log_space: bool) -> Transform:
    if log_space:
        return "logit_of_exp"
    return "logit" if confidence.min() >= 0 and confidence.max() <= 1 else "identity"


def _transformed(c: Floats, transform: Transform) -> Floats:
    if transform == "identity":
        return c
    if transform == "logit_of_exp":
        return logit_of_exp(np.minimum(c, _LOG_CLIP))
    return np.asarray(logit(np.clip(c, _CLIP, 1 - _CLIP)))


def _two_logarithms(c: Floats, transform: Transform) -> Floats:
    """ln c and −ln(1 − c) along a new last axis; of e^c for log-probabilities."""
    if transform == "logit_of_exp":
        c = np.minimum(c, _LOG_CLIP)
        # logit = ln c − ln(1 − c)
        return np.stack([c, logit_of_exp(c) - c], axis=-1)
    c = np.clip(c, _CLIP, 1 - _CLIP)
    return np.stack([np.log(c), -np.log1p(-c)], axis=-1)


def _fit_logistic(x: Floats, target: Floats) -> list[float]:
    """Coefficients (each ≥ 0) of the columns of ``x`` [n, k], then the intercept, least cross-entropy to ``target``."""

    def loss(w: Floats) -> tuple[float, Floats]:
        z = x @ w[:-1] + w[-1]
        error = sigmoid(z) - target
        return logistic_loss(z, target), np.append(x.T @ error / len(x), error.mean())

    start: Floats = np.append(np.zeros(x.shape[1]), float(logit(target.mean())))
    bounds: list[tuple[float | None, float | None]] = [(0.0, None)] * x.shape[1] + [(None, None)]
    best = minimize(
        loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"ftol": 1e-15, "gtol": 1e-9, "maxiter": 1000}
    )
    return [float(w) for w in best.x]
