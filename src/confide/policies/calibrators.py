"""Calibrators map a raw confidence to the probability that the answer is right; one is fitted per source."""

from __future__ import annotations

from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field
from scipy.optimize import minimize
from scipy.special import expit, logit

from confide.errors import ConfideError

Floats = NDArray[np.float64]

MIN_ROWS = 20
"""Fewest rows a calibrator is fitted on: two parameters from fewer are mostly noise."""

# Keeps the logit of a confidence of exactly 0 or 1 finite (at ±13.8).
_CLIP = 1e-6


class PlattParameters(BaseModel):
    """What `PlattCalibrator` learned: probability = σ(slope · transform(confidence) + intercept)."""

    model_config = ConfigDict(extra="forbid")

    transform: Literal["logit", "identity"]
    slope: float = Field(ge=0, allow_inf_nan=False)
    intercept: float = Field(allow_inf_nan=False)


class PlattState(BaseModel):
    """A fitted `PlattCalibrator` as it stands in a policy file."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["platt"] = "platt"
    parameters: PlattParameters


class PlattCalibrator:
    """Logistic calibration with smoothed targets.

    After Platt (1999), "Probabilistic outputs for support vector machines". The input is the logit of the
    confidence when every confidence seen in fitting lies in [0, 1], and the confidence itself otherwise
    (log-probabilities, margins). The targets are Platt's, (n₊ + 1)/(n₊ + 2) for right and 1/(n₋ + 2) for
    wrong answers, so the fit stays finite on separable rows. The slope is kept at 0 or above: a higher
    confidence never gets a lower probability, and a confidence that points the wrong way gets the base rate
    for every row (``slope_ == 0``).

    >>> calibrator = PlattCalibrator().fit([0.2, 0.4, 0.6, 0.8] * 10, [False, False, True, True] * 10)
    >>> bool(calibrator.predict([0.9])[0] > calibrator.predict([0.1])[0])
    True
    """

    def fit(self, confidence: ArrayLike, correct: ArrayLike) -> Self:
        """Fit on ``confidence`` and ``correct``, both of shape (n,).

        Raises `ConfideError` for fewer than `MIN_ROWS` rows, a confidence that is not finite, or labels that
        are all right or all wrong.
        """
        c, y = np.asarray(confidence, dtype=float), np.asarray(correct, dtype=bool)
        if c.ndim != 1 or c.shape != y.shape:
            raise ConfideError(f"confidence and correct must be two lists of one length, not {c.shape}, {y.shape}")
        if len(c) < MIN_ROWS:
            raise ConfideError(
                f"a calibrator needs {MIN_ROWS} rows or more with a confidence and a label, got {len(c)}"
            )
        if not np.isfinite(c).all():
            raise ConfideError(f"{int((~np.isfinite(c)).sum())} of {len(c)} confidences are not finite numbers")
        right = int(y.sum())
        wrong = len(y) - right
        if right == 0 or wrong == 0:
            raise ConfideError(f"labels must be of both kinds: {right} answers are right and {wrong} wrong")

        self.transform_: Literal["logit", "identity"] = "logit" if c.min() >= 0 and c.max() <= 1 else "identity"
        x = self._input(c)
        target = np.where(y, (right + 1) / (right + 2), 1 / (wrong + 2))
        # Standardised inputs keep the optimisation well conditioned whatever the source's scale.
        centre, scale = float(x.mean()), float(x.std())
        slope = 0.0
        if scale > 1e-12 * max(1.0, abs(centre)):
            slope, intercept = _fit_logistic((x - centre) / scale, target)
        if slope <= 0:
            slope, intercept = 0.0, float(logit(target.mean()))
        self.slope_: float = slope / scale if slope > 0 else 0.0
        self.intercept_: float = intercept - self.slope_ * centre
        return self

    def predict(self, confidence: ArrayLike) -> Floats:
        """Probability of being right, in [0, 1], in the shape of ``confidence``; NaN stays NaN."""
        x = self._input(np.asarray(confidence, dtype=float))
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
        """The calibrator that `state` describes."""
        calibrator = cls()
        calibrator.transform_ = state.parameters.transform
        calibrator.slope_ = state.parameters.slope
        calibrator.intercept_ = state.parameters.intercept
        return calibrator

    def _input(self, confidence: Floats) -> Floats:
        if self.transform_ == "identity":
            return confidence
        return np.asarray(logit(np.clip(confidence, _CLIP, 1 - _CLIP)))


def _fit_logistic(x: Floats, target: Floats) -> tuple[float, float]:
    """Slope and intercept of the logistic curve closest (cross-entropy) to soft ``target``, both (n,)."""

    def loss(w: Floats) -> tuple[float, Floats]:
        z = w[0] * x + w[1]
        error = expit(z) - target
        value = float(np.mean(np.logaddexp(0, z) - target * z))
        return value, np.array([np.mean(error * x), np.mean(error)])

    start = np.array([0.0, float(logit(target.mean()))])
    found = minimize(loss, start, jac=True, method="BFGS", options={"gtol": 1e-8})
    return float(found.x[0]), float(found.x[1])
