"""Sampling a token a row by inverse transform, several times faster than a multinomial draw over a whole vocabulary."""

from __future__ import annotations

import torch
from torch import Tensor


class Sampler:
    """A logits processor that leaves one token a row, drawn at ``temperature``; greedy decoding then takes it.

    Drawing after all other processors of a model keeps what these forbid at probability 0.
    """

    def __init__(self, temperature: float, seed: int, device: torch.device):
        self.temperature = temperature
        self.generator = torch.Generator(device).manual_seed(seed)

    def __call__(self, _: Tensor, scores: Tensor) -> Tensor:
        """Scores [rows, vocabulary] that are 0 at the drawn token and −∞ elsewhere."""
        steps = (scores.float() / self.temperature).softmax(-1).cumsum_(-1)
        # Below the last step, whatever rounding made of it: a token without probability is never the first above.
        last = steps[:, -1:].contiguous()
        height = torch.rand(len(scores), 1, generator=self.generator, device=scores.device) * last
        drawn = torch.searchsorted(steps, height, right=True)
        top = torch.searchsorted(steps, last)  # the first token that reaches the last step
        return torch.full_like(scores, -torch.inf).scatter_(1, torch.minimum(drawn, top), 0.0)
