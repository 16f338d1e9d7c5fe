"""The reader: the verdict at the last of a few ask tokens that follow the closed answer, z = h · verdict."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from confide.methods.reader.reader_config import ReaderConfig
from confide.numeric import Floats
from confide.report_tokens import token_ids

if TYPE_CHECKING:
    from torch import Tensor

    from confide.engines.transformers.closed_answers import TransformersClosed
    from confide.engines.transformers.transformers_engine import TransformersEngine


@dataclass
class Reader:
    """Ask tokens and the verdict that is read after them.

    Attributes:
        ask: input embeddings of the ask tokens, [m, width].
        verdict: w_CN − w_UN, [width].
        config: how it was trained.
        history: losses and seconds of each epoch of training.
    """

    ask: Tensor
    verdict: Tensor
    config: ReaderConfig | None = None
    history: list[dict[str, float]] = field(default_factory=list)

    @property
    def tokens(self) -> int:
        """Tokens that a reading feeds: the closing one and the ask tokens."""
        return len(self.ask) + 1

    @property
    def validation_loss(self) -> float:
        """The lowest log loss on validation rows in training."""
        return min(epoch["validation_loss"] for epoch in self.history)

    def fed(self, closed: TransformersClosed) -> int:
        """Tokens that reading these answers feeds."""
        return self.tokens * len(closed.completions)

    def z(self, closed: TransformersClosed) -> Tensor:
        """The verdict's logit [batch] for closed answers."""
        return self.hidden(closed) @ self.verdict.to(closed.mask.device)

    def hidden(self, closed: TransformersClosed) -> Tensor:
        """The final hidden state [batch, width] that the verdict is read from."""
        return closed.feed(self.ask.to(closed.mask.device)).float()

    def logits(self, closed: TransformersClosed) -> Floats:
        """`z` as an array, without gradient."""
        return self.z(closed).detach().cpu().numpy().astype(np.float64)


def reader_in_vocabulary(engine: TransformersEngine, ask_tokens: int | None = None) -> Reader:
    """The reader whose rows an engine's model carries (``ask_tokens`` None: all that there are)."""
    ids = token_ids(engine.tokenizer, ask_tokens)
    confident, unconfident = engine.output_rows([ids.cn, ids.un])
    return Reader(engine.input_rows(ids.ask), (confident - unconfident) * engine.forward.logit_slope())
