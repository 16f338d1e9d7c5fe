"""How Self-REF is trained."""

from __future__ import annotations

from dataclasses import dataclass

from confide.methods.finetuning.supervised_config import SupervisedConfig, option


@dataclass(frozen=True)
class SelfRefConfig(SupervisedConfig):
    """How to train Self-REF, on top of how rows are trained on."""

    ratio: float | None = option(None, "Unconfident rows per confident row, such as 0.5; natural if unset.")
    mask_wrong_answers: bool = option(True, "No gradient on wrong answers' tokens.")
    max_rows: int | None = option(None, "Train on at most this many rows.", min=1)
