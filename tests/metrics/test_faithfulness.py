import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from confide.metrics import cmfg, cmfg_star, cmfg_star_skill, mfg
from confide.metrics.faithfulness import MIN_ROOM, LatentRates, bounds, skill

N = 40
confidences = arrays(np.float64, N, elements=st.floats(0, 1, width=32))
# Agreement among ten samples, so that ties are common.
agreement = arrays(np.int64, N, elements=st.integers(0, 10)).map(lambda g: g / 10)
counts = arrays(np.int64, N, elements=st.integers(0, 3)).filter(lambda w: w.sum() > 0)
METRICS = [mfg, cmfg, cmfg_star, cmfg_star_skill]


def as_published(confidence, consistency, bins=10):
    """cMFG* as the RLMF authors compute it: slices of sorted rows, each weighing its width on the axis of g."""
    order = np.argsort(consistency, kind="stable")
    f, g = (1 - np.abs(confidence - consistency))[order], consistency[order]
    parts = np.array_split(np.arange(len(g)), min(bins, len(g)))
    total = width = 0.0
    for before, part, after in zip([None, *parts[:-1]], parts, [*parts[1:], None], strict=True):
        low = g[part[0]] if before is None else (g[before[-1]] + g[part[0]]) / 2
        high = g[part[-1]] if after is None else (g[part[-1]] + g[after[0]]) / 2
        total += (high - low) * f[part].mean()
        width += high - low
    return total / width


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("n", [2, 3, 7, 9, 10, 11, 13, 19, 101, 200, 999, 1000])
def test_cmfg_star_agrees_with_its_authors(n, seed):
    rng = np.random.default_rng(seed)
    c, g = rng.random(n), rng.beta(0.7, 0.5, n)
    assert cmfg_star(c, g) == pytest.approx(as_published(c, g), abs=1e-9)


def test_ties_are_shared_as_random_orders_would_on_average():
    rng = np.random.default_rng(0)
    c, g = rng.random(200), rng.integers(0, 5, 200) / 4
    orders = [rng.permutation(200) for _ in range(600)]
    assert cmfg_star(c, g) == pytest.approx(np.mean([as_published(c[o], g[o]) for o in orders]), abs=2e-3)


def test_by_hand():
    c, g = [0.5, 0.5, 0.5, 0.9], [0.0, 0.0, 0.2, 1.0]
    assert mfg(c, g) == pytest.approx(1 - (0.5 + 0.5 + 0.3 + 0.1) / 4)
    # Bins of width 1/10: g = 0, 0.2 and 1 are in three bins.
    assert cmfg(c, g) == pytest.approx(1 - (0.5 + 0.3 + 0.1) / 3)
    # Two bins of two rows: [0, 0] up to 0.1, [0.2, 1] from there to 1.
    assert cmfg_star(c, g, bins=2) == pytest.approx(1 - (0.1 * 0.5 + 0.9 * 0.2) / 1)


def test_by_hand_where_bins_are_uneven():
    # Five rows in two bins: [0, 0.2, 0.4] up to 0.5 and [0.6, 1] from there; |c − g| = 0.1, 0.2, 0.3 and 0, 0.4.
    c, g = np.array([0.1, 0.4, 0.7, 0.6, 0.6]), np.array([0.0, 0.2, 0.4, 0.6, 1.0])
    assert cmfg_star(c, g, bins=2) == pytest.approx(1 - (0.5 * 0.2 + 0.5 * 0.2))
    c[3] = 0.4  # gaps 0.2 and 0.4 in the second bin
    assert cmfg_star(c, g, bins=2) == pytest.approx(1 - (0.5 * 0.2 + 0.5 * 0.3))
    # 11 rows: the first bin has two, each other one; inner edges half-way between rows.
    g = np.arange(11) / 10
    c = g - np.where(np.arange(11) < 2, [0.0, -0.3] + [0.0] * 9, 0.1)
    # Widths: [0, 0.15] of gaps 0 and 0.3, eight of 0.1 and one of 0.05 at the end, of gap 0.1.
    assert cmfg_star(c, g) == pytest.approx(1 - (0.15 * 0.15 + 0.85 * 0.1))
    # 13 rows, 0, 1, …, 12 twelfths: three bins of two, seven of one. Only row 5 is off, by 0.5.
    g = np.arange(13) / 12
    c = g.copy()
    c[5] = g[5] + 0.5
    # Its bin holds rows 4 and 5, from 3.5 to 5.5 twelfths.
    assert cmfg_star(c, g) == pytest.approx(1 - (2 / 12) * 0.25)
    # 7 rows: each its own bin; row 6 ends the axis and is half as wide as an inner one.
    g = np.arange(7) / 6
    c = g.copy()
    c[6] = 0.4
    assert cmfg_star(c, g) == pytest.approx(1 - (0.5 / 6) * 0.6)
    # 101 rows: the first bin has eleven, rows 0 to 10, up to 0.105; all its rows are off by 0.2.
    g = np.arange(101) / 100
    assert cmfg_star(np.where(g < 0.105, g + 0.2, g), g) == pytest.approx(1 - 0.105 * 0.2)


