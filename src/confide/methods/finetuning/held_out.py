"""Rows held out of training, which say after every epoch how good it is: the best epoch is kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from transformers import TrainerCallback

from confide.engines.transformers.adapter import WEIGHTS
from confide.files import read_text
from confide.methods.finetuning.labelled_rows import LabelledRow
from confide.methods.finetuning.supervised_config import ValidatedConfig
from confide.methods.finetuning.verdict_loss import row_weights, verdict_loss
from confide.methods.method import labels
from confide.numeric import Floats
from confide.records import Record

LOSS = "eval_loss"


@dataclass(frozen=True)
class HeldOut:
    """Rows that choose the epoch.

    Attributes:
        rows: each ends in a verdict.
        loss: what the verdicts' logits [n] of these rows cost, in nats.
        patience: training ends after this many epochs in a row that are no better than the best one.
    """

    rows: Sequence[LabelledRow]
    loss: Callable[[Floats], float]
    patience: int

    @classmethod
    def of(
        cls,
        rows: Sequence[LabelledRow],
        train: Sequence[Record],
        validation: Sequence[Record],
        config: ValidatedConfig,
    ) -> HeldOut:
        """Validation records, as ``rows`` lay them out, whose verdicts cost what `verdict_loss` says."""
        right, weights = labels(validation), row_weights(train, validation, config.seed)
        return cls(rows, lambda z: verdict_loss(z, right, weights), config.patience)

    def ended(self, folder: Path | None) -> bool:
        """Whether the run whose newest checkpoint is ``folder`` took all its steps, or its epochs got no better."""
        if folder is None:
            return False
        state = json.loads(read_text(folder / "trainer_state.json"))
        return state["global_step"] >= state["max_steps"] or waited(losses_of(state["log_history"])) >= self.patience


class Patience(TrainerCallback):
    """Ends training when epochs get no better. What it goes by is in the trainer's state, so a run can go on."""

    def __init__(self, patience: int):
        self.patience = patience

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """End the run where the newest epochs are all worse than the best one."""
        if waited(losses_of(state.log_history)) >= self.patience:
            control.should_training_stop = True


def losses_of(history: Sequence[Mapping[str, Any]]) -> list[float]:
    """The loss on held-out rows after each epoch, from a trainer's log."""
    return [float(entry[LOSS]) for entry in history if LOSS in entry]


def waited(losses: Sequence[float]) -> int:
    """How many epochs ago the best one was.

    >>> waited([0.5, 0.4, 0.4, 0.6])
    2
    """
    return len(losses) - 1 - losses.index(min(losses)) if losses else 0


def load_best(model: Any, folder: Path) -> None:
    """Put the adapter that a checkpoint holds into a model that has one."""
    from peft import set_peft_model_state_dict

    set_peft_model_state_dict(model, load_file(folder / WEIGHTS))
