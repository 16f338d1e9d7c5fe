import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from confide.metrics import aurc, coverage_at_risk, excess_aurc, prr, risk_at_coverage
from confide.metrics.metric import Weighted
from confide.metrics.selective import Answered

N = 30
grades = arrays(np.bool_, N)
coarse = arrays(np.int64, N, elements=st.integers(0, 9)).map(lambda x: x / 9)
counts = arrays(np.int64, N, elements=st.integers(0, 3)).filter(lambda w: w.sum() > 0)


def risk_coverage(x, y):
    """Share answered and share of wrong among it, at every threshold."""
    curve = Answered.of(Weighted(np.asarray(x, float), np.asarray(y, float), np.ones((1, len(x)))))
    return curve.kept[0] / len(x), curve.wrong[0] / curve.kept[0]


METRICS = [aurc, excess_aurc, coverage_at_risk, risk_at_coverage]


def test_by_hand():
    # Most confident first: right, wrong, right, wrong. Risks of the first k: 0, 1/2, 1/3, 1/2.
    x, y = [0.9, 0.7, 0.5, 0.2], [1, 0, 1, 0]
    assert aurc(x, y) == pytest.approx((0 + 1 / 2 + 1 / 3 + 1 / 2) / 4)
    # The oracle's risks: 0, 0, 1/3, 1/2.
    assert excess_aurc(x, y) == pytest.approx((1 / 2) / 4)
    assert coverage_at_risk(x, y, risk=0.1) == 0.25
    assert coverage_at_risk(x, y, risk=1 / 3) == 0.75
    assert risk_at_coverage(x, y, coverage=0.75) == pytest.approx(1 / 3)
    coverage, risk = risk_coverage(x, y)
    assert coverage.tolist() == [0.25, 0.5, 0.75, 1]
    assert risk == pytest.approx([0, 1 / 2, 1 / 3, 1 / 2])


def test_ties_are_answered_together():
    x, y = [0.9, 0.9, 0.2], [1, 0, 0]
    coverage, risk = risk_coverage(x, y)
    assert coverage == pytest.approx([2 / 3, 1])
    assert risk == pytest.approx([1 / 2, 2 / 3])
    assert coverage_at_risk(x, y, risk=0.1) == 0  # no threshold answers the right one alone
    assert coverage_at_risk(x, y, risk=0.5) == pytest.approx(2 / 3)


@settings(max_examples=10)
@given(coarse, grades)
def test_area_is_the_mean_over_random_orders_of_ties(x, y):
    rng = np.random.default_rng(0)
    noisy = [x + rng.random(N) * 1e-6 for _ in range(800)]
    assert aurc(x, y) == pytest.approx(np.mean([aurc(z, y) for z in noisy]), abs=0.02)


@given(arrays(np.float64, N, elements=st.floats(0, 1), unique=True), grades)
def test_area_without_ties_is_the_mean_risk(x, y):
    wrong = 1 - y[np.argsort(-x)]
    assert aurc(x, y) == pytest.approx(np.mean(np.cumsum(wrong) / np.arange(1, N + 1)), abs=1e-12)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.__name__)
@given(coarse, grades, counts)
def test_weights_are_repetition(metric, x, y, w):
    repeated = metric(np.repeat(x, w), np.repeat(y, w))
    assert metric(x, y, w) == pytest.approx(repeated, abs=1e-9)
    assert metric(x, y, w.astype(float)) == pytest.approx(repeated, abs=1e-9)


@given(coarse, grades)
def test_oracle_has_no_excess_and_nobody_beats_it(x, y):
    assert excess_aurc(y, y) == pytest.approx(0, abs=1e-12)
    assert excess_aurc(x, y) >= -1e-12
    assert risk_at_coverage(x, y, coverage=1.0) == pytest.approx(1 - y.mean())


@given(coarse, grades)
def test_coverage_at_risk_is_the_widest_allowed_threshold(x, y):
    coverage, risk = risk_coverage(x, y)
    allowed = coverage[risk <= 0.3 + 1e-12]
    assert coverage_at_risk(x, y, risk=0.3) == pytest.approx(allowed.max() if len(allowed) else 0)


def test_real_weights_lie_between_whole_ones():
    x, y = [0.9, 0.5, 0.1], [1, 0, 1]
    assert aurc(x, y, [1, 1, 1]) < aurc(x, y, [1, 1.5, 1]) < aurc(x, y, [1, 2, 1])


def test_rejection_ratio_by_hand():
    # Area 1/3 for these rows, 5/24 for the oracle, 1/2 at random.
    assert prr([0.9, 0.7, 0.5, 0.2], [1, 0, 1, 0]) == pytest.approx((1 / 2 - 1 / 3) / (1 / 2 - 5 / 24))


# lm-polygraph 0.7.0: RiskCoverageCurveAUC, and PredictionRejectionArea normalised between its oracle and the
# mean accuracy (which its 1,000 random orders approach), on these very rows.
LM_POLYGRAPH = {
    0: (0.3012356390466352, 0.8184861500038711),
    1: (0.34464241946672913, 0.7927081721235708),
    2: (0.41606207393479056, 0.7581004424510246),
}


@pytest.mark.parametrize("seed", LM_POLYGRAPH)
def test_agrees_with_lm_polygraph(seed):
    rng = np.random.default_rng(seed)
    x = rng.random(200)
    y = rng.random(200) < x**2
    area, ratio = LM_POLYGRAPH[seed]
    assert aurc(x, y) == pytest.approx(area, abs=1e-9)
    assert prr(x, y) == pytest.approx(ratio, abs=1e-9)


@given(coarse, grades)
def test_rejection_ratio_has_an_oracle_and_a_chance_level(x, y):
    if 0 < y.sum() < N:
        assert prr(y, y) == pytest.approx(1)
        assert prr(np.zeros(N), y) == pytest.approx(0, abs=1e-9)
        assert prr(x, y) <= 1 + 1e-9
        assert prr(np.exp(x), y) == pytest.approx(prr(x, y), abs=1e-9)
    else:
        assert np.isnan(prr(x, y))


@given(coarse, grades, counts)
def test_rejection_ratio_weights_are_repetition(x, y, w):
    repeated = prr(np.repeat(x, w), np.repeat(y, w))
    assert prr(x, y, w) == pytest.approx(repeated, abs=1e-7, nan_ok=True)
