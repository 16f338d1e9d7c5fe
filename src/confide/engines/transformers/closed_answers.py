"""Closed answers in this process: their keys and values, and their hidden states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from confide.engines.engine import Completion
from confide.engines.transformers.forward import Forward, crop
from confide.engines.transformers.turns import in_turn

FLOAT16_ROOM = 60_000.0
"""Some widths carry values past float16's range in a few dimensions; they carry no information there."""


@dataclass
class TransformersClosed:
    """A batch of answers that the model has read to their end; what closes them it can still read.

    Attributes:
        prompts: token ids of what each answer follows, without its reasoning.
        cache: keys and values up to the last answer token.
        mask: [batch, length] over the cache.
        position: the position id that the closing token gets, [batch].
        captured: layer → hidden states [batch, 3, width] at the last token before the answer, averaged over the
            answer's tokens, and at the last of them.
    """

    forward: Forward
    prompts: Sequence[list[int]]
    completions: list[Completion]
    cache: Any
    mask: Tensor
    position: Tensor
    captured: dict[int, Tensor] = field(default_factory=dict)

    @property
    def lock(self) -> Any:
        """The lock of the model that has read them."""
        return self.forward.lock

    @in_turn
    @torch.no_grad()
    def states(self) -> NDArray[np.float16]:
        """Close the answers; hidden states [batch, layer, position, width] of the layers that were captured."""
        layers = list(self.captured)
        closing = self._read_closing(layers)
        values = torch.stack([torch.cat([self.captured[n], closing[n][0].float()], 1) for n in layers], 1)
        return values.clamp(-FLOAT16_ROOM, FLOAT16_ROOM).cpu().numpy().astype(np.float16)

    @in_turn
    @torch.no_grad()
    def states_before_closing(self) -> NDArray[np.float32]:
        """Hidden states [batch, layer, 3, width] at all positions but the closing token, in float32 and at no cost."""
        values = torch.stack(list(self.captured.values()), 1)
        return values.clamp(-FLOAT16_ROOM, FLOAT16_ROOM).cpu().numpy()

    def _read_closing(self, layers: Sequence[int]) -> Mapping[int, list[Tensor]]:
        """What ``layers`` make of the closing token; the cache is left as it was."""
        closing = torch.full((self.mask.shape[0], 1), self.forward.filler, device=self.mask.device)
        with self.forward.capture(layers) as captured:
            self.forward.run(
                input_ids=closing,
                mask=torch.cat([self.mask, self.mask.new_ones(closing.shape)], 1),
                positions=self.position[:, None],
                cache=self.cache,
            )
        crop(self.cache, self.mask.shape[1])
        return captured


def close(
    forward: Forward,
    prompts: Sequence[list[int]],
    cache: Any,
    mask: Tensor,
    completions: list[Completion],
    captured: dict[int, list[Tensor]],
) -> TransformersClosed:
    """Cut a cache to the longest answer and mask what lies past each row's own.

    Args:
        mask: [batch, length] over the prompts.
        captured: layer → pieces of hidden states from the last prompt token on.
    """
    prompt = mask.shape[1]
    spans = [(len(c.reasoning_ids), len(c.reasoning_ids) + len(c.ids)) for c in completions]
    longest = max(end for _, end in spans)
    starts, ends = torch.tensor(spans, device=mask.device).T
    if cache.get_seq_length() < prompt + longest:  # generation never feeds the last token of a cut answer
        cache = _feed_last(forward, cache, mask, completions, captured)
    crop(cache, prompt + longest)
    places = torch.arange(longest + 1, device=mask.device)[None]  # 0 is the last prompt token
    full = torch.cat([mask, (places[:, 1:] <= ends[:, None]).to(mask.dtype)], 1)
    weights = ((places > starts[:, None]) & (places <= ends[:, None])).to(mask.dtype)[..., None]
    rows, states = torch.arange(len(completions), device=mask.device), {}
    for layer, pieces in captured.items():
        steps = torch.cat(pieces, 1)[:, : longest + 1].float()
        mean = (steps * weights).sum(1) / weights.sum(1).clamp(min=1)
        states[layer] = torch.stack([steps[rows, starts], mean, steps[rows, ends]], 1)
    return TransformersClosed(forward, prompts, completions, cache, full, full.sum(1), states)


def _feed_last(
    forward: Forward,
    cache: Any,
    mask: Tensor,
    completions: list[Completion],
    captured: dict[int, list[Tensor]],
) -> Any:
    fed = cache.get_seq_length() - mask.shape[1]
    rows = [[*c.reasoning_ids, *c.ids] for c in completions]
    tokens = [row[fed] if len(row) > fed else forward.filler for row in rows]
    full = torch.cat([mask, mask.new_ones(mask.shape[0], fed + 1)], 1)
    with forward.capture(list(captured)) as more:
        out = forward.run(
            input_ids=torch.tensor(tokens, device=mask.device)[:, None],
            mask=full,
            positions=full.sum(1, keepdim=True) - 1,
            cache=cache,
        )
    for layer, pieces in more.items():
        captured[layer].extend(pieces)
    return out.past_key_values
