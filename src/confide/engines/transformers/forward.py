"""Forward passes through a model's decoder layers.

Prompts of one task share their first tokens (system line, worked examples). Their keys and values are computed
once and copied into every batch; the rest is padded on the left, between the shared prefix and the question,
with explicit position ids, so that a row's result does not depend on its neighbours' lengths.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor

from confide.engines.transformers.batches import group_by_prefix
from confide.errors import ConfideError


class Forward:
    """The decoder layers of a causal language model, without its output layer.

    Args:
        model: a causal language model in evaluation mode.
        filler: the token that pads a batch; no row ever attends to it.
    """

    def __init__(self, model: Any, filler: int):
        self.model = model
        self.filler = filler
        self._body = model.base_model
        self._prefixes: dict[tuple[int, ...], Any] = {}

    @property
    def device(self) -> torch.device:
        """Where the model lives."""
        return next(iter(self.model.parameters())).device

    @property
    def context(self) -> int:
        """The longest sequence that the model takes, in tokens."""
        return int(getattr(self.model.config, "max_position_embeddings", 1 << 20))

    @property
    def blocks(self) -> Any:
        """The decoder layers; raises `ConfideError` for an architecture that does not name them so."""
        layers = getattr(self._body, "layers", None)
        if layers is None:
            raise ConfideError(f"{type(self.model).__name__} has no decoder layers that can be read")
        return layers

    def run(self, *, mask: Tensor, positions: Tensor, cache: Any, **inputs: Tensor) -> Any:
        """One pass over ``input_ids`` or ``inputs_embeds`` behind a cache.

        Args:
            mask: [batch, length] over the cache and the inputs.
            positions: position ids of the inputs, [batch, inputs].
        """
        return self._body(attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True, **inputs)

    @torch.no_grad()
    def share_prefixes(self, prompts: Sequence[list[int]]) -> list[int]:
        """Run what groups of ``prompts`` start with once; later passes reuse its keys and values.

        Returns each prompt's group. A batch must lie within a group to profit.
        """
        groups, prefixes = group_by_prefix(prompts)
        known = self._prefixes
        self._prefixes = {}
        for prefix in map(tuple, prefixes):
            cache = known.get(prefix)
            if prefix and cache is None:
                ids = torch.tensor([prefix], device=self.device)
                cache = self._body(input_ids=ids, use_cache=True).past_key_values
            self._prefixes[prefix] = cache
        return groups

    def forget_prefixes(self) -> None:
        """Drop what `share_prefixes` keeps: the weights have moved since."""
        self._prefixes = {}

    def shared_prefix(self, prompts: Sequence[list[int]]) -> tuple[list[int], Any]:
        """The longest shared prefix that all ``prompts`` start with, and its cache (``([], None)`` for none)."""
        fitting = [
            list(prefix)
            for prefix in self._prefixes
            if all(len(p) > len(prefix) and tuple(p[: len(prefix)]) == prefix for p in prompts)
        ]
        longest = max(fitting, key=len, default=[])
        return longest, self._prefixes.get(tuple(longest))

    def prefill(self, prompts: Sequence[list[int]]) -> tuple[Tensor, Tensor, Any]:
        """Left-padded ids [batch, length], their mask, and a cache of all but the last prompt token.

        Equal prompts run once.
        """
        places: dict[tuple[int, ...], int] = {}
        rows = [places.setdefault(tuple(prompt), len(places)) for prompt in prompts]
        if len(places) < len(prompts):
            ids, mask, cache = self.prefill([list(prompt) for prompt in places])
            picked = torch.tensor(rows, device=self.device)
            if cache.get_seq_length():
                cache.batch_select_indices(picked)
            return ids[picked], mask[picked], cache
        prefix, shared = self.shared_prefix(prompts)
        rests = [p[len(prefix) :] for p in prompts]
        width = max(map(len, rests))
        if len(prefix) + width >= self.context:
            raise ConfideError(f"a prompt of {len(prefix) + width} tokens does not fit the context of {self.context}")
        ids = torch.tensor([prefix + [self.filler] * (width - len(r)) + r for r in rests], device=self.device)
        mask = torch.tensor(
            [[1] * len(prefix) + [0] * (width - len(r)) + [1] * len(r) for r in rests], device=self.device
        )
        if shared is not None:
            cache = copy.deepcopy(shared)
            cache.batch_repeat_interleave(len(prompts))
        else:
            cache = self.empty_cache()
        if width > 1:
            positions = mask.cumsum(1).sub(1).clamp(min=0)
            cache = self.run(
                input_ids=ids[:, len(prefix) : -1],
                mask=mask[:, :-1],
                positions=positions[:, len(prefix) : -1],
                cache=cache,
            ).past_key_values
        return ids, mask, cache

    def empty_cache(self) -> Any:
        """Keys and values of no token yet."""
        from transformers import DynamicCache

        return DynamicCache(config=self.model.config)

    @contextmanager
    def capture(self, layers: Sequence[int]) -> Iterator[dict[int, list[Tensor]]]:
        """Collect the output of decoder layers (1 = the first) for as long as the context is open."""
        captured: dict[int, list[Tensor]] = {layer: [] for layer in layers}

        def collect(layer: int, _module: Any, _inputs: Any, output: Any) -> None:
            captured[layer].append(output[0] if isinstance(output, tuple) else output)

        handles = [self.blocks[layer - 1].register_forward_hook(partial(collect, layer)) for layer in layers]
        try:
            yield captured
        finally:
            for handle in handles:
                handle.remove()


def crop(cache: Any, length: int) -> None:
    """Drop what a cache holds past ``length`` tokens."""
    if (surplus := cache.get_seq_length() - length) > 0:
        cache.crop(-surplus)
