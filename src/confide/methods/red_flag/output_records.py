"""Sampled outputs as records of their own, so that all of them are trained on and judged."""

from __future__ import annotations

from collections.abc import Sequence

from confide.records import Record


def with_samples(records: Sequence[Record]) -> list[Record]:
    """Records without their samples, each followed by a record for every one of these."""
    made = []
    for record in records:
        made.append(record.model_copy(update={"samples": None}))
        for number, sample in enumerate(record.samples or []):
            told = {name: getattr(sample, name) for name in _TOLD}
            update = {"id": f"{record.id}~{number}", "samples": None, "entropies": [], "end_logprob": None, **told}
            made.append(record.model_copy(update=update))
    return made


_TOLD = ("answer", "answer_ids", "reasoning_ids", "logprobs", "finish", "correct", "answered")
