"""The completion: an answer with what its tokens' probabilities were, taken from logits as they come."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

CHUNK = 512
"""Positions whose logits over the whole vocabulary are held at once (100 MB at 50,000 tokens)."""


@dataclass(frozen=True)
class Completion:
    """One answer: its text, its token ids without the closing token, log p and entropy (nats) at each of them.

    ``end_logprob`` is log p of the closing token, None when the answer was cut; ``closed_by`` is the token that was
    written there (not known of an answer that was given).
    """

    text: str
    ids: list[int]
    logprobs: list[float]
    entropies: list[float]
    end_logprob: float | None
    finish: str
    closed_by: int | None = None


def joined(head: Completion, tail: Completion, text: str) -> Completion:
    """A completion that went on: ``head`` was cut where ``tail`` begins."""
    return Completion(
        text,
        head.ids + tail.ids,
        head.logprobs + tail.logprobs,
        head.entropies + tail.entropies,
        tail.end_logprob,
        tail.finish,
        tail.closed_by,
    )


def token_scores(logits: Tensor, targets: Tensor, banned: Sequence[int] = ()) -> tuple[Tensor, Tensor]:
    """Log p of ``targets`` [n] and entropy [n] (nats) under ``logits`` [n, vocabulary] without ``banned`` tokens.

    Tokens that are never written get no probability: softmax over what was allowed.
    """
    logits = logits.float()
    if banned:
        logits = logits.clone()
        logits[:, banned] = torch.finfo(logits.dtype).min
    logprobs = logits.log_softmax(-1)
    chosen = logprobs.gather(1, targets[:, None])[:, 0]
    # −Σ p log p; p is exactly 0 where log p is huge, and a finite log p keeps the product 0 there.
    return chosen, -torch.linalg.vecdot(logprobs.exp(), logprobs.clamp_min(-1e4))


def written(
    steps: Sequence[Tensor],
    ids: Tensor,
    *,
    banned: Sequence[int],
    end_ids: Sequence[int],
    grades: Sequence[int] = (),
    decode: Callable[[list[int]], str],
) -> list[Completion]:
    """Completions from generated ``ids`` [batch, length] and the logits [batch, vocabulary] of each step.

    The graded tokens ``grades`` close an answer together: its end is as likely as any of them.
    """
    # Step by step: a stack of all steps' logits would be held several times over.
    scores = [token_scores(logits, ids[:, step], banned) for step, logits in enumerate(steps)]
    logprobs = torch.stack([s[0] for s in scores], 1).tolist()
    entropies = torch.stack([s[1] for s in scores], 1).tolist()
    completions = []
    for number, (row, values, spread) in enumerate(zip(ids.tolist(), logprobs, entropies, strict=True)):
        end = next((i for i, token in enumerate(row) if token in end_ids), None)
        kept = row[:end]
        if end is not None and row[end] in grades:
            logits = steps[end][number].float()
            values[end] = float(logits[list(grades)].logsumexp(-1) - logits.logsumexp(-1))
        completions.append(
            Completion(
                text=decode(kept),
                ids=kept,
                logprobs=[round(v, 5) for v in values[: len(kept)]],
                entropies=[round(v, 5) for v in spread[: len(kept)]],
                end_logprob=None if end is None else round(values[end], 5),
                finish="length" if end is None else "stop",
                closed_by=None if end is None else row[end],
            )
        )
    return completions


def measured(
    hidden: Tensor, answers: Sequence[list[int]], *, head: Callable[[Tensor], Tensor], end: int, banned: Sequence[int]
) -> list[Completion]:
    """Completions of given answers from final hidden states [batch, length, width].

    Position 0 predicts an answer's first token; ``head`` turns states into logits; ``end`` closes an answer.
    """
    device = hidden.device
    states = torch.cat([hidden[row, : len(answer) + 1] for row, answer in enumerate(answers)])
    targets = torch.tensor([token for answer in answers for token in (*answer, end)], device=device)
    parts = [
        token_scores(head(states[i : i + CHUNK]), targets[i : i + CHUNK], banned) for i in range(0, len(targets), CHUNK)
    ]
    logprobs, entropies = (torch.cat(column).tolist() for column in zip(*parts, strict=True))
    completions, start = [], 0
    for answer in answers:
        stop = start + len(answer)
        completions.append(
            Completion("", list(answer), logprobs[start:stop], entropies[start:stop], logprobs[stop], "stop")
        )
        start = stop + 1
    return completions


def row_logits(head: Any, hidden: Tensor, rows: Sequence[int]) -> Tensor:
    """Logits [..., len(rows)] of a few tokens in float32, whatever the precision of the output layer."""
    wanted = list(rows)
    bias = getattr(head, "bias", None)
    return functional.linear(
        hidden.float(), head.weight[wanted].float(), None if bias is None else bias[wanted].float()
    )
