import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from confide.metrics import cmfg, cmfg_star, cmfg_star_skill, mfg
from confide.metrics.faithfulness import MIN_ROOM, Bounds, skill

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
    parts = np.array_split(np.arange(len(g)), bins)
    total = width = 0.0
    for before, part, after in zip([None, *parts[:-1]], parts, [*parts[1:], None], strict=True):
        low = g[part[0]] if before is None else (g[before[-1]] + g[part[0]]) / 2
        high = g[part[-1]] if after is None else (g[part[-1]] + g[after[0]]) / 2
        total += (high - low) * f[part].mean()
        width += high - low
    return total / width


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("n", [10, 200, 1000])
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
    found = Bounds.of(g, np.ones((1, N), dtype=np.int32))
    assert found.ceilings == {}
    floor, constant = found.floors[name][0], found.constants[name][0]
    assert metric(np.full(N, constant), g) == pytest.approx(floor, abs=1e-9)
    assert all(metric(np.full(N, c), g) <= floor + 1e-9 for c in np.linspace(0, 1, 21))


@given(agreement)
def test_perfect_is_one(g):
    assert mfg(g, g) == pytest.approx(1)
    assert cmfg(g, g) == pytest.approx(1)
    assert cmfg_star(g, g) == pytest.approx(1)
    floor = Bounds.of(g, np.ones((1, N), dtype=np.int32)).floors["cmfg_star"][0]
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
    assert metric(c, g, w / 4) == pytest.approx(repeated, abs=1e-6, nan_ok=True)


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
