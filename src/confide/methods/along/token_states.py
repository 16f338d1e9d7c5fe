"""Token states: hidden states of answers at the tokens where a signal is read, or their means so far, for training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from confide.engines.closed_records import written_spans
from confide.numeric import Ints
from confide.progress import Progress
from confide.records import Record

if TYPE_CHECKING:
    from confide.engines.transformers.transformers_engine import TransformersEngine


@dataclass(frozen=True)
class TokenStates:
    """States of m tokens of n answers.

    Attributes:
        layers: decoder layers (1 = the first).
        values: float16 [m, layers, width].
        answer: which answer each token is of, [m].
    """

    layers: tuple[int, ...]
    values: NDArray[np.float16]
    answer: Ints

    def select(self, layers: Sequence[int]) -> NDArray[np.float32]:
        """The states of some layers side by side, [m, features]."""
        picked = self.values[:, [self.layers.index(layer) for layer in layers]]
        return picked.reshape(len(picked), -1).astype(np.float32)


def spread(due: Ints, most: int) -> Ints:
    """At most ``most`` of the rows that are due, evenly spread, the last one among them.

    >>> import numpy as np
    >>> spread(np.arange(1, 11), 3).tolist()
    [1, 5, 10]
    """
    if len(due) <= most:
        return due
    return due[np.unique(np.linspace(0, len(due) - 1, most).round().astype(int))]


def collect_token_states(
    engine: TransformersEngine,
    records: Sequence[Record],
    due: Sequence[Ints],
    kept: Sequence[Ints],
    layers: Sequence[int],
    *,
    means: bool = False,
    progress: Progress | None = None,
) -> TokenStates:
    """Read the states of records' answers, reasoning included, at the rows that are ``kept`` of each.

    Args:
        due: the rows at which the signal is read, those that are kept among them.
        means: whether a row's state is the mean over all rows due so far.
    """
    import torch

    from confide.engines.transformers.closed_answers import FLOAT16_ROOM
    from confide.engines.transformers.tails import run_tails

    spans = written_spans(engine, records)
    found: list[NDArray[Any]] = [np.empty(0)] * len(records)
    for rows in engine.batches([p for p, _ in spans], progress=progress, note="reading tokens"):
        prompts, answers = zip(*(spans[i] for i in rows), strict=True)
        with engine.lock, torch.no_grad():
            captured = run_tails(engine.forward, prompts, answers, layers).captured
        states = torch.stack([torch.cat(captured[layer], 1).float() for layer in layers], 2)
        values = states.clamp(-FLOAT16_ROOM, FLOAT16_ROOM).cpu().numpy()
        for place, i in enumerate(rows):
            at = values[place, due[i]]
            if means:
                at = np.cumsum(at, 0, dtype=np.float64) / np.arange(1, len(at) + 1)[:, None, None]
            found[i] = at[np.isin(due[i], kept[i])].astype(np.float16)
    counts = [len(rows) for rows in kept]
    return TokenStates(tuple(layers), np.concatenate(found), np.repeat(np.arange(len(records)), counts))
