"""The work of the metrics grows with the rows: what depends on the rows alone is done once for all draws."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from confide.metrics import (
    aurc,
    auroc,
    brier,
    calibration_error,
    ece,
    log_loss,
    prr,
    running_sums,
    smooth_ece,
    spearman,
)
from confide.metrics.bootstrap import Bootstrap
from confide.metrics.calibration_error import Binned
from confide.metrics.metric import Weighted


def rows(n: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(n)
    x = rng.random(n)
    return x, rng.random(n) < x


@pytest.mark.parametrize("metric", [auroc, aurc, prr, ece, spearman], ids=lambda metric: metric.__name__)
def test_rows_are_put_in_order_once_for_all_draws(metric, monkeypatch):
    sorted_rows = []
    argsort = np.argsort

    def counted(a, *args, **kwargs):
        sorted_rows.append(np.size(a))
        return argsort(a, *args, **kwargs)

    monkeypatch.setattr(np, "argsort", counted)
    x, y = rows(2000)
    for resamples in (5, 50):
        sorted_rows.clear()
        # Every draw is a chunk of its own, as it is for a million rows.
        Bootstrap(range(2000), resamples=resamples).metric(metric, x, y, np.arange(2000), chunk=2000)
        assert 0 < sum(sorted_rows) <= 3 * 2000


def test_the_smooth_error_lays_out_its_grids_once_for_all_draws(monkeypatch):
    laid = []
    grid = calibration_error._grid

    def counted(confidence, outcome, points):
        laid.append(points)
        return grid(confidence, outcome, points)

    monkeypatch.setattr(calibration_error, "_grid", counted)
    x, y = rows(2000)
    Bootstrap(range(2000), resamples=40).metric(smooth_ece, x, y, np.arange(2000), chunk=2000)
    assert len(laid) == len(set(laid))


def test_memory_grows_with_the_rows_and_not_with_the_draws(monkeypatch):
    monkeypatch.setattr("confide.metrics.bootstrap.HELD", 20_000)
    monkeypatch.setattr("confide.metrics.bootstrap.WIDE", 20_000)

    def peak(n: int, resamples: int) -> int:
        x, y = rows(n)
        tracemalloc.start()
        bootstrap = Bootstrap(range(n), resamples=resamples)
        for metric in (auroc, aurc, brier, log_loss, ece, smooth_ece):
            bootstrap.metric(metric, x, y, np.arange(n), chunk=n)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    small = peak(10_000, 20)
    assert peak(10_000, 80) < 1.2 * small
    # Above 20,000 rows draws see cells, which take more for a row, once.
    assert peak(60_000, 20) < 3 * peak(30_000, 20)


@pytest.mark.parametrize("kind", ["width", "mass"])
def test_bins_hold_the_sums_that_a_table_of_members_gives(kind):
    rng = np.random.default_rng(1)
    x = np.round(rng.random(300), 2)
    y = (rng.random(300) < x).astype(float)
    weights = rng.integers(0, 4, size=(6, 300)).astype(np.int32)
    found = Binned.of(Weighted(x, y, weights), 10, kind)
    for draw, w in enumerate(weights):
        code = np.minimum((x * 10).astype(int), 9)
        if kind == "mass":
            values, tie = np.unique(x, return_inverse=True)
            after = np.cumsum(np.bincount(tie, w, len(values)))
            middle = (after + np.append(0, after[:-1])) / (2 * after[-1])
            code = np.minimum((10 * middle * (1 + 1e-9)).astype(int), 9)[tie]
        assert found.mass[draw] == pytest.approx(np.bincount(code, w, 10))
        assert found.gap[draw] == pytest.approx(np.bincount(code, w * (x - y), 10), abs=1e-9)
        assert found.correct[draw] == pytest.approx(np.bincount(code, w * y, 10))


def test_weighted_sums_are_those_of_a_product():
    x = rows(500)[0]
    weights = np.random.default_rng(0).integers(0, 3, size=(7, 500)).astype(np.int32)
    assert running_sums.weighted_sum(weights, x) == pytest.approx(weights @ x)
    assert running_sums.weighted_mean(weights, x) == pytest.approx((weights @ x) / weights.sum(axis=1))
