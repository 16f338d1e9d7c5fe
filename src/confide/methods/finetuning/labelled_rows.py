"""Batches whose common prefix runs once, and logits only where they are asked for.

Prompts of one task start alike (system line, worked examples) and labels sit on the last few tokens. Running
the common prefix once a batch, with its gradient, and the output layer at the asked positions alone gives the
same numbers as the plain way at a fraction of the cost.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from confide.engines.transformers.token_scores import row_logits

Batch = dict[str, Tensor]


def option(default: Any, help: str) -> Any:
    """A field of a training configuration."""
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True)
class SupervisedConfig:
    """How rows are trained on. Rank, learning rate and warm-up are those of Self-REF's paper."""

    rank: int = option(8, "Rank of the low-rank weights.")
    alpha: int = option(16, "Scale of the low-rank weights (alpha / rank).")
    learning_rate: float = option(1e-4, "Learning rate of the low-rank weights.")
    row_learning_rate: float | None = option(1e-3, "Learning rate of the new rows; None: the same.")
    epochs: int = option(3, "Passes over the rows.")
    batch_size: int = option(8, "Rows a step.")
    warmup_steps: int = option(200, "Warm-up steps, at most a tenth of all steps.")
    weight_decay: float = option(0.0, "Weight decay.")
    kl_weight: float = option(0.0, "Weight of the KL divergence to the base on answer tokens; 0 is off.")
    save_steps: int = option(50, "Steps between checkpoints from which a killed run continues.")
    seed: int = option(0, "Seed of the row order and of the low-rank weights.")


@dataclass(frozen=True)
class Row:
    """One training sequence: a prompt, an answer, and what follows it.

    ``labels`` are the tokens to learn, −100 elsewhere; ``answer`` is the answer's span in ``input_ids``; ``context``
    tells which rows start alike.
    """

    id: str
    input_ids: list[int]
    labels: list[int]
    answer: tuple[int, int]
    context: str = ""

    @property
    def answer_mask(self) -> list[int]:
        """1 on the answer's tokens, 0 elsewhere."""
        start, end = self.answer
        return [int(start <= index < end) for index in range(len(self.input_ids))]


def collate(rows: Sequence[Mapping[str, Sequence[int]]], pad_id: int) -> Batch:
    """Rows of ``input_ids`` and other columns of the same length, as one batch padded on the right.

    The tokens that all rows start with become ``prefix_ids`` [1, P] and leave the other columns; every row
    keeps all from the token before its first label (column ``labels``, −100 where there is none) or answer
    token (column ``answer``, 0 where there is none).
    """
    size = _shared(rows)
    lengths = [len(row["input_ids"]) - size for row in rows]
    width = max(lengths)
    batch: Batch = {}
    for name in rows[0]:
        filler = {"input_ids": pad_id, "labels": -100}.get(name, 0)
        batch[name] = torch.tensor(
            [[*row[name][size:], *[filler] * (width - n)] for row, n in zip(rows, lengths, strict=True)]
        )
    filled = torch.arange(width)[None] < torch.tensor(lengths)[:, None]
    batch["attention_mask"] = functional.pad(filled.long(), (size, 0), value=1)
    batch["position_ids"] = torch.arange(size, size + width).expand(len(rows), -1)
    if size:
        batch["prefix_ids"] = torch.tensor([rows[0]["input_ids"][:size]])
    return batch


def logits_at(model: Any, batch: Mapping[str, Tensor], positions: Tensor, rows: Sequence[int] | None = None) -> Tensor:
    """Next-token logits [n, vocabulary] in float32 at the ``positions`` [batch, length] that are True.

    With ``rows`` only these tokens' logits come back, [n, len(rows)], computed in float32 from the final
    hidden states: a bfloat16 logit near 16 moves in steps of 0.125, too coarse for the difference of two.
    """
    core = model.get_base_model() if hasattr(model, "get_base_model") else model
    head = core.get_output_embeddings()

    def gather(_: Any, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (inputs[0][positions][None], *inputs[1:])

    def narrow(module: Any, inputs: tuple[Tensor, ...], _: Tensor) -> Tensor:
        return row_logits(module, inputs[0], rows or ())

    cache = None
    if "prefix_ids" in batch:
        # Straight to the body: no logits are wanted. Gradients flow back through the kept keys and values.
        cache = core.base_model(input_ids=batch["prefix_ids"], use_cache=True).past_key_values
        cache.batch_repeat_interleave(len(batch["input_ids"]))
    # Hooks on the output layer leave everything that a model does around it (scaling, soft caps) in place.
    hooks = [head.register_forward_pre_hook(gather)]
    if rows is not None:
        hooks.append(head.register_forward_hook(narrow))
    try:
        out = core(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            position_ids=batch["position_ids"],
            past_key_values=cache,
            use_cache=cache is not None,
        )
    finally:
        for hook in hooks:
            hook.remove()
    logits: Tensor = out.logits[0].float()
    return logits


def batches(keys: Sequence[tuple[str, int]], batch_size: int) -> Iterator[list[int]]:
    """Indices of rows in batches of like prompt and length, by each row's (`context`, length)."""
    order = sorted(range(len(keys)), key=lambda index: keys[index])
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]


def context(messages: Sequence[Any]) -> str:
    """What rows with a long common prefix have in common: all turns but the last."""
    return "\n".join(f"{message.role}: {message.content}" for message in messages[:-1])


def to(batch: Batch, device: torch.device) -> Batch:
    """The batch on a device."""
    return {name: tensor.to(device) for name, tensor in batch.items()}


def _shared(rows: Sequence[Mapping[str, Sequence[int]]]) -> int:
    """How many leading tokens all rows share, short of the token that predicts a first wanted one."""
    ids = [list(row["input_ids"]) for row in rows]
    limit = min(_first_wanted(row) for row in rows) - 1
    first, last = min(ids), max(ids)  # in lexicographic order these two differ the earliest
    end = 0
    while end < limit and first[end] == last[end]:
        end += 1
    return end


def _first_wanted(row: Mapping[str, Sequence[int]]) -> int:
    labels = row["labels"]
    answer = row.get("answer", [0] * len(labels))
    wanted = (i for i, (label, mark) in enumerate(zip(labels, answer, strict=True)) if label != -100 or mark)
    return next(wanted, len(labels))
