import numpy as np
import pytest

from confide.metrics.draw_cells import CELLS, Cells, places


def test_equal_confidences_are_in_one_place_and_places_keep_the_order():
    x = np.random.default_rng(0).integers(0, 50, 3000) / 7
    found = places(x, 10)
    for value in np.unique(x):
        assert len(set(found[x == value])) == 1
    order = np.argsort(x)
    assert np.all(np.diff(found[order]) >= 0)


def test_places_number_about_as_many_as_asked_for():
    x = np.random.default_rng(1).normal(size=200_000)
    found = places(x)
    assert CELLS <= found.max() + 1 < 1.1 * CELLS
    assert np.bincount(found).max() <= 1.5 * 200_000 / CELLS


def test_no_place_crosses_a_bin_or_holds_log_losses_far_apart():
    p = np.random.default_rng(2).beta(0.05, 0.05, 50_000)
    found = places(p, 20)
    bins = np.minimum((p * 10).astype(int), 9)
    for place in range(found.max() + 1):
        inside = p[found == place]
        assert len(set(bins[found == place])) == 1
        if inside.min() > 1e-12 and inside.max() < 1 - 1e-12:
            assert np.ptp(np.log(inside / (1 - inside))) <= 0.5 + 1e-6


def test_the_highest_confidences_are_told_apart():
    found = places(np.arange(100_000.0), 100)
    assert len(set(found[-3:])) >= 2
    assert np.bincount(found)[-1] < 5


def test_rows_of_a_cell_share_place_and_marks():
    rng = np.random.default_rng(3)
    x, right, expert = rng.random(2000), rng.random(2000) < 0.5, np.where(rng.random(2000) < 0.1, np.nan, 1.0)
    cells = Cells.of(x, right, expert, None, cells=30)
    assert len(cells) == len(set(zip(cells.place.tolist(), right.tolist(), np.isnan(expert).tolist(), strict=True)))
    assert np.array_equal(right[cells.example][cells.of_row], right)
    assert np.array_equal(np.isnan(expert[cells.example][cells.of_row]), np.isnan(expert))


def test_right_and_wrong_rows_of_a_place_stand_at_its_mean():
    x, right = np.array([1.0, 3.0, 10.0, 10.0]), np.array([True, False, True, False])
    cells = Cells(np.array([0, 0, 1, 1]), np.arange(4), np.arange(4))
    assert cells.means(x) == pytest.approx([2, 2, 10, 10])
    assert len(Cells.of(x, right)) == 4
