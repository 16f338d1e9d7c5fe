"""The number of rows that an unmet goal asks for, against fresh draws of as many rows."""

from __future__ import annotations

import numpy as np
import pytest

from confide.policies import Budget, FalseAlarms, MaxRisk, Policy, calibrate_policy
from confide.policies.thresholds.fallback_testing import Unmet
from confide.records import Record


def rows(n: int, seed: int, harder: float, missing: float = 0.0, each: int = 1) -> list[Record]:
    """Rows that are right ``harder`` less often than they say; entities of ``each`` rows."""
    rng = np.random.default_rng(seed)
    c = rng.uniform(0.5, 1, n)
    right, there = rng.random(n) < c - harder, rng.random(n) >= missing
    return [
        Record(id=f"{i}", entity=f"e{i // each}", confidence={"given": float(x) if t else None}, correct=bool(y))
        for i, (x, y, t) in enumerate(zip(c, right, there, strict=True))
    ]


@pytest.mark.parametrize(
    ("goal", "n", "options"),
    [
        (MaxRisk(0.1), 120, {"harder": 0.01}),
        (MaxRisk(0.1, per="entity"), 240, {"harder": 0.01, "each": 2}),
        (Budget(0.2), 60, {"harder": 0.0, "missing": 0.12}),
        (FalseAlarms(0.2), 80, {"harder": 0.0, "missing": 0.12}),
    ],
)
def test_as_many_fresh_rows_meet_the_goal_in_most_draws(goal, n, options):
    tried = met = 0
    for seed in range(30):
        found = calibrate_policy(rows(n, seed, **options), "given", goal, calibrator="platt")
        if not isinstance(found, Unmet) or found.rows_needed is None:
            continue
        for fresh in range(5):
            again = rows(found.rows_needed, 1000 + 10 * seed + fresh, **options)
            met += isinstance(calibrate_policy(again, "given", goal, calibrator="platt"), Policy)
            tried += 1
        if tried == 20:
            break
    assert tried >= 10
    assert met / tried >= 0.7
