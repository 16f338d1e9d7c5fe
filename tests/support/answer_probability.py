"""Log-probability of given answers under a model in training, without the engine: a slow second way to compute it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional

from confide.engines.transformers.encoding import encode_chat, encode_text
from confide.methods.finetuning.labelled_rows import collate, logits_at
from confide.records import Record


@torch.inference_mode()
def answer_log_probability(model: Any, tokenizer: Any, records: Sequence[Record], batch_size: int = 32) -> list[float]:
    """The summed log-probability of each record's answer tokens under a model (0 for an empty answer)."""
    rows = []
    for record in records:
        prompt = encode_chat(tokenizer, [message.model_dump() for message in record.messages])
        answer = list(record.answer_ids) or encode_text(tokenizer, record.answer)
        rows.append({"input_ids": prompt + answer, "labels": [-100] * len(prompt) + answer})
    values: list[float] = []
    for start in range(0, len(rows), batch_size):
        batch = {name: t.to(model.device) for name, t in collate(rows[start : start + batch_size], 0).items()}
        labels = functional.pad(batch["labels"][:, 1:], (0, 1), value=-100)
        positions = labels != -100
        logprobs = logits_at(model, batch, positions).log_softmax(-1)
        sums = torch.zeros(labels.shape, device=labels.device)
        sums[positions] = logprobs.gather(1, labels[positions][:, None])[:, 0]
        values += sums.sum(1).tolist()
    return values
