from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, binom

from confide.errors import ConfideError
from confide.policies.budgets import budget_threshold


def test_the_threshold_is_the_order_statistic_whose_share_is_bounded():
    # Wilks: the share below the (j + 1)-th lowest of n is Beta(j + 1, n − j); j is the largest with P(> 0.3) ≤ 0.05.
    found = budget_threshold(np.arange(100), 0.3, 0.95)
    j = found.escalated
    assert found.threshold == j
    assert beta.sf(0.3, j + 1, 100 - j) <= 0.05 < beta.sf(0.3, j + 2, 99 - j)
    assert binom.cdf(j, 100, 0.3) <= 0.05 < binom.cdf(j + 1, 100, 0.3)


def test_ties_stay_together_on_the_side_of_the_budget():
    confidence = np.repeat([0.1, 0.5, 0.9], [20, 60, 20])
    found = budget_threshold(confidence, 0.5, 0.95)
    assert (found.threshold, found.escalated) == (0.5, 20)
    assert budget_threshold(np.full(100, 0.5), 0.5, 0.95).escalated == 0


def test_rows_without_a_confidence_use_the_budget():
    confidence = np.r_[np.full(10, -np.inf), np.arange(90)]
    found = budget_threshold(confidence, 0.3, 0.95)
    assert found.escalated == budget_threshold(np.arange(100), 0.3, 0.95).escalated
    assert found.threshold == found.escalated - 10
    too_many = budget_threshold(np.r_[np.full(40, -np.inf), np.arange(60)], 0.3, 0.95)
    assert too_many.threshold is None
    assert too_many.escalated == 40


def test_an_expert_that_harms_is_asked_less():
    gain = np.r_[np.ones(10), np.full(90, -1.0)]  # only the ten least sure rows gain
    found = budget_threshold(np.arange(100), 0.3, 0.95, gain)
    assert found.escalated == 10
    assert budget_threshold(np.arange(100), 0.3, 0.95, -np.ones(100)).escalated == 0


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([0.1, 0.3, 0.6]), st.integers(60, 200))
def test_never_more_than_the_budget_on_its_own_rows(seed, budget, n):
    rng = np.random.default_rng(seed)
    confidence = np.round(rng.normal(size=n), 1)
    found = budget_threshold(confidence, budget, 0.95, rng.integers(-1, 2, n))
    assert found.threshold is not None
    assert found.escalated == (confidence < found.threshold).sum() <= budget * n


def test_one_row_a_cluster_and_bad_input():
    clusters = [str(i // 4) for i in range(400)]
    assert budget_threshold(np.arange(400), 0.3, 0.95, clusters=clusters).n == 100
    with pytest.raises(ConfideError, match="needs at least 9 independent rows, got 8"):
        budget_threshold(np.arange(8), 0.3, 0.95)
    with pytest.raises(ConfideError, match="budget must lie strictly between 0 and 1, got 30"):
        budget_threshold(np.arange(100), 30, 0.95)
