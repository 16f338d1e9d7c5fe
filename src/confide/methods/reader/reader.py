"""The reader: the base model answers, and with low-rank weights on it reads its answer again.

A second pass reads the prompt, the answer and the token that closes it; the verdict is by how much " Yes" is likelier
than " No" there. Both words exist, so no row is added, and an engine that serves LoRA adapters serves it as it is.
Answers are the base model's, token for token, since they are written without the adapter.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from confide.engines.engine import first_difference
from confide.numeric import Floats

if TYPE_CHECKING:
    from confide.engines.transformers.adapter import Adapter
    from confide.engines.transformers.closed_answers import TransformersClosed
    from confide.engines.transformers.transformers_engine import TransformersEngine

FOLDER = "adapter"
"""Where a checkpoint keeps the adapter, in PEFT's format."""

YES, NO = " Yes", " No"


@dataclass
class Reader:
    """An adapter, and the two words that are compared after a closed answer.

    Attributes:
        verdict: the tokens of " Yes" and " No" (see `verdict_words`).
        losses: on validation rows, after each epoch of training.
    """

    engine: TransformersEngine
    adapter: Adapter
    verdict: tuple[int, int]
    losses: list[float] = field(default_factory=list)

    def logits(self, closed: TransformersClosed) -> Floats:
        """The verdict's logit z [batch] of closed answers, which are read again from their prompts' start."""
        tails = self._tails(closed)
        with self.adapter.active(self.engine):
            logprobs = self.engine.next_tokens(closed.prompts, self.verdict, tails, float32=True).logprobs
        return np.asarray(logprobs[:, 0] - logprobs[:, 1], dtype=np.float64)

    def fed(self, closed: TransformersClosed) -> int:
        """Tokens that reading these answers feeds: prompts too, whose keys and values are not the base model's."""
        return sum(map(len, [*closed.prompts, *self._tails(closed)]))

    def _tails(self, closed: TransformersClosed) -> list[list[int]]:
        return [[*c.reasoning_ids, *c.ids, self.engine.turn_end] for c in closed.completions]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The weights by name."""
        return {name: value.numpy() for name, value in self.adapter.weights.items()}

    @classmethod
    def load(cls, engine: TransformersEngine, folder: Path) -> Reader:
        """The reader of a checkpoint; raises `ConfideError` where its adapter cannot be read."""
        from confide.engines.transformers.adapter import Adapter

        return cls(engine, Adapter.load(folder / FOLDER), verdict_words(engine))


def verdict_words(engine: TransformersEngine) -> tuple[int, int]:
    """The tokens at which " Yes" and " No" part."""
    return first_difference(engine.encode_answer(YES), engine.encode_answer(NO))
