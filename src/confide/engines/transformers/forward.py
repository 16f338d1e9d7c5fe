"""Forward passes through a model's decoder layers.

Prompts of one task share their first tokens (system line, worked examples). Their keys and values are computed
once and copied into every batch; the rest is padded on the left, between the shared prefix and the question,
with explicit position ids, so that a row's result does not depend on its neighbours' lengths.

A sliding window counts places in the cache, padding included. So the passes here mask such layers by position ids, and
the cache of generation, whose masks are the model's own, has no padding between real tokens once it outgrows a window.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from confide.engines.transformers.batches import group_by_prefix
from confide.engines.transformers.turns import in_turn, lock_of
from confide.errors import ConfideError


class Forward:
    """The decoder layers of a causal language model, and apart from them what it makes of their last states.

    Args:
        model: a causal language model in evaluation mode.
        filler: the token that pads a batch; no row ever attends to it.
    """

    def __init__(self, model: Any, filler: int):
        self.model = model
        self.filler = filler
        self.lock = lock_of(model)
        self._body = model.base_model
        self._prefixes: dict[tuple[int, ...], Any] = {}
        self._output: type[Any] | None = None
        """What a pass through the decoder layers returns."""
        self._windows = sliding_windows(model.config)
        self._window = next((window for window in self._windows if window is not None), None)

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

    def run(self, *, input_ids: Tensor, mask: Tensor, positions: Tensor, cache: Any) -> Any:
        """One pass over ``input_ids`` behind a cache.

        Args:
            mask: [batch, length] over the cache and the inputs.
            positions: position ids of the inputs, [batch, inputs].
        """
        attention = self._attention(mask, positions)
        out = self._body(
            input_ids=input_ids, attention_mask=attention, position_ids=positions, past_key_values=cache, use_cache=True
        )
        self._output = type(out)
        return out

    def _attention(self, mask: Tensor, positions: Tensor) -> Tensor | dict[str, Tensor]:
        """What a model takes as its attention mask; sliding layers get theirs from position ids.

        Args:
            mask: [batch, length] over the cache and the inputs; its real tokens have consecutive positions.
            positions: position ids of the inputs, [batch, inputs].
        """
        if self._window is None or mask.shape[1] <= self._window:
            return mask
        back = positions[:, :, None] - (mask.cumsum(1) - 1)[:, None, :]
        seen = (mask.bool()[:, None, :] & (back >= 0))[:, None]
        near = seen & (back < self._window)[:, None]
        lowest = torch.finfo(self.model.dtype).min
        full, sliding = (torch.zeros_like(m, dtype=self.model.dtype).masked_fill(~m, lowest) for m in (seen, near))
        return {"full_attention": full, "sliding_attention": sliding} if None in self._windows else sliding

    def logits(self, states: Tensor) -> Tensor:
        """The model's own logits [n, vocabulary] of final hidden states [n, width].

        Its own forward computes them, with the decoder layers left out: what a model does beside its output layer
        (scaling, a soft cap) is part of its logits. Raises `ConfideError` for a model that does not call its body.
        """
        assert self._output is not None, "states come from a pass"
        given, calls = self._output(last_hidden_state=states[None]), itertools.count()

        def forward(*_: Any, **__: Any) -> Any:
            next(calls)
            return given

        body = vars(self._body)
        before = body.get("forward")  # of whoever wraps modules where they stand, such as accelerate
        body["forward"] = forward
        try:
            filler = torch.full((1, len(states)), self.filler, device=states.device)
            logits: Tensor = self.model(input_ids=filler, use_cache=False).logits[0]
        finally:
            body.pop("forward") if before is None else body.update(forward=before)
        if not next(calls):
            raise ConfideError(f"{type(self.model).__name__} makes its logits in a way that cannot be followed")
        return logits

    @in_turn
    @torch.no_grad()
    def share_prefixes(self, prompts: Sequence[list[int]]) -> list[int]:
        """Run what groups of ``prompts`` start with once; later passes reuse its keys and values.

        Returns each prompt's group. A batch must lie within a group to profit.
        """
        groups, prefixes = group_by_prefix(prompts)
        self.keep_prefixes(prefixes)
        return groups

    @in_turn
    @torch.no_grad()
    def keep_prefixes(self, prefixes: Sequence[list[int]]) -> None:
        """Run these ``prefixes`` once and no others; later passes reuse their keys and values."""
        known = self._prefixes
        self._prefixes = {}
        for prefix in map(tuple, prefixes):
            cache = known.get(prefix)
            if prefix and cache is None:
                ids = torch.tensor([prefix], device=self.device)
                cache = self._body(input_ids=ids, past_key_values=self.empty_cache(), use_cache=True).past_key_values
            self._prefixes[prefix] = cache

    @in_turn
    def forget_prefixes(self) -> None:
        """Drop what `share_prefixes` keeps: the weights have moved since."""
        self._prefixes = {}

    @contextmanager
    def apart(self) -> Iterator[None]:
        """Inside it, what `share_prefixes` keeps is not used, and comes back after it: other weights are at work."""
        kept, self._prefixes = self._prefixes, {}
        try:
            yield
        finally:
            self._prefixes = kept

    def shared_prefix(self, prompts: Sequence[list[int]]) -> tuple[list[int], Any]:
        """The longest shared prefix that all ``prompts`` start with, and its cache (``([], None)`` for none)."""
        fitting = [
            list(prefix)
            for prefix in self._prefixes
            if all(len(p) > len(prefix) and tuple(p[: len(prefix)]) == prefix for p in prompts)
        ]
        longest = max(fitting, key=len, default=[])
        return longest, self._prefixes.get(tuple(longest))

    def prefill(self, prompts: Sequence[list[int]], room: int = 0) -> tuple[Tensor, Tensor, Any]:
        """Left-padded ids [batch, length], their mask, and a cache of all but the last prompt token.

        Equal prompts run once.

        Args:
            room: tokens that will be generated with masks of the model's own.
        """
        places: dict[tuple[int, ...], int] = {}
        rows = [places.setdefault(tuple(prompt), len(places)) for prompt in prompts]
        if len(places) < len(prompts):
            ids, mask, cache = self.prefill([list(prompt) for prompt in places], room)
            picked = torch.tensor(rows, device=self.device)
            if cache.get_seq_length():
                cache.batch_select_indices(picked)
            return ids[picked], mask[picked], cache
        prefix, shared = self.shared_prefix(prompts)
        if room and self._window is not None and len(prefix) + max(map(len, prompts)) + room > self._window:
            prefix, shared = [], None  # no padding within a row
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
        """Keys and values of no token yet; sliding layers keep all of theirs, so that a row can be read again."""
        return DynamicCache()

    @contextmanager
    def capture(self, layers: Sequence[int]) -> Iterator[dict[int, list[Tensor]]]:
        """Collect the output of decoder layers (1 = the first) for as long as the context is open."""
        captured: dict[int, list[Tensor]] = {layer: [] for layer in layers}

        def collect(layer: int, _module: Any, _inputs: Any, output: Any) -> None:
            captured[layer].append(output[0] if isinstance(output, tuple) else output)

        with ExitStack() as hooks:
            for layer in layers:
                hook = self.blocks[layer - 1].register_forward_hook(partial(collect, layer))
                hooks.callback(hook.remove)
            yield captured


def sliding_windows(config: Any) -> list[int | None]:
    """The window of each decoder layer, in tokens; None for a layer that attends to all.

    Raises `ConfideError` for layers that keep something else than the keys and values of every token.
    """
    text = config.get_text_config()
    layers = DynamicCache(config=config).layers
    readable = {type(layer) for layer in layers} <= {DynamicLayer, DynamicSlidingWindowLayer}
    windows = [getattr(layer, "sliding_window", None) for layer in layers]
    if not readable or getattr(text, "attention_chunk_size", None) or len({*windows} - {None}) > 1:
        raise ConfideError(
            f"{text.model_type} has layers that attend to chunks or several windows, or keep a running state: what it "
            "has read cannot be read again, so it cannot run here"
        )
    return windows


def crop(cache: Any, length: int) -> None:
    """Drop what a cache holds past ``length`` tokens."""
    if (surplus := cache.get_seq_length() - length) > 0:
        cache.crop(-surplus)
