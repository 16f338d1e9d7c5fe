from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from scipy.special import expit

from confide.errors import ConfideError
from confide.policies.calibrators import (
    MIN_ROWS,
    BetaCalibrator,
    Calibrator,
    IsotonicCalibrator,
    PlattCalibrator,
    TemperatureCalibrator,
    base_rate,
    cross_validated_log_loss,
    fit_calibrator,
)

CALIBRATORS = {
    "temperature": TemperatureCalibrator,
    "platt": PlattCalibrator,
    "beta": BetaCalibrator,
    "isotonic": IsotonicCalibrator,
}


def platt(confidence, correct) -> PlattCalibrator:
    fitted = fit_calibrator(confidence, correct, "platt")
    assert isinstance(fitted, PlattCalibrator)
    return fitted


def test_two_values_get_their_smoothed_frequencies():
    # Two inputs and two parameters: the fit hits the mean target of either group. 20 right, 20 wrong, so the
    # targets are 21/22 and 1/22; the group at −1 has 5 right of 20, the group at +2 has 15.
    confidence = [-1.0] * 20 + [2.0] * 20
    correct = [True] * 5 + [False] * 15 + [True] * 15 + [False] * 5
    calibrator = platt(confidence, correct)
    assert calibrator.parameters.transform == "identity"
    assert calibrator.predict([-1.0, 2.0]) == pytest.approx([(5 * 21 + 15) / 440, (15 * 21 + 5) / 440], abs=1e-6)


def test_recovers_a_known_curve_from_many_rows():
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.01, 0.99, 40_000)
    z = np.log(confidence / (1 - confidence))
    correct = rng.random(40_000) < expit(0.5 * z - 1.0)
    calibrator = platt(confidence, correct)
    assert calibrator.parameters.transform == "logit"
    assert calibrator.parameters.slope == pytest.approx(0.5, abs=0.03)
    assert calibrator.parameters.intercept == pytest.approx(-1.0, abs=0.04)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_scale_of_the_source_does_not_matter(scale):
    rng = np.random.default_rng(1)
    raw = rng.normal(size=300) - 5
    correct = rng.random(300) < expit(raw + 5)
    reference = platt(raw, correct).predict(raw)
    assert platt(raw * scale, correct).predict(raw * scale) == pytest.approx(reference, abs=1e-4)


def test_certainty_and_separable_rows_stay_finite():
    calibrator = platt([0.0] * 20 + [1.0] * 20, [False] * 20 + [True] * 20)
    low, high = calibrator.predict([0.0, 1.0])
    assert low == pytest.approx(1 / 22, abs=1e-6)
    assert high == pytest.approx(21 / 22, abs=1e-6)


@pytest.mark.parametrize("confidence", [[0.5] * 40, [0.1] * 20 + [0.9] * 20])
def test_constant_or_reversed_confidence_gives_the_base_rate(confidence):
    correct = [True] * 20 + [False] * 20
    calibrator = platt(confidence, correct)
    assert calibrator.parameters.slope == 0
    assert calibrator.predict([0.0, 0.3, 1.0]) == pytest.approx([0.5] * 3)


@settings(max_examples=40)
@pytest.mark.parametrize("kind", ["platt", "temperature", "isotonic"])
@given(
    st.lists(
        st.tuples(st.floats(-1e3, 1e3, allow_subnormal=False), st.booleans()), min_size=MIN_ROWS, max_size=60
    ).filter(lambda rows: 0 < sum(right for _, right in rows) < len(rows))
)
def test_is_monotone_and_a_probability(kind, rows):
    confidence, correct = zip(*rows, strict=True)
    calibrator = fit_calibrator(confidence, correct, kind)
    out = calibrator.predict(np.sort(confidence))
    assert np.all((out >= 0) & (out <= 1))
    assert np.all(np.diff(out) >= 0)


def test_state_survives_json():
    calibrator = platt(np.linspace(0, 1, 40), [False, True] * 10 + [True] * 20)
    data = json.loads(json.dumps(calibrator.model_dump(mode="json")))
    assert data["kind"] == "platt"
    assert set(data["parameters"]) == {"transform", "slope", "intercept"}
    again = PlattCalibrator.model_validate(data)
    assert again.predict([0.1, 0.7]).tolist() == calibrator.predict([0.1, 0.7]).tolist()


@pytest.mark.parametrize(
    ("confidence", "correct", "says"),
    [
        ([0.5] * 19, [True, *[False] * 18], "20 rows or more .* got 19"),
        ([float("nan"), *[0.5] * 29], [True, *[False] * 29], "1 of 30 confidences are not finite"),
        ([0.5] * 30, [True] * 29, "one length"),
    ],
)
@pytest.mark.parametrize("kind", CALIBRATORS)
def test_bad_input_is_named(kind, confidence, correct, says):
    with pytest.raises(ConfideError, match=says):
        fit_calibrator(confidence, correct, kind)


