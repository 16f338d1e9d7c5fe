"""Log-probabilities and entropies of an answer's tokens, taken from logits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from confide.engines.engine import Completion

CHUNK = 512
"""Positions whose logits over the whole vocabulary are held at once (100 MB at 50,000 tokens)."""


def token_scores(logits: Tensor, targets: Tensor, banned: Sequence[int] = ()) -> tuple[Tensor, Tensor]:
    """Log-probability of ``targets`` [n] and entropy [n] (nats) under ``logits`` [n, vocabulary].

    Tokens that are never written (``banned``) get no probability: softmax over what was allowed.
    """
    logits = logits.float()
    if banned:
        logits = logits.clone()
        logits[:, banned] = torch.finfo(logits.dtype).min
    logprobs = logits.log_softmax(-1)
    chosen = logprobs.gather(1, targets[:, None])[:, 0]
    # −Σ p log p; p is exactly 0 where log p is huge, and a finite log p keeps the product 0 there.
    return chosen, -torch.linalg.vecdot(logprobs.exp(), logprobs.clamp_min(-1e4))


def score_given(
    hidden: Tensor,
    answers: Sequence[list[int]],
    *,
    head: Callable[[Tensor], Tensor],
    end: int,
    banned: Sequence[int],
    grades: Sequence[int] = (),
) -> list[Completion]:
    """Completions of given answers from final hidden states [batch, length, width].

    Args:
        hidden: position 0 predicts an answer's first token.
        head: turns states into logits.
        end: the token that closes an answer.
        grades: graded tokens, which close an answer together: its end is as likely as any of them.
    """
    device = hidden.device
    states = torch.cat([hidden[row, : len(answer) + 1] for row, answer in enumerate(answers)])
    targets = torch.tensor([token for answer in answers for token in (*answer, end)], device=device)
    parts = [
        token_scores(head(states[i : i + CHUNK]), targets[i : i + CHUNK], banned) for i in range(0, len(targets), CHUNK)
    ]
    logprobs, entropies = (torch.cat(column).tolist() for column in zip(*parts, strict=True))
    if grades:
        ends = torch.stack([hidden[row, len(answer)] for row, answer in enumerate(answers)])
        closing = log_mass(head(ends).float(), grades).tolist()
    completions, start = [], 0
    for row, answer in enumerate(answers):
        stop = start + len(answer)
        end_logprob = closing[row] if grades else logprobs[stop]
        completions.append(
            Completion("", list(answer), logprobs[start:stop], entropies[start:stop], end_logprob, "stop")
        )
        start = stop + 1
    return completions


def log_mass(logits: Tensor, ids: Sequence[int]) -> Tensor:
    """Log of the probability that ``logits`` [..., vocabulary] give to the tokens ``ids`` together."""
    return logits[..., list(ids)].logsumexp(-1) - logits.logsumexp(-1)


def row_logits(head: Any, hidden: Tensor, rows: Sequence[int]) -> Tensor:
    """Logits [..., len(rows)] of a few tokens in float32, whatever the precision of the output layer."""
    wanted = list(rows)
    bias = getattr(head, "bias", None)
    return functional.linear(
        hidden.float(), head.weight[wanted].float(), None if bias is None else bias[wanted].float()
    )
