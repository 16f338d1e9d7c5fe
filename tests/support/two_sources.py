"""Rows with two sources of confidence, for the tests of policies with an order of sources."""

from __future__ import annotations

from typing import Any

import numpy as np

from confide.policies import MaxRisk, Policy
from confide.policies.source_choice import calibrate_best_source
from confide.records import Record


def two_sources(
    n: int, seed: int = 0, *, sharp: float = 2.0, missing: float = 0.0, prefix: str = "r", **more: Any
) -> list[Record]:
    """``n`` answers with a ``stack`` and a ``logprob_sum``, each with noise of its own; 60 % are right.

    The free one is less sharp. A share ``missing`` of the rows has no ``stack``; a ``sharp`` of 0 says nothing.
    """
    rng = np.random.default_rng(seed)
    right = rng.random(n) < 0.6
    sign = np.where(right, 1.0, -1.0)
    stack = 1 / (1 + np.exp(-(2.5 * sign + rng.normal(size=n))))
    free = -np.exp(-(sharp * sign + rng.normal(size=n)))
    return [
        Record(
            id=f"{prefix}{i}",
            answer="an answer",
            correct=bool(right[i]),
            confidence={"stack": None if rng.random() < missing else float(stack[i]), "logprob_sum": float(free[i])},
            **{"model": "small", **more},
        )
        for i in range(n)
    ]


def ordered_policy() -> Policy:
    """A policy on `stack`, with `logprob_sum` where that is missing."""
    _, made = calibrate_best_source(
        two_sources(1500, missing=0.2), ["stack"], MaxRisk(0.1), fallbacks=["logprob_sum"], calibrator="platt"
    )
    assert isinstance(made, Policy)
    return made
