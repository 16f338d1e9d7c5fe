import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from confide.errors import ConfideError
from confide.metrics import auroc, spearman, within_auroc

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
