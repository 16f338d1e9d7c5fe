import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import kendalltau, spearmanr
from sklearn.metrics import roc_auc_score

from confide.errors import ConfideError
from confide.metrics import auroc, spearman, within_auroc
from confide.metrics.bootstrap import Bootstrap
from confide.metrics.ranking import GroupCorrelations

N = 40
grades = arrays(np.bool_, N).filter(lambda y: 0 < y.sum() < N)
# Few distinct values, so that ties are common.
confidences = arrays(np.int64, N, elements=st.integers(0, 12)).map(lambda x: x / 12)
counts = arrays(np.int64, N, elements=st.integers(0, 4)).filter(lambda w: w.sum() > 0)


def test_by_hand():
    # Right: 0.9, 0.5. Wrong: 0.5, 0.1. Pairs: 0.9 beats both, 0.5 ties one and beats one: 3.5 of 4.
    assert auroc([0.9, 0.5, 0.5, 0.1], [1, 1, 0, 0]) == 3.5 / 4


@given(confidences, grades)
def test_agrees_with_scikit_learn(x, y):
    assert auroc(x, y) == pytest.approx(roc_auc_score(y, x), abs=1e-12)


@given(confidences, grades)
def test_survives_monotone_maps_and_flips_with_the_sign(x, y):
    assert auroc(np.exp(3 * x), y) == pytest.approx(auroc(x, y), abs=1e-12)
    assert auroc(-x, y) == pytest.approx(1 - auroc(x, y), abs=1e-12)


@given(confidences, grades, counts)
def test_weights_are_repetition(x, y, w):
    repeated = auroc(np.repeat(x, w), np.repeat(y, w))
    assert auroc(x, y, w) == pytest.approx(repeated, abs=1e-12, nan_ok=True)
    assert auroc(x, y, w / 2) == pytest.approx(repeated, abs=1e-12, nan_ok=True)


@given(confidences, grades, arrays(np.int64, N, elements=st.integers(-1, 4)), counts)
def test_within_groups_agrees_with_counting_pairs(x, y, groups, w):
    concordant = pairs = 0.0
    shares = []
    for group in range(5):
        right = np.repeat(x, w)[np.repeat((groups == group) & y, w)]
        wrong = np.repeat(x, w)[np.repeat((groups == group) & ~y, w)]
        ordered = np.sign(right[:, None] - wrong[None, :])
        if ordered.size:
            shares.append((ordered.mean() + 1) / 2)
        concordant += (ordered + 1).sum() / 2
        pairs += ordered.size
    pooled = concordant / pairs if pairs else np.nan
    averaged = np.mean(shares) if shares else np.nan
    assert within_auroc(x, y, w, groups=groups) == pytest.approx(pooled, abs=1e-12, nan_ok=True)
    assert within_auroc(x, y, w, groups=groups, average=True) == pytest.approx(averaged, abs=1e-12, nan_ok=True)


def test_a_prior_over_groups_scores_half_within_them():
    groups = np.arange(100) % 10
    correct = np.random.default_rng(0).random(100) < 0.1 * groups
    assert within_auroc(groups / 10, correct, groups=groups) == 0.5
    assert auroc(groups / 10, correct) > 0.7


@given(confidences, arrays(np.int64, N, elements=st.integers(0, 9)))
def test_spearman_agrees_with_scipy(x, y):
    if np.ptp(x) and np.ptp(y):
        assert spearman(x, y) == pytest.approx(spearmanr(x, y).statistic, abs=1e-12)
    else:
        assert np.isnan(spearman(x, y))


@given(confidences, confidences, counts)
def test_spearman_weights_are_repetition(x, y, w):
    assert spearman(x, y, w) == pytest.approx(spearman(np.repeat(x, w), np.repeat(y, w)), abs=1e-9, nan_ok=True)


def test_undefined_without_both_kinds():
    assert np.isnan(auroc([0.1, 0.2], [1, 1]))
    assert np.isnan(within_auroc([0.1, 0.2], [1, 0], groups=np.array([-1, -1])))


@pytest.mark.parametrize(
    ("confidence", "correct", "weights", "message"),
    [
        ([], [], None, "no rows"),
        ([0.1, 0.2], [1], None, "shape"),
        ([0.1, np.nan], [1, 0], None, "1 of 2 confidences are missing"),
        ([0.1, 0.2], [1, 0.5], None, "right .1. or wrong"),
        ([0.1, 0.2], [1, 0], [1], "weights of shape"),
        ([0.1, 0.2], [1, 0], [1, -1], "at least 0"),
    ],
)
def test_bad_input(confidence, correct, weights, message):
    with pytest.raises(ConfideError, match=message):
        auroc(confidence, correct, weights)


def test_resampled_checks_the_shape_of_the_weights():
    with pytest.raises(ConfideError, match="weights of shape"):
        auroc.resampled([0.1, 0.2], [1, 0], np.ones((3, 5)))


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
        ordered = np.sign(np.subtract.outer(x[inside], x[inside]) * np.subtract.outer(y[inside], y[inside]))
        differ = np.subtract.outer(y[inside], y[inside]) != 0
        assert found.auroc[place] == pytest.approx((ordered[differ].mean() + 1) / 2)
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
    sampled = found.sampled(Bootstrap(range(3), resamples=50), "spearman", "kendall")
    assert found.pairs.tolist() == [3, 1]
    assert sampled["spearman"][0] == sampled["kendall"][0] == pytest.approx(0)
    assert sampled["spearman_by_pairs"][0] == sampled["kendall_by_pairs"][0] == pytest.approx((3 - 1) / 4)
    assert np.nanmin(sampled["spearman"]) == pytest.approx(-1)
    assert np.nanmax(sampled["spearman"]) == pytest.approx(1)


def test_without_a_mixed_group():
    found = GroupCorrelations.of(np.arange(4.0), np.ones(4), np.array([0, 0, 1, 1]))
    sampled = found.sampled(Bootstrap(range(2), resamples=5), "spearman", "kendall")
    assert all(np.isnan(x).all() for x in sampled.values())
