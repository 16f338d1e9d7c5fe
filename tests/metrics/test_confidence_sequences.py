"""Confidence sequences and change detection: right at all times at once, and able to find what is wrong."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import beta

from confide.metrics.confidence_sequences import (
    log_change_above,
    log_evidence_above,
    lower_sequence,
    rows_that_show,
    upper_sequence,
)
from confide.numeric import Floats

ALPHA = 0.05
STREAMS = 600
ROWS = 400
LIMIT = ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / STREAMS)
N = np.arange(1, ROWS + 1)


def ever(evidence: Floats) -> float:
    """Share of the (streams, rows) that ever reach the limit of `ALPHA`."""
    return float((evidence >= math.log(1 / ALPHA)).any(axis=1).mean())


@pytest.mark.parametrize("mean", [0.02, 0.1, 0.5])
def test_looking_after_every_row_misses_at_most_alpha(mean: float) -> None:
    hits = np.cumsum(np.random.default_rng(1).random((STREAMS, ROWS)) < mean, axis=1)
    # The lower sequence is above the truth exactly where the evidence against the truth reaches the limit.
    assert ever(log_evidence_above(N, hits, mean)) <= LIMIT
    assert ever(log_evidence_above(N, N - hits, 1 - mean)) <= LIMIT


def test_an_interval_for_a_fixed_number_of_rows_would_fail_this_test() -> None:
    hits = np.cumsum(np.random.default_rng(1).random((STREAMS, ROWS)) < 0.1, axis=1)
    lower = np.where(hits > 0, beta.ppf(ALPHA, np.maximum(hits, 1), N - hits + 1), 0)
    assert (lower > 0.1).any(axis=1).mean() > 3 * LIMIT


def test_rows_that_depend_on_the_past_are_no_reason_to_alarm() -> None:
    rng = np.random.default_rng(2)
    hits = np.zeros((STREAMS, ROWS))
    last = np.ones(STREAMS, dtype=bool)
    for row in range(ROWS):  # never above 0.1, but far from independent
        last = rng.random(STREAMS) < np.where(last, 0.1, 0.03)
        hits[:, row] = last
    assert ever(log_evidence_above(N, np.cumsum(hits, axis=1), 0.1)) <= LIMIT


def test_a_bound_is_where_the_evidence_reaches_its_limit() -> None:
    n, k = np.array([10, 100, 1000, 100_000]), np.array([9, 20, 100, 7_000])
    lower, upper = lower_sequence(n, k, ALPHA), upper_sequence(n, k, ALPHA)
    assert log_evidence_above(n, k, lower) == pytest.approx(math.log(20), abs=1e-3)
    assert log_evidence_above(n, n - k, 1 - upper) == pytest.approx(math.log(20), abs=1e-3)
    assert np.all((lower < k / n) & (k / n < upper))
    assert upper[3] - lower[3] < 0.01


@given(st.integers(0, 500), st.data())
def test_evidence_falls_up_to_the_share_seen_so_that_the_bounds_are_ends_of_an_interval(
    n: int, data: st.DataObject
) -> None:
    k = data.draw(st.integers(0, n))
    lower, upper = float(lower_sequence(n, k, ALPHA)), float(upper_sequence(n, k, ALPHA))
    assert 0 <= lower <= (k / n if n else 0)
    assert (k / n if n else 1) <= upper <= 1
    if k:
        evidence = log_evidence_above(n, k, np.linspace(0.001, 0.999, 200) * k / n)
        assert np.all(np.diff(evidence) <= 1e-9)


@pytest.mark.parametrize(("n", "k"), [(1_000, 20), (1_000, 900), (100_000, 3_000), (100_000, 90_000), (50, 50)])
def test_evidence_falls_on_beyond_the_share_seen_also_where_the_integral_underflows(n: int, k: int) -> None:
    evidence = log_evidence_above(n, k, np.linspace(0.001, 0.999, 2_000))
    assert np.isfinite(evidence).all()
    assert np.all(np.diff(evidence) <= 0.02)
    assert evidence[-1] > -20  # the part of the prior just above the mean keeps some of its capital


def test_nothing_seen_nothing_known() -> None:
    assert float(lower_sequence(0, 0, ALPHA)) == 0
    assert float(upper_sequence(0, 0, ALPHA)) == 1
    assert lower_sequence(np.zeros(0), np.zeros(0), ALPHA).shape == (0,)
    assert log_change_above(np.zeros(0), np.zeros(0), 0.1).shape == (0,)


def test_the_evidence_is_the_capital_of_the_gambler() -> None:
    from scipy.integrate import quad

    n, k, mean = 12, 5, 0.3

    def bet(theta: float) -> float:
        return float((theta / mean) ** k * ((1 - theta) / (1 - mean)) ** (n - k) * beta.pdf(theta, 0.5, 0.5))

    capital = quad(bet, mean, 1)[0] / beta.sf(mean, 0.5, 0.5)
    assert float(log_evidence_above(n, k, mean)) == pytest.approx(math.log(capital), abs=1e-6)


def test_a_broken_promise_is_found() -> None:
    hits = np.cumsum(np.random.default_rng(3).random((300, ROWS)) < 0.2, axis=1)
    found = log_evidence_above(N, hits, 0.1) >= math.log(20)
    assert found[:, :120].any(axis=1).mean() > 0.5
    assert found[:, :350].any(axis=1).mean() > 0.9


def test_a_kept_promise_is_shown_about_when_it_was_announced() -> None:
    hits = np.cumsum(np.random.default_rng(4).random((300, 600)) < 0.05, axis=1)
    n = np.arange(1, 601)
    shown = log_evidence_above(n, n - hits, 0.9) >= math.log(20)
    announced = rows_that_show(0.1, 0.05, ALPHA)
    assert announced is not None
    assert 150 < announced < 500
    assert 0.5 < shown[:, :announced].any(axis=1).mean() < 0.95
    assert rows_that_show(0.1, 0.1, ALPHA) is None


def run_lengths(hits: NDArray[np.bool_], mean: float, limit: float) -> NDArray[np.int64]:
    """Rows until each stream's change is reported (the length of the stream where it never is)."""
    lengths = []
    for stream in hits:
        reported = log_change_above(np.ones(len(stream)), stream, mean) >= math.log(limit)
        lengths.append(int(np.argmax(reported)) + 1 if reported.any() else len(stream))
    return np.array(lengths)


