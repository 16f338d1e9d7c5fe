"""Promises against counts: broken, held and undecided, drift, and what is constant."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from audit_samples import audited_steps
from confide.numeric import Floats
from confide.serving.monitor.eras import Steps
from confide.serving.monitor.promises import (
    CONSTANT_ROWS,
    LATE_REQUESTS,
    Promise,
    broken_domains,
    constant_escalation,
    coverage_state,
    promise_state,
    requests_steps,
    risks_in,
)
from confide.serving.store.audits import AuditRow

PROMISE = Promise("pol_0123456789ab", "stack", "max_risk", 0.1, 0.95, 0.06, 0.6, 1000)
NOW = 1_700_500_000.0


def audits(wrong: list[bool], kept: bool = True) -> list[AuditRow]:
    decided = "answer" if kept else "escalate"
    return [
        AuditRow(f"dec_{i}", NOW + i, "small", "stack", 0.9, decided, None, 0.1, not w) for i, w in enumerate(wrong)
    ]


def risk_of(sample: list[AuditRow], promise: Promise) -> dict[str, Any]:
    steps = audited_steps(sample, promise.goal)
    return promise_state(steps, promise, steps.least)


def by_domain(sample: list[AuditRow], promise: Promise) -> dict[str, Steps]:
    def named(row: AuditRow) -> str:
        return row.domain if row.domain in promise.domains else "*"

    return {name: audited_steps([row for row in sample if named(row) == name]) for name in promise.domains}


def draws(share: float, n: int, seed: int) -> list[bool]:
    return list((np.random.default_rng(seed).random(n) < share).tolist())


# -- risk ---------------------------------------------------------------------------------------------------


def test_no_audit_says_nothing() -> None:
    state = risk_of([], PROMISE)
    assert (state["status"], state["n"], state["estimate"]) == ("undecided", 0, None)
    assert (state["lower"], state["upper"]) == (0.0, 1.0)
    assert 150 < state["rows_needed"] < 1000


def test_risk_counts_answered_rows_only() -> None:
    state = risk_of(audits([True] * 50, kept=False) + audits([False] * 3 + [True]), PROMISE)
    assert (state["n"], state["hits"], state["estimate"]) == (4, 1, 0.25)
    assert state["series"][-1]["value"] == 0.25


def test_a_promise_that_holds_is_broken_or_cannot_be_said() -> None:
    assert risk_of(audits(draws(0.03, 500, 0)), PROMISE)["status"] == "holds"
    assert risk_of(audits(draws(0.25, 300, 0)), PROMISE)["status"] == "broken"
    undecided = risk_of(audits(draws(0.1, 60, 0)), PROMISE)
    assert undecided["status"] == "undecided"
    assert undecided["lower"] < 0.1 < undecided["upper"]


def test_a_promise_at_its_limit_is_hardly_ever_called_broken() -> None:
    broken = [risk_of(audits(draws(0.1, 200, seed)), PROMISE)["status"] == "broken" for seed in range(100)]
    assert np.mean(broken) <= 0.05 + 3 * (0.05 * 0.95 / 100) ** 0.5


def test_a_late_change_breaks_the_promise_though_the_mean_is_fine() -> None:
    state = risk_of(audits(draws(0.05, 1500, 1) + draws(0.4, 60, 2)), PROMISE)
    assert state["upper"] < 0.1
    assert (state["status"], state["changed_lately"]) == ("broken", True)
    assert state["late_hits"] > 15


def test_series_are_thinned_for_drawing_but_end_at_the_last_row() -> None:
    state = risk_of(audits(draws(0.05, 5000, 1)), PROMISE)
    assert len(state["series"]) <= 120
    assert state["series"][-1] == {
        "time": NOW + 4999,
        "value": state["estimate"],
        "lower": state["lower"],
        "upper": state["upper"],
    }


def test_each_goal_counts_what_it_promised() -> None:
    sample = audits([True, True, False]) + audits([True, True], kept=False)
    match = Promise("p", "s", "match_expert", 0.05, 0.95, -0.01, 0.6, 1000)
    assert audited_steps(sample).least.tolist() == [1, 1, 0]
    assert audited_steps(sample, "match_expert").least.tolist() == [1, 1, 0, 0, 0]
    assert risk_of(sample, match)["bound"] == 0.05


def test_a_budget_is_followed_in_all_requests_one_by_one() -> None:
    budget = Promise("p", "s", "budget", 0.3, 0.95, 0.25, 0.75, 1000)
    steps, latest = hours([0.25] * 240, 30, 0)
    state = promise_state(steps, budget, latest)
    assert (state["status"], state["n"]) == ("holds", 7200)
    steps, latest = hours([0.2] * 480 + [0.4] * 24, 30, 0)
    late = promise_state(steps, budget, latest)
    assert (late["status"], late["changed_lately"], late["late_n"]) == ("broken", True, LATE_REQUESTS)
    assert late["upper"] < 0.3


def test_domains_with_promises_of_their_own() -> None:
    good, bad = audits(draws(0.02, 300, 0)), [replace(row, domain="bad") for row in audits(draws(0.3, 150, 1))]
    sample = sorted(good + bad, key=lambda row: row.created)
    assert broken_domains({}, PROMISE) == []  # one promise for all
    promise = replace(PROMISE, domains=("*", "bad", "unseen"))
    found = broken_domains(by_domain(sample, promise), promise)
    assert [entry["domain"] for entry in found] == ["bad"]
    assert found[0]["n"] == 150
    assert found[0]["lower"] > 0.1


def test_a_domain_that_broke_its_promise_stays_broken_at_another_share() -> None:
    bad = [replace(row, domain="bad", probability=0.5) for row in audits(draws(0.3, 150, 1))]
    promise = replace(PROMISE, domains=("*", "bad"))
    for share in (0.001, 0.05, 1.0):
        good = [
            replace(row, id=f"g{i}", domain="bad", probability=share) for i, row in enumerate(audits([False] * 900))
        ]
        (found,) = broken_domains(by_domain(bad + good, promise), promise)
        assert (found["domain"], found["n"]) == ("bad", 1_050)
    shown = risks_in([audited_steps(bad + good[:50] + [replace(good[50], correct=None)])], 0.95)[0]
    assert (shown["audited"], shown["wrong"]) == (200, sum(not row.correct for row in bad))
    assert shown["lower"] < shown["wrong"] / 200 < shown["upper"]


# -- rows that say less, or the same again -------------------------------------------------------------------


def test_an_audit_without_a_label_is_wrong_for_holds_and_right_for_broken() -> None:
    labelled = audits(draws(0.03, 500, 0))
    missing = [replace(row, id=f"m{i}", correct=None) for i, row in enumerate(audits([True] * 60))]
    state = risk_of(labelled + missing, PROMISE)
    assert risk_of(labelled, PROMISE)["status"] == "holds"
    assert (state["status"], state["n"], state["unlabelled"]) == ("undecided", 500, 60)
    assert state["estimate"] == risk_of(labelled, PROMISE)["estimate"]
    as_wrong = risk_of(labelled + [replace(row, correct=False) for row in missing], PROMISE)
    as_right = risk_of(labelled + [replace(row, correct=True) for row in missing], PROMISE)
    assert state["upper"] == as_wrong["upper"]
    assert state["lower"] == as_right["lower"]
    # Kept or not is known without a label: what is not kept costs nothing.
    escalated = [replace(row, decision="escalate") for row in missing]
    match = replace(PROMISE, goal="match_expert")
    assert risk_of(labelled + escalated, match)["unlabelled"] == 0
    nothing_known = risk_of(missing, PROMISE)
    assert (nothing_known["n"], nothing_known["unlabelled"], nothing_known["estimate"]) == (0, 60, None)
    assert (nothing_known["lower"], nothing_known["status"], nothing_known["series"]) == (0.0, "undecided", [])


def test_missing_labels_of_wrong_answers_show_no_promise_that_is_broken() -> None:
    def status(seed: int, drop: bool) -> str:
        rng = np.random.default_rng(seed)
        wrong = rng.random(600) < 0.14
        missing = rng.random(600) < np.where(wrong, 0.8, 0.02)  # 13 % of all
        rows = [
            replace(row, probability=0.5 if i < 400 else 0.05, correct=None if missing[i] else row.correct)
            for i, row in enumerate(audits(wrong.tolist()))
        ]
        return str(risk_of([row for row in rows if row.correct is not None] if drop else rows, PROMISE)["status"])

    assert [status(seed, drop=False) for seed in range(12)] == ["undecided"] * 12
    assert [status(seed, drop=True) for seed in range(12)].count("holds") > 3


def test_a_question_asked_again_and_again_counts_once_a_day() -> None:
    burst = [replace(row, question_hash="q") for row in audits([True] * 50)]
    other = audits([False] * 20)
    state = risk_of(burst + other, PROMISE)
    assert (state["n"], state["hits"], state["status"]) == (21, 1, "undecided")
    assert risk_of([replace(row, question_hash=None) for row in burst], PROMISE)["status"] == "broken"
    days = [replace(row, question_hash="q", created=NOW + 86_400 * i) for i, row in enumerate(audits([True] * 50))]
    assert risk_of(days, PROMISE)["status"] == "broken"
    assert risks_in([audited_steps(burst + other)], 0.95)[0]["audited"] == 21


def test_bursts_of_one_question_break_no_promise_that_is_kept() -> None:
    def burst(seed: int, hashed: bool) -> bool:
        rng = np.random.default_rng(seed)
        number = np.repeat(np.arange(60), rng.geometric(0.1, 60))  # each question about ten times in a row
        rows = audits((rng.random(60) < 0.08)[number].tolist())
        rows = [replace(row, question_hash=f"q{number[i]}" if hashed else None) for i, row in enumerate(rows)]
        return bool(risk_of(rows, PROMISE)["status"] == "broken")

    assert np.mean([burst(seed, hashed=False) for seed in range(60)]) > 0.2
    hashed = [burst(seed, hashed=True) for seed in range(60)]
    assert np.mean(hashed) <= 0.05 + 3 * (0.05 * 0.95 / 60) ** 0.5


# -- coverage -----------------------------------------------------------------------------------------------


def hours(shares: list[float], per_hour: int, seed: int) -> tuple[Steps, Floats]:
    """Hourly counts of requests that are hits with these chances, and each request by itself."""
    rng = np.random.default_rng(seed)
    times = NOW // 86_400 * 86_400 + 3600.0 * np.arange(1, len(shares) + 1)
    hits = (rng.random((len(shares), per_hour)) < np.array(shares)[:, None]).astype(float)
    return requests_steps(times, np.full(len(shares), float(per_hour)), hits.sum(axis=1)), hits.ravel()


def drift_of(shares: list[float], per_hour: int, seed: int, promise: Promise = PROMISE) -> Any:
    return coverage_state(*hours(shares, per_hour, seed), promise)["drift"]


def test_coverage_as_in_calibration_is_no_drift() -> None:
    assert [drift_of([0.6] * 48, 30, seed) for seed in range(100)].count(None) == 100


@pytest.mark.parametrize(("share", "word"), [(0.4, "fell"), (0.8, "rose")])
def test_coverage_drift_from_the_start_is_found(share: float, word: str) -> None:
    assert [drift_of([share] * 25, 30, seed) for seed in range(50)].count(word) == 50  # within 750 rows


def test_a_collapse_of_coverage_is_found_within_requests_not_days() -> None:
    # A busy day: 20,000 good requests, then nothing is answered any more. One hour has 100,000 requests.
    latest = np.concatenate([np.random.default_rng(0).random(20_000) < 0.6, np.zeros(40, dtype=bool)]).astype(float)
    day = requests_steps(np.array([NOW]), np.array([float(len(latest))]), np.array([latest.sum()]))
    state = coverage_state(day, latest, PROMISE)
    assert state["low"] < state["share"] < state["high"]
    assert state["drift"] == "fell"
    assert coverage_state(day, latest[:-40], PROMISE)["drift"] is None


@pytest.mark.parametrize(("late", "word"), [(0.4, "fell"), (0.8, "rose")])
def test_a_late_drift_of_coverage_is_found_that_the_sequence_forgives(late: float, word: str) -> None:
    found = [drift_of([0.6] * 400 + [late] * 40, 30, seed) for seed in range(20)]
    assert found.count(word) == 20
    state = coverage_state(*hours([0.6] * 400 + [late] * 40, 30, 0), PROMISE)
    assert state["low"] < state["share"] < state["high"]
    assert (state["late_n"], state["late_share"]) == (LATE_REQUESTS, pytest.approx(late, abs=0.07))


def test_small_drift_within_the_margin_passes() -> None:
    assert drift_of([0.57] * 240, 100, 0) is None


@pytest.mark.parametrize("coverage", [0.0, 1.0])
def test_coverage_at_its_ends(coverage: float) -> None:
    promise = Promise("p", "s", "max_risk", 0.1, 0.95, 0.05, coverage, 1000)
    assert drift_of([coverage] * 24, 30, 0, promise) is None
    assert drift_of([0.5] * 24, 30, 0, promise) == ("fell" if coverage else "rose")
    none = np.zeros(0)
    assert coverage_state(requests_steps(none, none, none), none, promise)["share"] is None


# -- the rest -----------------------------------------------------------------------------------------------


def test_constant_escalation_needs_fifty_rows_or_more_where_chance_could_do_it() -> None:
    assert constant_escalation([True] * (CONSTANT_ROWS - 1), PROMISE) is None
    assert constant_escalation([True] * CONSTANT_ROWS, PROMISE) == (50, True)
    assert constant_escalation([False] * CONSTANT_ROWS, PROMISE) == (50, False)
    assert constant_escalation([True] * 60 + [False] + [True] * 100, PROMISE) == (60, True)
    assert constant_escalation([False] + [True] * 100, PROMISE) is None
    rare = Promise("p", "s", "max_risk", 0.1, 0.95, 0.05, 0.1, 1000)  # nine in ten are escalated anyway
    assert constant_escalation([True] * 80, rare) is None
    assert constant_escalation([True] * 100, rare) == (100, True)
    always = Promise("p", "s", "max_risk", 0.1, 0.95, 0.05, 1.0, 1000)
    assert constant_escalation([False] * 999, always) is None
    assert constant_escalation([False] * 1000, always) == (1000, False)
    assert constant_escalation([True] * 50, always) == (50, True)
    assert constant_escalation([True] * 500, None) is None
    assert constant_escalation([], PROMISE) is None
