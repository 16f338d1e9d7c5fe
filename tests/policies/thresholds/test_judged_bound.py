"""The bound on a judged risk: it is broken as seldom as it says, whatever the judge's error, and needs few labels."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import pytest

from confide.errors import ConfideError
from confide.policies.thresholds import judged_bound
from confide.policies.thresholds.binomial_bound import clopper_pearson
from confide.policies.thresholds.judged_bound import JudgedCount, Verdicts
from confide.policies.thresholds.paired_bound import loss_interval

SETS = 1000


@pytest.fixture(autouse=True)
def each_bound_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many sets share their counts."""
    monkeypatch.setattr(judged_bound, "loss_interval", functools.cache(loss_interval))


def drawn(
    rng: np.random.Generator,
    risk: float,
    missing: float,
    alarming: float,
    n: int,
    labelled: int,
    graded: float = 0.0,
) -> JudgedCount:
    """A share ``graded`` of the rows is decided on by a grader, on which answers are wrong half as often."""
    judged = rng.random(n) >= graded
    wrong = rng.random(n) < np.where(judged, risk, risk / 2)
    said = np.where(wrong, rng.random(n) >= missing, rng.random(n) < alarming)
    known = np.isin(np.arange(n), rng.permutation(np.flatnonzero(judged))[:labelled])
    return Verdicts(said & judged, wrong, known | ~judged, judged).count(np.ones(n, dtype=bool))


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
    blind = [clopper_pearson(count.said_wrong, count.kept, 0.95)[1] for count in counts]
    assert np.mean(np.array(blind) < 0.1) > 0.5
    assert np.mean([count.interval(0.95)[1] < 0.1 for count in counts]) <= 0.05


def test_a_good_judge_is_worth_labels() -> None:
    """The labels alone: 60 of 600 wrong. With a judge that agrees with all of them, on 8,400 more rows."""
    alone = clopper_pearson(60, 600, 0.95)[1]
    judged = JudgedCount(n=9000, kept=9000, said_wrong=900, labelled=600, wrong=60, missed=0, false_alarms=0)
    assert judged.interval(0.95)[1] < alone - 0.002
    assert judged.observed == pytest.approx(0.1)


def test_a_bad_judge_costs_little_beside_its_labels() -> None:
    alone = clopper_pearson(20, 200, 0.95)[1]
    guessing = JudgedCount(n=1000, kept=1000, said_wrong=500, labelled=200, wrong=20, missed=10, false_alarms=90)
    assert alone < guessing.interval(0.95)[1] < alone + 0.005


def test_false_alarms_lower_the_bound_and_missed_errors_raise_it() -> None:
    def upper(missed: int, false_alarms: int, labelled: int = 1000) -> float:
        count = JudgedCount(10_000, 10_000, 1000, labelled, min(labelled, 200), missed, false_alarms)
        return count.interval(0.95)[1]

    assert upper(0, 60) < upper(0, 30) < upper(0, 0) < upper(30, 0) < upper(60, 0)
    assert upper(100, 0, 100) == 1.0
    assert upper(0, 0, 0) == 1.0


