"""The monitor of a policy with an order of sources: one promise over all its rows, and who decided them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from confide.policies import Policy
from confide.serving.http.dashboard import dashboard_page
from confide.serving.monitor.promises import promise_of
from confide.serving.store.tables import DecisionRow
from decision_rows import mixed
from monitored import names, state_of
from two_sources import ordered_policy


@pytest.fixture(scope="module")
def policy() -> Policy:
    return ordered_policy()


def rows_of(policy: Policy, every: int, n: int = 900) -> list[DecisionRow]:
    """``n`` requests, of which each ``every``-th is decided by the fallback."""
    rows = mixed(n)
    for i, row in enumerate(rows):
        row.policy_id = policy.id
        if i % every == 0:
            row.source, row.raw = "logprob_sum", -0.1
    return rows


def test_the_promise_is_one_and_names_the_order(policy):
    promise = promise_of(policy)
    assert (promise.policy_id, promise.source, promise.fallbacks) == (policy.id, "stack", ("logprob_sum",))
    assert (promise.limit, promise.level, promise.coverage) == (0.1, 0.95, policy.profile.answered)


def test_a_promise_per_entity_of_any_source_is_one_of_the_whole(policy):
    """The rows of the first source may be of an entity each, so that its part does not say what counts."""
    (fallback,) = policy.fallbacks
    counted = fallback.guarantee.model_copy(update={"per": "entity"})
    made = policy.model_copy(update={"fallbacks": [fallback.model_copy(update={"guarantee": counted})]})
    assert [promise_of(one).per for one in (policy, made)] == ["question", "entity"]


def test_audits_count_whatever_source_decided(tmp_path: Path, policy):
    rows = rows_of(policy, every=3)
    state = state_of(rows, f"sqlite:///{tmp_path}/a.db", promise_of(policy))
    audited = [row for row in rows if row.audit and row.decision == "answer"]
    assert state["risk"]["n"] == len(audited)
    assert state["risk"]["hits"] == sum(row.agreed is False for row in audited)
    assert state["coverage"]["n"] == 900
    assert state["promise"]["fallbacks"] == ["logprob_sum"]
    assert json.loads(json.dumps(state)) == state


@pytest.mark.parametrize(("every", "warned"), [(2, True), (3, True), (4, False), (50, False), (901, False)])
def test_a_warning_says_that_fallbacks_decide(tmp_path: Path, policy, every, warned):
    state = state_of(rows_of(policy, every), f"sqlite:///{tmp_path}/a.db", promise_of(policy))
    count = sum(i % every == 0 for i in range(400, 900))
    assert state["recent"]["fallbacks"] == {"logprob_sum": count}
    assert names(state).get("fallback") == ("warning" if warned else None)
    if warned:
        (text,) = [alarm["text"] for alarm in state["alarms"] if alarm["name"] == "fallback"]
        said = (
            f"Of the last 500 requests {count} by logprob_sum were decided, since stack gave nothing; it gave none on "
        )
        assert text == said + "21% of the calibration rows."


def test_falling_back_is_news_where_no_calibration_row_did(tmp_path: Path, policy):
    profile = policy.profile.model_copy(
        update={"confidence": policy.profile.confidence.model_copy(update={"missing": 0})}
    )
    made = policy.model_copy(update={"profile": profile})
    for every, warned in ((10, True), (30, False)):
        state = state_of(rows_of(made, every), f"sqlite:///{tmp_path}/{every}.db", promise_of(made))
        assert ("fallback" in names(state)) == warned


def test_rows_of_an_earlier_policy_fall_back_on_nothing(tmp_path: Path, policy):
    rows = rows_of(policy, every=1)
    for row in rows:
        row.policy_id = "pol_earlier"
    state = state_of(rows, f"sqlite:///{tmp_path}/a.db", promise_of(policy))
    assert state["recent"]["fallbacks"] == {"logprob_sum": 0}
    assert "fallback" not in names(state)


def test_the_dashboard_names_order_and_deciding_source(tmp_path: Path, policy):
    page = dashboard_page(state_of(rows_of(policy, 2), f"sqlite:///{tmp_path}/a.db", promise_of(policy)))
    assert "on the confidence of stack, or where that gives none of logprob_sum" in page
    assert "sure (logprob_sum)" in page
    assert "sure (stack)" in page
    alone = policy.only(policy)
    rows = rows_of(alone, 901)
    page = dashboard_page(state_of(rows, f"sqlite:///{tmp_path}/b.db", promise_of(alone)))
    assert "where that gives none" not in page
    assert "sure (" not in page
