"""The quality of a dense signal: does it order the answers to a question by what it should predict?

Training by comparison rewards an answer against the other answers to the same question, so a signal must order
these; to know which questions are hard is of no use there. After QVal (2606.32034), which ranks step signals by
their rank correlation with a reference policy's values before anything is trained on them, and finds plain prompting
hard to beat: sources that are asked for stand beside every signal.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from scipy.stats import kendalltau

from confide.errors import ConfideError
from confide.evaluation.record_columns import numbers
from confide.evaluation.samples import folded
from confide.evaluation.wording import interval, side, some
from confide.metrics.bootstrap import Bootstrap, estimate
from confide.metrics.ranking import GroupCorrelations, spearman
from confide.numeric import Floats, Ints
from confide.progress import Progress
from confide.records import Record, Sample
from confide.sources import Source, family, in_order

Target = Literal["f_gold", "correct", "consistency"]

MIN_ANSWERS, MIN_ENTITIES = 100, 50
"""Answers to mixed questions, and entities these are about, below which there is no verdict.

A signal that means nothing should be found out 95 times in 100: with 50 entities intervals come to 94, with 20 to
93, and less where entities differ much in size.
"""


@dataclass(frozen=True)
class Answers:
    """Answers, greedy and sampled, that carry the target: question, target and signals, all [answers].

    ``clusters`` [questions] names what questions must share to count as dependent. ``left_out`` counts answers
    without the target.
    """

    question: Ints
    target: Floats
    signals: dict[str, Floats]
    clusters: list[str]
    left_out: int

    @classmethod
    def of(cls, records: Sequence[Record], target: Target) -> Answers:
        """The answers of all records; records with the same messages and reference are about one question."""
        clusters: dict[str, str] = {}
        found: list[tuple[str, float, dict[str, float | None]]] = []
        left_out = 0
        for record in records:
            key = _question(record)
            clusters.setdefault(key, record.entity if record.entity is not None else key)
            targets = _targets(record, target)
            found += [(key, value, answer.confidence) for answer, value in targets if value is not None]
            left_out += sum(value is None for _, value in targets)
        names = in_order({name for _, _, confidence in found for name in confidence})
        judged = [name for name in names if not Source.parse(name).auxiliary]
        signals = {name: numbers(confidence.get(name) for _, _, confidence in found) for name in judged}
        codes = {key: code for code, key in enumerate(clusters)}
        question = np.array([codes[key] for key, _, _ in found], dtype=np.int64)
        return cls(question, np.array([value for _, value, _ in found]), signals, list(clusters.values()), left_out)

    def within(self, signal: str, kept: Ints | None = None) -> GroupCorrelations:
        """The correlations within questions, of the answers ``kept`` (None: all that have the signal)."""
        if kept is None:
            kept = np.flatnonzero(np.isfinite(self.signals[signal]))
        return GroupCorrelations.of(self.signals[signal][kept], self.target[kept], self.question[kept])

    def pooled(self, signal: str, bootstrap: Bootstrap) -> dict[str, dict[str, float | None]]:
        """The correlations over all answers: Spearman's with its interval, Kendall's τ_b."""
        kept = np.flatnonzero(np.isfinite(self.signals[signal]))
        x, y = self.signals[signal][kept], self.target[kept]
        tau = float(kendalltau(x, y).statistic)
        return {
            "spearman": estimate(bootstrap.metric(spearman, x, y, self.question[kept])),
            "kendall": {"value": tau if np.isfinite(tau) else None},
        }


def signal_quality(
    records: Sequence[Record],
    *,
    target: Target | None = None,
    signals: Sequence[str] | None = None,
    resamples: int = 1000,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Judge signals by their rank correlation with a target, pooled and within questions.

    Args:
        records: Answers and their samples. Rows of the training split are left out where there are others: a source
            is at its best on what it was trained on.
        target: What a signal should predict; None: ``f_gold`` where an answer carries it, otherwise ``correct``.
        signals: The signals to judge; None: all but floors and controls. Sources that are asked for (``p_true``,
            ``verbalized``) are judged in any case.
        resamples: Draws of the bootstrap by entity.
        seed: Seed of the bootstrap.
        progress: Called with (signals done, all signals, name) as each one's turn comes.

    Returns:
        Counts, and per signal its correlations with intervals, a verdict and a sentence.

    Raises:
        ConfideError: There is nothing to judge: no answer with the target, targets that are all the same, a single
            question, or a signal that nobody has or that is the same throughout.
    """
    used = [record for record in records if record.split != "train"] or list(records)
    if not used:
        raise ConfideError("there are no records to judge")
    gold = any("f_gold" in (a.model_extra or {}) for r in used for a in (r, *(r.samples or ())))
    wanted: Target = target if target is not None else "f_gold" if gold else "correct"
    if wanted not in get_args(Target):
        raise ConfideError(f"the target is f_gold, correct or consistency, not {wanted!r}")
    answers = Answers.of(used, wanted)
    _check(answers, wanted)
    names = _names(answers, wanted, signals)
    bootstrap = Bootstrap(answers.clusters, resamples=resamples, seed=seed)
    judged: dict[str, dict[str, Any]] = {}
    for name in names:
        if progress is not None:
            progress(len(judged), len(names), name)
        judged[name] = _judge(answers, name, names, wanted, bootstrap)
    return {
        "schema": 1,
        "target": wanted,
        "n": len(answers.target),
        "questions": len(np.unique(answers.question)),
        "left_out": {"without_target": answers.left_out, "train": len(records) - len(used)},
        "bootstrap": bootstrap.settings(),
        "minimum": {"answers": MIN_ANSWERS, "entities": MIN_ENTITIES},
        "signals": judged,
    }


