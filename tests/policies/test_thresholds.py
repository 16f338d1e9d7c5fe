from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, binom, norm

from confide.errors import ConfideError
from confide.policies.thresholds import (
    BoundedRisk,
    Unattainable,
    _grid,
    affordable_wrong,
    bounded_risk_threshold,
    one_per_cluster,
    risk_interval,
    rows_needed_for_a_bound,
)

LEVEL = 0.95
RISK = 0.1


# By hand


def test_a_flawless_run_of_29_shows_a_tenth():
    # 0.9^29 = 0.0471 ≤ 0.05 < 0.9^28, and the bound of 0 wrong of 29 is 1 − 0.05^(1/29).
    found = bounded_risk_threshold(np.arange(29), [True] * 29, RISK, LEVEL)
    assert isinstance(found, BoundedRisk)
    assert (found.threshold, found.kept, found.coverage, found.observed_risk) == (0.0, 29, 1.0, 0.0)
    assert found.upper_bound == pytest.approx(1 - 0.05 ** (1 / 29))


def test_too_few_rows_says_how_many_are_needed():
    with pytest.raises(ConfideError, match="at least 29 rows, got 28"):
        bounded_risk_threshold(np.arange(28), [True] * 28, RISK, LEVEL)


@pytest.mark.parametrize(
    ("max_risk", "level", "rows"), [(0.1, 0.95, 29), (0.5, 0.75, 2), (0.05, 0.95, 59), (0.2, 0.9, 11)]
)
def test_rows_needed(max_risk, level, rows):
    assert rows_needed_for_a_bound(max_risk, level) == rows
    assert (1 - max_risk) ** rows <= 1 - level + 1e-12 < (1 - max_risk) ** (rows - 1)


def test_interval_against_tables():
    # One-sided 95 % Clopper–Pearson: 5 wrong of 100 give 0.1023 above and 0.0199 below.
    assert risk_interval(5, 100, 0.95) == pytest.approx((0.0199, 0.1023), abs=5e-5)
    assert risk_interval(0, 100, 0.95) == pytest.approx((0.0, 1 - 0.05**0.01))
    assert risk_interval(7, 7, 0.95) == pytest.approx((0.05 ** (1 / 7), 1.0))
    assert risk_interval(0, 0, 0.95) == (0.0, 1.0)


def test_threshold_separates_good_from_bad_rows():
    confidence = np.r_[np.linspace(0.6, 0.9, 200), np.linspace(0.1, 0.4, 200)]
    found = bounded_risk_threshold(confidence, [True] * 200 + [False] * 200, RISK, LEVEL)
    assert isinstance(found, BoundedRisk)
    # 203 is the fewest rows that afford 13 wrong; the next step affords 14 among more than 214 rows.
    assert found.kept == 203
    assert binom.cdf(13, 203, 0.1) <= 0.05 < binom.cdf(13, 202, 0.1)
    assert binom.cdf(14, 214, 0.1) > 0.05
    assert found.threshold == np.sort(confidence)[-203]


def test_ties_are_kept_or_left_together():
    confidence = [0.9] * 100 + [0.5] * 100
    found = bounded_risk_threshold(confidence, [True] * 100 + [True, False] * 50, RISK, LEVEL)
    assert isinstance(found, BoundedRisk)
    assert (found.threshold, found.kept, found.coverage) == (0.9, 100, 0.5)


def test_unattainable_goal_says_what_could_be_met():
    rng = np.random.default_rng(0)
    correct = rng.random(500) < 0.7
    found = bounded_risk_threshold(rng.random(500), correct, RISK, LEVEL)
    assert isinstance(found, Unattainable)
    hint = found.attainable
    assert hint is not None
    assert RISK < hint.max_risk < 0.6
    assert hint.upper_bound <= hint.max_risk
    again = bounded_risk_threshold(np.zeros(500), [False] * 500, RISK, LEVEL)
    assert isinstance(again, Unattainable)
    assert again.attainable is None


