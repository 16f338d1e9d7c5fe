"""Keys and values of closed answers, kept between epochs so that an epoch costs only the ask tokens.

A frozen model gives the same keys and values every epoch. They are computed once, stored token by token in one
flat buffer (in memory within a budget, memory-mapped past it), and put together batch by batch. What all prompts
share is stored once.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from confide.engines.transformers.kept import Kept
from confide.engines.transformers.prefixes import group_batches
from confide.engines.transformers.transformers_engine import TransformersEngine
from confide.errors import ConfideError
from confide.methods.reader.closed_rows import Row


def parse_size(text: str) -> int:
    """``"4GB"`` → 4_000_000_000 bytes; raises `ConfideError` on anything else than a number and KB, MB, GB."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmg]?)i?b?\s*", text.lower())
    if not match:
        raise ConfideError(f"{text!r} is not a size; write it like 4GB or 500MB")
    return int(float(match[1]) * {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}[match[2]])


class PrefixStore:
    """Keys and values of ``rows`` (question and answer), computed by one pass without gradient.

    Args:
        budget: bytes that may live in memory; a larger store is a memory-mapped temporary file.
    """

    def __init__(
        self,
        engine: TransformersEngine,
        rows: Sequence[Row],
        *,
        budget: int,
        batch_size: int = 64,
        folder: Path | None = None,
        progress: Callable[[int, int, str], None] | None = None,
    ):
        self.engine = engine
        groups = engine.share_prefixes([row.prompt for row in rows])
        prefixes = {group: engine.shared_prefix([row.prompt]) for group, row in zip(groups, rows, strict=True)}
        flat = {group: flatten(cache)[0] if ids else None for group, (ids, cache) in prefixes.items()}
        self._shared = [flat[group] for group in groups]
        held = [len(prefixes[group][0]) for group in groups]
        own = [len(r.prompt) + len(r.answer) - h for r, h in zip(rows, held, strict=True)]
        self.lengths = [h + o for h, o in zip(held, own, strict=True)]
        self._offsets = np.concatenate([[0], np.cumsum(own)])
        self._store: Tensor | None = None
        self._folder = tempfile.TemporaryDirectory(dir=folder)
        done = 0
        for picked in group_batches(groups, own, batch_size):
            kept, _ = engine.forced([rows[i].prompt for i in picked], [rows[i].answer for i in picked])
            self._keep(picked, kept, held[picked[0]], budget)
            done += len(picked)
            if progress:
                progress(done, len(rows), "prefix pass")

    def close(self) -> None:
        """Free the buffer and its file."""
        self._store = None
        self._folder.cleanup()

    def batch(self, picked: Sequence[int]) -> Kept:
        """The rows ``picked``, ready to be read: their mask covers shared prefix, left padding and row."""
        assert self._store is not None
        from transformers import DynamicCache

        width = max(self.lengths[i] for i in picked)
        block = torch.zeros((len(picked), width, *self._store.shape[1:]), dtype=self._store.dtype)
        mask = torch.zeros((len(picked), width), dtype=torch.long)
        for row, i in enumerate(picked):
            own = int(self._offsets[i + 1] - self._offsets[i])
            start = width - self.lengths[i]
            block[row, width - own :] = self._store[self._offsets[i] : self._offsets[i + 1]]
            if (shared := self._shared[i]) is not None:
                block[row, start : width - own] = shared
            mask[row, start:] = 1
        device = self.engine.device
        layers = block.to(device).permute(2, 3, 0, 4, 1, 5)  # layer, key or value, batch, head, token, width
        cache = DynamicCache(config=self.engine.model.config)
        for number in range(layers.shape[0]):
            cache.update(layers[number, 0], layers[number, 1], number)
        mask = mask.to(device)
        return Kept(cache, mask, mask.sum(1))

    def _keep(self, picked: Sequence[int], kept: Kept, held: int, budget: int) -> None:
        mask = kept.mask[:, held:].bool().cpu()
        block = flatten(kept.cache)[:, held:]
        if self._store is None:
            self._store = self._allocate(block.shape[2:], block.dtype, budget)
        for row, i in enumerate(picked):
            self._store[self._offsets[i] : self._offsets[i + 1]] = block[row][mask[row]]

    def _allocate(self, shape: Sequence[int], dtype: torch.dtype, budget: int) -> Tensor:
        total = (int(self._offsets[-1]), *shape)
        size = int(np.prod(total)) * dtype.itemsize
        if size <= budget:
            return torch.empty(total, dtype=dtype)
        name = str(Path(self._folder.name) / "prefixes")
        return torch.from_file(name, shared=True, size=int(np.prod(total)), dtype=dtype).view(total)


def flatten(cache: Any) -> Tensor:
    """A cache as one tensor [batch, token, layer, key or value, head, width] on the CPU."""
    block = torch.stack([torch.stack([layer.keys, layer.values]) for layer in cache.layers])
    return block.permute(2, 4, 0, 1, 3, 5).contiguous().cpu()
