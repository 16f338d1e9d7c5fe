import numpy as np
import pytest

from confide.errors import ConfideError
from confide.metrics import Bootstrap, auroc, brier, estimate
from confide.metrics.bootstrap import CHUNK
from confide.metrics.draw_cells import Cells


def rows(n, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.random(n)
    return x, rng.random(n) < x


def test_rows_of_a_cluster_are_drawn_together():
    bootstrap = Bootstrap(["a", "b", "a", "c"], resamples=50)
    weights = np.concatenate(list(bootstrap.weights(np.arange(4))))
    assert weights.shape == (50, 4)
    assert np.array_equal(weights[:, 0], weights[:, 2])
    assert np.all(np.concatenate(list(bootstrap.counts(50, 7))).sum(axis=1) == 3)


def test_the_same_draws_whatever_the_rows_and_the_chunks():
    bootstrap = Bootstrap(range(100), resamples=20, seed=3)
    whole = np.concatenate(list(bootstrap.weights(np.arange(100))))
    some = np.concatenate(list(bootstrap.weights(np.array([5, 80]), chunk=1)))
    assert np.array_equal(whole[:, [5, 80]], some)
    again, other = (
        np.concatenate(list(Bootstrap(range(100), resamples=20, seed=s).weights(np.arange(100)))) for s in (3, 4)
    )
    assert np.array_equal(whole, again)
    assert not np.array_equal(whole, other)


def test_draws_that_are_too_many_to_hold_are_poisson_and_come_again(monkeypatch):
    monkeypatch.setattr("confide.metrics.bootstrap.HELD", 500)
    bootstrap = Bootstrap(range(100), resamples=400, seed=3)
    parts = list(bootstrap.counts(400, 5))
    assert max(part.size for part in parts) <= 500
    drawn = np.concatenate(parts)
    for _ in range(2):
        assert np.array_equal(drawn, np.concatenate(list(bootstrap.weights(np.arange(100)))))
    few = list(bootstrap.weights(np.array([5, 80])))
    assert {len(w) for w in few} == {5}
    assert np.array_equal(drawn[:, [5, 80]], np.concatenate(few))
    share = np.bincount(drawn.ravel())[:4] / drawn.size
    assert share == pytest.approx([0.3679, 0.3679, 0.1839, 0.0613], abs=0.008)


def test_draws_of_cells_are_those_of_their_rows(monkeypatch):
    x, y = rows(900)
    bootstrap = Bootstrap([i // 3 for i in range(900)], resamples=40)
    cells = Cells.of(x, y, cells=20)
    weights = np.concatenate(list(bootstrap.weights(np.arange(900))))
    merged = np.concatenate(list(bootstrap.cell_weights(np.arange(900), cells.of_row)))
    for cell in range(len(cells)):
        assert np.array_equal(merged[:, cell], weights[:, cells.of_row == cell].sum(axis=1))


@pytest.mark.parametrize("metric", [auroc, brier])
def test_intervals_of_cells_are_those_of_rows(metric, monkeypatch):
    x, y = rows(6000)
    bootstrap = Bootstrap([i // 3 for i in range(6000)], resamples=300)
    whole = bootstrap.metric(metric, x, y, np.arange(6000))
    mean = bootstrap.mean(x, np.arange(6000))
    monkeypatch.setattr("confide.metrics.bootstrap.MERGED", 1000)
    merged = bootstrap.metric(metric, x, y, np.arange(6000))
    assert merged[0] == whole[0]
    assert merged == pytest.approx(whole, abs=0.02 * whole.std())
    assert bootstrap.mean(x, np.arange(6000)) == pytest.approx(mean, abs=1e-12)


def test_a_draw_of_cells_is_moved_to_the_value_of_the_rows():
    cells = Cells.of(np.arange(4.0), cells=2)
    found = Bootstrap(range(4), resamples=3).sample(
        lambda w: {"x": np.full(len(w), 5.0), "undefined": np.full(len(w), np.nan)},
        np.arange(4),
        merged=(cells, lambda w: {"x": np.append(4.0, np.arange(3.0))[-len(w) :], "undefined": np.ones(len(w))}),
    )
    assert found["x"][0] == 5.0
    assert np.isnan(found["undefined"][0])
    assert np.isfinite(found["undefined"][1:]).all()


def test_weights_are_held_some_at_a_time():
    sizes = [w.size for w in Bootstrap(range(10_000), resamples=500).weights(np.arange(10_000))]
    assert max(sizes) <= CHUNK
    assert sum(sizes) == 500 * 10_000


def test_a_resample_is_a_weighted_evaluation():
    x, y = rows(60)
    bootstrap = Bootstrap([i // 3 for i in range(60)], resamples=30)
    sampled = bootstrap.sample(lambda w: {"auroc": auroc.resampled(x, y, w)}, np.arange(60))["auroc"]
    assert sampled[0] == auroc(x, y)
    weights = np.concatenate(list(bootstrap.weights(np.arange(60))))
    expected = [auroc(np.repeat(x, w), np.repeat(y, w)) for w in weights]
    assert sampled[1:] == pytest.approx(expected, abs=1e-12)


def test_singletons_give_the_ordinary_standard_error():
    x, y = rows(400)
    bootstrap = Bootstrap(range(400), resamples=2000)
    sampled = bootstrap.sample(lambda w: {"brier": brier.resampled(x, y, w)}, np.arange(400))["brier"]
    expected = np.std((x - y) ** 2) / np.sqrt(400)
    assert np.std(sampled[1:]) == pytest.approx(expected, rel=0.08)


def test_copies_in_one_cluster_add_no_certainty():
    x, y = rows(100)
    copies = np.repeat(np.arange(100), 5)

    def width(clusters):
        sampled = Bootstrap(clusters, resamples=1000).sample(
            lambda w: {"brier": brier.resampled(x[copies], y[copies], w)}, np.arange(500)
        )
        result = estimate(sampled["brier"])
        return result["high"] - result["low"]

    assert width(list(copies)) == pytest.approx(np.sqrt(5) * width(list(range(500))), rel=0.15)


def test_intervals_cover_the_truth():
    covered = 0
    for seed in range(100):
        x, y = rows(200, seed)
        sampled = Bootstrap(range(200), resamples=300, seed=seed).sample(
            lambda w, x=x, y=y: {"brier": brier.resampled(x, y, w)}, np.arange(200)
        )
        result = estimate(sampled["brier"])
        covered += result["low"] <= 1 / 6 <= result["high"]
    assert covered >= 88


def test_estimate_leaves_out_undefined_resamples():
    result = estimate(np.array([0.5, 0.4, np.nan, 0.6]))
    assert result["value"] == 0.5
    assert 0.4 <= result["low"] <= result["high"] <= 0.6
    assert estimate(np.array([0.5])) == {"value": 0.5, "low": None, "high": None}
    assert estimate(np.array([np.nan, 0.5]))["value"] is None


def test_bad_input():
    with pytest.raises(ConfideError, match="at least 0, not -1"):
        Bootstrap([1, 2], resamples=-1)
    with pytest.raises(ConfideError, match="no rows"):
        Bootstrap([])
