"""Smoothing: the level at each position, and the lowest of them."""

from __future__ import annotations

import numpy as np
import pytest

from confide.errors import ConfideError
from confide.methods.along.smoothing import CHOICES, Level, check_smoothing, levels

Z = np.array([2.0, -1.0, 4.0, -3.0, 0.5])


def test_without_smoothing_the_level_is_the_reading() -> None:
    assert levels(Z, "none").tolist() == Z.tolist()


def test_the_mean_is_over_all_positions_so_far() -> None:
    np.testing.assert_allclose(levels(Z, "mean"), np.cumsum(Z) / np.arange(1, 6))


def test_a_reading_counts_half_as_much_so_many_positions_later() -> None:
    impulse = levels(np.array([1.0, 0, 0, 0, 0, 0, 0, 0, 0]), "average:4")
    assert impulse[4] == pytest.approx(impulse[0] / 2)
    assert impulse[8] == pytest.approx(impulse[0] / 4)


def test_a_steady_reading_is_reached_from_zero() -> None:
    found = levels(np.full(200, -2.0), "average:16")
    assert -2.0 < found[0] < 0
    assert (np.diff(found) < 0).all()
    assert found[-1] == pytest.approx(-2.0, abs=1e-3)


@pytest.mark.parametrize("smoothing", CHOICES)
def test_levels_come_one_by_one_as_they_do_at_once(smoothing: str) -> None:
    level = Level(smoothing)
    assert [level.add(z) for z in Z] == levels(Z, smoothing).tolist()


@pytest.mark.parametrize("smoothing", ["", "average", "average:0", "mean:3", "median"])
def test_what_is_no_smoothing_is_refused(smoothing: str) -> None:
    with pytest.raises(ConfideError, match="readings are smoothed by none, mean or average:N"):
        check_smoothing(smoothing)
