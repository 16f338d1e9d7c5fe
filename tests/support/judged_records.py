"""Records of which a judge has judged all and the truth is known of some, as one would get them from a benchmark."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from confide.numeric import Floats
from confide.records import Record

Rate = Callable[[Floats], Floats]
"""From confidences [n] to probabilities [n]."""


def judged_records(
    rng: np.random.Generator, n: int, labels: int, risk: Rate, missing: Rate, alarming: Rate, prefix: str = "r"
) -> list[Record]:
    """``n`` rows, of which ``labels`` drawn at random are labelled.

    Args:
        risk: how likely an answer is wrong, by its confidence, which is uniform on [0, 1].
        missing: how likely the judge calls a wrong answer right.
        alarming: how likely it calls a right one wrong.
    """
    c = rng.random(n)
    wrong = rng.random(n) < risk(c)
    said_wrong = np.where(wrong, rng.random(n) >= missing(c), rng.random(n) < alarming(c))
    known = rng.permutation(n) < labels
    return [
        Record(
            id=f"{prefix}{i}",
            confidence={"given": float(c[i])},
            correct=not wrong[i] if known[i] else None,
            judged=not said_wrong[i],
            judged_by="big",
        )
        for i in range(n)
    ]
