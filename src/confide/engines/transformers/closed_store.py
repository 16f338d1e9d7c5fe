"""Keys and values of closed answers, kept between epochs so that an epoch costs only what is fed after them.

A frozen model gives the same keys and values every epoch. They are computed once, stored token by token in one
flat buffer (in memory within a budget, memory-mapped past it), and put together batch by batch. What all prompts
share is stored once.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from confide.engines.transformers.closed_answers import TransformersClosed
from confide.engines.transformers.transformers_engine import TransformersEngine
from confide.progress import Progress


class ClosedStore:
    """Keys and values of prompts and answers, computed by one pass without gradient.

    Args:
        budget: bytes that may live in memory; a larger store is a memory-mapped temporary file.
    """

    def __init__(
        self,
        engine: TransformersEngine,
        prompts: Sequence[list[int]],
        answers: Sequence[list[int]],
        *,
        budget: int,
        batch_size: int = 64,
        progress: Progress | None = None,
    ):
        self.engine = engine
        self._store: Tensor | None = None
        self._budget = budget
        self._folder = tempfile.TemporaryDirectory()
        groups = engine.forward.share_prefixes(prompts)
        prefixes = {group: engine.forward.shared_prefix([p]) for group, p in zip(groups, prompts, strict=True)}
        flat = {group: flatten(cache)[0] if ids else None for group, (ids, cache) in prefixes.items()}
        self._shared = [flat[group] for group in groups]
        """Keys and values of each prompt's shared start, one tensor per group."""
        shared = [len(prefixes[group][0]) for group in groups]
        own = [len(p) + len(a) - s for p, a, s in zip(prompts, answers, shared, strict=True)]
        self.lengths = [s + o for s, o in zip(shared, own, strict=True)]
        """Tokens of each prompt with its answer."""
        self._offsets = np.concatenate([[0], np.cumsum(own)])
        for rows in engine.batches(prompts, keys=own, size=batch_size, progress=progress, note="prefix pass"):
            closed = engine.closed([prompts[i] for i in rows], [answers[i] for i in rows])
            self._keep(rows, closed, shared[rows[0]])

    def close(self) -> None:
        """Free the buffer and its file."""
        self._store = None
        self._folder.cleanup()

    def batch(self, rows: Sequence[int]) -> TransformersClosed:
        """Some rows, ready to be read: their mask covers shared prefix, left padding and row."""
        assert self._store is not None
        width = max(self.lengths[i] for i in rows)
        block = torch.zeros((len(rows), width, *self._store.shape[1:]), dtype=self._store.dtype)
        mask = torch.zeros((len(rows), width), dtype=torch.long)
        for row, i in enumerate(rows):
            own = int(self._offsets[i + 1] - self._offsets[i])
            start = width - self.lengths[i]
            block[row, width - own :] = self._store[self._offsets[i] : self._offsets[i + 1]]
            if (shared := self._shared[i]) is not None:
                block[row, start : width - own] = shared
            mask[row, start:] = 1
        device = self.engine.device
        layers = block.to(device).permute(2, 3, 0, 4, 1, 5)  # layer, key or value, batch, head, token, width
        cache = self.engine.forward.empty_cache()
        for number in range(layers.shape[0]):
            cache.update(layers[number, 0], layers[number, 1], number)
        mask = mask.to(device)
        return TransformersClosed(self.engine.forward, [], [], cache, mask, mask.sum(1))

    def _keep(self, rows: Sequence[int], closed: TransformersClosed, shared: int) -> None:
        mask = closed.mask[:, shared:].bool().cpu()
        block = flatten(closed.cache)[:, shared:]
        if self._store is None:
            self._store = self._allocate(block.shape[2:], block.dtype)
        for row, i in enumerate(rows):
            self._store[self._offsets[i] : self._offsets[i + 1]] = block[row][mask[row]]

    def _allocate(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        total = (int(self._offsets[-1]), *shape)
        size = int(np.prod(total))
        if size * dtype.itemsize <= self._budget:
            return torch.empty(total, dtype=dtype)
        return torch.from_file(f"{self._folder.name}/prefixes", shared=True, size=size, dtype=dtype).view(total)


def flatten(cache: Any) -> Tensor:
    """A cache as one tensor [batch, token, layer, key or value, head, width] on the CPU."""
    block = torch.stack([torch.stack([layer.keys, layer.values]) for layer in cache.layers])
    return block.permute(2, 4, 0, 1, 3, 5).contiguous().cpu()