@pytest.mark.parametrize("kind", ["auto", "platt", "beta", "isotonic"])
@pytest.mark.parametrize("log_space", [False, True])
@pytest.mark.parametrize("right", [True, False])
@pytest.mark.parametrize("confidence", [[0.5] * 30, np.linspace(0, 1, 30).tolist(), [0.0, 1.0] * 15])
def test_rows_that_are_all_right_or_all_wrong_get_their_smoothed_share(confidence, right, log_space, kind):
    c = -np.asarray(confidence) if log_space else np.asarray(confidence)
    found = fit_calibrator(c, [right] * 30, kind, log_space=log_space).predict(c)
    assert found == pytest.approx(31 / 32 if right else 1 / 32, abs=1e-6)


def test_one_temperature_moves_rows_that_are_all_right_towards_right():
    found = fit_calibrator([0.6] * 30, [True] * 30, "temperature").predict([0.6])
    assert found == pytest.approx([31 / 32], abs=1e-6)


@pytest.mark.parametrize(("correct", "rate"), [([True], 2 / 3), ([False] * 3, 1 / 5), ([True] * 9 + [False], 10 / 12)])
def test_too_few_rows_for_a_curve_give_one_probability(correct, rate):
    for log_space, grid in ((False, [0.0, 0.3, 1.0]), (True, [-900.0, -1.0, 0.0])):
        assert base_rate(correct, log_space=log_space).predict(grid) == pytest.approx(rate)


# The other families


def curved(n: int, curve, seed: int = 0):
    """Confidences uniform on [0, 1], right with the probability that ``curve`` gives."""
    rng = np.random.default_rng(seed)
    c = rng.uniform(0.001, 0.999, n)
    return c, rng.random(n) < curve(c)


def log_odds(c):
    return np.log(c / (1 - c))


def test_temperature_finds_the_factor_and_agrees_with_scikit_learn():
    c, y = curved(40_000, lambda c: expit(log_odds(c) / 2.5))
    calibrator = fit_calibrator(c, y, "temperature")
    assert calibrator.parameters.temperature == pytest.approx(2.5, rel=0.05)
    calibration = pytest.importorskip("sklearn.calibration")
    if not hasattr(calibration, "_TemperatureScaling"):
        pytest.skip("this scikit-learn has no temperature scaling")
    theirs = calibration._TemperatureScaling().fit(log_odds(c), y)
    assert calibrator.predict([0.2, 0.9]) == pytest.approx(
        theirs.predict(log_odds(np.array([0.2, 0.9])))[:, 1], abs=2e-3
    )


def test_beta_recovers_its_own_curve_and_leaves_calibrated_rows_alone():
    c, y = curved(60_000, lambda c: expit(2.0 * np.log(c) - 0.5 * np.log(1 - c) + 0.3))
    calibrator = fit_calibrator(c, y, "beta")
    assert isinstance(calibrator, BetaCalibrator)
    p = calibrator.parameters
    assert (p.a, p.b, p.intercept) == pytest.approx((2.0, 0.5, 0.3), abs=0.12)
    same = fit_calibrator(*curved(60_000, lambda c: c), "beta")
    assert same.predict([0.1, 0.5, 0.9]) == pytest.approx([0.1, 0.5, 0.9], abs=0.02)


def test_beta_bends_one_way_only_and_refuses_other_scales():
    c, y = curved(2000, lambda c: 0.9 - 0.8 * c)  # points the wrong way: both coefficients stay at 0
    assert np.ptp(fit_calibrator(c, y, "beta").predict([0.0, 0.5, 1.0])) == pytest.approx(0, abs=1e-6)
    with pytest.raises(ConfideError, match=r"needs confidences in \[0, 1\], got -3 to 0.5"):
        fit_calibrator([-3.0, 0.5] * 20, [True, False] * 20, "beta")


def test_isotonic_pools_neighbours_that_are_out_of_order():
    # Four scores of ten rows: 1, 5, 3 and 9 right. The middle ones pool to 8 of 20; targets are Platt's.
    confidence = np.repeat([0.1, 0.4, 0.6, 0.9], 10)
    correct = np.concatenate([np.arange(10) < right for right in (1, 5, 3, 9)])
    calibrator = fit_calibrator(confidence, correct, "isotonic")
    high, low = 19 / 20, 1 / 24
    expected = [share * high + (1 - share) * low for share in (0.1, 0.4, 0.4, 0.9)]
    assert calibrator.predict([0.1, 0.4, 0.6, 0.9]) == pytest.approx(expected)
    assert calibrator.predict([0.0, 0.5, 1.0]) == pytest.approx([expected[0], expected[1], expected[3]])


