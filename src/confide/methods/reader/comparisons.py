"""Readers that the trained ask tokens are compared with: what do random tokens give, what the model's own yes?

Same rows, same choices on validation as the reader. Neither is servable as vocabulary rows; they live in the
checkpoint's arrays and are read by ``confide score``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from confide.methods.method import labels
from confide.methods.portable.logistic import Logistic
from confide.methods.reader.closed_rows import ClosedRow
from confide.methods.reader.reader import Reader
from confide.methods.reader.reader_config import ReaderConfig
from confide.methods.reader.reader_training import start_rows, train_reader, yes_direction
from confide.numeric import Floats, logistic_loss
from confide.progress import Progress
from confide.records import Record

if TYPE_CHECKING:
    from confide.engines.transformers.closed_store import ClosedStore
    from confide.engines.transformers.transformers_engine import TransformersEngine

P_TRUE = "\nIs this answer correct? Yes or No:"
"""What a trained P(True) is asked after the closed answer; the verdict is the logit of Yes over No."""

P_TRUE_CONFIG = ReaderConfig(rank=8, epochs=3)
STRENGTHS = (1e-3, 1e-2, 1e-1)


def random_reader(engine: TransformersEngine, ask_tokens: int = 4, seed: int = 0) -> Reader:
    """Random ask tokens (the mean row plus noise of the embeddings' own spread) and no verdict yet."""
    torch.manual_seed(seed)
    return Reader(*start_rows(engine, ReaderConfig(ask_tokens=ask_tokens, start="random")))


def fit_verdict(
    reader: Reader, hidden: Floats, train: Sequence[Record], held: Floats, validation: Sequence[Record]
) -> Reader:
    """``reader`` with the verdict row that is best on its hidden states [n, width] (logistic regression).

    Only this row is trained: what random tokens give shows how much of a reader is the verdict row alone. The
    penalty is the one with the lowest log loss on validation rows.
    """
    target = labels(validation).astype(np.float64)
    models = [Logistic.fit(hidden, labels(train).astype(np.float64), C=C) for C in STRENGTHS]
    best = min(models, key=lambda model: logistic_loss(model.z(held), target))
    weight = best.weight / best.scale
    bias = float(best.bias[0]) - float(best.mean @ weight)
    return replace(reader, verdict=torch.from_numpy(weight).float(), bias=bias)


def train_p_true(
    engine: TransformersEngine,
    train: Sequence[ClosedRow],
    validation: Sequence[ClosedRow],
    store: ClosedStore,
    config: ReaderConfig = P_TRUE_CONFIG,
    *,
    progress: Progress | None = None,
) -> Reader:
    """Trained P(True): low-rank weights at the question's tokens alone, the model's own Yes and No as verdict.

    After Kadavath et al. (2022) and Kapoor et al. (2406.08391), with answers left as they are. The weights stay on
    the model until ``reader.low_rank.remove()``. ``store`` holds ``[*train, *validation]``.
    """
    fixed = engine.input_rows(engine.encode_answer(P_TRUE)), yes_direction(engine)
    return train_reader(engine, train, validation, config, store=store, fixed=fixed, progress=progress)
