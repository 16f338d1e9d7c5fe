"""Training the reader: a frozen model, a few ask tokens after the closed answer, two verdict rows.

The verdict is z = h · (w_CN − w_UN) at the last ask token, c = σ(z). The loss is a proper score on c (binary
cross-entropy on z), never the full-vocabulary cross-entropy, which saturates. Only the new rows (and, a step up
the ladder, low-rank weights that are active at the ask positions alone) receive gradients; answers stay token
for token the base model's.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from confide.engines.transformers.prefixes import first_difference
from confide.engines.transformers.transformers_engine import TransformersEngine
from confide.methods.reader.closed_rows import Row
from confide.methods.reader.kept_prefixes import PrefixStore
from confide.methods.reader.low_rank import LowRank
from confide.methods.reader.reader import Reader

__all__ = ["Reader", "ReaderConfig", "reader_loss", "score_rows", "start_rows", "train_reader"]

WORDS = "\nIs this answer correct?"
"""Ask tokens that start from words start from these (their last tokens, when there are fewer ask tokens)."""


@dataclass(frozen=True)
class ReaderConfig:
    """How a reader is trained; every choice is made on validation rows."""

    ask_tokens: int = field(default=4, metadata={"help": "number of ask tokens; 0 reads at the closing token"})
    start: Literal["words", "random"] = field(default="words", metadata={"help": "what ask tokens start from"})
    rank: int = field(default=0, metadata={"help": "rank of the weights at the ask positions; 0 for none"})
    epochs: int = field(default=6, metadata={"help": "at most this many passes over the rows"})
    learning_rate: float = field(default=2e-3, metadata={"help": "peak learning rate of ask and low-rank weights"})
    batch_size: int = field(default=32, metadata={"help": "rows a step"})
    pairwise: float = field(default=0.0, metadata={"help": "weight of the same-question, same-answer pair term"})
    patience: int = field(default=2, metadata={"help": "stop after this many epochs without a better validation"})
    seed: int = field(default=0, metadata={"help": "seed of start values and order"})


Progress = Callable[[int, int, str], None]


def train_reader(
    engine: TransformersEngine,
    train: Sequence[Row],
    validation: Sequence[Row],
    config: ReaderConfig,
    *,
    store: PrefixStore,
    fixed: tuple[Tensor, Tensor] | None = None,
    progress: Progress | None = None,
) -> Reader:
    """Train ask tokens and verdict rows; the epoch with the lowest validation log loss is kept.

    Args:
        store: keys and values of ``[*train, *validation]``, in that order.
        fixed: ask rows [m, width] and verdict [width] that stay as they are; only low-rank weights learn then.
    """
    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    ask, verdict = fixed or start_rows(engine, config)
    groups: list[dict[str, Any]] = []
    if fixed is None:
        ask.requires_grad_(config.ask_tokens > 0)
        verdict.requires_grad_(True)
        groups.append({"params": [verdict, *([ask] if config.ask_tokens else [])], "lr": config.learning_rate})
    low_rank = LowRank(engine.model, config.rank) if config.rank else None
    if low_rank:
        groups.append({"params": low_rank.parameters(), "lr": config.learning_rate / 4})
    optimiser = torch.optim.AdamW(groups, weight_decay=0.0, betas=(0.9, 0.98))
    steps = config.epochs * math.ceil(len(train) / config.batch_size)
    warm = max(1, steps // 20)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda s: min((s + 1) / warm, 0.5 * (1 + math.cos(math.pi * min(1.0, s / steps))) + 0.02)
    )
    held = list(range(len(train), len(train) + len(validation)))
    best, best_loss, waited = Reader(ask.detach().clone(), verdict.detach().clone(), low_rank), math.inf, 0
    best_weights: list[Tensor] = []
    history: list[dict[str, float]] = []
    for epoch in range(config.epochs):
        began, total = time.monotonic(), 0.0
        order = batches_by_length(store.lengths[: len(train)], config.batch_size, rng)
        for number, picked in enumerate(order):
            z = Reader(ask, verdict, low_rank).z(engine, store.batch(picked))
            loss = reader_loss(z, [train[i] for i in picked], config.pairwise)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_([p for g in groups for p in g["params"]], 1.0)
            optimiser.step()
            schedule.step()
            total += loss.item()
            if progress:
                progress(epoch * len(order) + number + 1, config.epochs * len(order), f"epoch {epoch + 1}")
        seconds = time.monotonic() - began
        reader = Reader(ask.detach().clone(), verdict.detach().clone(), low_rank)
        loss_value = weighted_log_loss(score_rows(engine, reader, store, held), validation)
        history.append(
            {
                "epoch": epoch + 1,
                "train_loss": total / len(order),
                "validation_loss": loss_value,
                "seconds": seconds,
            }
        )
        if loss_value < best_loss:
            best, best_loss, waited = reader, loss_value, 0
            best_weights = [p.detach().clone() for p in low_rank.parameters()] if low_rank else []
        else:
            waited += 1
            if waited >= config.patience:
                break
    if low_rank:
        for parameter, value in zip(low_rank.parameters(), best_weights, strict=True):
            parameter.data.copy_(value)
    best.history = history
    return best


def start_rows(engine: TransformersEngine, config: ReaderConfig) -> tuple[Tensor, Tensor]:
    """Initial ask rows [m, width] and verdict direction [width], in float32.

    ``words``: the embeddings of `WORDS`, and E[Yes] − E[No]; ``random``: the mean row plus noise of the
    embeddings' own spread, and a zero direction.
    """
    embeddings = engine.model.get_input_embeddings().weight.detach().float()
    output = engine.model.get_output_embeddings().weight.detach().float()
    count = config.ask_tokens
    if config.start == "random":
        noise = torch.randn(count, embeddings.shape[1]).to(embeddings.device) * embeddings.std(0)
        return embeddings.mean(0) + noise, torch.zeros_like(output[0])
    words = engine.encode_answer(WORDS)
    words = (words * (count // len(words) + 1))[-count:] if count else []
    yes, no = first_difference(engine.encode_answer(" Yes"), engine.encode_answer(" No"))
    return embeddings[words].clone(), (output[yes] - output[no]) * 0.1


def reader_loss(z: Tensor, rows: Sequence[Row], pairwise: float) -> Tensor:
    """Weighted binary cross-entropy on ``z`` [batch], plus a logistic loss on pairs that share a question or answer."""
    target = torch.tensor([r.target for r in rows], device=z.device, dtype=torch.float32)
    weight = torch.tensor([r.weight for r in rows], device=z.device, dtype=torch.float32)
    loss = (F.binary_cross_entropy_with_logits(z, target, reduction="none") * weight).sum() / weight.sum()
    if pairwise:
        pairs = [
            (i, j)
            for i, a in enumerate(rows)
            for j, b in enumerate(rows)
            if a.target > b.target
            and (a.question == b.question or (a.answered is not None and a.answered == b.answered))
        ]
        if pairs:
            high, low = zip(*pairs, strict=True)
            loss = loss + pairwise * F.softplus(z[list(low)] - z[list(high)]).mean()
    return loss


@torch.no_grad()
def score_rows(
    engine: TransformersEngine,
    reader: Reader,
    store: PrefixStore,
    picked: Sequence[int],
    batch_size: int = 64,
) -> NDArray[np.float64]:
    """z of the rows ``picked`` of a store, in their order."""
    result = np.empty(len(picked))
    order = np.argsort([store.lengths[i] for i in picked], kind="stable")
    for start in range(0, len(order), batch_size):
        some = order[start : start + batch_size]
        result[some] = reader.z(engine, store.batch([picked[i] for i in some])).cpu().numpy()
    return result


def weighted_log_loss(z: NDArray[np.float64], rows: Sequence[Row]) -> float:
    """Weighted mean log loss of σ(z) against the rows' targets."""
    target = np.array([r.target for r in rows])
    weight = np.array([r.weight for r in rows])
    return float(np.average(np.logaddexp(0, z) - target * z, weights=weight))


def batches_by_length(lengths: Sequence[int], size: int, rng: np.random.Generator) -> list[list[int]]:
    """Random batches of rows of similar length: shuffled, sorted within chunks of 16 batches, order shuffled."""
    order = rng.permutation(len(lengths))
    batches = []
    for start in range(0, len(order), size * 16):
        chunk = sorted(order[start : start + size * 16].tolist(), key=lambda i: lengths[i])
        batches += [chunk[i : i + size] for i in range(0, len(chunk), size)]
    rng.shuffle(batches)
    return batches
