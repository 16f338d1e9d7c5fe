"""Selection: which questions a model is trained on, by how it rates its own hedging.

Metacognitive data selection (Liu et al. 2026, 2606.32032, the data ablation): the questions on which the model finds
that its wording fits its confidence best and worst. The released code stores a rating that it cannot read below every
other one, so failures to answer are selected as if they were the worst fits; here they are dropped and counted.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from confide.engines.engine import Engine
from confide.errors import ConfideError
from confide.methods.asking import ask_each, question_shown
from confide.methods.rlmf.rlmf_config import How
from confide.progress import Progress
from confide.records import Record
from confide.sources import as_probability

HEDGING_PROMPT = (
    "Below are a question and your own answer to it. Look at how the answer is worded: does it sound as sure, or as "
    "unsure, as you really are inside?\n\n{question}\nYour answer: {answer}\nHow well does the decisiveness "
    "of your wording fit your inner confidence in the answer, from 0 (not at all) to 100 (perfectly)? Reply with a "
    "whole number from 0 to 100 only."
)
"""What the model is asked about its own answer."""

MAX_NEW_TOKENS = 8

# A label may stand in front ("Rating: 85"), no sentence: "it is not 100% right" rates nothing.
_RATING = re.compile(
    r"[^\w-]*(?:(?:[^\W\d]+\s+){0,2}[^\W\d]+:\s*)?(?P<value>\d+)(?![.,]?\d)(?:\s*(?:/|out of)\s*(?P<whole>\d+))?",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Selection:
    """The chosen records, in the order in which they came, and how many could not take part for want of a score."""

    records: tuple[Record, ...]
    dropped: int


def rate(engine: Engine, records: Sequence[Record], *, progress: Progress | None = None) -> list[int | None]:
    """How well the model finds that each record's answer is hedged [n], from 0 to 100; None: it gave no such number.

    The records' answers are the model's own. Raises `ConfideError` for rows that do not fit its context.
    """
    texts = [HEDGING_PROMPT.format(question=question_shown(record), answer=record.answer) for record in records]
    names = [record.id for record in records]
    return [
        parse_rating(reply)
        for reply in ask_each(engine, texts, MAX_NEW_TOKENS, note="rating", names=names, progress=progress)
    ]


def parse_rating(text: str) -> int | None:
    """The number that a reply starts with, where that is a whole one from 0 to 100, or out of 100; else None.

    >>> parse_rating("85."), parse_rating("Rating: 70/100"), parse_rating("7 out of 10"), parse_rating("0.85")
    (85, 70, None, None)
    """
    match = _RATING.match(text)
    if match is None or int(match["value"]) > 100:
        return None
    return int(match["value"]) if match["whole"] is None or int(match["whole"]) == 100 else None


def select(
    records: Sequence[Record],
    scores: Sequence[int | None] | None,
    n: int,
    how: How,
    seed: int,
    *,
    source: str | None = None,
) -> Selection:
    """Choose ``n`` records to train on.

    * ``metacognitive``: the n/2 with the highest and the n/2 with the lowest ``scores`` [len(records)], as `rate`
      gives them (of an odd n one more of the lowest); records without a score are dropped.
    * ``random``: any; ``scores`` play no part.
    * ``active``: those on which |c − g| is largest, the confidence of ``source`` against the record's consistency: the
      rival that needs to know g. Records without either are dropped.

    Equal scores are ordered by ``seed``, and the order of ``records`` does not matter. Raises `ConfideError` when
    fewer than ``n`` records take part, with both numbers.
    """
    if how not in get_args(How):
        raise ConfideError(f"no selection {how!r}: there is {', '.join(get_args(How))}")
    if n < 1:
        raise ConfideError(f"at least one record has to be chosen, not {n}")
    values: Sequence[float | None] = [0.0] * len(records)
    what = "are there"
    if how == "active":
        values, what = _gaps(records, source), f"have a consistency and a confidence of {source}"
    elif how == "metacognitive":
        if scores is None or len(scores) != len(records):
            count = "none" if scores is None else len(scores)
            raise ConfideError(f"metacognitive selection takes one rating a record: {len(records)} records, {count}")
        values, what = scores, "have a rating that can be read"
    known = {i: value for i, value in enumerate(values) if value is not None}
    if len(known) < n:
        raise ConfideError(f"{n} records are wanted, but only {len(known)} of {len(records)} {what}")
    # Sorted first, so that a file in another order gives the same choice; then the seed decides between equal scores.
    order = sorted(range(len(records)), key=lambda i: records[i].id)
    random.Random(f"select-{seed}").shuffle(order)
    ranked = sorted((i for i in order if i in known), key=lambda i: known[i])
    half = n // 2 if how == "metacognitive" else 0
    chosen = ranked[: n - half] + (ranked[-half:] if half else [])
    return Selection(tuple(records[i] for i in sorted(chosen)), len(records) - len(known))


def _gaps(records: Sequence[Record], source: str | None) -> list[float | None]:
    """−|c − g| of each record, so that the largest gap comes first; None where one of them is missing."""
    if source is None:
        there = sorted({name for record in records for name in record.confidence})
        raise ConfideError(
            f"active selection takes the source of the confidence: there is {', '.join(there) or 'none'}"
        )
    pairs = [(record.confidence.get(source), record.consistency) for record in records]
    return [None if c is None or g is None else -abs(float(as_probability(source, c)) - g) for c, g in pairs]
