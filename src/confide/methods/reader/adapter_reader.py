"""The reader as an adapter: the base model answers, and with low-rank weights on it reads its answer again.

A second request holds the prompt, the answer and the token that closes it; the verdict is by how much " Yes" is
likelier than " No" there. Both words exist, so no row is added, and an engine that serves LoRA adapters serves it as it
is. Answers are the base model's, token for token, since they are written without the adapter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from confide.engines.engine import check_context, first_difference, prompt_and_answer
from confide.engines.transformers.transformers_engine import TransformersEngine
from confide.methods.finetuning.held_out import HeldOut
from confide.methods.finetuning.labelled_rows import LabelledRow, collate, context
from confide.methods.finetuning.supervised import Fitted, fit, verdict_logits
from confide.methods.finetuning.supervised_config import SupervisedConfig, option
from confide.methods.finetuning.verdict_loss import row_weights, verdict_loss
from confide.methods.method import labels
from confide.numeric import Floats
from confide.progress import Progress
from confide.records import Record

YES, NO = " Yes", " No"


@dataclass(frozen=True)
class AdapterConfig(SupervisedConfig):
    """How the adapter is trained."""

    rank: int = option(8, "Rank of the low-rank weights on all linear layers.", min=1)
    alpha: int = option(16, "Scale of the low-rank weights (alpha / rank).")
    learning_rate: float = option(3e-4, "Learning rate.", min=0)
    epochs: int = option(8, "At most this many passes over the rows.", min=1)
    patience: int = option(2, "Stop after this many epochs that are no better on validation rows.", min=1)
    batch_size: int = option(16, "Rows per step.", min=1)


@dataclass(frozen=True)
class AdapterReader:
    """A model with the adapter on it, and the two words that are compared."""

    model: Any
    pad_id: int
    verdict: tuple[int, int]
    held_losses: list[float]

    def z(self, rows: Sequence[LabelledRow]) -> Floats:
        """The verdict's logit [n] of answers, as `adapter_rows` lays them out."""
        return verdict_logits(self.model, rows, self.verdict, lambda batch: collate(batch, self.pad_id))


def adapter_rows(
    engine: TransformersEngine, records: Sequence[Record], targets: Mapping[str, float] | None = None
) -> list[LabelledRow]:
    """Closed answers with one label each: the verdict.

    Args:
        targets: what the verdict should say of a record, by its id, in [0, 1]; its label by default.
    """
    yes, no = verdict_words(engine)
    rows = []
    for record in records:
        prompt, answer = prompt_and_answer(engine, record)
        word = yes if record.correct else no
        row = LabelledRow.of(record.id, [*prompt, *answer, engine.turn_end], [], [word], context(record.messages))
        rows.append(replace(row, target=float(bool(record.correct)) if targets is None else targets[record.id]))
    check_context({row.id: len(row.input_ids) for row in rows}, engine.context)
    return rows


def verdict_words(engine: TransformersEngine) -> tuple[int, int]:
    """The tokens at which " Yes" and " No" part."""
    return first_difference(engine.encode_answer(YES), engine.encode_answer(NO))


def train_adapter(
    engine: TransformersEngine,
    train: Sequence[Record],
    validation: Sequence[Record],
    config: AdapterConfig,
    checkpoints: Path,
    *,
    targets: Mapping[str, float] | None = None,
    progress: Progress | None = None,
) -> tuple[AdapterReader, Fitted]:
    """Train an adapter on graded records; the epoch is chosen on validation records. The engine's model is changed.

    Args:
        checkpoints: where a killed run goes on from.
        targets: what the verdict should say of training records, by id, in [0, 1]; their labels by default.
    """
    rows, pair = adapter_rows(engine, train, targets), verdict_words(engine)
    right, weights = labels(validation), row_weights(train, validation, config.seed)
    held = HeldOut(adapter_rows(engine, validation), lambda z: verdict_loss(z, right, weights), config.patience)
    fitted = fit(
        engine.model, engine.tokenizer, rows, (), config, checkpoints, progress, title="reader", whole=True,
        verdict=pair, held=held,
    )  # fmt: skip
    return AdapterReader(fitted.model, engine.forward.filler, pair, fitted.held_losses), fitted