def test_the_hint_is_what_the_next_call_gets():
    rng = np.random.default_rng(1)
    confidence = rng.random(400)
    correct = rng.random(400) < 0.6 + 0.2 * confidence
    found = bounded_risk_threshold(confidence, correct, RISK, LEVEL)
    assert isinstance(found, Unattainable)
    assert found.attainable is not None
    assert bounded_risk_threshold(confidence, correct, found.attainable.max_risk, LEVEL) == found.attainable
    stricter = bounded_risk_threshold(confidence, correct, found.attainable.max_risk - 0.01, LEVEL)
    assert isinstance(stricter, Unattainable)


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
def test_grid_steps_are_where_one_more_wrong_answer_becomes_affordable(n, max_risk, level):
    grid = _grid(n, max_risk, level)
    assert grid[-1] == n
    steps = grid[:-1]
    assert np.all(np.diff(grid) > 0)
    assert np.all(affordable_wrong(steps, max_risk, level) > affordable_wrong(steps - 1, max_risk, level))
    assert affordable_wrong(grid[:1], max_risk, level)[0] >= 0


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.05, 0.1, 0.3]), st.sampled_from([0.8, 0.95]))
def test_result_agrees_with_its_own_rows(seed, max_risk, level):
    rng = np.random.default_rng(seed)
    confidence = np.round(rng.normal(size=300), rng.integers(0, 4))
    correct = rng.random(300) < norm.cdf(confidence + 1)
    found = bounded_risk_threshold(confidence, correct, max_risk, level)
    if isinstance(found, BoundedRisk):
        kept = confidence >= found.threshold
        assert found.kept == kept.sum()
        assert found.observed_risk == pytest.approx(1 - correct[kept].mean())
        assert found.upper_bound <= max_risk + 1e-12
        # Only the order of the scores counts.
        warped = bounded_risk_threshold(np.exp(confidence), correct, max_risk, level)
        assert isinstance(warped, BoundedRisk)
        assert warped.kept == found.kept


def test_one_row_per_cluster_is_seeded_and_uniform():
    clusters = ["a", "b", "b", "c", "c", "c"] * 50
    first = one_per_cluster(clusters, seed=3)
    assert first.tolist() == one_per_cluster(clusters, seed=3).tolist()
    assert sorted(np.array(clusters)[first]) == ["a", "b", "c"]
    drawn = [one_per_cluster(["a", "a", "b"], seed)[0] for seed in range(400)]
    assert 140 < sum(drawn) < 260


# The promise, on simulated data sets with known risk

Shape = Callable[[np.random.Generator], tuple[np.ndarray, np.ndarray, Callable[[float], float]]]


def flat(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, Callable[[float], float]]:
    """The score says nothing and every threshold is just too risky."""
    return rng.random(500), rng.random(500) >= 0.102, lambda _: 0.102


def ties(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, Callable[[float], float]]:
    """Five values only; keeping the two highest is just within the goal, keeping three just outside."""
    atoms = np.array([0.9, 0.8, 0.7, 0.6, 0.5])
    weight = np.array([0.2, 0.2, 0.2, 0.2, 0.2])
    risk = np.array([0.08, 0.1, 0.125, 0.2, 0.4])
    drawn = rng.choice(5, 500, p=weight)
    at_or_above = np.cumsum(weight * risk) / np.cumsum(weight)
    return (
        atoms[drawn],
        rng.random(500) >= risk[drawn],
        lambda t: float(at_or_above[np.flatnonzero(atoms >= t)[-1]]),
    )


def steep(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, Callable[[float], float]]:
    """Two normal score distributions: accuracy 0.7, AUROC 0.85."""
    correct = rng.random(500) < 0.7
    return rng.normal(size=500) + SHIFT * correct, correct, steep_risk


SHIFT = math.sqrt(2) * norm.ppf(0.85)


def steep_risk(t: float) -> float:
    wrong, right = 0.3 * norm.sf(t), 0.7 * norm.sf(t - SHIFT)
    return float(wrong / (wrong + right))


