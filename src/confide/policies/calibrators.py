"""Calibrators map a raw confidence to the probability that the answer is right; one is fitted per source.

Four families, each with ``fit`` and ``predict``: Platt, temperature, beta and isotonic. `fit_calibrator` takes one
by name, or the one with the lowest cross-validated log loss. All are monotone: a higher confidence never gets a
lower probability. All learn from Platt's (1999) smoothed targets, (n₊ + 1)/(n₊ + 2) for right and 1/(n₋ + 2) for
wrong answers, so that no probability is exactly 0 or 1 and the fit stays finite on separable rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit, logit

from confide.errors import ConfideError
from confide.policies.calibrator_states import (
    BetaParameters,
    BetaState,
    CalibratorState,
    IsotonicParameters,
    IsotonicState,
    PlattParameters,
    PlattState,
    TemperatureParameters,
    TemperatureState,
)

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Kind = Literal["platt", "temperature", "beta", "isotonic"]

MIN_ROWS = 20
"""Fewest rows a calibrator is fitted on: two parameters from fewer are mostly noise."""

FOLDS = 5
_CV_ROWS = 50
_CV_EITHER = 2 * FOLDS

# Keeps the logit of a confidence of exactly 0 or 1 finite (at ±13.8).
_CLIP = 1e-6
# Temperatures between these are searched; outside, probabilities are 0.5 or a step anyway.
_TEMPERATURES = (1e-3, 1e3)


class PlattCalibrator:
    """Logistic calibration (Platt 1999, "Probabilistic outputs for support vector machines").

    The input is the logit of the confidence when every confidence seen in fitting lies in [0, 1], and the
    confidence itself otherwise (log-probabilities, margins). The slope is kept at 0 or above: a confidence that
    points the wrong way gets the base rate for every row (``slope_ == 0``).

    >>> calibrator = PlattCalibrator().fit([0.2, 0.4, 0.6, 0.8] * 10, [False, False, True, True] * 10)
    >>> bool(calibrator.predict([0.9])[0] > calibrator.predict([0.1])[0])
    True
    """

    kind: ClassVar[Kind] = "platt"

    def fit(self, confidence: ArrayLike, correct: ArrayLike) -> Self:
        """Fit on ``confidence`` and ``correct``, both of shape (n,).

        Raises `ConfideError` for fewer than `MIN_ROWS` rows, a confidence that is not finite, or labels that
        are all right or all wrong.
        """
        c, target = _checked(confidence, correct)
        self.transform_: Literal["logit", "identity"] = _transform_for(c)
        x = _input(c, self.transform_)
        # Standardised inputs keep the optimisation well conditioned whatever the source's scale.
        centre, scale = float(x.mean()), float(x.std())
        slope, intercept = 0.0, float(logit(target.mean()))
        if scale > 1e-12 * max(1.0, abs(centre)):
            slope, intercept = _fit_logistic(((x - centre) / scale)[:, None], target)
        self.slope_: float = slope / scale if slope > 0 else 0.0
        self.intercept_: float = intercept - self.slope_ * centre
        return self

    def predict(self, confidence: ArrayLike) -> Floats:
        """Probability of being right, in [0, 1], in the shape of ``confidence``; NaN stays NaN."""
        x = _input(np.asarray(confidence, dtype=float), self.transform_)
        return np.asarray(expit(self.slope_ * x + self.intercept_))

    @property
    def state(self) -> PlattState:
        """The fitted parameters in a form that a policy file holds."""
        return PlattState(
            parameters=PlattParameters(transform=self.transform_, slope=self.slope_, intercept=self.intercept_)
        )

    def to_json(self) -> dict[str, Any]:
        """The fitted calibrator as plain JSON: ``{"kind": "platt", "parameters": {...}}``."""
        return self.state.model_dump(mode="json")

    @classmethod
    def from_state(cls, state: PlattState) -> Self:
        """The calibrator that ``state`` describes."""
        calibrator = cls()
        calibrator.transform_ = state.parameters.transform
        calibrator.slope_ = state.parameters.slope
        calibrator.intercept_ = state.parameters.intercept
        return calibrator


class TemperatureCalibrator:
    """Temperature scaling (Guo et al. 2017, arXiv 1706.04599): one parameter, no shift.

    Right for a confidence that is a probability already, only too sure or not sure enough. The input is that of
    `PlattCalibrator`.
    """

    kind: ClassVar[Kind] = "temperature"

    def fit(self, confidence: ArrayLike, correct: ArrayLike) -> Self:
        """Fit on ``confidence`` and ``correct``, both (n,); errors as in `PlattCalibrator.fit`."""
        c, target = _checked(confidence, correct)
        self.transform_: Literal["logit", "identity"] = _transform_for(c)
        x = _input(c, self.transform_)

        def loss(log_temperature: float) -> float:
            return _log_loss(x * np.exp(-log_temperature), target)

        # The loss is convex in 1/temperature, so it has one valley in its logarithm.
        low, high = np.log(_TEMPERATURES)
        found = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-9})
        self.temperature_: float = float(np.exp(found.x))
        return self

    def predict(self, confidence: ArrayLike) -> Floats:
        """Probability of being right, in [0, 1], in the shape of ``confidence``; NaN stays NaN."""
        return np.asarray(expit(_input(np.asarray(confidence, dtype=float), self.transform_) / self.temperature_))

    @property
    def state(self) -> TemperatureState:
        """The fitted parameters in a form that a policy file holds."""
        return TemperatureState(
            parameters=TemperatureParameters(transform=self.transform_, temperature=self.temperature_)
        )

    @classmethod
    def from_state(cls, state: TemperatureState) -> Self:
        """The calibrator that ``state`` describes."""
        calibrator = cls()
        calibrator.transform_ = state.parameters.transform
        calibrator.temperature_ = state.parameters.temperature
        return calibrator


class BetaCalibrator:
    """Beta calibration (Kull, Silva Filho, Flach 2017, "Beta calibration", AISTATS) of confidences in [0, 1].

    A logistic curve in ln c and −ln(1 − c) with a coefficient for each, so the two ends bend independently; both
    are kept at 0 or above. Equal coefficients are Platt's curve, (1, 1) with no intercept leaves c as it is.
    """

    kind: ClassVar[Kind] = "beta"

    def fit(self, confidence: ArrayLike, correct: ArrayLike) -> Self:
        """Fit on ``confidence`` and ``correct``, both (n,); errors as in `PlattCalibrator.fit`.

        Raises `ConfideError` for a confidence outside [0, 1], too.
        """
        c, target = _checked(confidence, correct)
        if _transform_for(c) != "logit":
            raise ConfideError(f"beta calibration needs confidences in [0, 1], got {c.min():g} to {c.max():g}")
        x = self._input(c)
        scale = np.where(x.std(axis=0) > 1e-12, x.std(axis=0), 1.0)
        a, b, intercept = _fit_logistic(x / scale, target)
        self.a_: float = a / float(scale[0])
        self.b_: float = b / float(scale[1])
        self.intercept_: float = intercept
        return self

    def predict(self, confidence: ArrayLike) -> Floats:
        """Probability of being right, in [0, 1], in the shape of ``confidence``; NaN stays NaN."""
        x = self._input(np.asarray(confidence, dtype=float))
        return np.asarray(expit(self.a_ * x[..., 0] + self.b_ * x[..., 1] + self.intercept_))

    @property
    def state(self) -> BetaState:
        """The fitted parameters in a form that a policy file holds."""
        return BetaState(parameters=BetaParameters(a=self.a_, b=self.b_, intercept=self.intercept_))

    @classmethod
    def from_state(cls, state: BetaState) -> Self:
        """The calibrator that ``state`` describes."""
        calibrator = cls()
        calibrator.a_, calibrator.b_ = state.parameters.a, state.parameters.b
        calibrator.intercept_ = state.parameters.intercept
        return calibrator

    @staticmethod
    def _input(confidence: Floats) -> Floats:
        c = np.clip(confidence, _CLIP, 1 - _CLIP)
        return np.stack([np.log(c), -np.log1p(-c)], axis=-1)


class IsotonicCalibrator:
    """Isotonic regression (Zadrozny and Elkan 2002), by scikit-learn: any monotone curve, many rows wanted."""

    kind: ClassVar[Kind] = "isotonic"

    def fit(self, confidence: ArrayLike, correct: ArrayLike) -> Self:
        """Fit on ``confidence`` and ``correct``, both (n,); errors as in `PlattCalibrator.fit`."""
        from sklearn.isotonic import IsotonicRegression

        c, target = _checked(confidence, correct)
        fitted = IsotonicRegression(increasing=True).fit(c, target)
        self.confidence_: Floats = np.asarray(fitted.X_thresholds_, dtype=float)
        # Pooled means may differ in the last digit where they should be equal.
        self.probability_: Floats = np.maximum.accumulate(np.asarray(fitted.y_thresholds_, dtype=float))
        return self

    def predict(self, confidence: ArrayLike) -> Floats:
        """Probability of being right, in [0, 1], in the shape of ``confidence``; NaN stays NaN."""
        return np.asarray(np.interp(np.asarray(confidence, dtype=float), self.confidence_, self.probability_))

    @property
    def state(self) -> IsotonicState:
        """The fitted points in a form that a policy file holds."""
        return IsotonicState(
            parameters=IsotonicParameters(confidence=self.confidence_.tolist(), probability=self.probability_.tolist())
        )

    @classmethod
    def from_state(cls, state: IsotonicState) -> Self:
        """The calibrator that ``state`` describes."""
        calibrator = cls()
        calibrator.confidence_ = np.array(state.parameters.confidence)
        calibrator.probability_ = np.array(state.parameters.probability)
        return calibrator


Calibrator = PlattCalibrator | TemperatureCalibrator | BetaCalibrator | IsotonicCalibrator

# From few to many parameters: of two that are equally good the first is taken.
CALIBRATORS: dict[Kind, type[Calibrator]] = {
    "temperature": TemperatureCalibrator,
    "platt": PlattCalibrator,
    "beta": BetaCalibrator,
    "isotonic": IsotonicCalibrator,
}


def calibrator_from(state: CalibratorState) -> Calibrator:
    """The fitted calibrator that a policy file's ``state`` describes."""
    if isinstance(state, PlattState):
        return PlattCalibrator.from_state(state)
    if isinstance(state, TemperatureState):
        return TemperatureCalibrator.from_state(state)
    if isinstance(state, BetaState):
        return BetaCalibrator.from_state(state)
    return IsotonicCalibrator.from_state(state)


