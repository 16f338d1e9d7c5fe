from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from confide.evaluation.enough_rows import (
    RISK,
    auroc_half_width,
    kept_rows_for,
    rows_for_width,
    shortages,
)
from confide.metrics.ranking import auroc
from confide.records import Record


def rows(right: int, wrong: int, split: str | None = None, cut: int = 0) -> list[Record]:
    labels = [True] * right + [False] * wrong
    return [
        Record(id=f"{split}{i}", correct=label, split=split, finish="length" if i < cut else "stop")  # type: ignore[arg-type]
        for i, label in enumerate(labels)
    ]


def test_plenty_says_nothing() -> None:
    splits = ("train", "validation", "calibration", "test")
    assert shortages([row for split in splits for row in rows(400, 300, split)]) == []
    assert shortages(rows(400, 300)) == []
    assert shortages([Record(id="a")]) == []


def test_ten_right_of_a_hundred_are_too_few() -> None:
    evaluation, calibration = shortages(rows(10, 90))
    assert "10 of the 100 test answers are right" in evaluation
    assert "±0.17" in evaluation
    assert "so none can be made of these" in calibration
    assert "About 1,910 rows like these" in calibration


@pytest.mark.parametrize(
    ("records", "says"),
    [
        (rows(20, 500, "train"), "training: 20 of the 520 train answers are right"),
        (rows(500, 20, "train"), "20 of the 520 train answers are wrong"),
        (rows(90, 0, "test"), "all 90 test answers are right: nothing can be ranked"),
        (rows(0, 90, "test"), "all 90 test answers are wrong"),
        (rows(30, 30, "test"), "(no verdict below 100)"),
        (rows(0, 40, "calibration"), "0 of the 40 calibration answers are right"),
        (rows(400, 300, "test", cut=532), "76% of the answers were cut"),
    ],
)
def test_what_is_short_is_named(records: list[Record], says: str) -> None:
    (sentence,) = shortages(records)
    assert says in sentence
    assert not sentence.endswith(".")


def test_only_training_asks_for_train_rows() -> None:
    assert shortages(rows(20, 500, "train"), training=False) == []


def test_the_width_is_that_of_aurocs_drawn_again_and_again() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(120) < 40
    # Two exponential scores with this ratio of rates have AUROC 0.8, the model of Hanley and McNeil.
    drawn = [auroc(np.where(labels, rng.exponential(4.0, 120), rng.exponential(1.0, 120)), labels) for _ in range(400)]
    assert np.mean(drawn) == pytest.approx(0.8, abs=0.01)
    assert 1.96 * np.std(drawn) == pytest.approx(auroc_half_width(40, 80), rel=0.15)
    n = rows_for_width(0.1)
    assert auroc_half_width(round(0.1 * n), n - round(0.1 * n)) <= 0.05


def test_rows_for_a_promise_are_those_of_its_bound() -> None:
    fewest, likely = kept_rows_for()
    assert 0.9**fewest <= 0.05 < 0.9 ** (fewest - 1)
    affordable = max(k for k in range(likely) if binom.cdf(k, likely, RISK) <= 0.05)
    assert binom.cdf(affordable, likely, RISK / 2) >= 0.8
