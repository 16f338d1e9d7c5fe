"""Ids past the vocabulary that carry the reading: from states to scalars, and from scalars to logits.

It needs torch and no vLLM. A model with V tokens is served with V + `EXTRA` ids:

====================  ==========================================================
id                    logit
====================  ==========================================================
V                     `FLOOR`: what the others are measured from
V + 1 + i             `FLOOR` + the share of the reading at position i
V + 60 … V + 63       `FLOOR` + a byte of the fingerprint − 128
others                `FLOOR`
====================  ==========================================================

Their probability is exactly 0 in float32 up to a temperature of 6, so answers and the log-probabilities of real tokens
are what they were. The difference of two of their log-probabilities is the number itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

EXTRA = 64
"""Ids past the vocabulary: matrix kernels like multiples of 64."""

FLOOR = -768.0
"""Shares keep it between −640 and −896, where float32 has steps of 6e-5, whatever the largest real logit is."""

ROOM = 128.0
"""Shares are cut at ± this; they are centred, so that none comes near."""

DIGITS = 4
"""Bytes of the fingerprint that are served."""

STATE_ROOM = 60_000.0
"""States are cut at ± this, as they were when the reading was fitted."""

_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def project(states: Sequence[Tensor], weight: Tensor, offset: Tensor) -> Tensor:
    """The shares [n, positions] of the reading, were each of n tokens the one that stands at each position.

    Args:
        states: hidden states [n, width] of each layer, in whatever type.
        weight: float32 [layers, width, positions].
        offset: float32 [positions].
    """
    shares = offset.expand(len(states[0]), -1)
    for layer, directions in zip(states, weight, strict=True):
        shares = shares + layer.float().clamp(-STATE_ROOM, STATE_ROOM) @ directions
    return shares


def widen(hidden: Tensor, shares: Tensor) -> Tensor:
    """Hidden states [n, width] with the shares [n, k] as further columns: whatever selects rows selects them too.

    A type of 16 bits takes two columns a share: its value in that type, and what is left of it. Together they hold 16
    bits of it in bfloat16 and 22 in float16.
    """
    shares = shares.clamp(-ROOM, ROOM)
    high = shares.to(hidden.dtype)
    columns = [hidden, high]
    if hidden.dtype != torch.float32:
        columns.append((shares - high.float()).to(hidden.dtype))
    return torch.cat(columns, -1)


def split(widened: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The hidden states and the float32 shares [n, count] that `widen` put beside them."""
    columns = count if widened.dtype == torch.float32 else 2 * count
    hidden, parts = widened[..., :-columns], widened[..., -columns:].float()
    return hidden.contiguous(), parts[..., :count] + parts[..., count:] if columns > count else parts


def extended(logits: Tensor, shares: Tensor, fingerprint: Tensor) -> Tensor:
    """Float32 logits [n, V + EXTRA] of a model's ``logits`` [n, V], see the table of this module.

    A share that is no number gets probability 0 by itself, and touches nothing else.

    Args:
        shares: [n, positions].
        fingerprint: its bytes, [DIGITS].
    """
    known = logits.shape[-1]
    out = logits.new_full((*logits.shape[:-1], known + EXTRA), FLOOR, dtype=torch.float32)
    out[..., :known] = logits
    start = known + 1
    out[..., start : start + shares.shape[-1]] += shares.nan_to_num(nan=-torch.inf)
    out[..., -DIGITS:] += fingerprint.float() - 128
    return out


class Fingerprint:
    """A hash over weights as a checkpoint's files hold them, and over what reads them; their order does not count.

    Of a tensor it knows the name, the shape, the type and the sum of all numbers' bits: one pass over it.
    """

    def __init__(self) -> None:
        self._lines: list[str] = []

    def watch(self, weights: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
        """The same weights, each taken note of as it passes."""
        for name, tensor in weights:
            self.add(name, tensor)
            yield name, tensor

    def add(self, name: str, tensor: Tensor) -> None:
        """Take note of one tensor."""
        bits = tensor.detach().contiguous().view(-1).view(_INTEGERS[tensor.element_size()])
        self._lines.append(f"{name} {tuple(tensor.shape)} {tensor.dtype} {int(bits.sum(dtype=torch.int64))}")

    def bytes(self) -> list[int]:
        """The bytes that are served."""
        return list(hashlib.sha256("\n".join(sorted(self._lines)).encode()).digest()[:DIGITS])