def fit_calibrator(
    confidence: ArrayLike,
    correct: ArrayLike,
    kind: Kind | Literal["auto"] = "auto",
    clusters: Sequence[str] | None = None,
    seed: int = 0,
) -> Calibrator:
    """The calibrator of ``kind`` fitted on ``confidence`` and ``correct``, both (n,).

    ``auto`` takes the kind with the lowest log loss in five-fold cross-validation that keeps the rows of a cluster
    together; Platt when there are too few rows, clusters or labels of either kind to compare. Raises `ConfideError`
    as `PlattCalibrator.fit` does.
    """
    if kind == "auto":
        losses = cross_validated_log_loss(confidence, correct, clusters, seed)
        chosen: Kind = min(losses, key=losses.__getitem__) if losses else "platt"
        return CALIBRATORS[chosen]().fit(confidence, correct)
    return CALIBRATORS[kind]().fit(confidence, correct)


def cross_validated_log_loss(
    confidence: ArrayLike, correct: ArrayLike, clusters: Sequence[str] | None = None, seed: int = 0
) -> dict[Kind, float]:
    """Mean log loss of each kind on rows it was not fitted on; empty when the rows are too few to compare.

    Five folds, stratified by label, no cluster in two of them. Beta is left out when a confidence lies outside
    [0, 1].
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
    kinds = [kind for kind in CALIBRATORS if kind != "beta" or _transform_for(c) == "logit"]
    losses = dict.fromkeys(kinds, 0.0)
    # The grouped splitter goes through the clusters one by one; it is needed only where some have several rows.
    if len(np.unique(groups)) == len(c):
        folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(c, y)
    else:
        folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed).split(c, y, groups)
    for train, test in folds:
        for kind in kinds:
            # A steep curve rounds to 0 or 1 far out; one such row must not decide by itself.
            p = np.clip(CALIBRATORS[kind]().fit(c[train], y[train]).predict(c[test]), 1e-12, 1 - 1e-12)
            losses[kind] -= float(np.log(np.where(y[test], p, 1 - p)).sum()) / len(c)
    return losses


def _checked(confidence: ArrayLike, correct: ArrayLike) -> tuple[Floats, Floats]:
    """Confidences and smoothed targets, both (n,); `ConfideError` for what no calibrator can be fitted on."""
    c, y = np.asarray(confidence, dtype=float), np.asarray(correct, dtype=bool)
    if c.ndim != 1 or c.shape != y.shape:
        raise ConfideError(f"confidence and correct must be two lists of one length, not {c.shape}, {y.shape}")
    if len(c) < MIN_ROWS:
        raise ConfideError(f"a calibrator needs {MIN_ROWS} rows or more with a confidence and a label, got {len(c)}")
    if not np.isfinite(c).all():
        raise ConfideError(f"{int((~np.isfinite(c)).sum())} of {len(c)} confidences are not finite numbers")
    right = int(y.sum())
    wrong = len(y) - right
    if right == 0 or wrong == 0:
        raise ConfideError(f"labels must be of both kinds: {right} answers are right and {wrong} wrong")
    return c, np.where(y, (right + 1) / (right + 2), 1 / (wrong + 2))


def _transform_for(confidence: Floats) -> Literal["logit", "identity"]:
    return "logit" if confidence.min() >= 0 and confidence.max() <= 1 else "identity"


def _input(confidence: Floats, transform: Literal["logit", "identity"]) -> Floats:
    if transform == "identity":
        return confidence
    return np.asarray(logit(np.clip(confidence, _CLIP, 1 - _CLIP)))


def _log_loss(z: Floats, target: Floats) -> float:
    """Mean cross-entropy of σ(z) against soft targets, both (n,)."""
    return float(np.mean(np.logaddexp(0, z) - target * z))


def _fit_logistic(x: Floats, target: Floats) -> list[float]:
    """Coefficients (each ≥ 0) of the columns of ``x`` (n, k), then the intercept, least cross-entropy to ``target``."""

    def loss(w: Floats) -> tuple[float, Floats]:
        z = x @ w[:-1] + w[-1]
        error = expit(z) - target
        return _log_loss(z, target), np.append(x.T @ error / len(x), error.mean())

    start = np.append(np.zeros(x.shape[1]), float(logit(target.mean())))
    bounds: list[tuple[float | None, float | None]] = [(0.0, None)] * x.shape[1] + [(None, None)]
    found = minimize(
        loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"ftol": 1e-15, "gtol": 1e-9, "maxiter": 1000}
    )
    return [float(value) for value in found.x]
