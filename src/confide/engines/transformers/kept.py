"""What an engine keeps of closed answers, so that they can be read further."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

POSITIONS = ("prompt_end", "answer_mean", "answer_last", "closing")


@dataclass
class Kept:
    """What is left of a forward pass over closed answers and can be read further.

    ``cache`` holds keys and values up to the last answer token; ``mask`` is [batch, length] over it;
    ``position`` [batch] is the position id that the closing token gets; ``states`` maps a layer to hidden states
    [batch, 3, width] at the last prompt token, averaged over the answer tokens, and at the last answer token; a
    reading appends a fourth, at the closing token (see `POSITIONS`).
    """

    cache: Any
    mask: Tensor
    position: Tensor
    states: dict[int, Tensor] = field(default_factory=dict)