def _judge(answers: Answers, name: str, names: Sequence[str], target: Target, bootstrap: Bootstrap) -> dict[str, Any]:
    values = answers.signals[name]
    found = answers.within(name)
    entry: dict[str, Any] = {
        "family": family(name),
        "n": int(np.isfinite(values).sum()),
        "missing": int((~np.isfinite(values)).sum()),
        "distinct": len(np.unique(values[np.isfinite(values)])),
        "pooled": answers.pooled(name, bootstrap),
        "within": {
            **{kind: estimate(x) for kind, x in found.sampled(bootstrap, "spearman", "kendall").items()},
            "questions": len(found.groups),
            "answers": int(found.sizes.sum()),
            "pairs": int(found.pairs.sum()),
            "entities": len(np.unique(bootstrap.index[found.groups])),
        },
        "against_prompting": _against_prompting(answers, name, names, bootstrap),
    }
    status, sentence = _verdict(name, entry, target)
    return entry | {"verdict": status, "sentence": sentence}


def _against_prompting(
    answers: Answers, name: str, names: Sequence[str], bootstrap: Bootstrap
) -> dict[str, Any] | None:
    """The mean correlation within questions less that of the best source that is asked for, on answers with both.

    None without another such source, or where no mixed question has answers with both.
    """
    best: tuple[float, str, Floats, Floats] | None = None
    for other in (n for n in names if family(n) == "asked" and n != name):
        kept = np.flatnonzero(np.isfinite(answers.signals[name]) & np.isfinite(answers.signals[other]))
        own, theirs = (answers.within(n, kept).sampled(bootstrap, "spearman")["spearman"] for n in (name, other))
        if np.isfinite(theirs[0]) and (best is None or theirs[0] > best[0]):
            best = float(theirs[0]), other, own, theirs
    if best is None:
        return None
    return {"baseline": best[1], "baseline_value": best[0], **estimate(best[2] - best[3])}


