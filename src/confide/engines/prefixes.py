"""What prompts start with: groups that share it, and caches cut back to it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any


def crop(cache: Any, length: int) -> None:
    """Drop what a cache holds past ``length`` tokens."""
    if (surplus := cache.get_seq_length() - length) > 0:
        cache.crop(-surplus)


def prefix_groups(prompts: Sequence[list[int]]) -> tuple[list[int], list[list[int]]]:
    """Group prompts that share at least half of their tokens; returns each one's group, and a prefix a group.

    Prompts of one task and kind differ in their last question alone; a prefix is never a whole prompt.
    """
    order = sorted(range(len(prompts)), key=lambda i: prompts[i])
    groups = [0] * len(prompts)
    prefixes: list[list[int]] = []
    for i in order:
        prompt = prompts[i]
        shared = _common(prefixes[-1], prompt[:-1]) if prefixes else 0
        if prefixes and 2 * shared >= len(prompt):
            prefixes[-1] = prefixes[-1][:shared]
        else:
            prefixes.append(prompt[:-1])
        groups[i] = len(prefixes) - 1
    # Prompts that share nothing make one group without a prefix, so that they are still batched together.
    sizes = Counter(groups)
    kept = [number for number in range(len(prefixes)) if sizes[number] > 1]
    renamed = {number: place for place, number in enumerate(kept)}
    return [renamed.get(group, len(kept)) for group in groups], [*(prefixes[number] for number in kept), []]


def _common(a: list[int], b: list[int]) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
