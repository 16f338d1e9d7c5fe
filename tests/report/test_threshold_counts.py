import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from confide.metrics.selective import coverage_at_risk
from confide.report.threshold_counts import MAX_THRESHOLDS, Counts, rounded_down

CONFIDENCES = st.floats(-1e6, 1e6, allow_subnormal=False)


@given(st.lists(st.tuples(CONFIDENCES, st.booleans()), min_size=1, max_size=60))
def test_counts_are_those_of_the_rows(rows):
    confidence, correct = np.array([c for c, _ in rows]), np.array([y for _, y in rows])
    counts = Counts.of(confidence, correct)
    assert counts.kept[0] == len(rows)
    assert np.all(np.diff(counts.threshold) > 0)
    for threshold, kept, right in zip(counts.threshold, counts.kept, counts.right, strict=True):
        assert kept == np.sum(confidence >= threshold) > 0
        assert right == np.sum(correct[confidence >= threshold])


@given(CONFIDENCES)
def test_a_threshold_is_rounded_down(value):
    found = rounded_down(value)
    assert found <= value
    assert value - found <= 2e-5 * abs(value)
    assert float(f"{found:.6g}") == found


def test_few_thresholds_for_many_rows():
    rng = np.random.default_rng(0)
    confidence = rng.random(10_000)
    counts = Counts.of(confidence, rng.random(10_000) < confidence)
    assert 0.9 * MAX_THRESHOLDS < len(counts.threshold) <= MAX_THRESHOLDS
    assert np.max(-np.diff(counts.kept)) <= 25
    assert len(json.dumps(counts.payload("stack"))) < 30_000


def test_the_loosest_threshold_agrees_with_the_metric():
    rng = np.random.default_rng(1)
    confidence = rng.random(800)
    correct = rng.random(800) < confidence
    counts = Counts.of(confidence, correct)
    for risk in (0.05, 0.1, 0.3):
        place = counts.loosest(risk)
        assert place is not None
        assert counts.kept[place] / 800 == coverage_at_risk(confidence, correct, risk=risk)
    assert counts.start == counts.loosest(0.1)


def test_a_goal_that_cannot_be_had():
    counts = Counts.of(np.array([0.1, 0.5, 0.9]), np.array([True, True, False]))
    assert counts.loosest(0.1) is None
    assert counts.start == 1


def test_the_command_line_cannot_be_escaped_from():
    counts = Counts.of(np.array([0.5]), np.array([True]))
    assert counts.payload("stack")["argument"] == "stack"
    assert counts.payload("a'; rm -rf ~ #")["argument"] == """'a'"'"'; rm -rf ~ #'"""


def test_the_slider_starts_at_the_risk():
    confidence, correct = np.arange(10) / 10, np.array([False, True] * 3 + [True] * 4)
    starts = [Counts.of(confidence, correct, risk).start for risk in (0.1, 0.2, 0.3)]
    assert starts == [Counts.of(confidence, correct).loosest(risk) for risk in (0.1, 0.2, 0.3)]
    assert len(set(starts)) > 1