def _verdict(name: str, entry: dict[str, Any], target: Target) -> tuple[str, str]:
    """The status and its sentence."""
    within, rival = entry["within"], entry["against_prompting"]
    found = within["spearman"]
    if found["low"] is None:
        reason = f"no question has two answers that differ in {target}" if found["value"] is None else "no resamples"
        return "cannot say", f"{name}: cannot say, {reason}; pooled correlations may only sense hard questions."
    if within["answers"] < MIN_ANSWERS or within["entities"] < MIN_ENTITIES:
        entities = some(within["entities"], "entity", "entities")
        seen = f"{some(within['answers'], 'answer')} to mixed questions of {entities}"
        return "cannot say", f"{name}: cannot say on {seen}; it takes {MIN_ANSWERS} of {MIN_ENTITIES}."
    said = (
        f"correlation {interval(found)} with {target} within a question "
        f"({some(within['questions'], 'question')}, {some(within['answers'], 'answer')})"
    )
    if found["high"] < 0:
        return "inverted", f"{name}: inverted, {said}: higher where {target} is lower."
    if found["low"] <= 0:
        return "no evidence", f"{name}: no evidence that it orders answers, {said}."
    if rival is None or rival["low"] is None:
        return "worth training on", f"{name}: worth training on, {said}."
    gap = f"{rival['baseline']} (difference {interval(rival, sign=True)})"
    if side(rival) == "below":
        return "prompting is better", f"{name}: prompting is better, {said}, behind {gap}."
    place = "ahead of" if side(rival) == "above" else "level with"
    return "worth training on", f"{name}: worth training on, {said}, {place} {gap}."


def _names(answers: Answers, target: Target, named: Sequence[str] | None) -> list[str]:
    """The signals to judge: those named, or all but floors and controls; sources that are asked for in any case."""
    there = answers.signals
    usable = {n for n, x in there.items() if len(np.unique(x[np.isfinite(x)])) > 1}
    if named is not None:
        for name in named:
            if name not in there:
                raise ConfideError(f"no answer has the signal {name!r}; there are: {', '.join(there) or 'none'}")
            if name not in usable:
                raise ConfideError(f"the signal {name!r} never changes: it orders nothing")
    # Sources made of the samples are the agreement itself.
    unfit = ("floor", "control", *(["sampled"] if target == "consistency" else []))
    chosen = [n for n in there if family(n) not in unfit] if named is None else list(named)
    out = in_order({n for n in there if n in usable and (n in chosen or family(n) == "asked")})
    if not out:
        raise ConfideError("no signal to judge: no answer with the target has a confidence that changes")
    return out


def _check(answers: Answers, target: Target) -> None:
    if not len(answers.target):
        raise ConfideError(f"no answer carries the target {target}")
    if np.ptp(answers.target) == 0:
        value = answers.target[0]
        raise ConfideError(f"the target {target} is {value:g} for every answer: there is nothing to predict")
    if len(np.unique(answers.question)) == 1:
        raise ConfideError("all answers are to a single question: intervals take several")


def _targets(record: Record, target: Target) -> list[tuple[Record | Sample, float | None]]:
    """The greedy answer and the samples of a record, each with its target (None where it has none)."""
    samples = record.samples or []
    answers: list[Record | Sample] = [record, *samples]
    if target == "correct":
        return [(answer, None if answer.correct is None else float(answer.correct)) for answer in answers]
    if target == "f_gold":
        return [(answer, _gold(record, answer)) for answer in answers]
    # A sample is compared with the others only: with itself it always agrees.
    said = [f"= {s.answered}" if s.answered is not None else folded(s.answer) or s.answer.strip() for s in samples]
    times = Counter(said)
    shares = [(times[own] - 1) / (len(said) - 1) if len(said) > 1 else None for own in said]
    return list(zip(answers, [record.consistency, *shares], strict=True))


def _gold(record: Record, answer: Record | Sample) -> float | None:
    value = (answer.model_extra or {}).get("f_gold")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ConfideError(f"record {record.id}: f_gold must be a number in [0, 1], not {value!r}")
    return float(value)


def _question(record: Record) -> str:
    """What records about the same question share; without messages every record is its own."""
    if not record.messages:
        return record.id
    turns = [(message.role, message.content) for message in record.messages]
    return json.dumps([turns, record.reference], ensure_ascii=False, default=str)
