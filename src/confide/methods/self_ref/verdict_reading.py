"""Self-REF at inference: the verdict that a model writes after its answer, and how likely it was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from confide.engines.transformers.token_scores import row_logits
from confide.errors import ConfideError
from confide.methods.finetuning.labelled_rows import batches, collate, context, logits_at, to
from confide.records import Message, Record
from confide.signals import (
    CONFIDENCE,
    TokenIds,
    encode_chat,
    encode_text,
    suppressed_ids,
    turn_end_id,
)


@dataclass(frozen=True)
class Emission:
    """An answer written together with its verdict.

    ``verdict`` is the token's name, None when the model ended its turn without one; ``confidence`` is
    P(confident) ÷ (P(confident) + P(unconfident)) right after the answer in either case.
    """

    answer: str
    answer_ids: list[int]
    verdict: str | None
    confidence: float
    finish: Literal["stop", "length"]


def prompt_ids(tokenizer: Any, messages: Sequence[Message]) -> list[int]:
    """Token ids of a conversation up to where the answer starts."""
    return encode_chat(tokenizer, [message.model_dump() for message in messages])


def answer_ids(tokenizer: Any, record: Record) -> list[int]:
    """Token ids of a record's answer, without the token that closes it."""
    return list(record.answer_ids) or encode_text(tokenizer, record.answer)


def read_verdicts(
    model: Any, tokenizer: Any, records: Sequence[Record], ids: TokenIds, batch_size: int = 32
) -> list[float]:
    """The confidence that a Self-REF model gives to answers that already exist, in the records' order."""
    sequences = [prompt_ids(tokenizer, r.messages) + answer_ids(tokenizer, r) for r in records]
    check_fit(model, [(r.id, len(s) + 1) for r, s in zip(records, sequences, strict=True)])
    return _read(model, sequences, [context(r.messages) for r in records], ids, batch_size)


@torch.inference_mode()
def answer_log_probability(model: Any, tokenizer: Any, records: Sequence[Record], batch_size: int = 32) -> list[float]:
    """The summed log-probability of each record's answer tokens under a model (0 for an empty answer)."""
    rows = []
    for record in records:
        prompt, answer = prompt_ids(tokenizer, record.messages), answer_ids(tokenizer, record)
        rows.append({"input_ids": prompt + answer, "labels": [-100] * len(prompt) + answer})
    keys = [(context(r.messages), len(row["labels"])) for r, row in zip(records, rows, strict=True)]
    check_fit(model, [(r.id, length) for r, (_, length) in zip(records, keys, strict=True)])
    values = [0.0] * len(rows)
    for picked in batches(keys, batch_size):
        batch = to(collate([rows[i] for i in picked], 0), model.device)
        labels = functional.pad(batch["labels"][:, 1:], (0, 1), value=-100)
        positions = labels != -100
        logprobs = logits_at(model, batch, positions).log_softmax(-1)
        sums = torch.zeros(labels.shape, device=labels.device)
        sums[positions] = logprobs.gather(1, labels[positions][:, None])[:, 0]
        for index, value in zip(picked, sums.sum(1).tolist(), strict=True):
            values[index] = value
    return values


