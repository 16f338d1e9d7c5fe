from __future__ import annotations

import math
from itertools import combinations_with_replacement

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from confide.errors import ConfideError
from confide.policies.costs import Costs, cheapest_thresholds, cost_of


def test_parse():
    assert Costs.parse("answer=1, escalate=20,wrong=100,abstain=5") == Costs(1, 20, 100, 5)
    assert Costs.parse("wrong=1e2,answer=0,escalate=.5").abstain is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("answer=1,escalate=20", "--cost lacks wrong"),
        ("answer=1,escalate=20,wrong=100,late=3", "not late"),
        ("answer=1,escalate=20,wrong", "wants name=number, got 'wrong'"),
        ("answer=1,escalate=cheap,wrong=1", "wants name=number"),
        ("answer=1,escalate=-20,wrong=100", "cost of escalate must be a number of at least 0, got -20"),
        ("answer=nan,escalate=20,wrong=100", "cost of answer"),
    ],
)
def test_parse_bad_input(text, says):
    with pytest.raises(ConfideError, match=says):
        Costs.parse(text)


GRID = np.linspace(0, 1, 101)


def test_without_abstention_the_threshold_is_where_both_cost_the_same():
    # 1 + 100 (1 − p) = 20 at p = 0.81.
    found = cheapest_thresholds(GRID, GRID, np.ones(101), Costs(1, 20, 100))
    assert found.answer_from == pytest.approx(0.81)
    assert found.abstain_below is None


def test_an_expert_that_also_fails_leaves_room_for_all_three():
    # The expert is right with probability 0.5 + c / 2: escalating costs 10 + 50 (1 − c), under 40 from c = 0.4 on.
    found = cheapest_thresholds(GRID, GRID, 0.5 + GRID / 2, Costs(1, 10, 100, 40))
    assert found.abstain_below == pytest.approx(0.4)
    assert found.answer_from == pytest.approx(0.82)  # 1 + 100 (1 − c) = 10 + 50 (1 − c)


def test_cheap_abstention_leaves_nothing_to_the_expert():
    found = cheapest_thresholds(GRID, GRID, np.ones(101), Costs(1, 20, 100, 5))
    assert found.abstain_below == found.answer_from == pytest.approx(0.96)


def test_never_and_always():
    assert cheapest_thresholds(GRID, GRID, np.ones(101), Costs(50, 20, 100)).answer_from is None
    assert cheapest_thresholds(GRID, GRID, np.zeros(101), Costs(1, 20, 100)).answer_from == 0.0
    assert cheapest_thresholds(GRID, GRID, np.ones(101), Costs(50, 20, 100, 1)).abstain_below == math.inf


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.booleans())
def test_no_pair_of_thresholds_is_cheaper(seed, abstains):
    rng = np.random.default_rng(seed)
    n = 12
    c = np.round(rng.random(n), 1)  # with ties
    p, q = rng.random(n), rng.random(n)
    costs = Costs(*rng.integers(0, 50, 2).tolist(), 100, float(rng.integers(0, 60)) if abstains else None)
    found = cheapest_thresholds(c, p, q, costs)

    def total(low: float, high: float) -> float:
        answer, escalate = costs.answer + 100 * (1 - p), costs.escalate + 100 * (1 - q)
        return float(np.where(c >= high, answer, np.where(c >= low, escalate, costs.abstain or 0)).sum())

    low = -math.inf if found.abstain_below is None else found.abstain_below
    high = math.inf if found.answer_from is None else found.answer_from
    assert low <= high
    cuts = [-math.inf, *np.unique(c).tolist(), math.inf]
    options = [(a, b) for a, b in combinations_with_replacement(cuts, 2) if abstains or a == -math.inf]
    assert total(low, high) == pytest.approx(min(total(a, b) for a, b in options))


def test_cost_of_decisions():
    costs = Costs(1, 20, 100, 5)
    decisions = ["answer", "answer", "escalate", "escalate", "abstain"]
    assert cost_of(decisions, [1, 0, 0, 1, 0], [1, 1, 1, 0, 1], costs) == pytest.approx((1 + 101 + 20 + 120 + 5) / 5)
