"""Which token is written next: drawn, or where several close an answer, whether one of them does; and when to stop.

On a CPU drawing is by inverse transform, several times faster than a multinomial draw over a whole vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import StoppingCriteria

from confide.engines.engine import Gone


class Sampler:
    """A logits processor that leaves one token a row, drawn at ``temperature``; greedy decoding then takes it.

    Drawing after all other processors of a model keeps what these forbid at probability 0.
    """

    def __init__(self, temperature: float, seed: int, device: torch.device):
        self.temperature = temperature
        self.generator = torch.Generator(device).manual_seed(seed)

    def __call__(self, _: Tensor, scores: Tensor) -> Tensor:
        """Scores [rows, vocabulary] that are 0 at the drawn token and −∞ elsewhere."""
        probability = (scores.float() / self.temperature).softmax(-1)
        if scores.is_cuda:  # sums in parallel do not rise step by step: a forbidden token could be met between two
            drawn = torch.multinomial(probability, 1, generator=self.generator)
            return torch.full_like(scores, -torch.inf).scatter_(1, drawn, 0.0)
        steps = probability.cumsum_(-1)
        # Below the last step, whatever rounding made of it: a token without probability is never the first above.
        last = steps[:, -1:].contiguous()
        height = torch.rand(len(scores), 1, generator=self.generator, device=scores.device) * last
        drawn = torch.searchsorted(steps, height, right=True)
        top = torch.searchsorted(steps, last)  # the first token that reaches the last step
        return torch.full_like(scores, -torch.inf).scatter_(1, torch.minimum(drawn, top), 0.0)


class Closer:
    """A logits processor for greedy decoding: tokens that close an answer compete with the others as one.

    Split over eleven grades, a likely end would lose to a less likely token that goes on. The first of them stands
    for all.
    """

    def __init__(self, ids: Sequence[int]):
        self.ids = list(ids)

    def __call__(self, _: Tensor, scores: Tensor) -> Tensor:
        """Scores [rows, vocabulary] with the closing tokens' mass on the first of them."""
        scores = scores.clone()
        together = scores[:, self.ids].float().logsumexp(-1).to(scores.dtype)
        scores[:, self.ids] = -torch.inf
        scores[:, self.ids[0]] = together
        return scores


class Left(StoppingCriteria):
    """Ends the answers that nobody waits for any more.

    Args:
        rows: what ``gone`` calls each row of the batch.
    """

    def __init__(self, gone: Gone, rows: Sequence[int]):
        self._gone = gone
        self._rows = list(rows)

    def __call__(self, input_ids: Any, _: Any, **__: Any) -> Any:
        """Whether each row of the batch has ended so."""
        return torch.tensor([self._gone(row) for row in self._rows], device=input_ids.device)