@torch.inference_mode()
def emit(
    model: Any,
    tokenizer: Any,
    conversations: Sequence[Sequence[Message]],
    ids: TokenIds,
    *,
    max_new_tokens: int = 32,
    batch_size: int = 32,
) -> list[Emission]:
    """Answer conversations greedily, each answer with its verdict, in one generation.

    An answer that is cut at ``max_new_tokens`` gets its confidence from one more forward pass.
    """
    prompts = [prompt_ids(tokenizer, messages) for messages in conversations]
    turn_end = turn_end_id(tokenizer)
    known = model.generation_config.eos_token_id
    ends = {turn_end, *([known] if isinstance(known, int) else known or []), ids.cn, ids.un}
    emissions: dict[int, Emission] = {}
    cut: dict[int, list[int]] = {}
    for picked in batches([("", len(prompt)) for prompt in prompts], batch_size):
        width = max(len(prompts[i]) for i in picked)
        inputs = torch.tensor([[turn_end] * (width - len(prompts[i])) + prompts[i] for i in picked])
        mask = torch.tensor([[0] * (width - len(prompts[i])) + [1] * len(prompts[i]) for i in picked])
        watch = _Watch(ids)
        hook = model.get_output_embeddings().register_forward_hook(watch.sharpen)
        try:
            written = model.generate(
                inputs.to(model.device),
                attention_mask=mask.to(model.device),
                max_new_tokens=max_new_tokens,
                do_sample=False,
                temperature=None,
                top_p=None,
                top_k=None,
                logits_processor=[watch],
                eos_token_id=sorted(ends),
                pad_token_id=turn_end,
                suppress_tokens=[i for i in suppressed_ids(tokenizer) if i not in (ids.cn, ids.un)] or None,
            )[:, width:].tolist()
        finally:
            hook.remove()
        scores = torch.stack(watch.differences, 1).sigmoid().tolist()
        for row, index in enumerate(picked):
            tokens = written[row]
            end = next((i for i, token in enumerate(tokens) if token in ends), None)
            answer = tokens[:end]
            text = tokenizer.decode(answer, skip_special_tokens=True)
            if end is None:
                cut[index] = prompts[index] + answer
                emissions[index] = Emission(text, answer, None, float("nan"), "length")
            else:
                verdict = {ids.cn: CONFIDENCE.verdict[0], ids.un: CONFIDENCE.verdict[1]}.get(tokens[end])
                emissions[index] = Emission(text, answer, verdict, scores[row][end], "stop")
    late = _read(model, list(cut.values()), [""] * len(cut), ids, batch_size)
    for index, value in zip(cut, late, strict=True):
        emissions[index] = replace(emissions[index], confidence=value)
    return [emissions[index] for index in range(len(prompts))]


class _Watch:
    """Notes z = z_confident − z_unconfident at every step of a generation."""

    def __init__(self, ids: TokenIds):
        self.pair = [ids.cn, ids.un]
        self.differences: list[Tensor] = []

    def sharpen(self, head: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        """The verdict's logits in float32: in bfloat16 their difference takes only a few values."""
        output = output.float()
        output[..., self.pair] = row_logits(head, inputs[0], self.pair)
        return output

    def __call__(self, _: Tensor, scores: Tensor) -> Tensor:
        confident, unconfident = scores[:, self.pair].double().unbind(1)
        self.differences.append(confident - unconfident)
        return scores


@torch.inference_mode()
def _read(
    model: Any, sequences: Sequence[list[int]], contexts: Sequence[str], ids: TokenIds, batch_size: int
) -> list[float]:
    # The label marks the one position to read: the one that predicts the token after the answer.
    rows = [{"input_ids": [*s, ids.cn], "labels": [-100] * len(s) + [ids.cn]} for s in sequences]
    values = [0.0] * len(rows)
    for picked in batches([(c, len(s)) for c, s in zip(contexts, sequences, strict=True)], batch_size):
        batch = to(collate([rows[i] for i in picked], 0), model.device)
        positions = functional.pad(batch["labels"][:, 1:], (0, 1), value=-100) != -100
        z = logits_at(model, batch, positions, rows=[ids.cn, ids.un]).double()
        for index, value in zip(picked, (z[:, 0] - z[:, 1]).sigmoid().tolist(), strict=True):
            values[index] = value
    return values


def check_fit(model: Any, lengths: Sequence[tuple[str, int]]) -> None:
    """Raise `ConfideError` naming the ids whose (id, length in tokens) exceeds the model's context."""
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    long = [name for name, length in lengths if limit is not None and length > limit]
    if long:
        shown = ", ".join(long[:3]) + (", …" if len(long) > 3 else "")
        raise ConfideError(
            f"{len(long)} of {len(lengths)} rows do not fit the model's context of {limit} tokens: {shown}"
        )
