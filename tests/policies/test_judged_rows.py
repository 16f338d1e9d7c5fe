"""Policies on a judge's verdicts: kept although the judge errs, and broken where it is taken at its word."""

from __future__ import annotations

import numpy as np
import pytest

from confide.policies import MaxRisk, Policy, calibrate_policy
from confide.policies.thresholds import fallback_testing
from judged_records import Rate, judged_records

SETS = 400
LIMIT = 0.3


def flat(share: float) -> Rate:
    return lambda c: np.full(len(c), share)


def falling(c):
    return 0.6 * (1 - c)


@pytest.fixture
def no_hints(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sets that miss the goal are not searched for another limit, which takes most of the time."""
    monkeypatch.setattr(fallback_testing, "LIMITS", 0)


@pytest.mark.parametrize(
    ("missing", "alarming"),
    [
        (lambda c: 0.2 + 0.6 * c, flat(0.0)),  # misses more of the errors of surer answers: 0.16 of all rows
        (flat(0.0), lambda c: 0.3 * (1 - c)),  # raises more false alarms on less sure ones: 0.10
    ],
)
@pytest.mark.usefixtures("no_hints")
def test_the_promise_is_kept_whatever_the_judge_misses(missing: Rate, alarming: Rate) -> None:
    rng = np.random.default_rng(5)
    risk = flat(LIMIT + 0.01)  # so that every policy that answers anything breaks its promise
    sets = [judged_records(rng, 400, 120, risk, missing, alarming) for _ in range(SETS)]
    broken = sum(isinstance(calibrate_policy(rows, "given", MaxRisk(LIMIT)), Policy) for rows in sets)
    assert broken <= 0.05 * SETS + 2 * np.sqrt(0.05 * 0.95 * SETS)


@pytest.mark.usefixtures("no_hints")
def test_a_judge_that_is_taken_at_its_word_breaks_the_promise() -> None:
    rng = np.random.default_rng(5)
    sets = [
        judged_records(rng, 400, 120, flat(LIMIT + 0.01), lambda c: 0.2 + 0.6 * c, flat(0.0)) for _ in range(SETS // 10)
    ]
    blind = [[row.model_copy(update={"correct": row.judged}) for row in rows] for rows in sets]
    broken = sum(isinstance(calibrate_policy(rows, "given", MaxRisk(LIMIT)), Policy) for rows in blind)
    assert broken > 0.9 * len(sets)
