"""Readers that the trained ask tokens are compared with: what do random tokens give, what the model's own yes?

Same rows, same choices on validation as the reader. Neither is servable as vocabulary rows; they live in the
checkpoint's arrays and are read by ``confide score``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from confide.engines.transformers.kept import Kept
from confide.engines.transformers.prefixes import first_difference
from confide.engines.transformers.transformers_engine import TransformersEngine
from confide.methods.reader.closed_rows import Row
from confide.methods.reader.kept_prefixes import PrefixStore
from confide.methods.reader.reader import Reader
from confide.methods.reader.reader_training import Progress, ReaderConfig, start_rows, train_reader
from confide.methods.stack.probe import Logistic
from confide.records import Record

P_TRUE = "\nIs this answer correct? Yes or No:"
"""What a trained P(True) is asked after the closed answer; the verdict is the logit of Yes over No."""

P_TRUE_CONFIG = ReaderConfig(rank=8, epochs=3)
STRENGTHS = (1e-3, 1e-2, 1e-1)


def random_reader(engine: TransformersEngine, ask_tokens: int = 4, seed: int = 0) -> Reader:
    """Random ask tokens (the mean row plus noise of the embeddings' own spread) and no verdict yet."""
    torch.manual_seed(seed)
    return Reader(*start_rows(engine, ReaderConfig(ask_tokens=ask_tokens, start="random")))


def hidden_states(engine: TransformersEngine, reader: Reader) -> Callable[[Kept], NDArray[np.float64]]:
    """What `confide.methods.stack.states.collect` calls to gather the states [batch, width] that a verdict reads."""
    return lambda kept: reader.hidden(engine, kept).cpu().numpy().astype(np.float64)


def fit_verdict(
    reader: Reader,
    hidden: NDArray[np.float64],
    train: Sequence[Record],
    held: NDArray[np.float64],
    validation: Sequence[Record],
) -> Reader:
    """``reader`` with the verdict row that is best on its hidden states [n, width] (logistic regression).

    Only this row is trained: what random tokens give shows how much of a reader is the verdict row alone. The
    penalty is the one with the lowest log loss on validation rows.
    """
    right, target = (np.array([float(bool(r.correct)) for r in rows]) for rows in (train, validation))
    models = [Logistic.fit(hidden, right, C=C) for C in STRENGTHS]
    losses = [float(np.mean(np.logaddexp(0, z) - target * z)) for z in (model.z(held) for model in models)]
    best = models[int(np.argmin(losses))]
    weight = best.weight / best.scale
    bias = best.bias - float(best.mean @ weight)
    return replace(reader, verdict=torch.from_numpy(weight).float(), bias=bias)


def train_p_true(
    engine: TransformersEngine,
    train: Sequence[Row],
    validation: Sequence[Row],
    store: PrefixStore,
    config: ReaderConfig = P_TRUE_CONFIG,
    *,
    progress: Progress | None = None,
) -> Reader:
    """Trained P(True): low-rank weights at the question's tokens alone, the model's own Yes and No as verdict.

    After Kadavath et al. (2022) and Kapoor et al. (2406.08391), with answers left as they are. The weights stay on
    the model until ``reader.low_rank.remove()``. ``store`` holds ``[*train, *validation]``.
    """
    embeddings = engine.model.get_input_embeddings().weight.detach().float()
    output = engine.model.get_output_embeddings().weight.detach().float()
    yes, no = first_difference(engine.encode_answer(" Yes"), engine.encode_answer(" No"))
    fixed = embeddings[engine.encode_answer(P_TRUE)].clone(), output[yes] - output[no]
    return train_reader(engine, train, validation, config, store=store, fixed=fixed, progress=progress)
