"""The traffic around an answer: counts of what training never saw, in a file and in service, and what they say."""

from __future__ import annotations

import numpy as np
import pytest

from confide.methods.answer_traffic import LEVEL, WINDOW, FileTraffic, Traffic, TrafficWindow, UnseenShare
from confide.numeric import Bools
from confide.records import Record


def marks(*values: int) -> Bools:
    return np.array(values, dtype=np.bool_)


def some(n: int, **more: object) -> list[Record]:
    return [Record.model_validate({"id": str(i), **more}) for i in range(n)]


@pytest.mark.parametrize("usual", [0.0, 0.01, 0.17, 0.6, 1.0])
def test_traffic_of_which_nothing_is_known_is_as_in_training(usual: float) -> None:
    share = UnseenShare(0, 0, usual)
    assert (share.share, share.shifted, share.tail) == (0, 0, 1)


@pytest.mark.parametrize(("unseen", "n"), [(0, 400), (68, 400), (80, 400), (2, 3)])
def test_up_to_what_chance_makes_of_training_nothing_has_shifted(unseen: int, n: int) -> None:
    share = UnseenShare(unseen, n, 0.17 if n > 3 else 0.4)
    assert (share.shifted, share.tail) == (0, 1)


def test_the_mixture_of_two_worlds_is_found_from_below() -> None:
    usual, n = 0.2, 1_000_000
    for part in (0.1, 0.5, 0.9):
        share = UnseenShare(round(n * (part + (1 - part) * usual)), n, usual)
        assert part - 0.002 < share.shifted < part
        # Bayes' rule: of the unseen ones (1 − φ)·e are of training's world, φ are not.
        assert share.tail == pytest.approx((1 - part) * usual / (part + (1 - part) * usual), abs=0.004)


def test_more_of_the_same_share_says_more() -> None:
    shares = [UnseenShare(n // 2, n, 0.17) for n in (4, 20, 100, 1000)]
    assert np.all(np.diff([s.shifted for s in shares]) > 0)
    assert np.all(np.diff([s.tail for s in shares]) < 0)


def test_a_bound_is_wrong_as_often_as_it_says_at_most() -> None:
    drawn = np.random.default_rng(0).binomial(200, 0.17, size=2000)
    assert np.mean([UnseenShare(int(k), 200, 0.17).shifted > 0 for k in drawn]) <= 1 - LEVEL + 0.01


def test_what_training_never_had_twice_cannot_shift() -> None:
    assert (UnseenShare(1000, 1000, 1.0).shifted, UnseenShare(1000, 1000, 1.0).tail) == (0, 1)


def test_what_training_always_had_is_of_no_tail() -> None:
    assert UnseenShare(1, 1000, 0.0).tail == 0


def test_rows_of_a_split_are_each_others_traffic() -> None:
    rows = [*some(3, split="test"), *some(2, split="calibration"), *some(1)]
    answers, phrasings = marks(1, 0, 1, 0, 0, 1), marks(0, 0, 0, 1, 1, 0)
    traffic = FileTraffic.of(rows, answers, phrasings)
    assert list(traffic.around(rows, answers, phrasings)) == [
        *[Traffic(3, 2, 0)] * 3, *[Traffic(2, 0, 2)] * 2, Traffic(1, 1, 0)
    ]  # fmt: skip
    (foreign,) = traffic.around(some(1, split="validation"), marks(1), marks(1))
    assert foreign == Traffic()


def test_a_window_holds_an_answer_and_those_before_it() -> None:
    window = TrafficWindow()
    assert window.traffic == Traffic()
    found = window.around(some(3), marks(1, 0, 1), marks(0, 1, 0))
    assert list(found) == [Traffic(1, 1, 0), Traffic(2, 1, 1), Traffic(3, 2, 1)]
    assert window.traffic == found[-1]
    assert list(window.around([], marks(), marks())) == []


def test_of_many_answers_to_one_request_the_first_comes_in() -> None:
    window, every = TrafficWindow(), np.ones(128, dtype=np.bool_)
    assert list(window.request().around(some(128), every, every)) == [Traffic(1, 1, 1)] * 128
    assert window.traffic == Traffic(1, 1, 1)
    assert list(window.request().around(some(2), marks(0, 1), marks(0, 1))) == [Traffic(2, 1, 1)] * 2
    assert list(window.request().around([], marks(), marks())) == []


def test_a_window_forgets_what_is_long_ago() -> None:
    window, one_by_one = TrafficWindow(), TrafficWindow()
    drawn = np.random.default_rng(1).random((WINDOW + 300, 2)) < 0.3
    window.around(some(len(drawn)), drawn[:, 0], drawn[:, 1])
    for row in drawn:
        one_by_one.around(some(1), row[:1], row[1:])
    assert window.traffic == one_by_one.traffic == Traffic(WINDOW, *drawn[-WINDOW:].sum(0).tolist())


def test_a_closed_window_lets_nothing_in() -> None:
    window = TrafficWindow()
    window.around(some(1), marks(1), marks(0))
    with window.closed():
        assert list(window.around(some(2), marks(1, 1), marks(1, 1))) == [Traffic(1, 1, 0)] * 2
    window.around(some(1), marks(0), marks(0))
    assert window.traffic == Traffic(2, 1, 0)


def test_what_is_told_is_what_was_counted_and_what_follows() -> None:
    told = UnseenShare(95, 100, 0.17).told()
    assert (told["unseen"], told["n"], told["usual"], told["share"]) == (95, 100, 0.17, 0.95)
    assert 0.8 < told["shifted"] < 0.95
