from __future__ import annotations

import math
from itertools import combinations_with_replacement

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, binom

from confide.errors import ConfideError
from confide.policies.goals import Costs
from confide.policies.thresholds.cluster_bound import Clusters
from confide.policies.thresholds.escalation_thresholds import (
    budget_threshold,
    cheapest_thresholds,
    cost_of,
    false_alarm_threshold,
    match_expert_threshold,
)
from confide.policies.thresholds.fallback_testing import BoundedThreshold, Unmet
from confide.policies.thresholds.paired_bound import PairedCount, loss_interval

GRID = np.linspace(0, 1, 101)


def budget_of(*arguments) -> BoundedThreshold:
    found = budget_threshold(*arguments)
    assert isinstance(found, BoundedThreshold)
    return found


def test_a_budget_threshold_is_the_order_statistic_whose_share_is_bounded():
    # Wilks: the share below the (j + 1)-th lowest of n is Beta(j + 1, n − j); j is the largest with P(> 0.3) ≤ 0.05.
    found = budget_of(np.arange(100), 0.3, 0.95)
    j = found.count.bad
    assert found.threshold == j
    assert beta.sf(0.3, j + 1, 100 - j) <= 0.05 < beta.sf(0.3, j + 2, 99 - j)
    assert binom.cdf(j, 100, 0.3) <= 0.05 < binom.cdf(j + 1, 100, 0.3)


def test_ties_stay_together_on_the_side_of_the_budget():
    confidence = np.repeat([0.1, 0.5, 0.9], [20, 60, 20])
    found = budget_of(confidence, 0.5, 0.95)
    assert (found.threshold, found.count.bad) == (0.5, 20)
    assert budget_of(np.full(100, 0.5), 0.5, 0.95).count.bad == 0


def test_rows_without_a_confidence_use_the_budget():
    confidence = np.r_[np.full(10, -np.inf), np.arange(90)]
    found = budget_of(confidence, 0.3, 0.95)
    assert found.count.bad == budget_of(np.arange(100), 0.3, 0.95).count.bad
    assert found.threshold == found.count.bad - 10
    too_many = budget_threshold(np.r_[np.full(40, -np.inf), np.arange(60)], 0.3, 0.95)
    assert isinstance(too_many, Unmet)
    assert too_many.attainable is not None
    assert too_many.attainable.observed == 0.4


def test_an_expert_that_harms_is_asked_less():
    gain = np.r_[np.ones(10), np.full(90, -1.0)]  # only the ten least sure rows gain
    found = budget_of(np.arange(100), 0.3, 0.95, gain)
    assert found.count.bad == 10
    assert budget_of(np.arange(100), 0.3, 0.95, -np.ones(100)).count.bad == 0


@settings(max_examples=40)
@given(st.integers(0, 1000), st.sampled_from([0.1, 0.3, 0.6]), st.integers(60, 200))
def test_never_more_than_the_budget_on_its_own_rows(seed, budget, n):
    rng = np.random.default_rng(seed)
    confidence = np.round(rng.normal(size=n), 1)
    found = budget_of(confidence, budget, 0.95, rng.integers(-1, 2, n))
    assert found.count.bad == (confidence < found.threshold).sum() <= budget * n


def test_a_bad_budget_is_named():
    with pytest.raises(ConfideError, match="needs at least 9 independent rows, got 8"):
        budget_threshold(np.arange(8), 0.3, 0.95)
    with pytest.raises(ConfideError, match="budget must lie strictly between 0 and 1, got 30"):
        budget_threshold(np.arange(100), 30, 0.95)


@pytest.mark.parametrize(("limit", "level"), [(0.01, 0.9), (0.05, 0.95), (0.05, 0.975), (0.2, 0.99)])
@pytest.mark.parametrize("n", [459, 460, 500, 933, 2000])
def test_a_false_alarm_threshold_is_the_highest_order_statistic_that_holds_at_the_level(n, limit, level):
    # The share of fine answers below the k-th lowest of n is Beta(k, n + 1 − k): at most the limit with
    # P(Binomial(n, limit) ≥ k).
    k = max(k for k in range(1, n + 1) if binom.sf(k - 1, n, limit) >= level)
    assert beta.cdf(limit, k, n + 1 - k) >= level > beta.cdf(limit, k + 1, n - k)
    scores = np.random.default_rng(n).permutation(np.arange(1.0, n + 1))
    found = false_alarm_threshold(scores, limit, level)
    assert isinstance(found, BoundedThreshold)
    assert (found.threshold, found.count.bad, found.count.kept) == (k, k - 1, n - k + 1)
    assert (k - 1) / n <= found.upper_bound <= limit


