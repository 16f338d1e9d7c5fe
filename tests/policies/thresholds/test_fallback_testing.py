from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from confide.policies import Budget, Unmet, calibrate_policy
from confide.policies.thresholds.fallback_testing import Plan, loosest_rejected
from confide.records import Record


@pytest.mark.parametrize(
    ("p_values", "added", "last"),
    [
        ([0.01, 0.04, 0.06, 0.0], [0.05, 0, 0, 0], 1),  # one start: the walk ends at the first that does not reject
        ([0.06, 0.0], [0.05, 0], None),
        ([0.2, 0.001, 0.001, 0.2], [0.045, 0, 0.005, 0], 2),  # a later start goes on with its own share alone
        ([0.2, 0.001, 0.02, 0.001], [0.045, 0, 0.005, 0], None),
        ([0.04, 0.04, 0.049], [0.045, 0, 0.005], 2),  # what is at hand adds up
        ([0.0], [0.0], None),  # nothing may be rejected with nothing
        ([], [], None),
    ],
)
def test_walk(p_values, added, last):
    assert loosest_rejected(lambda i, error: p_values[i] <= error, np.array(added)) == last


@given(
    st.integers(1, 8).flatmap(
        lambda n: st.tuples(
            st.lists(st.integers(0, 20), min_size=n, max_size=n), st.lists(st.integers(0, 4), min_size=n, max_size=n)
        )
    )
)
def test_is_the_fallback_procedure(case):
    # Wiens (2003), written the other way: a test's level is its own share and that of every test before it since the
    # last that did not reject. In twentieths, so that sums are exact.
    p, own = case
    levels, rejected = [], []
    for i in range(len(p)):
        levels.append(own[i] + (levels[-1] if i and rejected[-1] else 0))
        rejected.append(p[i] <= levels[i] and levels[i] > 0)
    expected = max((i for i, passed in enumerate(rejected) if passed), default=None)
    assert loosest_rejected(lambda i, error: p[i] <= error, np.array(own, float)) == expected


def test_ties_are_tested_together_and_their_shares_add_up():
    plan = Plan(np.array([1, 2, 4, 6]), np.array([0.03, 0.0, 0.02, 0.0]))
    tied = plan.at_ties(np.array([0.9, 0.8, 0.8, 0.8, 0.7, 0.6, 0.6]))
    assert tied.kept.tolist() == [1, 4, 7]
    assert tied.added.tolist() == [0.03, 0.02, 0.0]


def test_an_unmet_budget_is_not_blamed_on_how_well_a_confidence_ranks():
    rows = [Record(id=str(i), confidence={"given": i / 200 if i % 3 else None}, correct=True) for i in range(200)]
    unmet = calibrate_policy(rows, "given", Budget(0.2))
    assert isinstance(unmet, Unmet)
    told = unmet.explain("given")
    assert "as 33.5% of the rows have no confidence and escalate" in told
    assert "What would help: confidences for the rows that have none, or a source that more of them have;" in told
    assert "tells right from wrong" not in told
