"""Batches: which prompts run together, and how many at once."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch

ROWS, MOST_ROWS, LONG = 64, 256, 512
"""Rows per batch on a CPU, the most on an accelerator, and the tokens that a long row is reckoned to have."""


FEW, SAVED = 8, 512
"""More than `FEW` small groups run together, since a batch for each would cost more: groups of fewer than `FEW`
prompts, and those that neither fill a batch nor save `SAVED` prompt tokens by sharing more than all prompts do."""


def rows_at_once(model: Any, device: torch.device) -> int:
    """64 on a CPU; on an accelerator as many long rows as have their keys and values in a sixteenth of its memory.

    By the memory's size, not by what is free at the moment: the same batches on the same machine give the same
    numbers.
    """
    if device.type != "cuda":
        return ROWS
    config = model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    row = LONG * 2 * config.num_hidden_layers * heads * width * model.dtype.itemsize
    room = torch.cuda.get_device_properties(device).total_memory // 16
    return int(min(MOST_ROWS, max(1, room // row)))


def group_by_prefix(prompts: Sequence[list[int]]) -> tuple[list[int], list[list[int]]]:
    """Group prompts that share at least half of their tokens.

    Prompts of one task and kind differ in their last question alone; a prefix is never a whole prompt.

    Returns:
        The number of each prompt's group, and one prefix per group.
    """
    groups = [0] * len(prompts)
    prefixes: list[list[int]] = []
    for i in sorted(range(len(prompts)), key=lambda i: prompts[i]):
        start = prompts[i][:-1]
        shared = _common(prefixes[-1], start) if prefixes else 0
        if prefixes and 2 * shared >= len(prompts[i]):
            prefixes[-1] = start[:shared]
        else:
            prefixes.append(start)
        groups[i] = len(prefixes) - 1
    sizes = Counter(groups)
    common = prefixes[0][: _common(prefixes[0], prefixes[-1])] if prefixes else []
    small = {n for n, size in sizes.items() if size > 1 and _is_small(size, len(prefixes[n]) - len(common))}
    if len(small) <= FEW:
        small = set()
    # All others are one group, so that they are still batched together.
    apart = [number for number in range(len(prefixes)) if sizes[number] > 1 and number not in small]
    renamed = {number: place for place, number in enumerate(apart)}
    together = len(prompts) - sum(sizes[number] for number in apart)
    common = common if together * len(common) >= SAVED else []
    return [renamed.get(group, len(apart)) for group in groups], [*(prefixes[number] for number in apart), common]


def _is_small(size: int, shared: int) -> bool:
    return size < FEW or (size < ROWS and size * shared < SAVED)


def group_batches(groups: Sequence[int], keys: Sequence[Any], size: int) -> list[list[int]]:
    """Row numbers in batches of at most ``size``, each within one group, sorted by ``keys``."""
    order = sorted(range(len(groups)), key=lambda i: (groups[i], keys[i]))
    batches = []
    for _, group in itertools.groupby(order, key=lambda i: groups[i]):
        members = list(group)
        batches += [members[start : start + size] for start in range(0, len(members), size)]
    return batches


def _common(a: list[int], b: list[int]) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
