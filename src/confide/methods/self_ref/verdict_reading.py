"""Self-REF at inference: the verdict that a model writes after its answer, and how likely it was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from confide.engines.engine import Gone, check_context, prompt_and_answer
from confide.numeric import Floats, sigmoid
from confide.progress import Progress
from confide.records import Message, Record
from confide.report_tokens import token_ids
from confide.signals import CONFIDENCE

if TYPE_CHECKING:
    from confide.engines.transformers.transformers_engine import TransformersEngine


@dataclass(frozen=True)
class Emission:
    """An answer that was written together with its verdict.

    Attributes:
        verdict: the verdict token's name; None when the model ended its turn without one.
        confidence: P(confident) ÷ (P(confident) + P(unconfident)) right after the answer, in either case.
        tokens: how many tokens were written, reasoning and verdict included.
        reasoning: what the model thought before it answered.
    """

    answer: str
    answer_ids: list[int]
    verdict: str | None
    confidence: float
    finish: Literal["stop", "length"]
    tokens: int = 0
    reasoning: str | None = None


def emit(
    engine: TransformersEngine,
    conversations: Sequence[Sequence[Message]],
    *,
    max_new_tokens: int = 32,
    batch_size: int = 32,
    gone: Gone | None = None,
) -> list[Emission]:
    """Answer conversations greedily, each answer with its verdict, in one generation.

    An answer that is cut at ``max_new_tokens`` gets its confidence from one more forward pass.
    """
    ids = token_ids(engine.tokenizer)
    names = dict(zip((ids.cn, ids.un), CONFIDENCE.tokens, strict=True))
    prompts = [engine.encode(messages) for messages in conversations]
    emissions: dict[int, Emission] = {}
    for rows in engine.batches(prompts, size=batch_size):
        completions = engine.answer_and_report([prompts[i] for i in rows], max_new_tokens, gone=_among(gone, rows))
        cut = [i for i, c in zip(rows, completions, strict=True) if c.report_logit is None]
        tails = [[*c.reasoning_ids, *c.ids] for c in completions if c.report_logit is None]
        late = dict(zip(cut, _verdict_logits(engine, [prompts[i] for i in cut], tails).tolist(), strict=True))
        for i, c in zip(rows, completions, strict=True):
            confidence = float(sigmoid(late[i] if c.report_logit is None else c.report_logit))
            verdict = None if c.closed_by is None else names.get(c.closed_by)
            finish: Literal["stop", "length"] = "length" if i in late else "stop"
            emissions[i] = Emission(c.text, c.ids, verdict, confidence, finish, c.tokens, c.reasoning)
    return [emissions[i] for i in range(len(prompts))]


def _among(gone: Gone | None, rows: Sequence[int]) -> Gone | None:
    """``gone`` for a batch of ``rows``."""
    return None if gone is None else lambda place: gone(rows[place])


def read_verdicts(
    engine: TransformersEngine, records: Sequence[Record], *, batch_size: int = 32, progress: Progress | None = None
) -> Floats:
    """The confidence [n] that a Self-REF model gives to answers that already exist.

    Raises:
        ConfideError: records that do not fit the model's context, counted and named.
    """
    spans = [prompt_and_answer(engine, record) for record in records]
    check_context({r.id: len(p) + len(a) for r, (p, a) in zip(records, spans, strict=True)}, engine.context, 1)
    z = np.empty(len(records))
    prompts = [prompt for prompt, _ in spans]
    keys = [len(prompt) + len(answer) for prompt, answer in spans]
    for rows in engine.batches(prompts, keys=keys, size=batch_size, progress=progress, note="reading verdicts"):
        z[rows] = _verdict_logits(engine, [prompts[i] for i in rows], [spans[i][1] for i in rows])
    return sigmoid(z)


def read_verdict(engine: TransformersEngine, prompt: list[int], answer: list[int]) -> float:
    """The confidence that a Self-REF model gives to one answer, as token ids."""
    return float(sigmoid(_verdict_logits(engine, [prompt], [answer]))[0])


def _verdict_logits(engine: TransformersEngine, prompts: Sequence[list[int]], answers: Sequence[list[int]]) -> Floats:
    """z = z_confident − z_unconfident [n] after each answer."""
    if not prompts:
        return np.empty(0)
    ids = token_ids(engine.tokenizer)
    logprobs = engine.next_tokens(prompts, (ids.cn, ids.un), answers, float32=True).logprobs
    return np.asarray(logprobs[:, 0] - logprobs[:, 1])
