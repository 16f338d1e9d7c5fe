"""The parts of an answer that was just given, with how sure the model is of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from confide.engines.directions import Shares
from confide.engines.engine import Completion
from confide.methods.answer_traffic import Surroundings
from confide.methods.parts.part_reading import PartReading, free_confidence_of, part_logits
from confide.parts.answer_part import AnswerPart
from confide.parts.part import Part
from confide.parts.part_records import PARTS, part_records
from confide.records import Message, Record
from confide.signals import FIELD

SPLIT_BY = {FIELD.name: "fields"}
"""Signal → what answers are split by; any other by sentences."""

MOST_FIELDS = 200
"""Fields that are told of one answer: whoever asks may have a model write any number of them."""


def told_parts(
    signal: str,
    messages: Sequence[Message],
    answer: Completion,
    reading: PartReading | None = None,
    shares: Shares | None = None,
    traffic: Surroundings | None = None,
    parts: Sequence[Part] | None = None,
) -> list[AnswerPart]:
    """The parts of an answer in the order of its text.

    Args:
        reading: what was trained for them; None: the probability of each part's own tokens.
        shares: what the reading's directions read along the answer, reasoning included, [rows, position].
        traffic: what surrounds the parts; None: each other.
        parts: which parts; None: all that its text has. Of fields the first `MOST_FIELDS` are told.
    """
    record = Record(
        id="",
        messages=list(messages),
        answer=answer.text,
        answer_ids=answer.ids,
        logprobs=answer.logprobs,
        entropies=answer.entropies,
        end_logprob=answer.end_logprob,
        token_starts=answer.starts,
        reasoning_ids=answer.reasoning_ids,
    )
    if parts is None:
        parts = PARTS[SPLIT_BY.get(signal, "sentences")](answer.text)
    parts = parts[:MOST_FIELDS] if signal == FIELD.name else parts
    records = part_records(record, parts)
    if not records:
        return []
    if reading is None:
        told = [free_confidence_of(one) for one in records]
    else:
        z = None if reading.served is None else part_logits(reading.served, records, shares)
        told = reading.confidences(records, z, traffic)
    return [
        AnswerPart(part.name, part.text, _value(signal, part), confidence, source, part.start, part.end)
        for part, (confidence, source) in zip(parts, told, strict=True)
    ]


def _value(signal: str, part: Part) -> Any:
    return part.value if signal == FIELD.name else part.text
