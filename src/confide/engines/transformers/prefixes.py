"""What prompts start with: groups that share it, and caches cut back to it."""

from __future__ import annotations

import itertools
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


def first_difference(a: Sequence[int], b: Sequence[int]) -> tuple[int, int]:
    """The tokens at which two encoded words part (" Yes" and " No" may both start with a space of its own)."""
    return next((x, y) for x, y in zip(a, b, strict=False) if x != y)


def group_batches(groups: Sequence[int], lengths: Sequence[Any], size: int) -> list[list[int]]:
    """Row numbers in batches of at most ``size``, each within one group, sorted by ``lengths`` (any sort key)."""
    order = sorted(range(len(groups)), key=lambda i: (groups[i], lengths[i]))
    batches = []
    for _, group in itertools.groupby(order, key=lambda i: groups[i]):
        members = list(group)
        batches += [members[start : start + size] for start in range(0, len(members), size)]
    return batches


def _common(a: list[int], b: list[int]) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
