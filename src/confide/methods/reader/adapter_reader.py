"""The reader as an adapter: the base model answers, and with low-rank weights on it reads its answer again.

A second pass reads the prompt, the answer and the token that closes it; the verdict is by how much " Yes" is likelier
than " No" there. Both words exist, so no row is added, and an engine that serves LoRA adapters serves it as it is.
Answers are the base model's, token for token, since they are written without the adapter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from confide.engines.engine import check_context, first_difference, prompt_and_answer
from confide.methods.finetuning.supervised_config import ValidatedConfig, option
from confide.numeric import Floats
from confide.progress import Progress
from confide.records import Record

if TYPE_CHECKING:
    from confide.engines.transformers.adapter import Adapter
    from confide.engines.transformers.closed_answers import TransformersClosed
    from confide.engines.transformers.transformers_engine import TransformersEngine
    from confide.methods.finetuning.labelled_rows import LabelledRow

FOLDER = "adapter"
"""Where a checkpoint keeps the adapter, in PEFT's format."""

YES, NO = " Yes", " No"


@dataclass(frozen=True)
class AdapterConfig(ValidatedConfig):
    """How the adapter is trained, on all linear layers."""

    learning_rate: float = option(5e-4, "Learning rate.", min=0)


@dataclass
class AdapterReader:
    """An adapter, and the two words that are compared after a closed answer.

    Attributes:
        verdict: the tokens of " Yes" and " No" (see `verdict_words`).
        losses: on validation rows, after each epoch of training.
    """

    engine: TransformersEngine
    adapter: Adapter
    verdict: tuple[int, int]
    losses: list[float] = field(default_factory=list)

    tokens = 1
    """Tokens that come behind the answer."""

    def logits(self, closed: TransformersClosed) -> Floats:
        """The verdict's logit z [batch] of closed answers, which are read again from their prompts' start."""
        tails = self._tails(closed)
        with self.adapter.active(self.engine):
            logprobs = self.engine.next_tokens(closed.prompts, self.verdict, tails, float32=True).logprobs
        return np.asarray(logprobs[:, 0] - logprobs[:, 1], dtype=np.float64)

    def fed(self, closed: TransformersClosed) -> int:
        """Tokens that reading these answers feeds: prompts too, whose keys and values are not the base model's."""
        return sum(map(len, [*closed.prompts, *self._tails(closed)]))

    def _tails(self, closed: TransformersClosed) -> list[list[int]]:
        return [[*c.reasoning_ids, *c.ids, self.engine.turn_end] for c in closed.completions]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The weights by name."""
        return {name: value.numpy() for name, value in self.adapter.weights.items()}

    @classmethod
    def load(cls, engine: TransformersEngine, folder: Path) -> AdapterReader:
        """The reader of a checkpoint; raises `ConfideError` where its adapter cannot be read."""
        from confide.engines.transformers.adapter import Adapter

        return cls(engine, Adapter.load(folder / FOLDER), verdict_words(engine))


def verdict_words(engine: TransformersEngine) -> tuple[int, int]:
    """The tokens at which " Yes" and " No" part."""
    return first_difference(engine.encode_answer(YES), engine.encode_answer(NO))


def adapter_rows(engine: TransformersEngine, records: Sequence[Record]) -> list[LabelledRow]:
    """Closed answers with one label each: the verdict."""
    from confide.methods.finetuning.labelled_rows import LabelledRow, context

    yes, no = verdict_words(engine)
    rows = []
    for record in records:
        prompt, answer = prompt_and_answer(engine, record)
        word, closed = yes if record.correct else no, [*prompt, *answer, engine.turn_end]
        row = LabelledRow.of(record.id, closed, [], [word], context(record.messages))
        rows.append(replace(row, target=float(bool(record.correct))))
    check_context({row.id: len(row.input_ids) for row in rows}, engine.context)
    return rows


def train_adapter(
    engine: TransformersEngine,
    train: Sequence[Record],
    validation: Sequence[Record],
    config: AdapterConfig,
    checkpoints: Path,
    *,
    progress: Progress | None = None,
) -> AdapterReader:
    """Train an adapter on graded records; the epoch is chosen on validation records. The engine's model stays as it is.

    Args:
        checkpoints: the run's folder, from which a killed run goes on.
    """
    from confide.engines.transformers.adapter import Adapter
    from confide.methods.finetuning.held_out import HeldOut
    from confide.methods.finetuning.runs import same_rows
    from confide.methods.finetuning.supervised import fit
    from confide.methods.finetuning.verdict_loss import finite_losses

    rows, pair = adapter_rows(engine, train), verdict_words(engine)
    held = HeldOut.of(adapter_rows(engine, validation), train, validation, config)
    same_rows(checkpoints, rows, held.rows, config, engine.identity)
    fitted = fit(
        engine.forward.model, engine.tokenizer, rows, (), config, checkpoints, progress, title="reader", whole=True,
        verdict=pair, held=held,
    )  # fmt: skip
    finite_losses(fitted.held_losses)
    return AdapterReader(engine, Adapter.taken_off(fitted.model), pair, fitted.held_losses)
