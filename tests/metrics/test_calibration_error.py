import netcal.metrics
import numpy as np
import pytest
import relplot
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import binomtest
from sklearn import metrics as sk

from confide.errors import ConfideError
from confide.metrics import (
    brier,
    brier_skill,
    brier_term,
    ece,
    log_loss,
    mce,
    reliability,
    smooth_ece,
    wilson,
)
from confide.metrics.calibration_error import LOG_CLIP

N = 60
grades = arrays(np.bool_, N)
confidences = arrays(np.float64, N, elements=st.floats(0, 1, width=32))
coarse = arrays(np.int64, N, elements=st.integers(0, 10)).map(lambda x: x / 10)
counts = arrays(np.int64, N, elements=st.integers(0, 3)).filter(lambda w: w.sum() > 0)
METRICS = [brier, brier_skill, log_loss, ece, mce]


def sample(seed, n, power=1.0):
    rng = np.random.default_rng(seed)
    x = rng.random(n) ** power
    return x, rng.random(n) < x ** rng.choice([0.5, 1.0, 2.0])


def test_by_hand():
    x, y = [0.9, 0.8, 0.3, 0.1], [1, 0, 0, 0]
    assert brier(x, y) == pytest.approx((0.01 + 0.64 + 0.09 + 0.01) / 4)
    assert brier_skill(x, y) == pytest.approx(1 - 0.1875 / (0.25 * 0.75))
    assert log_loss(x, y) == pytest.approx(-np.log([0.9, 0.2, 0.7, 0.9]).mean())
    assert ece(x, y, bins=2) == pytest.approx((abs(1.7 - 1) + 0.4) / 4)
    assert mce(x, y, bins=2) == pytest.approx(0.35)
    assert ece(x, y, bins=2, kind="mass") == pytest.approx(ece(x, y, bins=2))


@given(confidences, grades)
def test_scores_agree_with_scikit_learn(x, y):
    assert brier(x, y) == pytest.approx(sk.brier_score_loss(y, x, labels=[0, 1], pos_label=1), abs=1e-12)
    clipped = np.clip(x, LOG_CLIP, 1 - LOG_CLIP)
    assert log_loss(x, y) == pytest.approx(sk.log_loss(y, clipped, labels=[0, 1]), abs=1e-9)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("n", [50, 1000])
def test_bins_agree_with_netcal(seed, n):
    x, y = sample(seed, n)
    for bins in (5, 10, 25):
        assert ece(x, y, bins=bins) == pytest.approx(netcal.metrics.ECE(bins).measure(x, y), abs=1e-6)
        assert mce(x, y, bins=bins) == pytest.approx(netcal.metrics.MCE(bins).measure(x, y), abs=1e-6)
        mass = netcal.metrics.ECE(bins, equal_intervals=False).measure(x, y)
        assert ece(x, y, bins=bins, kind="mass") == pytest.approx(mass, abs=1e-6)


@pytest.mark.parametrize("power", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("n", [60, 500, 4000])
def test_smooth_ece_agrees_with_relplot(n, power):
    x, y = sample(n, n, power)
    assert smooth_ece(x, y) == pytest.approx(relplot.smECE(x, y.astype(float)), abs=1e-6)
    x = np.round(x, 1)
    assert smooth_ece(x, y) == pytest.approx(relplot.smECE(x, y.astype(float)), abs=1e-6)


def test_smooth_ece_of_hopeless_confidence():
    # relplot adds a little to the density against division by zero, and is 3e-6 short of the truth here.
    assert smooth_ece(np.zeros(200), np.ones(200)) == pytest.approx(1, abs=1e-9)


def test_smooth_ece_of_a_resample_is_that_of_the_repeated_rows():
    x, y = sample(3, 300)
    weights = np.random.default_rng(0).integers(0, 4, size=(7, 300))
    repeated = [smooth_ece(np.repeat(x, w), np.repeat(y, w)) for w in weights]
    assert smooth_ece.resampled(x, y, weights) == pytest.approx(repeated, abs=1e-9)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.__name__)
@given(coarse, grades, counts)
def test_weights_are_repetition(metric, x, y, w):
    repeated = metric(np.repeat(x, w), np.repeat(y, w))
    assert metric(x, y, w) == pytest.approx(repeated, abs=1e-9, nan_ok=True)
    assert metric(x, y, w / 4) == pytest.approx(repeated, abs=1e-9, nan_ok=True)


@given(coarse, grades, counts)
def test_equal_mass_bins_keep_ties_and_weights(x, y, w):
    repeated = ece(np.repeat(x, w), np.repeat(y, w), kind="mass")
    assert ece(x, y, w, kind="mass") == pytest.approx(repeated, abs=1e-9)


@given(confidences, grades)
def test_calibration_error_never_passes_its_bounds(x, y):
    assert 0 <= ece(x, y) <= mce(x, y) <= 1
    # One bin only sees the overall bias, which no binning can hide.
    assert ece(x, y) >= abs(x.mean() - y.mean()) - 1e-12


