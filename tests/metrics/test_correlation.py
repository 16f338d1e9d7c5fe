import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import kendalltau, spearmanr

from confide.metrics.bootstrap import Bootstrap
from confide.metrics.correlation import GroupCorrelations

N = 40
levels = arrays(np.float64, N, elements=st.integers(0, 4).map(float))
groups = arrays(np.int64, N, elements=st.integers(0, 8))


@given(levels, levels, groups)
def test_every_group_is_as_scipy_has_it(x, y, g):
    found = GroupCorrelations.of(x, y, g)
    mixed = [code for code in np.unique(g) if np.ptp(y[g == code]) > 0]
    assert found.groups.tolist() == mixed
    for place, code in enumerate(mixed):
        inside = g == code
        flat = np.ptp(x[inside]) == 0
        rho = 0 if flat else spearmanr(x[inside], y[inside]).statistic
        tau = 0 if flat else kendalltau(x[inside], y[inside]).statistic
        assert found.spearman[place] == pytest.approx(rho, abs=1e-9)
        assert found.kendall[place] == pytest.approx(tau, abs=1e-9)
        assert found.sizes[place] == inside.sum()
        assert found.pairs[place] == sum(a != b for i, a in enumerate(y[inside]) for b in y[inside][:i])


@given(levels, levels, groups)
def test_what_is_the_same_for_a_whole_group_does_not_count(x, y, g):
    found, shifted = GroupCorrelations.of(x, y, g), GroupCorrelations.of(x + 100 * g, y, g)
    assert shifted.spearman == pytest.approx(found.spearman, abs=1e-9)
    assert shifted.kendall == pytest.approx(found.kendall, abs=1e-9)
    turned = GroupCorrelations.of(-x, y, g)
    assert turned.spearman == pytest.approx(-found.spearman, abs=1e-9)


def test_means_over_groups_and_by_pairs():
    # Group 0: three pairs, all in order. Group 1: one pair, the wrong way round. Group 2: no different targets.
    x, y, g = [1, 2, 3, 2, 1, 5, 6], [0, 1, 2, 0, 1, 1, 1], [0, 0, 0, 1, 1, 2, 2]
    found = GroupCorrelations.of(*(np.array(v, dtype=float) for v in (x, y)), np.array(g))
    sampled = found.sampled(Bootstrap(range(3), resamples=50))
    assert found.pairs.tolist() == [3, 1]
    assert sampled["spearman"][0] == sampled["kendall"][0] == pytest.approx(0)
    assert sampled["spearman_by_pairs"][0] == sampled["kendall_by_pairs"][0] == pytest.approx((3 - 1) / 4)
    assert np.nanmin(sampled["spearman"]) == pytest.approx(-1)
    assert np.nanmax(sampled["spearman"]) == pytest.approx(1)


def test_without_a_mixed_group():
    found = GroupCorrelations.of(np.arange(4.0), np.ones(4), np.array([0, 0, 1, 1]))
    assert all(np.isnan(x).all() for x in found.sampled(Bootstrap(range(2), resamples=5)).values())
