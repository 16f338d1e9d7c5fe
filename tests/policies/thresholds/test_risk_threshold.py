from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, norm

from confide.errors import ConfideError
from confide.policies.thresholds.binomial_bound import affordable_bad
from confide.policies.thresholds.fallback_testing import Attainable, BoundedThreshold, Unmet
from confide.policies.thresholds.risk_threshold import _plan, bounded_risk_threshold

LEVEL = 0.95
RISK = 0.1


# By hand


def test_a_flawless_run_of_29_shows_a_tenth():
    # 0.9^29 = 0.0471 ≤ 0.05 < 0.9^28, and the bound of 0 wrong of 29 is 1 − 0.05^(1/29).
    found = bounded_risk_threshold(np.arange(29), [True] * 29, RISK, LEVEL)
    assert isinstance(found, BoundedThreshold)
    assert (found.threshold, found.count.kept, found.coverage, found.count.observed) == (0.0, 29, 1.0, 0.0)
    assert found.upper_bound == pytest.approx(1 - 0.05 ** (1 / 29))


def test_too_few_rows_says_how_many_are_needed():
    with pytest.raises(ConfideError, match="at least 29 rows, got 28"):
        bounded_risk_threshold(np.arange(28), [True] * 28, RISK, LEVEL)


def test_threshold_separates_good_from_bad_rows():
    confidence = np.r_[np.linspace(0.6, 0.9, 200), np.linspace(0.1, 0.4, 200)]
    found = bounded_risk_threshold(confidence, [True] * 200 + [False] * 200, RISK, LEVEL)
    assert isinstance(found, BoundedThreshold)
    # Before the second start 0.0485 is at hand: 204 is the fewest rows that afford 13 wrong; 216, the next step, would
    # keep 16 and afford 14.
    assert found.count.kept == 204
    assert binom.cdf(13, 204, 0.1) <= 0.0485 < binom.cdf(13, 203, 0.1)
    assert binom.cdf(14, 216, 0.1) <= 0.0485 < binom.cdf(16, 216, 0.1)
    assert found.threshold == np.sort(confidence)[-204]


def test_ties_are_kept_or_left_together():
    confidence = [0.9] * 100 + [0.5] * 100
    found = bounded_risk_threshold(confidence, [True] * 100 + [True, False] * 50, RISK, LEVEL)
    assert isinstance(found, BoundedThreshold)
    assert (found.threshold, found.count.kept, found.coverage) == (0.9, 100, 0.5)


def test_unattainable_goal_says_what_could_be_met():
    rng = np.random.default_rng(0)
    correct = rng.random(500) < 0.7
    found = bounded_risk_threshold(rng.random(500), correct, RISK, LEVEL)
    assert isinstance(found, Unmet)
    hint = found.attainable
    assert hint is not None
    assert RISK < hint.limit < 0.6
    assert hint.upper_bound <= hint.limit
    again = bounded_risk_threshold(np.zeros(500), [False] * 500, RISK, LEVEL)
    assert isinstance(again, Unmet)
    assert again.attainable is None


def test_the_hint_is_what_the_next_call_gets():
    rng = np.random.default_rng(1)
    confidence = rng.random(400)
    correct = rng.random(400) < 0.6 + 0.2 * confidence
    found = bounded_risk_threshold(confidence, correct, RISK, LEVEL)
    assert isinstance(found, Unmet)
    assert found.attainable is not None
    met = bounded_risk_threshold(confidence, correct, found.attainable.limit, LEVEL)
    assert isinstance(met, BoundedThreshold)
    assert found.attainable == Attainable(met.limit, met.coverage, met.count.observed, met.upper_bound)
    stricter = bounded_risk_threshold(confidence, correct, found.attainable.limit - 0.01, LEVEL)
    assert isinstance(stricter, Unmet)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"max_risk": 0.0}, "max-risk must lie strictly between 0 and 1, got 0"),
        ({"max_risk": 10.0}, "max-risk"),
        ({"level": 1.0}, "level must lie"),
        ({"confidence": [math.nan] * 40}, "40 of 40 confidences are not finite"),
        ({"clusters": ["a"] * 39}, "one length"),
        ({"clusters": ["a", "b"] * 20}, "at least 29 independent rows .* got 2"),
    ],
)
def test_bad_input_is_named(changes, says):
    arguments = {
        "confidence": np.arange(40),
        "correct": [True] * 40,
        "max_risk": 0.1,
        "level": 0.95,
    } | changes
    with pytest.raises(ConfideError, match=says):
        bounded_risk_threshold(**arguments)


# Properties


@pytest.mark.parametrize(
    ("n", "max_risk", "level"), [(29, 0.1, 0.95), (60, 0.5, 0.75), (1000, 0.1, 0.95), (30_000, 0.02, 0.99)]
)
def test_tests_are_where_one_more_wrong_answer_becomes_affordable(n, max_risk, level):
    plan = _plan(n, max_risk, level)
    assert plan.kept[-1] == n
    assert np.all(np.diff(plan.kept) > 0)
    # The error rate is spent once, at the first test and at one more.
    assert plan.added.sum() == pytest.approx(1 - level)
    starts = np.flatnonzero(plan.added)
    assert starts[0] == 0
    assert len(starts) <= 2
    # With what is at hand when no test has failed, or at a start alone, one row fewer would afford less.
    for kept, at_hand, more in zip(plan.kept[:-1], np.cumsum(plan.added), plan.added, strict=False):
        rates = (at_hand, more or at_hand)
        assert any(afford(kept, max_risk, rate) > afford(kept - 1, max_risk, rate) for rate in rates)


def afford(kept: int, max_risk: float, error: float) -> int:
    return int(affordable_bad(np.array([kept]), max_risk, 1 - error)[0])


def test_a_confidence_too_sure_at_its_top_does_not_end_the_walk():
    # The surest 60 rows are all wrong one time in three; below them one answer in 25 is wrong.
    wrong = np.r_[np.arange(60) % 3 == 0, np.arange(900) % 25 == 0, np.arange(240) % 2 == 0]
    found = bounded_risk_threshold(-np.arange(1200), ~wrong, RISK, LEVEL)
    assert isinstance(found, BoundedThreshold)
    assert found.count.kept > 700
    assert found.upper_bound <= RISK


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.05, 0.1, 0.3]), st.sampled_from([0.8, 0.95]))
def test_result_agrees_with_its_own_rows(seed, max_risk, level):
    rng = np.random.default_rng(seed)
    confidence = np.round(rng.normal(size=300), rng.integers(0, 4))
    correct = rng.random(300) < norm.cdf(confidence + 1)
    found = bounded_risk_threshold(confidence, correct, max_risk, level)
    if isinstance(found, BoundedThreshold):
        kept = confidence >= found.threshold
        assert found.count.kept == kept.sum()
        assert found.count.observed == pytest.approx(1 - correct[kept].mean())
        assert found.upper_bound <= max_risk + 1e-12
        # Only the order of the scores counts.
        warped = bounded_risk_threshold(np.exp(confidence), correct, max_risk, level)
        assert isinstance(warped, BoundedThreshold)
        assert warped.count.kept == found.count.kept
