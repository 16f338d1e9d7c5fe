"""Promises against counts: broken, held and undecided, drift, and what is constant."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from confide.serving.monitor.promises import (
    CONSTANT_ROWS,
    Promise,
    audited_hits,
    broken_domains,
    constant_escalation,
    coverage_state,
    promise_state,
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
    return promise_state(*audited_hits(sample, promise), promise)


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
    assert audited_hits(sample, PROMISE)[1:] == ([1, 1, 1], [1, 1, 0])
    assert audited_hits(sample, match)[1:] == ([1] * 5, [1, 1, 0, 0, 0])
    assert promise_state(*audited_hits(sample, match), match)["bound"] == 0.05


def test_a_budget_is_followed_in_all_requests_and_by_day() -> None:
    budget = Promise("p", "s", "budget", 0.3, 0.95, 0.25, 0.75, 1000)
    state = promise_state(*hours([0.25] * 240, 30, 0), budget, by_day=True)
    assert (state["status"], state["n"]) == ("holds", 7200)
    late = promise_state(*hours([0.2] * 480 + [0.4] * 24, 30, 0), budget, by_day=True)
    assert (late["status"], late["changed_lately"], late["late_n"]) == ("broken", True, 720)


def test_domains_with_promises_of_their_own() -> None:
    good, bad = audits(draws(0.02, 300, 0)), [replace(row, domain="bad") for row in audits(draws(0.3, 150, 1))]
    sample = sorted(good + bad, key=lambda row: row.created)
    assert broken_domains(sample, PROMISE) == []  # one promise for all
    found = broken_domains(sample, replace(PROMISE, domains=("*", "bad", "unseen")))
    assert [entry["domain"] for entry in found] == ["bad"]
    assert found[0]["n"] == 150
    assert found[0]["lower"] > 0.1


# -- coverage -----------------------------------------------------------------------------------------------


def hours(shares: list[float], per_hour: int, seed: int) -> tuple[list[float], list[int], list[int]]:
    rng = np.random.default_rng(seed)
    times = [NOW // 86_400 * 86_400 + 3600.0 * (i + 1) for i in range(len(shares))]
    return times, [per_hour] * len(shares), [int(rng.binomial(per_hour, share)) for share in shares]


def test_coverage_as_in_calibration_is_no_drift() -> None:
    drifted = [coverage_state(*hours([0.6] * 48, 30, seed), PROMISE)["drift"] for seed in range(100)]
    assert drifted.count(None) == 100


@pytest.mark.parametrize(("share", "word"), [(0.4, "fell"), (0.8, "rose")])
def test_coverage_drift_from_the_start_is_found(share: float, word: str) -> None:
    found = [coverage_state(*hours([share] * 20, 30, seed), PROMISE)["drift"] for seed in range(50)]
    assert found.count(word) == 50  # within 600 rows


def test_a_late_drift_of_coverage_is_found_on_its_day() -> None:
    times, n, answered = hours([0.6] * 24 * 20 + [0.4] * 24, 30, 0)
    state = coverage_state(times, n, answered, PROMISE)
    assert state["low"] < state["share"] < state["high"]
    assert state["drift"] == "fell"
    assert state["late_share"] == pytest.approx(0.4, abs=0.06)
    assert coverage_state(times[:-24], n[:-24], answered[:-24], PROMISE)["drift"] is None


def test_small_drift_within_the_margin_passes() -> None:
    assert coverage_state(*hours([0.57] * 240, 100, 0), PROMISE)["drift"] is None


@pytest.mark.parametrize("coverage", [0.0, 1.0])
def test_coverage_at_its_ends(coverage: float) -> None:
    promise = Promise("p", "s", "max_risk", 0.1, 0.95, 0.05, coverage, 1000)
    assert coverage_state(*hours([coverage] * 24, 30, 0), promise)["drift"] is None
    assert coverage_state(*hours([0.5] * 24, 30, 0), promise)["drift"] == ("fell" if coverage else "rose")
    assert coverage_state([], [], [], promise)["share"] is None


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
