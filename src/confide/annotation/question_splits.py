"""How annotated questions are shared out among splits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from confide.errors import ConfideError

if TYPE_CHECKING:
    from confide.tasks.questions import Question

SHARES = {"validation": 0.1, "calibration": 0.2, "test": 0.2}
"""How annotated questions are shared out; training gets the rest."""


def split_questions(questions: Sequence[Question], by: str = "standard", seed: int = 0) -> dict[str, str]:
    """Question id → split, whole entities at a time, in the shares of `SHARES`; the last entity of a split exceeds it.

    A question that asks about nothing named is an entity of its own. Only ``relation`` leaves questions out: those of
    the tested domain whose entity other splits ask about, and those of other domains whose entity is tested.
    ``answered-country`` needs answers, so it is made afterwards from records (``confide split``).
    """
    from confide.tasks.splits import assign_splits

    if by == "answered-country":
        raise ConfideError("answered-country splits need answers: annotate first, then run confide split")
    sizes = {name: int(share * len(questions)) for name, share in SHARES.items()}
    splits: dict[str, str] = dict(assign_splits(questions, by, sizes, seed=seed))
    sides = {q.entity: splits[q.id] for q in questions if q.id in splits and q.entity is not None}
    tested = {q.domain for q in questions if splits.get(q.id) == "test"} if by == "relation" else set()
    for q in questions:
        if q.id in splits:
            continue
        held_out, side = q.domain in tested, sides.get(q.entity) if q.entity is not None else None
        if tested and side is not None and held_out != (side == "test"):
            continue
        splits[q.id] = side or ("test" if held_out else "train")
        if q.entity is not None:
            sides[q.entity] = splits[q.id]
    return splits
