"""Bounds of fresh rows at all looks: right after every row, and not far from a bound for one look."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom

from confide.metrics.confidence_sequences import log_evidence_of_loss, lower_sequence, upper_sequence
from confide.policies.anytime_bounds import anytime_interval, counted_rows_needed, power, rows_needed
from confide.policies.thresholds.binomial_bound import BinomialCount, counted_rows_that_decide
from confide.policies.thresholds.cluster_bound import ClusterCount
from confide.policies.thresholds.paired_bound import PairedCount, loss_interval


def test_shares_are_bounded_by_the_sequences():
    lower, upper = anytime_interval(BinomialCount(200, 100, bad=8, counted=100), below=0.975, above=0.95)
    assert lower == pytest.approx(float(lower_sequence(100, 8, 0.025)))
    assert upper == pytest.approx(float(upper_sequence(100, 8, 0.05)))
    assert anytime_interval(BinomialCount(10, 0, bad=0, counted=0), 0.95, 0.95) == (0, 1)


@pytest.mark.parametrize(("loss", "gain"), [(0.04, 0.03), (0.1, 0.0), (0.01, 0.06)])
def test_losses_are_bounded_after_every_row(loss: float, gain: float):
    streams, rows = 300, 400
    drawn = np.random.default_rng(1).random((streams, rows))
    losses, gains = np.cumsum(drawn < loss, axis=1), np.cumsum(drawn > 1 - gain, axis=1)
    n = np.arange(1, rows + 1)
    allowed = 0.05 + 3 * math.sqrt(0.05 * 0.95 / streams)
    for side, other, mean in ((losses, gains, loss - gain), (gains, losses, gain - loss)):
        missed = (log_evidence_of_loss(n, side, other, mean) >= math.log(20)).any(axis=1).mean()
        assert missed <= allowed


def test_the_interval_of_a_loss_is_where_the_evidence_reaches_its_limit():
    count = PairedCount(400, 300, losses=30, gains=12)
    lower, upper = anytime_interval(count, 0.95, 0.95)
    assert lower < count.observed < upper
    assert float(log_evidence_of_loss(400, 30, 12, lower)) == pytest.approx(math.log(20), abs=1e-3)
    assert float(log_evidence_of_loss(400, 12, 30, -upper)) == pytest.approx(math.log(20), abs=1e-3)
    exact = loss_interval(30, 12, 400, 0.95)
    assert lower < exact[0] < exact[1] < upper
    assert upper - lower < 2.2 * (exact[1] - exact[0])
    assert anytime_interval(PairedCount(0, 0, 0, 0), 0.95, 0.95) == (-1, 1)


def test_the_evidence_of_a_loss_is_the_mean_capital_of_the_stakes():
    from confide.metrics.confidence_sequences import _STAKES

    values, margin = [1] * 5 + [0] * 20 + [-1] * 2, 0.05
    capital = np.prod([1 + _STAKES * ((1 + x) / (1 + margin) - 1) for x in values], axis=0).mean()
    assert float(log_evidence_of_loss(27, 5, 2, margin)) == pytest.approx(math.log(capital))


@pytest.mark.parametrize(("share", "limit"), [(0.02, 0.1), (0.05, 0.1), (0.1, 0.2), (0.2, 0.1)])
def test_what_looking_at_any_time_costs(share: float, limit: float):
    anytime, once = counted_rows_needed(share, limit, 0.95), counted_rows_that_decide(share, limit, 0.95)
    assert 1.5 * once < anytime < 2.5 * once
    # With that many rows the sequence decides with probability 0.8, by the definition of power.
    bad = np.arange(anytime + 1)
    sure = upper_sequence(np.full(anytime + 1, anytime), bad, 0.05) <= limit
    if share > limit:
        sure = lower_sequence(np.full(anytime + 1, anytime), bad, 0.05) >= limit
    assert 0.8 <= binom.pmf(bad, anytime, share)[sure].sum() < 0.86


def test_no_number_of_rows_shows_what_lies_at_the_limit():
    assert counted_rows_needed(0.1, 0.1, 0.95) is None
    assert counted_rows_needed(0.2, 0.1, 0.95) < counted_rows_needed(0.12, 0.1, 0.95)
    assert rows_needed(PairedCount(0, 0, 0, 0), 0.0, 0.5, 0.05, 0.95) is None
    assert rows_needed(BinomialCount(100, 0, bad=0, counted=0), 0.02, 0.0, 0.1, 0.95) is None


@pytest.mark.parametrize(("losses", "gains", "margin"), [(40, 30, 0.05), (100, 50, 0.02), (20, 20, 0.03)])
def test_rows_that_decide_on_a_loss(losses: int, gains: int, margin: float):
    needed = rows_needed(PairedCount(1_000, 800, losses, gains), 0.0, 0.8, margin, 0.95)
    assert needed is not None
    rng = np.random.default_rng(0)
    counts = rng.multinomial(needed, [losses / 1_000, gains / 1_000, 1 - (losses + gains) / 1_000], size=400)
    above = (losses - gains) / 1_000 > margin
    side = (counts[:, 0], counts[:, 1], margin) if above else (counts[:, 1], counts[:, 0], -margin)
    decided = log_evidence_of_loss(needed, side[0], side[1], side[2]) >= math.log(20)
    assert 0.65 < decided.mean() < 0.92


def test_power_counts_the_rows_there_are():
    assert power(BinomialCount(100, 100, bad=5, counted=100), 0.05, 0.1, 0.95) == pytest.approx(binom.cdf(2, 100, 0.05))
    assert power(BinomialCount(20, 20, bad=0, counted=20), 0.05, 0.1, 0.95) == 0
    small, large = (power(PairedCount(n, n, n // 25, n // 50), 0.01, 0.05, 0.95) for n in (300, 3_000))
    assert small < 0.5 < large


def test_bounds_over_clusters_hold_at_all_looks_together() -> None:
    # Entities of 1 or 8 questions; a question is wrong as its entity is, and 0.1 of all questions are.
    rng = np.random.default_rng(0)
    broken = 0
    for _ in range(300):
        sizes = rng.choice([1.0, 8.0], 600, p=[0.8, 0.2])
        bad = sizes * (rng.random(600) < 0.1)
        full = ClusterCount(int(sizes.sum()), int(sizes.sum()), bad, sizes, 8)
        looks = [replace(full, bad_each=bad[:n], counted_each=sizes[:n]) for n in range(20, 601, 20)]
        shown = [replace(look, anytime=True).shows(0.1, 0.05) for look in looks]
        assert shown[-1] == (anytime_interval(full, 0.95, 0.95)[1] <= 0.1)
        broken += any(shown)
    assert broken / 300 <= 0.05


def test_rows_needed_over_clusters_decide_more_often_than_not() -> None:
    rng = np.random.default_rng(1)

    def draw(clusters: int) -> ClusterCount:
        sizes = rng.choice([1.0, 4.0], clusters, p=[0.8, 0.2])
        bad = sizes * (rng.random(clusters) < 0.05)
        return ClusterCount(int(sizes.sum()), int(sizes.sum()), bad, sizes, 4)

    seen = draw(60)
    needed = rows_needed(seen, 0.05, 1.0, 0.1, 0.95)
    assert needed is not None
    shown = [anytime_interval(draw(needed * 60 // seen.n), 0.95, 0.95)[1] <= 0.1 for _ in range(40)]
    assert np.mean(shown) > 0.6
    assert rows_needed(replace(seen, bad_each=seen.counted_each * 0.1), 0.05, 1.0, 0.1, 0.95) is None
