"""The order in which rows are trained on: batches of rows that start alike and are about as long."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from confide.methods.finetuning.labelled_rows import LabelledRow


def row_order(rows: Sequence[LabelledRow], epochs: int, batch_size: int, seed: int) -> list[int]:
    """Indices of the rows for all epochs, each in whole batches of rows that start alike.

    Batches share the longest prefix and waste the least padding; what a context has left over is batched by length
    with others' leftovers. Fewer rows than a batch, other ones each time, sit out an epoch.
    """
    chance = random.Random(seed)
    order: list[int] = []
    for _ in range(epochs):
        batches, left = _alike(rows, range(len(rows)), batch_size, chance, key=lambda row: row.context)
        mixed, _ = _alike(rows, left, batch_size, chance, key=lambda row: "")
        batches += mixed
        chance.shuffle(batches)
        order += [index for batch in batches for index in batch]
    return order


def _alike(
    rows: Sequence[LabelledRow],
    some: Sequence[int],
    size: int,
    chance: random.Random,
    key: Callable[[LabelledRow], str],
) -> tuple[list[list[int]], list[int]]:
    """Whole batches of rows with the same ``key`` and about the same length, and which rows are left over."""
    groups: dict[str, list[int]] = {}
    for index in chance.sample(some, len(some)):
        groups.setdefault(key(rows[index]), []).append(index)
    batches, left = [], []
    for group in groups.values():
        whole = len(group) // size * size
        left += group[whole:]
        near = sorted(group[:whole], key=lambda i: len(rows[i].input_ids))
        batches += [near[at : at + size] for at in range(0, whole, size)]
    return batches, left