@pytest.mark.parametrize("kind", CALIBRATORS)
def test_every_state_reloads_exactly(kind):
    c, y = curved(400, lambda c: c**2)
    fitted = fit_calibrator(c, y, kind)
    again = TypeAdapter(Calibrator).validate_json(fitted.model_dump_json())
    assert type(again) is CALIBRATORS[kind]
    probe = np.linspace(0, 1, 1001)
    assert again.predict(probe).tolist() == fitted.predict(probe).tolist()
    assert np.isnan(again.predict(float("nan")))


# The choice


@pytest.mark.parametrize(
    ("curve", "best"),
    [
        (lambda c: expit(log_odds(c) / 3), "temperature"),
        (lambda c: expit(0.5 * log_odds(c) - 1.5), "platt"),
        (lambda c: expit(3.0 * np.log(c) - 0.2 * np.log(1 - c)), "beta"),
        (lambda c: np.where(c > 0.7, 0.9, np.where(c > 0.5, 0.5, 0.45)), "isotonic"),
    ],
)
def test_auto_takes_the_family_that_the_rows_come_from(curve, best):
    c, y = curved(6000, curve, seed=4)
    losses = cross_validated_log_loss(c, y)
    assert set(losses) == set(CALIBRATORS)
    assert min(losses, key=losses.__getitem__) == best
    assert type(fit_calibrator(c, y)) is CALIBRATORS[best]


def test_clusters_stay_together_in_cross_validation():
    # Each cluster has a score and a label of its own: isotonic regression memorises them, and rows of the same cluster
    # in the test fold reward that. Whole clusters left out do not.
    rng = np.random.default_rng(0)
    score, label = np.repeat(rng.random(24), 40), np.repeat(rng.permutation([True, False] * 12), 40)
    clusters = [str(i) for i in np.repeat(np.arange(24), 40)]
    split, together = cross_validated_log_loss(score, label), cross_validated_log_loss(score, label, clusters)
    assert together["isotonic"] > split["isotonic"] + 0.05
    assert together["platt"] == pytest.approx(split["platt"], abs=0.05)


def test_auto_is_platt_when_there_is_nothing_to_compare():
    few = np.linspace(0, 1, 40)
    assert type(fit_calibrator(few, few > 0.5)) is PlattCalibrator
    rare = np.linspace(0, 1, 400)
    assert type(fit_calibrator(rare, rare > 0.98)) is PlattCalibrator


def test_auto_leaves_beta_out_where_it_cannot_be():
    c, y = curved(500, lambda c: c)
    assert "beta" not in cross_validated_log_loss(np.log(c), y)


# Log-probabilities


@pytest.mark.parametrize("kind", CALIBRATORS)
def test_log_probabilities_are_calibrated_as_their_probabilities(kind):
    c, y = curved(600, lambda c: expit(0.7 * log_odds(c) - 0.4))
    c = np.clip(c, 1e-5, 1.0)
    of_log, of_p = (fit_calibrator(x, y, kind, log_space=log) for x, log in ((np.log(c), True), (c, False)))
    assert of_log.predict(np.log(c)) == pytest.approx(of_p.predict(c), abs=1e-6)
    folds = [cross_validated_log_loss(x, y, log_space=log) for x, log in ((np.log(c), True), (c, False))]
    assert folds[0] == pytest.approx(folds[1], abs=0.02 if kind == "isotonic" else 1e-2)
    again = TypeAdapter(Calibrator).validate_json(of_log.model_dump_json())
    assert again.predict([-2000.0, -3.0, 0.0]).tolist() == of_log.predict([-2000.0, -3.0, 0.0]).tolist()
    assert np.isnan(of_log.predict(float("nan")))
    assert "of_exp" not in of_p.model_dump_json()


@pytest.mark.parametrize("kind", ["platt", "temperature", "beta"])
def test_far_log_probabilities_do_not_tie(kind):
    c = np.linspace(-1500, -500, 200)
    fitted = fit_calibrator(c, (c > -1000) ^ (np.arange(200) % 10 == 0), kind, log_space=True)
    probe = fitted.predict([-1100.0, -1050.0, -1000.0, -950.0, -900.0, 0.0])
    if kind == "temperature":  # no shift: all of them are far below one half
        assert np.all(np.diff(probe) >= 0)
    else:
        assert np.all(np.diff(probe[:5]) > 0.01)
    assert np.all((probe >= 0) & (probe <= 1))
