import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from confide.metrics import cmfg_star
from confide.metrics.faithfulness import Bounds
from confide.metrics.latent import LatentRates

RATES = {
    "uniform": lambda rng, n: rng.random(n),
    "bimodal": lambda rng, n: rng.beta(0.3, 0.3, n),
    "mostly high": lambda rng, n: rng.beta(4, 1, n),
    "often 0 or 1": lambda rng, n: np.where(rng.random(n) < 0.6, rng.integers(0, 2, n), rng.random(n)),
    "two rates": lambda rng, n: rng.choice([0.2, 0.8], n),
}


def bounds(g, samples):
    k = np.full(len(g), float(samples))
    return Bounds.of(g, np.ones((1, len(g)), dtype=np.int32), LatentRates(g, k))


def seen(p, samples, rng):
    return rng.binomial(samples, p) / samples


def best_function(p, g):
    """cMFG* of the best function of the true rates, found by going through them: a median of g where rates agree."""
    axis = np.unique(g)
    mass = np.array([(g == v).sum() for v in axis])
    # Widths of bins of equal mass, spread over their rows, are what a row weighs.
    far = np.where(axis < 0.5, 1.0, 0.0)
    shares = np.array([1 - cmfg_star(np.where(g == v, end, g), g) for v, end in zip(axis, far, strict=True)])
    shares /= np.abs(axis - far)
    weight = (shares / mass)[np.searchsorted(axis, g)]
    out = np.empty(len(p))
    place = np.round(p * 100)
    for at in np.unique(place):
        (inside,) = np.nonzero(place == at)
        order = inside[np.argsort(g[inside])]
        running = np.cumsum(weight[order])
        out[inside] = g[order[np.searchsorted(running, running[-1] / 2)]]
    return cmfg_star(out, g)


@pytest.mark.parametrize("kind", RATES)
@pytest.mark.parametrize("samples", [20, 10])
def test_the_ceiling_is_what_the_best_function_of_the_true_rates_scores(kind, samples):
    rng = np.random.default_rng(0)
    p = RATES[kind](rng, 100_000)
    truth = best_function(p, seen(p, samples, rng))
    found = []
    for _ in range(20):
        p = RATES[kind](rng, 1000)
        found.append(bounds(seen(p, samples, rng), samples).ceilings["cmfg_star"][0])
    # Two points are the least smooth of distributions, and the estimate smooths.
    tolerance = 0.015 if kind == "two rates" else 0.004
    assert np.mean(found) == pytest.approx(truth, abs=tolerance)
    assert np.std(found) < 0.008


@pytest.mark.parametrize("kind", ["uniform", "bimodal"])
def test_a_thousand_rows_of_twenty_samples(kind):
    rng = np.random.default_rng(0)
    p = RATES[kind](rng, 1000)
    g = seen(p, 20, rng)
    found = bounds(g, 20)
    assert 0.92 < found.ceilings["cmfg_star"][0] < 0.94
    assert 0.73 < found.floors["cmfg_star"][0] < 0.79
    # Saying the rate itself comes within a hundredth of it.
    assert cmfg_star(p, g) == pytest.approx(found.ceilings["cmfg_star"][0], abs=0.01)


def test_split_halves_would_be_far_too_low():
    rng = np.random.default_rng(0)
    p = rng.random(1000)
    first, second = seen(p, 10, rng), seen(p, 10, rng)
    assert cmfg_star(first, second) < bounds((first + second) / 2, 20).ceilings["cmfg_star"][0] - 0.05


@pytest.mark.parametrize("rate", [0.5, 0.9])
@pytest.mark.parametrize("samples", [5, 20])
def test_where_all_answers_have_one_rate_there_is_no_room(rate, samples):
    rng = np.random.default_rng(0)
    found = [bounds(seen(np.full(500, rate), samples, rng), samples) for _ in range(20)]
    room = [b.ceilings["cmfg_star"][0] - b.floors["cmfg_star"][0] for b in found]
    assert np.mean(room) < 0.03


counts = arrays(np.int64, 60, elements=st.integers(0, 10))


@given(counts, arrays(np.int64, 60, elements=st.sampled_from([10, 16])))
def test_the_ceiling_lies_between_floor_and_one(agreeing, samples):
    g = agreeing / samples
    found = Bounds.of(g, np.ones((1, 60), dtype=np.int32), LatentRates(g, samples.astype(float)))
    for name, floor in found.floors.items():
        assert floor[0] - 1e-9 <= found.ceilings[name][0] <= 1 + 1e-9


def test_weights_are_repetition():
    rng = np.random.default_rng(0)
    g, k = rng.integers(0, 11, 60) / 10, np.full(60, 10.0)
    weights = rng.integers(0, 4, (6, 60)).astype(np.int32)
    found = Bounds.of(g, weights, LatentRates(g, k))
    for row, w in enumerate(weights):
        alone = bounds(np.repeat(g, w), 10)
        for name, ceiling in found.ceilings.items():
            assert ceiling[row] == pytest.approx(alone.ceilings[name][0], abs=1e-6)


def test_the_distribution_of_the_rates_is_found():
    rng = np.random.default_rng(0)
    p = rng.choice([0.1, 0.9], 2000, p=[0.3, 0.7])
    g = seen(p, 20, rng)
    rates = LatentRates(g, np.full(2000, 20.0))
    (found,) = rates.distribution(rates.masses(np.ones((1, 2000), dtype=np.int32)))
    nodes = np.linspace(0, 1, len(found))
    assert found.sum() == pytest.approx(1)
    assert found @ nodes == pytest.approx(g.mean(), abs=1e-3)
    assert found[nodes < 0.5].sum() == pytest.approx(0.3, abs=0.03)
