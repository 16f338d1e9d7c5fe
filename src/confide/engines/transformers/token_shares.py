"""Token shares: what directions read of every token that passes through the decoder layers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import StoppingCriteria

from confide.engines.directions import Directions, Shares, Watch
from confide.engines.transformers.closed_answers import FLOAT16_ROOM
from confide.engines.transformers.forward import Forward


class TokenShares:
    """Collects k numbers a token, and no states: memory grows by 4 k bytes a token.

    Args:
        directions: what is read.
        device: where the model lives.
    """

    def __init__(self, directions: Directions, device: torch.device):
        self.weight = torch.from_numpy(directions.weight).to(device)
        self._offset = torch.from_numpy(directions.offset).to(device)
        self._sum: Tensor | None = None
        self._passes: list[Tensor] = []

    def add(self, place: int, output: Any) -> None:
        """Take the output [batch, tokens, width] of the layer at this place of the directions, in their order."""
        states = (output[0] if isinstance(output, tuple) else output).detach()
        share = states.float().clamp(-FLOAT16_ROOM, FLOAT16_ROOM) @ self.weight[place]
        self._sum = share if self._sum is None else self._sum + share
        if place == len(self.weight) - 1:
            self._passes.append(self._sum + self._offset)
            self._sum = None

    @property
    def latest(self) -> Shares:
        """What the last pass read at its last token, [batch, k]."""
        found: Shares = self._passes[-1][:, -1].cpu().numpy()
        return found

    def take(self) -> Shares:
        """What all passes since the last call read, [batch, tokens, k]."""
        found: Shares = torch.cat(self._passes, 1).cpu().numpy()
        self._passes.clear()
        return found


@contextmanager
def reading(forward: Forward, directions: Directions | None) -> Iterator[TokenShares | None]:
    """Read every token that passes while the context is open; without ``directions`` nothing is read."""
    if directions is None:
        yield None
        return
    shares = TokenShares(directions, forward.device)
    with ExitStack() as hooks:
        for place, layer in enumerate(directions.layers):
            hook = forward.blocks[layer - 1].register_forward_hook(partial(_add, shares, place))
            hooks.callback(hook.remove)
        yield shares


def _add(shares: TokenShares, place: int, _module: Any, _inputs: Any, output: Any) -> None:
    shares.add(place, output)


class Watched(StoppingCriteria):
    """Ends the answers of a batch that a watch ends.

    Args:
        rows: what ``watch`` calls each row of the batch.
        shares: what reads the tokens.
        start: how many tokens the batch's rows begin with.
        end_ids: tokens that end an answer.
        fresh: whether these begin with the prompt alone.

    Attributes:
        stopped_: place in the batch → how many tokens past ``start`` were read when it ended.
    """

    def __init__(
        self, watch: Watch, rows: Sequence[int], shares: TokenShares, start: int, end_ids: Sequence[int], fresh: bool
    ):
        self._watch, self._rows, self._shares = watch, list(rows), shares
        self._start, self._end_ids, self._fresh = start, set(end_ids), fresh
        self._over: set[int] = set()
        self.stopped_: dict[int, int] = {}

    def __call__(self, input_ids: Any, _: Any, **__: Any) -> Any:
        """Whether each row of the batch has ended so."""
        read = input_ids.shape[1] - self._start - 1  # the newest token is not read yet
        latest, tokens = self._shares.latest, input_ids[:, -2].tolist()
        for place, row in enumerate(self._rows):
            if place in self._over:
                continue
            if read and tokens[place] in self._end_ids:
                self._over.add(place)
            elif self._watch(row, None if self._fresh and not read else tokens[place], latest[place]):
                self._over.add(place)
                self.stopped_[place] = read
        return torch.tensor([place in self.stopped_ for place in range(len(self._rows))], device=input_ids.device)
