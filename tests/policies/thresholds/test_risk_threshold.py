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
from confide.policies.thresholds.risk_threshold import (
    _everywhere,
    _plan,
    bounded_risk_threshold,
    surest_are_worse,
)

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
    # All above the next score are kept, and only they.
    assert np.sort(confidence)[-205] < found.threshold < np.sort(confidence)[-204]
    assert (confidence >= found.threshold).sum() == 204


def test_ties_are_kept_or_left_together():
    confidence = [0.9] * 100 + [0.5] * 100
    found = bounded_risk_threshold(confidence, [True] * 100 + [True, False] * 50, RISK, LEVEL)
    assert isinstance(found, BoundedThreshold)
    assert (found.threshold, found.count.kept, found.coverage) == (np.nextafter(0.5, 1), 100, 0.5)


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
        ({"clusters": ["a", "b"] * 20, "per": "entity"}, "at least 29 independent rows .* got 2"),
        # The larger of two entities of 20 rows sets the bound; by the seed the other is within it or left out, too.
        *(
            (
                {"clusters": ["a", "b"] * 20, "seed": seed},
                rf"at least 29 independent rows .drawn from 40 of entities of up to {most}; .* got {got}$",
            )
            for seed, most, got in ((0, 19, 0), (1, 20, 1))
        ),
        ({"simultaneous": True}, "at least 57 rows, got 40"),
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


def test_new_scores_between_the_last_kept_and_the_next_are_kept():
    # The share above the (k + 1)-th of n uniform scores is (k + 1)/(n + 1) on average, above the k-th one k/(n + 1).
    kept, n, share = 40, 60, []
    for seed in range(4000):
        confidence = np.random.default_rng(seed).random(n)
        right = np.argsort(np.argsort(-confidence)) < kept
        found = bounded_risk_threshold(confidence, right, RISK, LEVEL)
        assert isinstance(found, BoundedThreshold)
        kept_rows = found.count.kept
        share.append(1 - found.threshold)
        assert (confidence >= found.threshold).sum() == kept_rows
    error = np.std(share) / math.sqrt(len(share))
    assert np.mean(share) == pytest.approx((kept_rows + 1) / (n + 1), abs=4 * error)
    assert (kept_rows + 1) / (n + 1) - kept_rows / (n + 1) > 6 * error


def test_a_test_is_exact_above_the_next_score_and_not_from_its_own_last_one():
    """Thirty-one rows of which thirty are kept, where scores that end a band of wrong answers are always right.

    Bands of 0.2 % of all answers, right at their lower half, wrong one time in five at the upper: above any score the
    risk is 0.1. A flawless run of 29 is enough for the bound, so with 30 the promise breaks at most 0.9^30 of the time.
    """
    rng, sets, n = np.random.default_rng(0), 200_000, 31
    score = np.sort(rng.random((sets, n)), axis=1)[:, ::-1]
    upper = (score * 500) % 1 >= 0.5
    wrong = (rng.random((sets, n)) < 0.2) & upper
    flawless = ~wrong[:, :-1].any(axis=1)
    error = 3 * math.sqrt(0.9**30 / sets)
    assert flawless.mean() == pytest.approx(0.9**30, abs=error)
    # Given that the 30th is right by its place, the thirty behave as 29 would.
    assert flawless[~upper[:, -2]].mean() > 0.9**30 + error


def test_keeping_every_row_keeps_from_the_lowest_score():
    found = bounded_risk_threshold(np.arange(40) / 40, [True] * 40, RISK, LEVEL)
    assert isinstance(found, BoundedThreshold)
    assert (found.threshold, found.count.kept) == (0.0, 40)


def test_the_simultaneous_boundary_tests_each_threshold_at_an_even_part_of_the_error_rate():
    # 0.9^57 = 0.00247 ≤ 0.05 / 20: the twenty thresholds lie between 57 rows and all.
    plan = _everywhere(1000, RISK, LEVEL)
    assert plan.kept[0] == 57
    assert plan.kept[-1] == 1000
    assert plan.added.tolist() == pytest.approx([0.0025] * 20)
    # The surest are all wrong one time in three: any later threshold may be chosen.
    wrong = np.r_[np.arange(60) % 3 == 0, np.arange(900) % 25 == 0, np.arange(240) % 2 == 0]
    found = bounded_risk_threshold(-np.arange(1200), ~wrong, RISK, LEVEL, simultaneous=True)
    assert isinstance(found, BoundedThreshold)
    kept = found.count.kept
    assert kept in _everywhere(1200, RISK, LEVEL).kept
    assert binom.cdf(wrong[:kept].sum(), kept, RISK) <= 0.0025
    following = _everywhere(1200, RISK, LEVEL).kept
    after = int(following[following > kept][0])
    assert binom.cdf(wrong[:after].sum(), after, RISK) > 0.0025


def test_surest_answers_that_are_worse_are_noticed():
    rng = np.random.default_rng(0)
    noticed = [surest_are_worse(rng.random(400), rng.random(400) < 0.9) for _ in range(1000)]
    assert np.mean(noticed) <= 0.07
    score = rng.random(2000)
    wrong = rng.random(2000) < np.where(score > 0.95, 0.25, np.where(score > 0.3, 0.04, 0.5))
    assert surest_are_worse(score, ~wrong)
    assert not surest_are_worse(score, rng.random(2000) < 0.5 + 0.5 * score)
    assert not surest_are_worse([0.5], [True])


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


@settings(max_examples=60)
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