@pytest.mark.parametrize("n", [7, 11, 13, 101])
def test_ties_and_uneven_bins_together(n):
    rng = np.random.default_rng(n)
    c, g = rng.random(n), rng.integers(0, 5, n) / 4
    orders = [rng.permutation(n) for _ in range(4000)]
    assert cmfg_star(c, g) == pytest.approx(np.mean([as_published(c[o], g[o]) for o in orders]), abs=6e-3)


def test_a_constant_half_scores_well_without_knowing_anything():
    # The floor that makes a bare cMFG* of 0.75 worthless.
    rng = np.random.default_rng(0)
    for g in (rng.beta(0.5, 0.5, 1000), rng.random(1000), rng.beta(4, 1, 1000)):
        assert 0.70 < cmfg_star(np.full(1000, 0.5), np.round(g * 20) / 20) < 0.84
        assert cmfg_star_skill(np.full(1000, 0.5), np.round(g * 20) / 20) <= 1e-9


@pytest.mark.parametrize("name", ["mfg", "cmfg", "cmfg_star"])
@given(agreement)
def test_the_floor_is_the_best_constant(name, g):
    metric = {"mfg": mfg, "cmfg": cmfg, "cmfg_star": cmfg_star}[name]
    found = bounds(g, np.ones((1, N), dtype=np.int32))
    assert not any(key.endswith("_ceiling") for key in found)
    floor, constant = found[f"{name}_floor"][0], found[f"{name}_constant"][0]
    assert metric(np.full(N, constant), g) == pytest.approx(floor, abs=1e-9)
    assert all(metric(np.full(N, c), g) <= floor + 1e-9 for c in np.linspace(0, 1, 21))


@given(agreement)
def test_perfect_is_one(g):
    assert mfg(g, g) == pytest.approx(1)
    assert cmfg(g, g) == pytest.approx(1)
    assert cmfg_star(g, g) == pytest.approx(1)
    floor = bounds(g, np.ones((1, N), dtype=np.int32))["cmfg_star_floor"][0]
    wanted = 1 if 1 - floor >= MIN_ROOM else np.nan
    assert cmfg_star_skill(g, g) == pytest.approx(wanted, nan_ok=True)


@given(confidences, agreement)
def test_mirror_images_are_equally_faithful(c, g):
    assert mfg(1 - c, 1 - g) == pytest.approx(mfg(c, g), abs=1e-9)
    assert cmfg_star(1 - c, 1 - g) == pytest.approx(cmfg_star(c, g), abs=1e-6)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.__name__)
@given(confidences, agreement, counts)
def test_weights_are_repetition(metric, c, g, w):
    repeated = metric(np.repeat(c, w), np.repeat(g, w))
    assert metric(c, g, w) == pytest.approx(repeated, abs=1e-6, nan_ok=True)
    # Weights that are not whole are shares of the rows: as many copies as it takes.
    many = metric(c, g, w * 40) if metric in (cmfg_star, cmfg_star_skill) else repeated
    assert metric(c, g, w / 4) == pytest.approx(many, abs=1e-6, nan_ok=True)


def test_a_resample_is_its_own_evaluation():
    rng = np.random.default_rng(0)
    c, g, weights = rng.random(60), rng.integers(0, 11, 60) / 10, rng.integers(0, 4, (8, 60))
    for metric in METRICS:
        naive = [metric(np.repeat(c, w), np.repeat(g, w)) for w in weights]
        assert metric.resampled(c, g, weights) == pytest.approx(naive, abs=1e-9)


