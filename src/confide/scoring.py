"""Scoring: every source's confidence for records that are already answered.

Learned sources are left out (None) on training rows: a confidence there says nothing about new rows. Sources
that learn from text alone are fitted here, on the train rows of the same file, and choose on its validation rows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from confide.errors import ConfideError
from confide.estimators.free import FREE, free_confidence
from confide.records import Cost, Record

if TYPE_CHECKING:
    from confide.model import ConfidenceModel

READ = ("stack", "probe", "probe_logprobs", "reader")
TEXT = ("question_only", "answer_only", "answer_only_table")
FLOORS = ("constant", "shuffled")
SOURCES = (*READ, "self_ref", "p_true", *FREE, *TEXT, *FLOORS)

Progress = Callable[[int, int, str], None]


def score(
    records: Sequence[Record],
    sources: Sequence[str],
    *,
    model: ConfidenceModel | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> list[Record]:
    """Add the confidences of ``sources`` (see `SOURCES`) to copies of ``records``.

    Raises:
        ConfideError: an unknown source, or one that the model or the records cannot give (``all`` of the command
            line asks only for what there is).
    """
    if unknown := [source for source in sources if source not in SOURCES]:
        raise ConfideError(f"no source {unknown[0]!r}: there is {', '.join(SOURCES)}")
    if missing := [source for source in sources if source not in available(records, model)]:
        raise ConfideError(f"the source {missing[0]} cannot be had from this model and these records")
    scored = [record.model_copy(deep=True) for record in records]
    for record in scored:
        free = free_confidence(record)
        record.confidence.update({name: free[name] for name in sources if name in FREE})
        record.cost.update({name: Cost() for name in sources if name in FREE})
    new = [record for record in scored if record.split != "train"]
    if wanted := [source for source in sources if source in READ]:
        assert model is not None
        _read(model, scored, new, wanted, progress)
    if "self_ref" in sources:
        assert model is not None
        _self_ref(model, scored, new)
    if "p_true" in sources:
        assert model is not None
        _p_true(model, scored, new, progress)
    for source in sources:
        if source in TEXT:
            _text(scored, new, source)
    _floors(scored, [source for source in sources if source in FLOORS], seed)
    return scored


def available(records: Sequence[Record], model: ConfidenceModel | None) -> list[str]:
    """The sources that these records and this model can give."""
    found = [source for source in FREE if any(free_confidence(r)[source] is not None for r in records)]
    splits = {record.split for record in records if record.correct is not None}
    if {"train", "validation"} <= splits:
        found += TEXT
    if model is not None:
        checkpoint = model.checkpoint
        found += ["stack", "probe", "probe_logprobs"] if checkpoint.stack else []
        found += ["reader"] if checkpoint.reader else []
        found += ["self_ref"] if checkpoint.method == "self_ref" else []
        if "validation" in splits and checkpoint.method != "self_ref":
            found.append("p_true")
    return [source for source in SOURCES if source in found or source in FLOORS]


def _fill(
    scored: Sequence[Record], new: Sequence[Record], source: str, values: NDArray[np.float64], cost: Cost
) -> None:
    for record in scored:
        record.confidence[source] = None
    for record, value in zip(new, values.tolist(), strict=True):
        record.confidence[source] = None if np.isnan(value) else value
        record.cost[source] = cost


def _read(
    model: ConfidenceModel,
    scored: Sequence[Record],
    new: Sequence[Record],
    wanted: Sequence[str],
    progress: Progress | None,
) -> None:
    from confide.annotation import check_context
    from confide.estimators.states import collect

    checkpoint, engine = model.checkpoint, model.engine
    lengths = {r.id: [*engine.encode(r.messages), *(r.answer_ids or engine.encode_answer(r.answer))] for r in new}
    check_context(lengths, 1 + (len(checkpoint.reader.ask) if checkpoint.reader else 0), engine.context)
    spent = 0.0

    def verdict(kept: object) -> NDArray[np.float64]:
        nonlocal spent
        assert checkpoint.reader is not None
        began = time.monotonic()
        z = checkpoint.reader.z(engine, kept).cpu().numpy().astype(np.float64)
        spent += time.monotonic() - began
        return z

    states, z = collect(engine, new, model.layers, reader=verdict if "reader" in wanted else None, progress=progress)
    if checkpoint.reader is not None and "reader" in wanted:
        tokens = len(checkpoint.reader.ask) + 1
        _fill(scored, new, "reader", 1 / (1 + np.exp(-z)), Cost(tokens=tokens, seconds=spent / max(1, len(new))))
    if checkpoint.stack is not None:
        began = time.monotonic()
        read = checkpoint.stack.read(states, new)
        cost = Cost(tokens=1, seconds=(time.monotonic() - began) / max(1, len(new)))
        for name, values in (
            ("stack", read.confidence),
            ("probe", read.probe),
            ("probe_logprobs", read.ungated),
        ):
            if name in wanted:
                _fill(scored, new, name, values, cost)
        for record, familiarity in zip(new, read.familiarity.tolist(), strict=True):
            record.familiarity = round(familiarity, 6)


def _self_ref(model: ConfidenceModel, scored: Sequence[Record], new: Sequence[Record]) -> None:
    from confide.signals import token_ids
    from confide.training.self_ref_reading import read_verdicts

    engine = model.engine
    began = time.monotonic()
    values = read_verdicts(engine.model, engine.tokenizer, new, token_ids(engine.tokenizer))
    cost = Cost(tokens=1, seconds=(time.monotonic() - began) / max(1, len(new)))
    _fill(scored, new, "self_ref", np.asarray(values), cost)


def _p_true(model: ConfidenceModel, scored: Sequence[Record], new: Sequence[Record], progress: Progress | None) -> None:
    from confide.estimators.p_true import PROMPTS, choose, yes_shares

    validation = [record for record in new if record.split == "validation" and record.correct is not None]
    shares, _, _ = yes_shares(model.engine, validation, range(len(PROMPTS)), progress=progress)
    chosen = choose(shares, np.array([bool(record.correct) for record in validation]))
    shares, tokens, seconds = yes_shares(model.engine, new, [chosen.prompt], progress=progress)
    _fill(scored, new, "p_true", chosen.predict(shares), Cost(tokens=tokens, seconds=seconds))


def _text(scored: Sequence[Record], new: Sequence[Record], source: str) -> None:
    from confide.estimators.text import STRENGTHS, AnswerTable, TextPrior, fit_on_validation
    from confide.training.rows import check_labels

    graded = [record for record in scored if record.correct is not None]
    train = [record for record in graded if record.split == "train"]
    validation = [record for record in graded if record.split == "validation"]
    check_labels(train)
    candidates: list[TextPrior] | list[AnswerTable]
    if source == "answer_only_table":
        candidates = [AnswerTable(strength) for strength in (1.0, 2.0, 5.0)]
    else:
        candidates = [TextPrior("question" if source == "question_only" else "answer", C) for C in STRENGTHS]
    prior = fit_on_validation(candidates, train, validation)
    _fill(scored, new, source, prior.predict(new), Cost())


def _floors(scored: Sequence[Record], floors: Sequence[str], seed: int) -> None:
    """``constant``: the base rate of train rows (of all, without splits); ``shuffled``: the best source, shuffled."""
    if not floors:
        return
    graded = [r for r in scored if r.correct is not None]
    train = [r for r in graded if r.split == "train"] or graded
    base = float(np.mean([bool(r.correct) for r in train])) if train else 0.5
    names = [name for name in ("stack", "reader", "logprob_sum", "given") if name in scored[0].confidence]
    held = [r for r in scored if r.split != "train"]
    values = [r.confidence.get(names[0]) for r in held] if names else [base] * len(held)
    order = np.random.default_rng(seed).permutation(len(held))
    for record in scored:
        record.confidence.update(dict.fromkeys(floors))
    for place, record in enumerate(held):
        if "constant" in floors:
            record.confidence["constant"] = base
        if "shuffled" in floors:
            record.confidence["shuffled"] = values[order[place]]
