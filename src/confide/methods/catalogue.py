"""The sources that ``confide score`` knows, and which of them a model and records can give."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from confide.errors import ConfideError
from confide.methods.free import FREE, OPTION, free_confidence
from confide.methods.sampled import self_consistency
from confide.records import Record

if TYPE_CHECKING:
    from confide.model import ConfidenceModel

STATE = ("stack", "probe", "probe_logprobs")
"""Read from the states of the closed answer; so are the probes of one position each."""

POSITIONED = ("probe@prompt_end", "probe@answer_last", "probe@closing")
ASK = ("reader", "reader_random", "p_true_trained")
"""Read at tokens that are fed after the closed answer."""

READ = (*STATE, *POSITIONED, *ASK)
"""Everything that a pass over the closed answers gives; learned, so train rows get None."""

MEASURED = tuple(name for name in FREE if name != "answer_length")
"""Free sources that a pass over given answers measures anew."""

STATED = ("graded", "tagged", "f_pred")
"""What a model trained to state its confidence says of an answer, and how it judges that (`confide train rlmf`)."""

ASKED = ("p_true", "verbalized")
SAMPLED = ("self_consistency", "semantic_entropy")
OUTSIDE = ("verifier",)
TEXT = ("question_only", "answer_only", "answer_only_table")
FLOORS = ("constant", "shuffled")
SOURCES = (*READ, "self_ref", *STATED, *ASKED, *OUTSIDE, *SAMPLED, OPTION, *FREE, *TEXT, *FLOORS)

SLOW = ("verbalized",)
"""Sources that generate for every row: in ``all``, not in ``standard``."""


def available(
    records: Sequence[Record], model: ConfidenceModel | None, *, verifier: bool = False, slow: bool = True
) -> list[str]:
    """The sources that these records and this model can give, in the order of `SOURCES`.

    ``verifier``: another model is there to judge; ``slow`` False leaves out `SLOW`.
    """
    free = [free_confidence(record) for record in records]
    found = [name for name in (*FREE, OPTION) if any(values.get(name) is not None for values in free)]
    splits = {record.split for record in records if record.correct is not None}
    found += TEXT if {"train", "validation"} <= splits else ()
    found += ["self_consistency"] if any(self_consistency(record) is not None for record in records) else []
    found += ["semantic_entropy"] if any(len(record.samples or []) > 1 for record in records) else []
    found += OUTSIDE if verifier and "validation" in splits else ()
    if model is not None:
        checkpoint = model.checkpoint
        found += STATE if checkpoint.stack else ()
        found += [*checkpoint.probes, *checkpoint.compared]
        found += ["reader"] if checkpoint.reader else []
        found += ["self_ref"] if checkpoint.method == "self_ref" else []
        found += [checkpoint.statement, "f_pred"] if checkpoint.statement else []
        found += ASKED if "validation" in splits and checkpoint.method not in ("self_ref", "stated") else ()
    return [name for name in SOURCES if (name in found or name in FLOORS) and (slow or name not in SLOW)]


def check_sources(
    sources: Sequence[str], records: Sequence[Record], model: ConfidenceModel | None, verifier: bool
) -> None:
    """Raise `ConfideError` for an unknown source, or one that the model or the records cannot give."""
    if unknown := [source for source in sources if source not in SOURCES]:
        raise ConfideError(f"no source {unknown[0]!r}: there is {', '.join(SOURCES)}")
    known = available(records, model, verifier=verifier)
    if missing := [source for source in sources if source not in known]:
        raise ConfideError(f"the source {missing[0]} cannot be had from this model and these records")