def test_false_reports_of_a_change_are_as_rare_as_promised() -> None:
    lengths = run_lengths(np.random.default_rng(5).random((300, 5_000)) < 0.1, 0.1, 200)
    # Streams that are cut at 5,000 rows make the mean smaller, never larger.
    assert lengths.mean() >= 200


def test_a_late_change_is_found_that_the_sequence_forgives() -> None:
    rng = np.random.default_rng(6)
    before, after = rng.random((100, 2_000)) < 0.05, rng.random((100, 400)) < 0.3
    hits = np.hstack([before, after])
    delay = run_lengths(hits, 0.1, 10_000) - 2_000
    assert np.all(delay > 0)
    assert np.quantile(delay, 0.95) < 120
    k = hits[:, :2_120].sum(axis=1)
    assert np.all(lower_sequence(np.full(100, 2_120), k, ALPHA) < 0.1)


def test_change_evidence_by_blocks_counts_what_rows_count() -> None:
    stream = np.random.default_rng(7).random(60) < 0.3
    single = log_change_above(np.ones(60), stream, 0.1)
    blocks = log_change_above(np.full(6, 10), stream.reshape(6, 10).sum(axis=1), 0.1)
    assert np.all(blocks <= single[9::10] + 1e-9)  # fewer starts to sum over
    gain = [k * math.log(r) - math.log(1 + (r - 1) * 0.1) for k in stream for r in (1.5, 2.5, 5.0)]
    paths = np.array(gain).reshape(60, 3)
    by_hand = np.zeros(3)
    for row in paths:
        by_hand = (by_hand + 1) * np.exp(row)
    assert single[-1] == pytest.approx(math.log(by_hand.mean()))
