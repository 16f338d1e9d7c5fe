"""P(True): a model is asked whether an answer is right (Kadavath et al., 2022, section 3).

The share of the two reply tokens' probability that falls on yes. Small models are near chance at this and may be the
wrong way round, so several prompts are tried, and prompt and sign are chosen on validation rows. Asked of the model
that answered it is the source ``p_true``, asked of another one ``verifier``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from confide.methods.asking import ask_about, share_of_yes, with_mean
from confide.methods.method import Column, Method, Scope, check_labels, labels
from confide.numeric import Floats
from confide.progress import Progress
from confide.records import Cost, Record

if TYPE_CHECKING:
    from confide.engines.engine import Engine

PROMPTS = (
    ("Is the proposed answer correct? Answer Yes or No.", " Yes", " No"),
    ("Is the proposed answer:\n (A) True\n (B) False\nThe proposed answer is:", " True", " False"),
    ("Are you sure that this answer is right? Reply with Yes or No only.", "Yes", "No"),
)
"""What is asked, and the two replies whose probabilities are compared."""


class PTrue(Method):
    """The method: prompt and sign are chosen on the validation rows."""

    needs = ("next_tokens",)

    def __init__(self, name: str, by_model: bool):
        self.name = name
        self.sources = (name,)
        self.by_model = by_model

    def available(self, scope: Scope) -> Sequence[str]:
        """Where a model is there to ask that can still answer such questions, and validation rows to choose on."""
        asks = scope.model is not None and scope.model.frozen if self.by_model else scope.verifier is not None
        return self.sources if asks and scope.has("validation") else ()

    def fit(self, scope: Scope) -> None:
        """Ask every prompt of the validation rows and take the one that ranks best."""
        engine = scope.model.engine if self.by_model and scope.model else scope.verifier
        assert engine is not None
        validation = scope.graded("validation")
        check_labels(validation)
        shares, _ = yes_shares(engine, validation, range(len(PROMPTS)), progress=scope.progress)
        self.engine_ = engine
        self.prompt_, self.reversed_ = choose_prompt(shares, labels(validation))

    def read(self, records: Sequence[Record]) -> Mapping[str, Column]:
        """The share of yes [n], or of no where that ranked the right way round."""
        shares, cost = yes_shares(self.engine_, records, [self.prompt_], progress=self.scope_.progress)
        share = shares[:, self.prompt_]
        return {self.name: Column(1 - share if self.reversed_ else share, cost)}


def yes_shares(
    engine: Engine, records: Sequence[Record], asked: Sequence[int], *, progress: Progress | None = None
) -> tuple[Floats, Cost]:
    """Share of yes [n, len(PROMPTS)] (NaN for prompts that are not ``asked``), and what it cost per record."""

    def share(number: int, prompts: list[list[int]]) -> tuple[Floats, int]:
        _, yes, no = PROMPTS[number]
        return share_of_yes(engine, yes, no, prompts), 0

    wordings = [text for text, _, _ in PROMPTS]
    return ask_about(engine, records, wordings, asked, share, room=1, note="asking yes or no", progress=progress)


def choose_prompt(shares: Floats, correct: NDArray[np.bool_]) -> tuple[int, bool]:
    """The prompt (index into `PROMPTS`) that ranks validation rows best, and whether its share counts reversed."""
    from sklearn.metrics import roc_auc_score

    scores = [float(roc_auc_score(correct, with_mean(column))) for column in shares.T]
    prompt = int(np.argmax(np.abs(np.array(scores) - 0.5)))
    return prompt, scores[prompt] < 0.5
