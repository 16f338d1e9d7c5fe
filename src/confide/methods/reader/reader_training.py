"""Training the reader: a frozen model, a few ask tokens after the closed answer, two verdict rows.

The verdict is z = h · (w_CN − w_UN) at the last ask token, c = σ(z). The loss is a proper score on c (binary
cross-entropy on z), never the full-vocabulary cross-entropy, which saturates. Only the new rows receive gradients;
answers stay token for token the base model's.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from confide.engines.engine import first_difference
from confide.methods.reader.closed_rows import ClosedRow
from confide.methods.reader.reader import Reader
from confide.methods.reader.reader_config import ReaderConfig
from confide.numeric import Floats, logistic_loss
from confide.progress import Progress

if TYPE_CHECKING:
    from confide.engines.transformers.closed_store import ClosedStore
    from confide.engines.transformers.transformers_engine import TransformersEngine

WORDS = "\nIs this answer correct?"
"""Ask tokens start from these words (their last tokens, when there are fewer ask tokens)."""


def train_reader(
    engine: TransformersEngine,
    train: Sequence[ClosedRow],
    validation: Sequence[ClosedRow],
    config: ReaderConfig,
    *,
    store: ClosedStore,
    progress: Progress | None = None,
) -> Reader:
    """Train ask tokens and verdict rows; the epoch with the lowest validation log loss is kept.

    Args:
        store: keys and values of ``[*train, *validation]``, in that order.
    """
    rng = np.random.default_rng(config.seed)
    ask, verdict = start_rows(engine, config.ask_tokens)
    training = Reader(ask, verdict)
    rows = [verdict, *([ask] if config.ask_tokens else [])]
    for tensor in rows:
        tensor.requires_grad_(True)
    optimiser = torch.optim.AdamW(rows, lr=config.learning_rate, weight_decay=0.0, betas=(0.9, 0.98))
    schedule = _schedule(optimiser, config.epochs * math.ceil(len(train) / config.batch_size))
    held = range(len(train), len(train) + len(validation))
    held_targets = np.array([row.target for row in validation]), np.array([row.weight for row in validation])
    best, best_loss, waited = _snapshot(training), math.inf, 0
    history: list[dict[str, float]] = []
    for epoch in range(config.epochs):
        began, total = time.monotonic(), 0.0
        order = batches_by_length(store.lengths[: len(train)], config.batch_size, rng)
        for number, some in enumerate(order):
            loss = reader_loss(training.z(store.batch(some)), [train[i] for i in some])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(rows, 1.0)
            optimiser.step()
            schedule.step()
            total += loss.item()
            if progress:
                progress(epoch * len(order) + number + 1, config.epochs * len(order), f"epoch {epoch + 1}")
        seconds = time.monotonic() - began
        reader = _snapshot(training)
        held_loss = logistic_loss(score_rows(reader, store, held), *held_targets)
        losses = {"train_loss": total / len(order), "validation_loss": held_loss}
        history.append({"epoch": epoch + 1, **losses, "seconds": seconds})
        if held_loss < best_loss:
            best, best_loss, waited = reader, held_loss, 0
        elif (waited := waited + 1) >= config.patience:
            break
    return replace(best, config=config, history=history)


def _schedule(optimiser: torch.optim.Optimizer, steps: int) -> torch.optim.lr_scheduler.LambdaLR:
    """A short warm-up, then half a cosine down to 2 % of the peak."""
    warm = max(1, steps // 20)
    return torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda s: min((s + 1) / warm, 0.5 * (1 + math.cos(math.pi * min(1.0, s / steps))) + 0.02)
    )


def _snapshot(reader: Reader) -> Reader:
    return Reader(reader.ask.detach().clone(), reader.verdict.detach().clone())


def start_rows(engine: TransformersEngine, count: int) -> tuple[Tensor, Tensor]:
    """Initial rows of ``count`` ask tokens [m, width], those of `WORDS`, and verdict direction [width], in float32."""
    words = engine.encode_answer(WORDS)
    words = (words * (count // len(words) + 1))[-count:] if count else []
    return engine.input_rows(words), yes_direction(engine) * 0.1


def yes_direction(engine: TransformersEngine) -> Tensor:
    """The output row of " Yes" minus that of " No", [width]."""
    yes, no = engine.output_rows(first_difference(engine.encode_answer(" Yes"), engine.encode_answer(" No")))
    return yes - no


def reader_loss(z: Tensor, rows: Sequence[ClosedRow]) -> Tensor:
    """Weighted binary cross-entropy on ``z`` [batch]."""
    target = torch.tensor([r.target for r in rows], device=z.device, dtype=torch.float32)
    weight = torch.tensor([r.weight for r in rows], device=z.device, dtype=torch.float32)
    return (functional.binary_cross_entropy_with_logits(z, target, reduction="none") * weight).sum() / weight.sum()


@torch.no_grad()
def score_rows(reader: Reader, store: ClosedStore, rows: Sequence[int], batch_size: int = 64) -> Floats:
    """z [n] of some rows of a store, in their order."""
    result = np.empty(len(rows))
    order = np.argsort([store.lengths[i] for i in rows], kind="stable")
    for start in range(0, len(order), batch_size):
        some = order[start : start + batch_size]
        result[some] = reader.z(store.batch([rows[i] for i in some])).cpu().numpy()
    return result


def batches_by_length(lengths: Sequence[int], size: int, rng: np.random.Generator) -> list[list[int]]:
    """Random batches of rows of similar length: shuffled, sorted within chunks of 16 batches, order shuffled."""
    order = rng.permutation(len(lengths))
    batches = []
    for start in range(0, len(order), size * 16):
        chunk = sorted(order[start : start + size * 16].tolist(), key=lambda i: lengths[i])
        batches += [chunk[i : i + size] for i in range(0, len(chunk), size)]
    rng.shuffle(batches)
    return batches