def saw(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, Callable[[float], float]]:
    """Risk jumps between 0 and 0.21 in 60 bands of the score: it falls and rises again."""
    score = rng.random(500)
    correct = rng.random(500) >= np.where(np.floor(score * 60) % 2 == 0, 0.0, 0.21)

    def risk(t: float) -> float:
        edges = np.arange(61) / 60
        length = np.clip(edges[1:] - np.maximum(edges[:-1], t), 0, None)
        return float((length[1::2].sum() * 0.21) / (1 - t))

    return score, correct, risk


def broken_share(shape: Shape, rule: Callable[[np.ndarray, np.ndarray], float | None], sets: int) -> float:
    broken = 0
    for seed in range(sets):
        score, correct, true_risk = shape(np.random.default_rng(seed))
        threshold = rule(score, correct)
        broken += threshold is not None and true_risk(threshold) > RISK
    return broken / sets


def ours(score: np.ndarray, correct: np.ndarray) -> float | None:
    found = bounded_risk_threshold(score, correct, RISK, LEVEL)
    return found.threshold if isinstance(found, BoundedRisk) else None


def naive(score: np.ndarray, correct: np.ndarray) -> float | None:
    """The loosest threshold whose own bound is within the goal, as if it had not been picked."""
    order = np.argsort(-score, kind="stable")
    kept = np.arange(1, len(score) + 1)
    wrong = np.cumsum(~correct[order])
    good = np.flatnonzero(beta.ppf(LEVEL, wrong + 1, np.maximum(kept - wrong, 1e-9)) <= RISK)
    return float(score[order][good[-1]]) if len(good) else None


def allowed(sets: int) -> float:
    return 1 - LEVEL + 3 * math.sqrt(LEVEL * (1 - LEVEL) / sets)


@pytest.mark.parametrize("shape", [flat, ties, steep, saw])
def test_promise_is_kept(shape):
    sets = 2000
    assert broken_share(shape, ours, sets) <= allowed(sets)


def test_a_naive_rule_breaks_the_same_promise():
    assert broken_share(flat, naive, 1000) > 0.08 > allowed(1000)


def clustered(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """126 clusters of 4 to 10 rows; a row has its cluster's label four times in five."""
    cluster = np.repeat(np.arange(126), rng.permutation(np.tile(np.arange(4, 11), 18)))
    shared = rng.random(126) < 0.103
    own = rng.random(len(cluster)) < 0.103
    wrong = np.where(rng.random(len(cluster)) < 0.8, shared[cluster], own)
    return rng.random(126)[cluster] + 0.1 * rng.random(len(cluster)), ~wrong, [str(c) for c in cluster]


def test_promise_is_kept_with_dependent_rows():
    sets = 1000
    with_clusters = without = 0
    for seed in range(sets):
        score, correct, clusters = clustered(np.random.default_rng(seed))
        # Every row is wrong with probability 0.103 at any score: any threshold breaks the promise.
        found = bounded_risk_threshold(score, correct, RISK, LEVEL, clusters=clusters, seed=seed)
        with_clusters += isinstance(found, BoundedRisk)
        without += ours(score, correct) is not None
    assert with_clusters / sets <= allowed(sets)
    assert without / sets > 0.08 > allowed(sets)


def test_coverage_is_at_least_four_fifths_of_the_oracles():
    # The oracle knows the risk at every threshold and keeps the most at a true risk of 0.1.
    t = np.linspace(-4, 6, 100_001)
    wrong, right = 0.3 * norm.sf(t), 0.7 * norm.sf(t - SHIFT)
    kept = wrong + right
    oracle = kept[np.argmax(wrong / kept <= RISK)]
    sets = 2000
    covered = 0.0
    for seed in range(sets):
        rng = np.random.default_rng(seed)
        correct = rng.random(1000) < 0.7
        threshold = ours(rng.normal(size=1000) + SHIFT * correct, correct)
        covered += 0.0 if threshold is None else float(np.interp(threshold, t, kept))
    assert covered / sets >= 0.8 * oracle
