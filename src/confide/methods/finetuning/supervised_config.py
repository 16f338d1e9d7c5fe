"""How rows are trained on with labels: settings that Self-REF and RLMF's format stage share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


def option(default: Any, help: str, *, flag: str | None = None, min: float | None = None) -> Any:
    """Make a field of a training configuration; the command line takes its flag, its bound and its help from here.

    Args:
        help: one sentence, shown by ``--help``.
        flag: the flag's name where it differs from the field's, without dashes.
        min: the smallest value that the flag accepts.
    """
    known = {"help": help, "flag": flag, "min": min}
    return field(default=default, metadata={key: value for key, value in known.items() if value is not None})


@dataclass(frozen=True)
class SupervisedConfig:
    """How rows are trained on. Rank, learning rate and warm-up are those of Self-REF's paper."""

    rank: int = option(8, "Rank of the low-rank weights.", min=1)
    alpha: int = option(16, "Scale of the low-rank weights (alpha / rank).")
    learning_rate: float = option(1e-4, "Learning rate.", min=0)
    row_learning_rate: float | None = option(1e-3, "Learning rate of the new rows; None: the same.", min=0)
    epochs: int = option(3, "Passes over the rows.", min=1)
    batch_size: int = option(8, "Rows per step.")
    warmup_steps: int = option(200, "Warm-up steps, at most a tenth of all steps.")
    weight_decay: float = option(0.0, "Weight decay.")
    kl_weight: float = option(0.0, "KL to the base on the answer tokens.", min=0)
    gradient_checkpointing: bool = option(
        False, "Keep each layer's input alone and compute the rest again: less memory, more time."
    )
    save_steps: int = option(50, "Steps between checkpoints from which a killed run continues.")
    seed: int = option(0, "Seed of the row order and the low-rank weights.")


@dataclass(frozen=True)
class ValidatedConfig(SupervisedConfig):
    """How rows are trained on where validation rows choose the epoch."""

    epochs: int = option(8, "At most this many passes over the rows.", min=1)
    patience: int = option(2, "Stop after this many epochs that are no better on validation rows.", min=1)
    batch_size: int = option(16, "Rows per step.", min=1)
