"""The bound on a judged risk: it is broken as seldom as it says, whatever the judge's error, and needs few labels."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from confide.policies import judged_labels
from confide.policies.judged_labels import JudgedCount
from confide.policies.thresholds.binomial_bound import clopper_pearson
from confide.policies.thresholds.paired_bound import loss_interval

SETS = 2000


@pytest.fixture(autouse=True)
def each_bound_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many sets share their counts."""
    monkeypatch.setattr(judged_labels, "loss_interval", functools.cache(loss_interval))


def drawn(rng: np.random.Generator, risk: float, missing: float, alarming: float, n: int, labelled: int) -> JudgedCount:
    wrong = rng.random(n) < risk
    judged = np.where(wrong, rng.random(n) >= missing, rng.random(n) < alarming)
    known = rng.permutation(n) < labelled
    truth = [bool(w) if k else None for w, k in zip(wrong, known, strict=True)]
    return JudgedCount.of([bool(j) for j in judged], truth)


@pytest.mark.parametrize(
    ("risk", "missing", "alarming", "n", "labelled"),
    [
        (0.1, 0.0, 0.0, 300, 60),  # a judge without an error
        (0.1, 0.3, 0.05, 300, 60),
        (0.05, 0.1, 0.02, 200, 40),
        (0.2, 0.5, 0.1, 90, 45),
        (0.1, 0.9, 0.1, 200, 30),  # says nothing of the answer
        (0.1, 1.0, 0.0, 200, 100),  # calls everything right
        (0.3, 0.0, 1.0, 120, 40),  # calls everything wrong
        (0.02, 0.5, 0.0, 400, 30),
    ],
)
def test_the_bound_is_broken_in_at_most_one_set_of_twenty(
    risk: float, missing: float, alarming: float, n: int, labelled: int
) -> None:
    rng = np.random.default_rng([n, labelled])
    bounds = [drawn(rng, risk, missing, alarming, n, labelled).interval(0.95) for _ in range(SETS)]
    assert sum(upper < risk for _, upper in bounds) <= 0.05 * SETS
    assert sum(lower > risk for lower, _ in bounds) <= 0.05 * SETS


def test_a_judge_that_is_trusted_blindly_is_wrong_where_this_bound_is_not() -> None:
    rng = np.random.default_rng(0)
    counts = [drawn(rng, 0.1, 0.5, 0.0, 300, 60) for _ in range(300)]
    blind = [clopper_pearson(count.judged_wrong, count.n, 0.95)[1] for count in counts]
    assert np.mean(np.array(blind) < 0.1) > 0.5
    assert np.mean([count.interval(0.95)[1] < 0.1 for count in counts]) <= 0.05


def test_a_good_judge_is_worth_labels() -> None:
    """The labels alone: 20 of 200 wrong. With a judge that agrees with all of them, on 5,000 more rows."""
    alone = clopper_pearson(20, 200, 0.95)[1]
    judged = JudgedCount(n=5200, judged_wrong=520, labelled=200, missed=0, false_alarms=0)
    assert judged.interval(0.95)[1] < alone - 0.01
    assert judged.observed == pytest.approx(0.1)


def test_false_alarms_lower_the_bound_and_missed_errors_raise_it() -> None:
    def upper(missed: int, false_alarms: int) -> float:
        return JudgedCount(1000, 100, 100, missed, false_alarms).interval(0.95)[1]

    assert upper(0, 6) < upper(0, 3) < upper(0, 0) < upper(3, 0) < upper(6, 0)
    assert upper(100, 0) == 1.0
    assert JudgedCount(1000, 100, 0, 0, 0).interval(0.95) == (0.0, 1.0)


def test_counts_come_from_verdicts_and_truths() -> None:
    judged, wrong = [True, True, False, False, True], [True, False, True, None, None]
    assert JudgedCount.of(judged, wrong) == JudgedCount(5, 3, 3, missed=1, false_alarms=1)
    with pytest.raises(ValueError, match="zip"):
        JudgedCount.of(judged, wrong[:2])
