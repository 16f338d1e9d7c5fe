"""The reader: the verdict at the last of a few ask tokens that follow the closed answer, z = h · verdict + bias."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from confide.engines.transformers.kept import Kept
from confide.engines.transformers.transformers_engine import TransformersEngine

if TYPE_CHECKING:
    from confide.methods.reader.low_rank import LowRank


@dataclass
class Reader:
    """Ask rows ``ask`` [m, width] (input embeddings) and what is read after them.

    ``verdict`` [width] is w_CN − w_UN; rows in a vocabulary carry no ``bias``. ``low_rank`` weights are active at
    the ask positions alone.
    """

    ask: Tensor
    verdict: Tensor
    low_rank: LowRank | None = None
    history: list[dict[str, float]] = field(default_factory=list)
    bias: float = 0.0

    @property
    def tokens(self) -> int:
        """Tokens that a reading feeds: the closing one and the ask tokens."""
        return len(self.ask) + 1

    def z(self, engine: TransformersEngine, kept: Kept) -> Tensor:
        """The verdict's logit [batch] for closed answers (see `TransformersEngine.read`)."""
        return self.hidden(engine, kept) @ self.verdict.to(engine.device) + self.bias

    def hidden(self, engine: TransformersEngine, kept: Kept) -> Tensor:
        """The final hidden state [batch, width] that the verdict is read from."""
        with self.low_rank.active() if self.low_rank else nullcontext():
            return engine.read(kept, self.ask.to(engine.device)).float()

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What is saved of a reader whose rows are not in a vocabulary."""
        rows = {"ask": self.ask, "verdict": self.verdict, "bias": torch.tensor([self.bias])}
        arrays: dict[str, NDArray[Any]] = {name: value.detach().float().cpu().numpy() for name, value in rows.items()}
        low_rank = self.low_rank.arrays() if self.low_rank else {}
        return arrays | {f"low_rank.{name}": value for name, value in low_rank.items()}

    @classmethod
    def from_arrays(cls, engine: TransformersEngine, arrays: Mapping[str, NDArray[Any]]) -> Reader:
        """The reader that `arrays` came from; its low-rank weights stay on the engine's model until removed."""
        from confide.methods.reader.low_rank import LowRank

        weights = {n.removeprefix("low_rank."): value for n, value in arrays.items() if n.startswith("low_rank.")}
        ask, verdict = (torch.from_numpy(np.array(arrays[name])).float() for name in ("ask", "verdict"))
        low_rank = LowRank.from_arrays(engine.model, weights) if weights else None
        return cls(ask, verdict, low_rank, bias=float(arrays["bias"][0]))
