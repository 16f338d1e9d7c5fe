"""Tails: given answers read behind their prompts, in one pass over a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from confide.engines.directions import Directions, Shares
from confide.engines.transformers.forward import Forward
from confide.engines.transformers.token_shares import reading


@dataclass(frozen=True)
class Tails:
    """What a pass over n tails leaves; positions go from the last prompt token on.

    Attributes:
        hidden: final hidden states, [n, 1 + longest tail, width].
        mask: [n, length] over the prompts.
        cache: keys and values of prompts and tails.
        captured: layer → pieces of its states over the same positions.
        shares: what directions read there, [n, 1 + longest tail, k]; None: nothing was read.
    """

    hidden: Tensor
    mask: Tensor
    cache: Any
    captured: dict[int, list[Tensor]]
    shares: Shares | None


def run_tails(
    forward: Forward,
    prompts: Sequence[list[int]],
    tails: Sequence[list[int]],
    layers: Sequence[int] = (),
    directions: Directions | None = None,
) -> Tails:
    """Read ``tails`` behind their ``prompts``; states of ``layers`` are kept, and what ``directions`` read of them."""
    width, device = max(map(len, tails)), forward.device
    ids, mask, cache = forward.prefill(prompts)
    padded = [[*tail, *[forward.filler] * (width - len(tail))] for tail in tails]
    fed = torch.tensor(padded, dtype=torch.long, device=device).view(len(tails), width)
    lengths = torch.tensor([len(tail) for tail in tails], device=device)
    inside = torch.arange(width, device=device)[None] < lengths[:, None]
    full = torch.cat([mask, inside.to(mask.dtype)], 1)
    with forward.capture(layers) as captured, reading(forward, directions) as shares:
        out = forward.run(
            input_ids=torch.cat([ids[:, -1:], fed], 1),
            mask=full,
            positions=full.cumsum(1).sub(1).clamp(min=0)[:, -(width + 1) :],
            cache=cache,
        )
    return Tails(out.last_hidden_state, mask, out.past_key_values, captured, shares.take() if shares else None)
