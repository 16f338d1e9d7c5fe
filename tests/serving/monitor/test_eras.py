"""Evidence over several audit shares: every row counts, the bounds stay right, and nothing shown is taken back."""

import math

import numpy as np
import pytest

from confide.metrics.confidence_sequences import log_evidence_above, lower_sequence, upper_sequence
from confide.numeric import Floats
from confide.serving.monitor.eras import Steps

ALPHA = 0.05
STREAMS = 300
ALLOWED = ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / STREAMS)
LIMIT = 0.1

SCHEDULES = {
    "lowered": [(0.5, 150), (0.05, 150)],
    "raised": [(0.02, 60), (0.4, 240)],
    "back and forth": [(0.5, 75), (0.1, 75), (0.5, 75), (0.1, 75)],
    "often": [(share, 50) for share in (0.5, 0.3, 0.2, 0.1, 0.05, 0.01)],
}


def shares_of(schedule: str) -> Floats:
    return np.concatenate([np.full(n, share) for share, n in SCHEDULES[schedule]])


def steps(hits: Floats, share: Floats, missing: Floats | None = None) -> Steps:
    ones, unknown = np.ones(len(hits)), np.zeros(len(hits)) if missing is None else missing
    return Steps(np.arange(len(hits), dtype=float), ones, hits * (1 - unknown), np.maximum(hits, unknown), share)


def shown(rows: Steps) -> bool:
    return rows.first_above(LIMIT, ALPHA) is not None


def draws(chance: Floats | float, n: int, seed: int) -> Floats:
    return (np.random.default_rng(seed).random(n) < chance).astype(float)


def last(rows: Steps) -> tuple[float, float]:
    lower, upper = rows.bounds(np.array([len(rows.n) - 1]), ALPHA)
    return float(lower[0]), float(upper[0])


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_kept_promise_is_called_broken_no_more_often_than_allowed(schedule: str) -> None:
    share = shares_of(schedule)
    broken = [shown(steps(draws(LIMIT, len(share), seed), share)) for seed in range(STREAMS)]
    assert np.mean(broken) <= ALLOWED


def test_replicas_with_different_shares_at_the_same_time() -> None:
    share = np.where(np.random.default_rng(0).random(400) < 0.7, 0.5, 0.02)
    broken = [shown(steps(draws(LIMIT, 400, seed), share)) for seed in range(STREAMS)]
    assert np.mean(broken) <= ALLOWED
    assert np.mean([shown(steps(draws(0.25, 400, seed), share)) for seed in range(50)]) == 1


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_broken_promise_is_found_whatever_the_shares(schedule: str) -> None:
    share = shares_of(schedule)
    found = [shown(steps(draws(0.25, len(share), seed), share)) for seed in range(100)]
    assert np.mean(found) >= 0.95


def test_what_was_shown_stays_shown() -> None:
    bad, good = draws(0.2, 606, 0), np.zeros(3_000)
    first = steps(bad, np.full(606, 0.5))
    assert shown(first)
    for share in (0.5, 0.25, 0.01, 0.9):
        for more in (1, 3_000):
            later = steps(np.concatenate([bad, good[:more]]), np.concatenate([np.full(606, 0.5), np.full(more, share)]))
            assert later.first_above(LIMIT, ALPHA) == first.first_above(LIMIT, ALPHA)


def test_one_row_at_another_share_changes_little() -> None:
    hits = draws(0.04, 1_000, 1)
    before = last(steps(hits, np.full(1_000, 0.5)))
    for share in (0.05, 0.9):
        after = last(steps(np.append(hits, 0.0), np.append(np.full(1_000, 0.5), share)))
        assert after == pytest.approx(before, abs=0.015)


@pytest.mark.parametrize("chances", [(0.08, 0.08), (0.02, 0.2), (0.3, 0.05)])
def test_the_share_among_all_requests_is_covered_at_all_times(chances: tuple[float, float]) -> None:
    share = np.concatenate([np.full(200, 0.5), np.full(100, 0.1)])
    at = np.linspace(20, 299, 8).astype(int)
    n = np.stack([np.minimum(at + 1, 200), np.maximum(at - 199, 0)], axis=1)
    weights = n / np.array([0.5, 0.1])
    truth = (weights * chances).sum(axis=1) / weights.sum(axis=1)
    missed = 0
    for seed in range(STREAMS // 2):
        hits = draws(np.repeat(chances, [200, 100]), 300, seed)
        lower, upper = steps(hits, share).bounds(at, ALPHA)
        missed += bool(((lower > truth) | (upper < truth)).any())
    assert missed / (STREAMS // 2) <= 2 * ALPHA + 3 * math.sqrt(2 * ALPHA / (STREAMS // 2))


def test_a_good_past_that_was_audited_more_does_not_hide_a_bad_present() -> None:
    # 4,000 requests, half of them audited, then 8,000 of which one in twenty is; three in twenty of those are wrong.
    hits = np.concatenate([draws(0.02, 2_000, 0), draws(0.15, 400, 1)])
    lower, upper = last(steps(hits, np.concatenate([np.full(2_000, 0.5), np.full(400, 0.05)])))
    assert lower < (0.02 * 4_000 + 0.15 * 8_000) / 12_000 < upper
    assert upper > LIMIT
    assert upper_sequence(2_400, hits.sum(), ALPHA) < LIMIT  # what counting all rows alike would say


def test_one_share_is_the_plain_sequence() -> None:
    rows = steps(draws(0.1, 300, 0), np.full(300, 0.2))
    at = np.array([0, 10, 299])
    lower, upper = rows.bounds(at, ALPHA)
    k = np.cumsum(rows.least)[at]
    assert lower == pytest.approx(lower_sequence(at + 1, k, ALPHA), abs=1e-6)
    assert upper == pytest.approx(upper_sequence(at + 1, k, ALPHA), abs=1e-6)


def test_two_shares_against_a_search_of_the_whole_region() -> None:
    hits = np.concatenate([draws(0.05, 200, 0), draws(0.1, 80, 1)])
    rows = steps(hits, np.concatenate([np.full(200, 0.5), np.full(80, 0.1)]))
    n, k = np.array([80.0, 200.0]), np.array([hits[200:].sum(), hits[:200].sum()])
    weights = np.array([800, 400]) / 1_200
    grid = np.linspace(0.0005, 0.9995, 2_000)
    first, second = (log_evidence_above(n[i], n[i] - k[i], 1 - grid) for i in (0, 1))
    inside = first[:, None] + second[None, :] < -math.log(ALPHA)
    best = (weights[0] * grid[:, None] + weights[1] * grid[None, :])[inside].max()
    upper = last(rows)[1]
    assert best <= upper <= best + 0.012


def test_rows_without_a_label_widen_both_sides() -> None:
    hits, share = draws(0.05, 400, 0), np.concatenate([np.full(200, 0.5), np.full(200, 0.1)])
    missing = (np.arange(400) % 8 == 0).astype(float)
    lower, upper = last(steps(hits, share, missing))
    known, none = last(steps(np.maximum(hits, missing), share)), last(steps(hits * (1 - missing), share))
    assert (lower, upper) == (none[0], known[1])
    labelled = missing == 0
    expected = 200 / 0.5 * hits[:200][labelled[:200]].mean() + 200 / 0.1 * hits[200:][labelled[200:]].mean()
    assert steps(hits, share, missing).estimates(np.array([399])) == pytest.approx(expected / 2_400)
