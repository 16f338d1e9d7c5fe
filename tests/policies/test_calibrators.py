from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from confide.errors import ConfideError
from confide.policies.calibrators import MIN_ROWS, PlattCalibrator, PlattState


def test_two_values_get_their_smoothed_frequencies():
    # Two inputs and two parameters: the fit hits the mean target of either group. 20 right, 20 wrong, so the
    # targets are 21/22 and 1/22; the group at −1 has 5 right of 20, the group at +2 has 15.
    confidence = [-1.0] * 20 + [2.0] * 20
    correct = [True] * 5 + [False] * 15 + [True] * 15 + [False] * 5
    calibrator = PlattCalibrator().fit(confidence, correct)
    assert calibrator.transform_ == "identity"
    assert calibrator.predict([-1.0, 2.0]) == pytest.approx([(5 * 21 + 15) / 440, (15 * 21 + 5) / 440], abs=1e-6)


def test_recovers_a_known_curve_from_many_rows():
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.01, 0.99, 40_000)
    z = np.log(confidence / (1 - confidence))
    correct = rng.random(40_000) < expit(0.5 * z - 1.0)
    calibrator = PlattCalibrator().fit(confidence, correct)
    assert calibrator.transform_ == "logit"
    assert calibrator.slope_ == pytest.approx(0.5, abs=0.03)
    assert calibrator.intercept_ == pytest.approx(-1.0, abs=0.04)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_scale_of_the_source_does_not_matter(scale):
    rng = np.random.default_rng(1)
    raw = rng.normal(size=300) - 5
    correct = rng.random(300) < expit(raw + 5)
    reference = PlattCalibrator().fit(raw, correct).predict(raw)
    assert PlattCalibrator().fit(raw * scale, correct).predict(raw * scale) == pytest.approx(reference, abs=1e-4)


def test_certainty_and_separable_rows_stay_finite():
    calibrator = PlattCalibrator().fit([0.0] * 20 + [1.0] * 20, [False] * 20 + [True] * 20)
    low, high = calibrator.predict([0.0, 1.0])
    assert low == pytest.approx(1 / 22, abs=1e-6)
    assert high == pytest.approx(21 / 22, abs=1e-6)


@pytest.mark.parametrize("confidence", [[0.5] * 40, [0.1] * 20 + [0.9] * 20])
def test_constant_or_reversed_confidence_gives_the_base_rate(confidence):
    correct = [True] * 20 + [False] * 20
    calibrator = PlattCalibrator().fit(confidence, correct)
    assert calibrator.slope_ == 0
    assert calibrator.predict([0.0, 0.3, 1.0]) == pytest.approx([0.5] * 3)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(-1e3, 1e3, allow_subnormal=False), st.booleans()), min_size=MIN_ROWS, max_size=60
    ).filter(lambda rows: 0 < sum(right for _, right in rows) < len(rows))
)
def test_is_monotone_and_a_probability(rows):
    confidence, correct = zip(*rows, strict=True)
    calibrator = PlattCalibrator().fit(confidence, correct)
    out = calibrator.predict(np.sort(confidence))
    assert np.all((out >= 0) & (out <= 1))
    assert np.all(np.diff(out) >= 0)


def test_state_survives_json():
    calibrator = PlattCalibrator().fit(np.linspace(0, 1, 40), [False, True] * 10 + [True] * 20)
    data = json.loads(json.dumps(calibrator.to_json()))
    assert data["kind"] == "platt"
    assert set(data["parameters"]) == {"transform", "slope", "intercept"}
    again = PlattCalibrator.from_state(PlattState.model_validate(data))
    assert again.predict([0.1, 0.7]).tolist() == calibrator.predict([0.1, 0.7]).tolist()


@pytest.mark.parametrize(
    ("confidence", "correct", "says"),
    [
        ([0.5] * 30, [True] * 30, "30 answers are right and 0 wrong"),
        ([0.5] * 30, [False] * 30, "0 answers are right and 30 wrong"),
        ([0.5] * 19, [True, *[False] * 18], "20 rows or more .* got 19"),
        ([float("nan"), *[0.5] * 29], [True, *[False] * 29], "1 of 30 confidences are not finite"),
        ([0.5] * 30, [True] * 29, "one length"),
    ],
)
def test_bad_input_is_named(confidence, correct, says):
    with pytest.raises(ConfideError, match=says):
        PlattCalibrator().fit(confidence, correct)
