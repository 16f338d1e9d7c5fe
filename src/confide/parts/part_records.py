"""Records of parts: every part of an answer as the answer of a record of its own.

What was written before a part takes the place of reasoning. So every method reads the part alone, in its place: its
log-probabilities, its states, and how sure the model was of going on as it did (``end_logprob``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from confide.errors import ConfideError
from confide.parts.json_values import json_values
from confide.parts.part import Part, token_span
from confide.parts.sentences import sentence_parts
from confide.parts.steps import line_parts, step_parts
from confide.parts.tool_arguments import argument_parts
from confide.records import Record

_OF_THE_WHOLE = (
    "samples",
    "sampled_with",
    "consistency",
    "choices",
    "option_logprobs",
    "reading",
    "read_by",
    "signals",
    "judged",
    "judged_by",
    "graded_by",
    "grade_error",
    "answered",
    "familiarity",
    "confidence",
    "cost",
    "scored_by",
)
"""What a record says of its answer as a whole."""


def field_parts(text: str) -> list[Part]:
    """The arguments of tool calls in a text; without a call the values of its JSON."""
    return argument_parts(text) or json_values(text).parts


PARTS: dict[str, Callable[[str], list[Part]]] = {
    "fields": field_parts,
    "sentences": sentence_parts,
    "lines": line_parts,
    "steps": step_parts,
}
"""What an answer can be split by."""


PartGrader = Callable[[Part], tuple[bool | None, Any]]
"""Whether a part is right (None: that is not known), and its reference."""


@dataclass(frozen=True)
class Summary:
    """What came of the answers of a file.

    Answers are counted in ``records``, ``without`` (parts), ``untold`` (their parts have no tokens), ``unfinished``
    (JSON that is cut or broken); the others count parts and keys.
    """

    records: int
    parts: int
    graded: int
    right: int
    without: int
    untold: int
    unfinished: int
    duplicates: int


def split_records(
    records: Sequence[Record], by: str, grader: Callable[[Any], PartGrader] | None = None
) -> tuple[list[Record], Summary]:
    """The records of all parts of many answers, by one of `PARTS`.

    Args:
        grader: what grades fields by a record's reference; parts of other kinds are not graded.

    Raises:
        ConfideError: a record is that of a part.
    """
    if again := next((record for record in records if record.part), None):
        raise ConfideError(f"row {again.id} is a part of an answer already: give the records of whole answers")
    found: list[Record] = []
    without = untold = unfinished = duplicates = 0
    for record in records:
        grade = grader(record.reference) if grader and by == "fields" else None
        made = part_records(record, PARTS[by](record.answer), grade)
        found += made
        without += not made
        untold += any(not part.logprobs for part in made)
        if by == "fields":
            values = json_values(record.answer)
            unfinished += values.state in ("cut", "broken")
            duplicates += len(values.duplicates)
    labels = [part.correct for part in found if part.correct is not None]
    counts = len(records), len(found), len(labels), sum(labels), without, untold, unfinished, duplicates
    return found, Summary(*counts)


def part_records(record: Record, parts: Sequence[Part], grade: PartGrader | None = None) -> list[Record]:
    """The records of an answer's ``parts``, with the tokens that each of them overlaps.

    The whole answer's confidence is kept as ``whole``: source to confidence. Parts that are not graded keep the right
    answer to the question, for a judge to read. Where it is not known at which characters the tokens start, a part has
    no log-probabilities.
    """
    starts, count = record.token_starts, max(len(record.answer_ids), len(record.logprobs))
    told = bool(starts) and len(starts) == count
    records = []
    for part in parts:
        correct, reference = grade(part) if grade else (None, None if record.choices else record.reference)
        update = {name: Record.model_fields[name].get_default(call_default_factory=True) for name in _OF_THE_WHOLE} | {
            "id": f"{record.id}#{part.name}",
            "part": part.name,
            "kind": "short",
            "domain": part.kind or record.domain,
            "entity": record.cluster,
            "answer": part.text,
            "reference": reference,
            "correct": correct,
            "finish": "stop",
            "whole": dict(record.confidence),
        }
        first, last = token_span(part.start, part.end, starts) if told else (0, 0)
        records.append(record.model_copy(update=update | _tokens(record, part, first, last)))
    return records


def _tokens(record: Record, part: Part, first: int, last: int) -> dict[str, Any]:
    """What a part has of the answer's tokens, those from ``first`` to before ``last``."""
    after = record.logprobs[last] if last < len(record.logprobs) else record.end_logprob
    # Offsets are the part's own where its text is what was written: a JSON string may stand for other characters.
    same = record.answer[part.start : part.end] == part.text
    return {
        "reasoning": record.answer[: record.token_starts[first]] if last else None,
        "reasoning_ids": [*record.reasoning_ids, *record.answer_ids[:first]],
        "answer_ids": record.answer_ids[first:last],
        "logprobs": record.logprobs[first:last],
        "entropies": record.entropies[first:last],
        "token_starts": [max(at - part.start, 0) for at in record.token_starts[first:last]] if same else [],
        "end_logprob": after if last else None,
    }
