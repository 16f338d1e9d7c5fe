"""Training the reader on graded records; answers and model stay as they are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from confide.engines.engine import check_context, prompt_and_answer
from confide.methods.reader.reader import Reader, verdict_words
from confide.methods.reader.reader_config import ReaderConfig
from confide.progress import Progress
from confide.records import Record

if TYPE_CHECKING:
    from confide.engines.transformers.transformers_engine import TransformersEngine
    from confide.methods.finetuning.labelled_rows import LabelledRow


def train_reader(
    engine: TransformersEngine,
    train: Sequence[Record],
    validation: Sequence[Record],
    config: ReaderConfig,
    checkpoints: Path,
    *,
    progress: Progress | None = None,
) -> Reader:
    """Train an adapter on graded records; the epoch is chosen on validation records. The engine's model stays as it is.

    Args:
        checkpoints: the run's folder, from which a killed run goes on.
    """
    from confide.engines.transformers.adapter import Adapter
    from confide.methods.finetuning.held_out import HeldOut
    from confide.methods.finetuning.runs import same_rows
    from confide.methods.finetuning.supervised import fit
    from confide.methods.finetuning.verdict_loss import finite_losses

    rows, pair = reader_rows(engine, train), verdict_words(engine)
    held = HeldOut.of(reader_rows(engine, validation), train, validation, config)
    same_rows(checkpoints, rows, held.rows, config, engine.identity)
    fitted = fit(
        engine.forward.model, engine.tokenizer, rows, (), config, checkpoints, progress, title="reader", whole=True,
        verdict=pair, held=held,
    )  # fmt: skip
    finite_losses(fitted.held_losses)
    adapter = Adapter(None, {}) if fitted.model is None else Adapter.taken_off(fitted.model)
    return Reader(engine, adapter, pair, fitted.held_losses)


def reader_rows(engine: TransformersEngine, records: Sequence[Record]) -> list[LabelledRow]:
    """Closed answers with one label each: the verdict."""
    from confide.methods.finetuning.labelled_rows import LabelledRow, context

    yes, no = verdict_words(engine)
    rows = []
    for record in records:
        prompt, answer = prompt_and_answer(engine, record)
        word, closed = yes if record.correct else no, [*prompt, *answer, engine.turn_end]
        rows.append(LabelledRow.of(record.id, closed, [], [word], context(record.messages)))
    check_context({row.id: len(row.input_ids) for row in rows}, engine.context)
    return rows
