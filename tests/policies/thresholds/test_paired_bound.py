from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.stats import binom, multinomial

from confide.policies.thresholds.paired_bound import (
    _most_losses,
    _score,
    critical_losses,
    loss_interval,
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
    assert max(sizes) <= 0.05
    assert max(sizes) > 0.03  # and it does not waste the error rate


def finely(most: np.ndarray, n: int, margin: float, points: int = 4000) -> float:
    """Largest probability of at most ``most[gains]`` losses over a nuisance searched at thousands of points."""
    gains, largest = np.arange(n + 1), 0.0
    for part in np.array_split(np.sin(np.linspace(0, np.pi / 2, points)) ** 2, 20):
        p_gain = (1 - abs(margin)) / 2 * part[:, None] + max(-margin, 0)
        p_loss = p_gain + margin
        fewer = binom.cdf(most, n - gains, np.minimum(p_loss / np.maximum(1 - p_gain, 1e-12), 1))
        largest = max(largest, float((binom.pmf(gains, n, p_gain) * fewer).sum(axis=1).max()))
    return largest


SEARCHED = [
    (n, margin, error)
    for n in (30, 61, 200, 700)
    for margin in (0.005, 0.02, 0.1, 0.3, -0.02)
    for error in (0.05, 0.0015)
]


@pytest.mark.parametrize(("n", "margin", "error"), SEARCHED)
def test_a_finer_search_finds_no_larger_size(n, margin, error):
    # On 48 points closer together near 0 alone, the size was up to 4.5 % larger than found, and above the error rate.
    most = critical_losses(n, margin, error)
    assert finely(most, n, margin) <= error


@settings(max_examples=12)
@given(st.integers(20, 500), st.integers(0, 20), st.integers(0, 20), st.sampled_from([0.003, 0.02, 0.2, -0.05]))
def test_a_finer_search_finds_no_larger_p_value(n, losses, gains, margin):
    losses = min(losses, n - gains)
    most = _most_losses(float(_score(np.array([losses]), np.array([gains]), n, margin)[0]), n, margin)
    p, largest = p_value(losses, gains, n, margin), finely(most, n, margin)
    assert largest <= p + 1e-12
    assert p <= 1.001 * largest


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


@settings(max_examples=15)
@given(st.integers(50, 400), st.integers(0, 15), st.integers(0, 15))
def test_interval_holds_the_difference_and_turns_with_the_roles(n, losses, gains):
    low, high = loss_interval(losses, gains, n, 0.95)
    assert low - 1e-4 <= (losses - gains) / n <= high
    assert loss_interval(gains, losses, n, 0.95) == pytest.approx((-high, -low))
    normal = 1.645 * math.sqrt(max(losses + gains, 3)) / n
    assert high - low < 6 * normal


def test_rows_that_decide_grow_as_the_distance_shrinks():
    near, far = (rows_that_decide(0.04, 0.03, margin, 0.95) for margin in (0.012, 0.03))
    assert near is not None
    assert far is not None
    assert near > 50 * far
    assert rows_that_decide(0.04, 0.03, 0.01, 0.95) is None