def test_skill_is_the_share_of_the_way_from_floor_to_ceiling():
    floor, ceiling = np.full(4, 0.75), np.array([0.95, 0.95, 0.95, 0.75 + MIN_ROOM / 2])
    found = skill(np.array([0.75, 0.85, 0.65, 0.76]), floor, ceiling)
    assert found == pytest.approx([0, 0.5, -0.5, np.nan], nan_ok=True)
    c, g = [0.1, 0.4, 0.6, 0.8], [0.0, 0.5, 0.5, 1.0]
    of_one = cmfg_star_skill(c, g)
    floor = cmfg_star(np.full(4, 0.5), g)
    assert of_one == pytest.approx((cmfg_star(c, g) - floor) / (1 - floor))
    assert cmfg_star_skill(c, g, ceiling=0.9) == pytest.approx((cmfg_star(c, g) - floor) / (0.9 - floor))


RATES = {
    "uniform": lambda rng, n: rng.random(n),
    "bimodal": lambda rng, n: rng.beta(0.3, 0.3, n),
    "mostly high": lambda rng, n: rng.beta(4, 1, n),
    "often 0 or 1": lambda rng, n: np.where(rng.random(n) < 0.6, rng.integers(0, 2, n), rng.random(n)),
    "two rates": lambda rng, n: rng.choice([0.2, 0.8], n),
}


def bounded(g, samples):
    k = np.full(len(g), float(samples))
    return bounds(g, np.ones((1, len(g)), dtype=np.int32), LatentRates(g, k))


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
        found.append(bounded(seen(p, samples, rng), samples)["cmfg_star_ceiling"][0])
    # Two points are the least smooth of distributions, and the estimate smooths.
    tolerance = 0.015 if kind == "two rates" else 0.004
    assert np.mean(found) == pytest.approx(truth, abs=tolerance)
    assert np.std(found) < 0.008


@pytest.mark.parametrize("kind", ["uniform", "bimodal"])
def test_a_thousand_rows_of_twenty_samples(kind):
    rng = np.random.default_rng(0)
    p = RATES[kind](rng, 1000)
    g = seen(p, 20, rng)
    found = bounded(g, 20)
    assert 0.92 < found["cmfg_star_ceiling"][0] < 0.94
    assert 0.73 < found["cmfg_star_floor"][0] < 0.79
    # Saying the rate itself comes within a hundredth of it.
    assert cmfg_star(p, g) == pytest.approx(found["cmfg_star_ceiling"][0], abs=0.01)


def test_split_halves_would_be_far_too_low():
    rng = np.random.default_rng(0)
    p = rng.random(1000)
    first, second = seen(p, 10, rng), seen(p, 10, rng)
    assert cmfg_star(first, second) < bounded((first + second) / 2, 20)["cmfg_star_ceiling"][0] - 0.05


@pytest.mark.parametrize("rate", [0.5, 0.9])
@pytest.mark.parametrize("samples", [5, 20])
def test_where_all_answers_have_one_rate_there_is_no_room(rate, samples):
    rng = np.random.default_rng(0)
    found = [bounded(seen(np.full(500, rate), samples, rng), samples) for _ in range(20)]
    room = [b["cmfg_star_ceiling"][0] - b["cmfg_star_floor"][0] for b in found]
    assert np.mean(room) < 0.03


agreeing_counts = arrays(np.int64, 60, elements=st.integers(0, 10))


@given(agreeing_counts, arrays(np.int64, 60, elements=st.sampled_from([10, 16])))
def test_the_ceiling_lies_between_floor_and_one(agreeing, samples):
    g = agreeing / samples
    found = bounds(g, np.ones((1, 60), dtype=np.int32), LatentRates(g, samples.astype(float)))
    for name in ("mfg", "cmfg", "cmfg_star"):
        assert found[f"{name}_floor"][0] - 1e-9 <= found[f"{name}_ceiling"][0] <= 1 + 1e-9


def test_weights_of_the_ceiling_are_repetition():
    rng = np.random.default_rng(0)
    g, k = rng.integers(0, 11, 60) / 10, np.full(60, 10.0)
    weights = rng.integers(0, 4, (6, 60)).astype(np.int32)
    found = bounds(g, weights, LatentRates(g, k))
    for row, w in enumerate(weights):
        alone = bounded(np.repeat(g, w), 10)
        for name in ("mfg_ceiling", "cmfg_ceiling", "cmfg_star_ceiling"):
            assert found[name][row] == pytest.approx(alone[name][0], abs=1e-6)


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
