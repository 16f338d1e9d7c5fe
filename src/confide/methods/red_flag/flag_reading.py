"""The flag's probability along an answer: how likely the model is to write it after each token."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from confide.engines.closed_records import written_spans
from confide.errors import ConfideError
from confide.methods.along.smoothing import levels
from confide.methods.method import Column, Method, Scope
from confide.numeric import Floats, sigmoid
from confide.progress import Progress
from confide.records import Cost, Record
from confide.signals import RED_FLAG

if TYPE_CHECKING:
    from confide.engines.transformers.transformers_engine import TransformersEngine

SOURCE = "red_flag_token"
METHOD = "red_flag_token"
"""What ``confide.json`` calls such a model's way to report."""

ROWS = 16
"""Answers read at once: the whole vocabulary is scored at every token."""


def flag_id(tokenizer: object) -> int:
    """The id of the red-flag token; raises `ConfideError` for a model that has none."""
    (name,) = RED_FLAG.tokens
    found = getattr(tokenizer, "added_tokens_encoder", {}).get(name)
    if found is None:
        raise ConfideError(f"the model has no token {name}: it was not trained to write it")
    return int(found)


def flag_log_odds(
    engine: TransformersEngine,
    prompts: Sequence[list[int]],
    answers: Sequence[list[int]],
    *,
    progress: Progress | None = None,
) -> list[Floats]:
    """Log-odds of "no flag" after the prompt and after each token of each answer, [1 + tokens]."""
    import torch

    from confide.engines.transformers.tails import run_tails
    from confide.methods.red_flag.flag_loss import no_flag_log_odds

    token = flag_id(engine.tokenizer)
    found: list[Floats] = [np.empty(0)] * len(prompts)
    keys = [len(p) + len(a) for p, a in zip(prompts, answers, strict=True)]
    for rows in engine.batches(prompts, keys=keys, size=ROWS, progress=progress, note="reading flags"):
        with engine.lock, torch.no_grad():
            tails = [answers[i] for i in rows]
            hidden = run_tails(engine.forward, [prompts[i] for i in rows], tails).hidden
            for place, i in enumerate(rows):
                logits = engine.forward.logits(hidden[place, : len(answers[i]) + 1]).float()
                found[i] = no_flag_log_odds(logits, token).cpu().numpy()
    return found


class FlagTokenMethod(Method):
    """``red_flag_token``: the lowest probability, along an answer, that a trained model would not flag it there."""

    name = METHOD
    sources = (SOURCE,)
    needs = ("states",)
    by_model = True

    def available(self, scope: Scope) -> Sequence[str]:
        """Where the model was trained to write the flag."""
        info = scope.model.info.signals.get(RED_FLAG.name) if scope.model else None
        return self.sources if info is not None and info.method == METHOD else ()

    def read(self, records: Sequence[Record]) -> Mapping[str, Column]:
        """P(no flag) at the likeliest place for one, [n]."""
        assert self.scope_.model is not None
        began, engine = time.monotonic(), self.scope_.model.engine
        prompts, answers = zip(*written_spans(engine, records), strict=True)
        read = flag_log_odds(engine, prompts, answers, progress=self.scope_.progress)
        values = np.array([lowest(z, "none") for z in read])
        cost = Cost(seconds=(time.monotonic() - began) / max(1, len(records)))
        return {SOURCE: Column(sigmoid(values), cost)}


def lowest(z: Floats, smoothing: str) -> float:
    """The lowest level of log-odds [1 + tokens] behind the first token of an answer; NaN for one without tokens."""
    return float(levels(z[1:], smoothing).min()) if len(z) > 1 else float("nan")
