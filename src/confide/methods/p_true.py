"""P(True): the model is asked whether its own answer is right (Kadavath et al., 2022, section 3).

The share of the two answer tokens' probability that falls on yes. Small models are near chance at this and may
be the wrong way round, so several prompts are tried, and prompt and sign are chosen on validation rows. Asked of
another model than the one that answered, the same is a `verifier`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from confide.annotation import check_context
from confide.engines.transformers.prefixes import first_difference, group_batches
from confide.engines.transformers.transformers_engine import TransformersEngine
from confide.records import Message, Record

PROMPTS = (
    ("Is the proposed answer correct? Answer Yes or No.", " Yes", " No"),
    ("Is the proposed answer:\n (A) True\n (B) False\nThe proposed answer is:", " True", " False"),
    ("Are you sure that this answer is right? Reply with Yes or No only.", "Yes", "No"),
)


@dataclass(frozen=True)
class PTrue:
    """A prompt (index into `PROMPTS`) and whether its share counts as it is or reversed."""

    prompt: int
    reversed: bool

    def predict(self, shares: NDArray[np.float64]) -> NDArray[np.float64]:
        """Confidence [n] from shares [n, prompts]."""
        chosen = shares[:, self.prompt]
        return 1 - chosen if self.reversed else chosen


def yes_shares(
    engine: TransformersEngine,
    records: Sequence[Record],
    prompts: Sequence[int],
    *,
    batch_size: int | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> tuple[NDArray[np.float64], float, float]:
    """Share of yes [n, len(PROMPTS)] (NaN for prompts not asked), tokens read and seconds used a record.

    ``batch_size`` None takes the engine's own.
    """
    shares = np.full((len(records), len(PROMPTS)), np.nan)
    began, tokens, done = time.monotonic(), 0, 0
    for number in prompts:
        text, yes, no = PROMPTS[number]
        ids = first_difference(engine.encode_answer(yes), engine.encode_answer(no))
        asked = [engine.encode(dialogue(record, text)) for record in records]
        check_context({record.id: prompt for record, prompt in zip(records, asked, strict=True)}, 1, engine.context)
        groups = engine.share_prefixes(asked)
        for picked in group_batches(groups, [len(prompt) for prompt in asked], batch_size or engine.batch_size):
            some = [asked[i] for i in picked]
            logits = engine.next_logits(some)[:, ids]
            shares[picked, number] = torch.sigmoid(logits[:, 0] - logits[:, 1]).cpu().numpy()
            shared = len(engine.shared_prefix(some)[0])
            tokens += sum(len(prompt) - shared for prompt in some)
            done += len(picked)
            if progress:
                progress(done, len(prompts) * len(asked), "asking yes or no")
    n = max(1, len(records))
    return shares, tokens / n, (time.monotonic() - began) / n


def choose(shares: NDArray[np.float64], correct: NDArray[np.bool_]) -> PTrue:
    """The prompt and sign with the highest AUROC on validation rows."""
    from sklearn.metrics import roc_auc_score

    scores = [(roc_auc_score(correct, shares[:, i]), i) for i in range(shares.shape[1]) if not np.isnan(shares[0, i])]
    best, prompt = max(scores, key=lambda pair: abs(pair[0] - 0.5))
    return PTrue(prompt, bool(best < 0.5))


def dialogue(record: Record, text: str) -> list[Message]:
    """The question and the answer as one user turn: worked examples would teach it to answer with a name."""
    body = f"Question: {record.question}\nProposed answer: {record.answer}\n{text}"
    return [Message(role="user", content=body)]