def test_the_fewest_fine_rows_are_those_that_show_the_limit_when_none_is_flagged():
    for limit, level in ((0.05, 0.95), (0.01, 0.95), (0.1, 0.9)):
        fewest = next(n for n in range(1, 1000) if 1 - (1 - limit) ** n >= level)
        found = false_alarm_threshold(np.arange(fewest), limit, level)
        assert isinstance(found, BoundedThreshold)
        assert found.count.bad == 0
        with pytest.raises(ConfideError, match=rf"need at least {fewest} independent fine rows .* got {fewest - 1}"):
            false_alarm_threshold(np.arange(fewest - 1), limit, level)
    with pytest.raises(ConfideError, match="false-alarms must lie strictly between 0 and 1, got 5"):
        false_alarm_threshold(np.arange(100), 5, 0.95)
    few = Clusters(np.arange(40) // 10, 10)
    with pytest.raises(ConfideError, match=r"needs about [\d,]+ fine rows .* up to 10, got 40"):
        false_alarm_threshold(np.arange(40), 0.05, 0.95, few)


def test_fine_answers_that_tie_with_the_threshold_are_kept_and_those_without_a_confidence_are_not():
    tied = false_alarm_threshold(np.repeat([0.2, 0.5, 0.9], [3, 40, 57]), 0.1, 0.95)
    assert isinstance(tied, BoundedThreshold)
    assert (tied.threshold, tied.count.bad) == (0.5, 3)
    missing = false_alarm_threshold(np.r_[np.full(3, -np.inf), np.arange(97)], 0.1, 0.95)
    assert isinstance(missing, BoundedThreshold)
    assert missing.count.bad == 4
    assert missing.threshold == 1
    unmet = false_alarm_threshold(np.r_[np.full(9, -np.inf), np.arange(91)], 0.1, 0.95)
    assert isinstance(unmet, Unmet)
    assert (unmet.goal, unmet.attainable and unmet.attainable.observed) == ("false_alarms", 0.09)


def rows(n: int, seed: int = 0, small: float = 0.7, big: float = 0.95):
    rng = np.random.default_rng(seed)
    score = rng.random(n)
    return score, rng.random(n) < small + (1 - small) * score**2, rng.random(n) < big


def test_matching_agrees_with_its_own_rows():
    score, correct, expert = rows(1500)
    found = match_expert_threshold(score, correct, expert, 0.03, 0.95)
    assert isinstance(found, BoundedThreshold)
    assert isinstance(found.count, PairedCount)
    kept = score >= found.threshold
    assert found.count.kept == kept.sum()
    assert (found.count.losses, found.count.gains) == (
        (kept & expert & ~correct).sum(),
        (kept & correct & ~expert).sum(),
    )
    assert loss_interval(found.count.losses, found.count.gains, 1500, 0.95)[1] <= 0.03 + 1e-4


def test_an_expert_that_is_no_better_is_not_needed():
    score, correct, _ = rows(2000)
    found = match_expert_threshold(score, correct, correct, 0.01, 0.95)
    assert isinstance(found, BoundedThreshold)
    assert found.count.kept == 2000


def test_rows_without_a_confidence_are_never_kept():
    score, correct, _ = rows(1000)
    score[:300] = -np.inf
    found = match_expert_threshold(score, correct, correct, 0.02, 0.95)
    assert isinstance(found, BoundedThreshold)
    assert (found.count.kept, found.n) == (700, 1000)
    assert math.isfinite(found.threshold)


def test_an_expert_out_of_reach_says_what_could_be_met():
    rng = np.random.default_rng(3)
    found = match_expert_threshold(rng.random(400), rng.random(400) < 0.2, np.ones(400, bool), 0.01, 0.95)
    assert isinstance(found, Unmet)
    assert found.attainable is not None
    again = match_expert_threshold(rng.random(400), np.zeros(400, bool), np.ones(400, bool), 0.01, 0.95)
    assert isinstance(again, Unmet)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"margin": 0.0}, "match-expert must lie strictly between 0 and 1, got 0"),
        ({"level": 1.5}, "level must lie"),
        ({"confidence": [math.nan] * 500}, "missing must be −inf"),
        ({"expert": [True] * 499}, "one length"),
        ({"margin": 0.001}, "at least 3025 independent rows, got 500"),
    ],
)
def test_bad_input_to_matching_is_named(changes, says):
    arguments = {
        "confidence": np.arange(500.0), "correct": [True] * 500, "expert": [True] * 500, "margin": 0.05, "level": 0.95,
    }  # fmt: skip
    with pytest.raises(ConfideError, match=says):
        match_expert_threshold(**(arguments | changes))


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


@settings(max_examples=60)
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
