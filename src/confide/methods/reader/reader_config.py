"""How a reader is trained."""

from __future__ import annotations

from dataclasses import dataclass

from confide.methods.finetuning.supervised_config import ValidatedConfig, option


@dataclass(frozen=True)
class ReaderConfig(ValidatedConfig):
    """How the adapter is trained, on all linear layers; the epoch is chosen on validation rows."""

    learning_rate: float = option(5e-4, "Learning rate.", min=0)
