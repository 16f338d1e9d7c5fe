"""Confidence from K sampled answers: do they say the same?

Sampled answers are grouped by what the task's grader says they answer, or by a judge model.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from confide.engines.engine import encode_at_once, first_difference
from confide.errors import ConfideError
from confide.methods.method import Column, Judge, Method, Scope, or_nan
from confide.records import Cost, Message, Record, Sample
from confide.tasks.text import spelled

if TYPE_CHECKING:
    from confide.engines.engine import Engine


class ModelJudge:
    """A language model as judge: asked both ways round, it must say yes twice (Farquhar et al., 2024)."""

    PROMPT = "Question: {}\nAnswer A: {}\nAnswer B: {}\nDo both answers mean the same? Answer Yes or No."

    def __init__(self, engine: Engine):
        self.engine = engine
        self.tokens = 0
        self.seconds = 0.0

    def __call__(self, pairs: Sequence[tuple[str, str, str]]) -> list[bool]:
        """Whether each pair means the same; ``tokens`` and ``seconds`` add up over calls."""
        began, engine = time.monotonic(), self.engine
        ids = first_difference(engine.encode_answer(" Yes"), engine.encode_answer(" No"))
        texts = [self.PROMPT.format(q, *both) for q, a, b in pairs for both in ((a, b), (b, a))]
        prompts = [encode_at_once(engine, [Message(role="user", content=text)]) for text in texts]
        same = [False] * len(prompts)
        for rows in engine.batches(prompts):
            found = engine.next_tokens([prompts[i] for i in rows], ids)
            if silent := sum(map(math.isnan, found.rival.tolist())):
                raise ConfideError(f"the judge {engine.name} gave no answer to {silent} of its questions; ask again")
            for i, (yes, no) in zip(rows, found.logprobs.tolist(), strict=True):
                same[i] = yes > no
        self.tokens += sum(map(len, prompts))
        self.seconds += time.monotonic() - began
        return [one and other for one, other in zip(same[::2], same[1::2], strict=True)]


class Sampled(Method):
    """The method: confidences from the samples that the records hold."""

    name = "sampled"
    sources = ("self_consistency", "semantic_entropy")

    def available(self, scope: Scope) -> Sequence[str]:
        """Agreement where a record knows it, entropy where one has two samples."""
        agreement = any(self_consistency(record) is not None for record in scope.records)
        several = any(len(record.samples or []) > 1 for record in scope.records)
        return [name for name, there in zip(self.sources, (agreement, several), strict=True) if there]

    def read(self, records: Sequence[Record]) -> Mapping[str, Column]:
        """One column [n] per source; it costs the samples, and what a judge spends."""
        columns, costs = {}, [sampling_cost(record) for record in records]
        if "self_consistency" in self.wanted_:
            columns["self_consistency"] = Column(or_nan([self_consistency(record) for record in records]), costs)
        if "semantic_entropy" in self.wanted_:
            judge, n = self.scope_.judge, max(1, len(records))
            values = semantic_entropy(records, judge)
            tokens, seconds = (getattr(judge, name, 0) / n for name in ("tokens", "seconds"))
            judged = [Cost(tokens=c.tokens + tokens, seconds=c.seconds + seconds) for c in costs]
            columns["semantic_entropy"] = Column(or_nan(values), judged if tokens else costs)
        return columns


def self_consistency(record: Record) -> float | None:
    """Share of the samples that agree with the greedy answer (Wang et al., 2203.11171); None without samples."""
    if record.consistency is not None or not record.samples:
        return record.consistency
    own = _said(record)
    return sum(_said(sample, place) == own for place, sample in enumerate(record.samples)) / len(record.samples)


def semantic_entropy(records: Sequence[Record], judge: Judge | None = None) -> list[float | None]:
    """1 − H / ln K, with H the entropy of the K samples' shares of meanings (Farquhar et al., 2024, discrete form).

    1 where all samples mean the same, 0 where no two do; None with fewer than two samples. Meanings are the
    grader's answers, or what ``judge`` takes for the same.
    """
    keys = [[_said(sample, place) for place, sample in enumerate(record.samples or [])] for record in records]
    if judge is not None:
        keys = _judged(records, judge)
    return [_concentration(some) if len(some) > 1 else None for some in keys]


def sampling_cost(record: Record) -> Cost:
    """What the samples of a record cost: their tokens, and their seconds where annotation noted them."""
    samples = record.samples or []
    tokens = sum(
        len(s.reasoning_ids) + (len(s.answer_ids) or len(s.answer.split())) + (s.finish == "stop") for s in samples
    )
    noted = record.cost.get("samples")
    return Cost(tokens=tokens, seconds=noted.seconds if noted else 0.0)


def _said(answer: Record | Sample, place: int = -1) -> str:
    """What an answer says; one that was cut before it said anything agrees with none, by its ``place``."""
    if _silent(answer):
        return f"cut {place}"
    return f"= {answer.answered}" if answer.answered is not None else spelled(answer.answer)


def _silent(answer: Record | Sample) -> bool:
    """Whether an answer was cut before it said anything, as that of a model that was still thinking."""
    return answer.finish == "length" and not answer.answer.strip()


def _concentration(keys: Sequence[str]) -> float:
    """1 − H / ln K of K keys, from their counts n: Σ n ln n / (K ln K).

    So it is exactly 0 and 1 at the ends, and the same whatever the order; from shares, rounding would leave [0, 1].
    """
    n = len(keys)
    return math.fsum(count * math.log(count) for count in Counter(keys).values()) / (n * math.log(n))


def _judged(records: Sequence[Record], judge: Judge) -> list[list[str]]:
    """Each sample's group: that of the first earlier answer that means the same."""
    texts = [list(dict.fromkeys(spelled(sample.answer) for sample in record.samples or [])) for record in records]
    wordings = [{spelled(s.answer): s.answer for s in reversed(record.samples or [])} for record in records]
    pairs = [
        (record.question, wordings[i][a], wordings[i][b])
        for i, record in enumerate(records)
        for place, b in enumerate(texts[i])
        for a in texts[i][:place]
    ]
    verdicts = iter(judge(pairs) if pairs else [])
    groups = []
    for i, record in enumerate(records):
        group: dict[str, str] = {}
        for place, b in enumerate(texts[i]):
            same = [a for a in texts[i][:place] if next(verdicts)]
            group[b] = group[same[0]] if same else b
        samples = enumerate(record.samples or [])
        groups.append([f"cut {n}" if _silent(s) else group[spelled(s.answer)] for n, s in samples])
    return groups
