"""Fitted calibrators as they stand in a policy file; `confide.policies.calibrators` makes and reads them."""

from __future__ import annotations

from typing import Annotated, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator


class PlattParameters(BaseModel):
    """What `PlattCalibrator` learned: probability = σ(slope · transform(confidence) + intercept)."""

    model_config = ConfigDict(extra="forbid")

    transform: Literal["logit", "identity"]
    slope: float = Field(ge=0, allow_inf_nan=False)
    intercept: float = Field(allow_inf_nan=False)


class TemperatureParameters(BaseModel):
    """What `TemperatureCalibrator` learned: probability = σ(transform(confidence) / temperature)."""

    model_config = ConfigDict(extra="forbid")

    transform: Literal["logit", "identity"]
    temperature: float = Field(gt=0, allow_inf_nan=False)


class BetaParameters(BaseModel):
    """What `BetaCalibrator` learned: probability = σ(a · ln c − b · ln(1 − c) + intercept)."""

    model_config = ConfigDict(extra="forbid")

    a: float = Field(ge=0, allow_inf_nan=False)
    b: float = Field(ge=0, allow_inf_nan=False)
    intercept: float = Field(allow_inf_nan=False)


class IsotonicParameters(BaseModel):
    """What `IsotonicCalibrator` learned: straight lines between the points, level outside them."""

    model_config = ConfigDict(extra="forbid")

    confidence: list[Annotated[float, Field(allow_inf_nan=False)]] = Field(min_length=1)
    probability: list[Annotated[float, Field(ge=0, le=1)]] = Field(min_length=1)

    @model_validator(mode="after")
    def _ascend(self) -> Self:
        if len(self.confidence) != len(self.probability):
            raise ValueError(f"{len(self.confidence)} confidences and {len(self.probability)} probabilities")
        if np.any(np.diff(self.confidence) <= 0) or np.any(np.diff(self.probability) < 0):
            raise ValueError("confidences must rise and probabilities must not fall")
        return self


class PlattState(BaseModel):
    """A fitted `PlattCalibrator` as it stands in a policy file."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["platt"] = "platt"
    parameters: PlattParameters


class TemperatureState(BaseModel):
    """A fitted `TemperatureCalibrator` as it stands in a policy file."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["temperature"] = "temperature"
    parameters: TemperatureParameters


class BetaState(BaseModel):
    """A fitted `BetaCalibrator` as it stands in a policy file."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["beta"] = "beta"
    parameters: BetaParameters


class IsotonicState(BaseModel):
    """A fitted `IsotonicCalibrator` as it stands in a policy file."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["isotonic"] = "isotonic"
    parameters: IsotonicParameters


CalibratorState = Annotated[PlattState | TemperatureState | BetaState | IsotonicState, Field(discriminator="kind")]