@pytest.mark.parametrize(("graded", "labelled"), [(0.1, 100), (0.5, 60), (0.9, 12)])
def test_rows_that_a_grader_decided_on_are_part_of_the_risk(graded: float, labelled: int) -> None:
    rng = np.random.default_rng(3)
    risk = 0.2 * (1 - graded) + 0.1 * graded
    bounds = [drawn(rng, 0.2, 0.3, 0.05, 300, labelled, graded).interval(0.95) for _ in range(SETS // 2)]
    assert sum(upper < risk for _, upper in bounds) <= 0.05 * SETS / 2
    assert sum(lower > risk for lower, _ in bounds) <= 0.05 * SETS / 2


def test_the_more_a_grader_decided_the_less_a_wrong_judge_costs() -> None:
    uppers = [JudgedCount(1000, 1000, 50, 40, 4, 4, 0, graded, 0).interval(0.95)[1] for graded in (200, 600, 900)]
    assert uppers == sorted(uppers, reverse=True)
    assert uppers[-1] < uppers[0] - 0.05


@pytest.mark.parametrize(("graded", "graded_wrong"), [(0, 0), (300, 20)])
@pytest.mark.parametrize("error", [0.05, 0.02])
@pytest.mark.parametrize(
    ("wrong", "missed", "false_alarms"), [(0, 0, 0), (3, 3, 0), (0, 0, 30), (60, 0, 0), (40, 5, 4)]
)
def test_what_is_shown_is_what_the_interval_says(
    wrong: int, missed: int, false_alarms: int, error: float, graded: int, graded_wrong: int
) -> None:
    count = JudgedCount(9000, 5000, 500, 300, wrong, missed, false_alarms, graded, graded_wrong)
    upper = count.interval(1 - error)[1]
    assert count.shows(upper + 1e-4, error)
    assert not count.shows(upper - 1e-3, error)
    assert not replace(count, kept=0).shows(0.9, error)


def test_counts_come_from_verdicts_and_truths() -> None:
    said_wrong, wrong, labelled, judged = (
        np.array(values, dtype=bool)
        for values in ([1, 1, 0, 0, 1, 0], [1, 0, 1, 0, 0, 1], [1, 1, 1, 0, 0, 1], [1, 1, 1, 1, 1, 0])
    )
    verdicts = Verdicts(said_wrong, wrong, labelled, judged)
    keep = np.array([True] * 6)
    assert verdicts.count(keep) == JudgedCount(6, 6, 3, 3, 2, missed=1, false_alarms=1, graded=1, graded_wrong=1)
    keep[:2] = False
    assert verdicts.count(keep) == JudgedCount(6, 4, 1, 1, 1, missed=1, false_alarms=0, graded=1, graded_wrong=1)
    assert verdicts.count(~np.ones(6, dtype=bool)).interval(0.95) == (0.0, 1.0)


def of(labels: int, n: int = 500) -> Verdicts:
    none = np.zeros(n, dtype=bool)
    return Verdicts(none, none, np.arange(n) < labels, ~none)


def test_too_few_labels_are_an_error_that_says_how_many_it_takes() -> None:
    with pytest.raises(ConfideError, match=r"at least (\d+) labels .* got 20 on 500") as refused:
        of(20).check_labels(0.1, 0.05)
    needed = int(str(refused.value).partition("at least ")[2].split()[0])
    of(needed).check_labels(0.1, 0.05)
    assert of(needed).count(np.arange(500) < needed).shows(0.1, 0.05)
    assert not of(needed - 1).count(np.arange(500) < needed - 1).shows(0.1, 0.05)


def test_a_number_of_labels_keeps_the_rows_up_to_the_next_one() -> None:
    none = np.zeros(8, dtype=bool)
    verdicts = Verdicts(none, none, np.array([0, 1, 0, 0, 1, 0, 1, 0], dtype=bool), ~none)
    assert verdicts.kept_with(np.array([1, 2, 3])).tolist() == [4, 6, 8]


@pytest.mark.parametrize(("missed", "false_alarms"), [(0, 90), (40, 0), (5, 4)])
def test_each_bound_has_the_error_rate_that_it_was_given(missed: int, false_alarms: int) -> None:
    """Validation gives the lower bound less than the upper one, and neither may take of the other's."""
    count = JudgedCount(900, 900, 400, 200, 60, missed, false_alarms, 300, 20)

    def bounds(below: float, above: float) -> tuple[float, float]:
        return count.bounds(judged_bound._exact_share, judged_bound._exact_loss, below, above)

    for error in (0.005, 0.05, 0.2):
        assert bounds(0.01, error)[0] == bounds(0.01, 0.01)[0]
        assert bounds(error, 0.05)[1] == bounds(0.05, 0.05)[1]


def test_few_judged_rows_are_labelled_one_and_all() -> None:
    judged = np.arange(500) < 12
    few = Verdicts(judged, ~judged, ~judged | (np.arange(500) < 3), judged)
    with pytest.raises(ConfideError, match=r"a label on each of the 12 rows .* too few .*; got 3 on 12"):
        few.check_labels(0.1, 0.05)