def test_perfect_forecaster():
    rng = np.random.default_rng(0)
    x = rng.random(200_000)
    y = rng.random(200_000) < x
    assert ece(x, y) < 0.006
    assert smooth_ece(x, y) < 0.01
    assert brier(x, y) == pytest.approx(1 / 6, abs=0.002)  # the mean of p (1 - p) for uniform p
    assert brier(y, y) == log_loss(y, y, clip=0) == ece(y, y) == 0


def test_constant_accuracy_has_no_skill():
    y = np.arange(10) < 3
    assert brier_skill(np.full(10, 0.3), y) == pytest.approx(0)
    assert np.isnan(brier_skill(np.full(10, 0.3), np.ones(10)))


def test_wilson_agrees_with_scipy():
    for right, n in ((0, 5), (3, 10), (10, 10), (500, 900)):
        expected = binomtest(right, n).proportion_ci(0.95, method="wilson")
        assert wilson(right, n) == pytest.approx((expected.low, expected.high), abs=1e-12)
    with pytest.raises(ConfideError, match="at least one row"):
        wilson(0, 0)


def test_reliability_bins_add_up_to_the_error():
    x, y = sample(1, 500)
    bins = reliability(x, y)
    assert sum(b.n for b in bins) == 500
    assert all(b.low <= b.confidence <= b.high and b.accuracy_low <= b.accuracy <= b.accuracy_high for b in bins)
    gap = sum(b.n * abs(b.confidence - b.accuracy) for b in bins) / 500
    assert gap == pytest.approx(ece(x, y))


def test_bins_of_equal_mass_add_up_to_the_error():
    x, y = sample(1, 500)
    bins = np.split(np.argsort(x), 10)
    gap = sum(abs(x[rows].mean() - y[rows].mean()) for rows in bins) / 10
    assert gap == pytest.approx(ece(x, y, kind="mass"))


@pytest.mark.parametrize("metric", [*METRICS, smooth_ece], ids=lambda metric: metric.__name__)
def test_only_probabilities(metric):
    with pytest.raises(ConfideError, match=r"for probabilities, but confidences run from -2 to 0\.5"):
        metric([-2, 0.5], [1, 0])


def test_bins_must_be_positive():
    with pytest.raises(ConfideError, match="at least 1"):
        ece([0.1], [1], bins=0)


@pytest.mark.parametrize("bins", [1, 4, 10])
@given(confidences, grades)
def test_brier_terms_add_up_and_are_the_published_ones(bins, x, y):
    reliability, resolution, uncertainty, within = (
        brier_term(x, y, term=term, bins=bins) for term in ("reliability", "resolution", "uncertainty", "within")
    )
    assert reliability - resolution + uncertainty + within == pytest.approx(brier(x, y), abs=1e-12)
    codes = np.minimum((x * bins).astype(int), bins - 1)
    filled = [codes == code for code in np.unique(codes)]
    size = np.array([inside.sum() for inside in filled])
    said = np.array([x[inside].mean() for inside in filled])
    true = np.array([y[inside].mean() for inside in filled])
    assert reliability == pytest.approx((size * (said - true) ** 2).sum() / N, abs=1e-12)
    assert resolution == pytest.approx((size * (true - y.mean()) ** 2).sum() / N, abs=1e-12)
    assert uncertainty == pytest.approx(y.mean() * (1 - y.mean()), abs=1e-12)
    # Stephenson, Coelho & Jolliffe: within-bin variance less twice the within-bin covariance.
    variance = sum(((x[i] - m) ** 2).sum() for i, m in zip(filled, said, strict=True)) / N
    covariance = sum(((x[i] - m) * (y[i] - t)).sum() for i, m, t in zip(filled, said, true, strict=True)) / N
    assert within == pytest.approx(variance - 2 * covariance, abs=1e-9)


def test_brier_terms_by_hand():
    x, y = [0.2, 0.2, 0.8, 0.8], [0, 1, 1, 1]
    assert brier_term(x, y, term="reliability") == pytest.approx((0.3**2 + 0.2**2) / 2)
    assert brier_term(x, y, term="resolution") == pytest.approx(0.25**2)
    assert brier_term(x, y, term="uncertainty") == pytest.approx(0.75 * 0.25)
    assert brier_term(x, y, term="within") == pytest.approx(0, abs=1e-12)


@given(coarse, grades, counts)
def test_equal_mass_bins_of_resamples_are_those_of_the_repeated_rows(x, y, w):
    both = ece.resampled(x, y, np.stack([w, np.ones(N, dtype=np.int64)]), bins=7, kind="mass")
    expected = [ece(np.repeat(x, w), np.repeat(y, w), bins=7, kind="mass"), ece(x, y, bins=7, kind="mass")]
    assert both == pytest.approx(expected, abs=1e-9)
