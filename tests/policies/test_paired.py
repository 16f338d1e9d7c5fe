from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.stats import multinomial

from confide.errors import ConfideError
from confide.policies.paired import (
    BoundedLoss,
    TooFar,
    critical_losses,
    loss_interval,
    match_expert_threshold,
    p_value,
    rows_that_decide,
)


def chance(most: np.ndarray, n: int, p_loss: float, p_gain: float) -> float:
    """P(losses ≤ most[gains]) by summing the multinomial distribution."""
    total = 0.0
    for gains in range(n + 1):
        losses = np.arange(min(int(most[gains]), n - gains) + 1)
        if len(losses):
            outcomes = np.stack([losses, np.full(len(losses), gains), n - gains - losses], axis=1)
            total += float(multinomial.pmf(outcomes, n, [p_loss, p_gain, 1 - p_loss - p_gain]).sum())
    return total


@pytest.mark.parametrize(("n", "margin"), [(40, 0.1), (60, 0.05), (30, 0.3), (60, -0.1), (50, 0.0)])
def test_the_test_has_its_size_whatever_the_nuisance(n, margin):
    # Every nuisance on a grid of its own, and losses beyond the margin too: never more than the error rate.
    most = critical_losses(n, margin, 0.05)
    assert most.max() >= 0
    sizes = []
    for beyond in (0.0, 0.02, 0.1):
        for p_gain in np.linspace(max(-margin - beyond, 0), (1 - margin - beyond) / 2, 60):
            sizes.append(chance(most, n, min(p_gain + margin + beyond, 1 - p_gain), p_gain))
    assert max(sizes) <= 0.0503  # between two points of the search the size may be a trace larger
    assert max(sizes) > 0.03  # and it does not waste the error rate


def score(losses: int, gains: int, n: int, margin: float) -> float:
    """Tango's statistic with the likeliest nuisance found by search, not by its closed form."""

    def surprise(p_gain: float) -> float:
        p = np.array([p_gain + margin, p_gain, 1 - 2 * p_gain - margin])
        return -float(multinomial.logpmf([losses, gains, n - losses - gains], n, p / p.sum()))

    low = max(0.0, -margin)
    found = minimize_scalar(surprise, bounds=(low, (1 - margin) / 2), method="bounded", options={"xatol": 1e-10})
    p_gain = min((surprise(x), x) for x in (found.x, low + 1e-12))[1]
    return (losses - gains - n * margin) / math.sqrt(n * (2 * p_gain + margin - margin**2))


@pytest.mark.parametrize(
    ("losses", "gains", "n", "margin"), [(1, 2, 24, 0.2), (0, 0, 30, 0.1), (2, 6, 20, 0.0), (0, 8, 24, -0.1)]
)
def test_p_value_by_brute_force(losses, gains, n, margin):
    seen = score(losses, gains, n, margin)
    extreme = [(b, c) for c in range(n + 1) for b in range(n - c + 1) if score(b, c, n, margin) <= seen + 1e-6]
    outcomes = np.array([[b, c, n - b - c] for b, c in extreme])
    p = max(
        multinomial.pmf(outcomes, n, [g + margin, g, 1 - 2 * g - margin]).sum()
        for g in np.linspace(max(0, -margin), (1 - margin) / 2, 300)
    )
    assert p_value(losses, gains, n, margin) == pytest.approx(p, rel=0.02)


def test_critical_losses_are_those_whose_p_value_is_small():
    most = critical_losses(120, 0.05, 0.05)
    for gains in (0, 3, 10, 30):
        assert p_value(int(most[gains]), gains, 120, 0.05) <= 0.0501 if most[gains] >= 0 else True
        assert p_value(int(most[gains]) + 1, gains, 120, 0.05) > 0.0499
    assert np.all(np.diff(most[:60]) >= 0)


def test_interval_without_gains_is_clopper_and_pearson():
    # With no loss among 300 the upper bound is that of 0 of 300; the mirror image below.
    low, high = loss_interval(0, 0, 300, 0.95)
    assert high == pytest.approx(1 - 0.05 ** (1 / 300), abs=2e-5)
    assert low == pytest.approx(-high, abs=2e-5)
    assert loss_interval(0, 0, 0, 0.95) == (-1.0, 1.0)


@settings(max_examples=15, deadline=None)
@given(st.integers(50, 400), st.integers(0, 15), st.integers(0, 15))
def test_interval_holds_the_difference_and_turns_with_the_roles(n, losses, gains):
    low, high = loss_interval(losses, gains, n, 0.95)
    assert low - 1e-4 <= (losses - gains) / n <= high
    assert loss_interval(gains, losses, n, 0.95) == pytest.approx((-high, -low))
    normal = 1.645 * math.sqrt(max(losses + gains, 3)) / n
    assert high - low < 6 * normal


def rows(n: int, seed: int = 0, small: float = 0.7, big: float = 0.95):
    rng = np.random.default_rng(seed)
    score = rng.random(n)
    return score, rng.random(n) < small + (1 - small) * score**2, rng.random(n) < big


def test_agrees_with_its_own_rows():
    score, correct, expert = rows(1500)
    found = match_expert_threshold(score, correct, expert, 0.03, 0.95)
    assert isinstance(found, BoundedLoss)
    kept = score >= found.threshold
    assert found.kept == kept.sum()
    assert (found.losses, found.gains) == ((kept & expert & ~correct).sum(), (kept & correct & ~expert).sum())
    assert loss_interval(found.losses, found.gains, 1500, 0.95)[1] <= 0.03 + 1e-4


def test_an_expert_that_is_no_better_is_not_needed():
    score, correct, _ = rows(2000)
    found = match_expert_threshold(score, correct, correct, 0.01, 0.95)
    assert isinstance(found, BoundedLoss)
    assert found.kept == 2000


def test_rows_without_a_confidence_are_never_kept():
    score, correct, _ = rows(1000)
    score[:300] = -np.inf
    found = match_expert_threshold(score, correct, correct, 0.02, 0.95)
    assert isinstance(found, BoundedLoss)
    assert (found.kept, found.n) == (700, 1000)
    assert math.isfinite(found.threshold)


def test_an_expert_out_of_reach_says_what_could_be_met():
    rng = np.random.default_rng(3)
    found = match_expert_threshold(rng.random(400), rng.random(400) < 0.2, np.ones(400, bool), 0.01, 0.95)
    assert isinstance(found, TooFar)
    assert found.attainable is not None
    again = match_expert_threshold(rng.random(400), np.zeros(400, bool), np.ones(400, bool), 0.01, 0.95)
    assert isinstance(again, TooFar)


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
def test_bad_input_is_named(changes, says):
    arguments = {
        "confidence": np.arange(500.0), "correct": [True] * 500, "expert": [True] * 500, "margin": 0.05, "level": 0.95,
    }  # fmt: skip
    with pytest.raises(ConfideError, match=says):
        match_expert_threshold(**(arguments | changes))


def test_rows_that_decide_grow_as_the_distance_shrinks():
    near, far = (rows_that_decide(0.04, 0.03, margin, 0.95, 0.8) for margin in (0.012, 0.03))
    assert near is not None
    assert far is not None
    assert near > 50 * far
    assert rows_that_decide(0.04, 0.03, 0.01, 0.95, 0.8) is None
