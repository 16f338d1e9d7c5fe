"""The monitor: what it says about a store with known rows, on SQLite and on a real PostgreSQL."""

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from confide.policies.calibrators import PlattCalibrator, PlattParameters
from confide.policies.policy import Policy
from confide.policies.policy_part import Rule
from confide.serving.http.dashboard import dashboard_page
from confide.serving.monitor.alarms import percent
from confide.serving.monitor.snapshot import build, snapshot
from confide.serving.monitor.traffic import quantiles
from confide.serving.store.store import Store
from confide.serving.store.tables import DecisionRow
from decision_rows import decision, mixed
from monitored import NOW, PROMISE, names, state_of
from postgres import postgres as postgres
from postgres import url as url


def test_quantiles() -> None:
    assert quantiles([]) is None
    assert quantiles([3.0]) == {"n": 1, "p50": 3.0, "p95": 3.0, "p99": 3.0}


@pytest.mark.parametrize(
    ("share", "words"),
    [(0, "0%"), (0.004, "0.4%"), (0.05, "5%"), (0.123, "12%"), (0.95, "95%"), (0.999, "99.9%"), (1, "100%")],
)
def test_percent(share: float, words: str) -> None:
    assert percent(share) == words


def test_an_empty_store(url: str) -> None:
    for promise in (PROMISE, None):
        state = state_of([], url, promise)
        assert state["verdict"] == {"status": "unknown", "sentences": ["No request has been routed yet."]}
        assert state["alarms"] == []
        assert json.loads(json.dumps(state)) == state


def test_a_healthy_store(url: str) -> None:
    rows = mixed(900)
    other = [decision(policy_id="pol_other", created=NOW - 6 * 86_400, audit=True, audit_probability=1.0, agreed=False)]
    state = state_of(other + rows, url)
    answered = [row for row in rows if row.decision == "answer"]
    audited = [row for row in answered if row.audit]
    assert (state["traffic"]["n"], state["traffic"]["answered"]) == (901, len(answered) + 1)
    assert sum(point["n"] for point in state["traffic"]["series"]) == 901
    assert state["traffic"]["cost"] == pytest.approx(450 + other[0].cost)
    assert state["coverage"]["n"] == 900  # the other policy's row does not count
    assert state["coverage"]["share"] == pytest.approx(len(answered) / 900)
    assert state["risk"]["n"] == len(audited)
    assert state["risk"]["hits"] == sum(row.agreed is False for row in audited)
    assert state["risk"]["status"] == "holds"
    assert state["verdict"]["status"] == "holds"
    assert "The promise holds" in state["verdict"]["sentences"][0]
    assert state["alarms"] == []
    domains = {d["domain"]: d for d in state["domains"]}
    assert {name: d["n"] for name, d in domains.items()} == {"a": 300, "b": 300, None: 300, "geography": 1}
    assert domains["a"]["audited"] == sum(row.domain == "a" for row in audited)
    assert domains["a"]["lower"] <= domains["a"]["wrong"] / domains["a"]["audited"] <= domains["a"]["upper"]
    assert state["latency"]["total"]["n"] == 901
    assert state["latency"]["expert"]["p50"] == 100.0
    assert len(state["latest"]) == 20
    assert state["latest"][0]["id"] == rows[-1].id
    assert json.loads(json.dumps(state)) == state


def test_a_window_limits_traffic_but_not_the_promise(url: str) -> None:
    rows = mixed(300)
    state = state_of(rows, url, window_s=86_400.0)
    inside = [row for row in rows if row.created >= NOW - 86_400]
    assert 0 < len(inside) < 100
    assert state["traffic"]["n"] == len(inside)
    assert sum(d["n"] for d in state["domains"]) == len(inside)
    assert state["coverage"]["n"] == 300
    empty = state_of([], url, window_s=0.001)
    assert (empty["traffic"]["n"], empty["traffic"]["series"]) == (0, [])
    assert empty["verdict"]["status"] != "unknown"


def test_unequal_audit_probabilities_are_weighed(url: str) -> None:
    # At first every second answer was audited and one in ten was wrong; then one in twenty, and half were wrong.
    first = [
        decision(created=NOW - 9000 + i, audit=True, audit_probability=0.5, agreed=i % 10 != 0) for i in range(2000)
    ]
    then = [decision(created=NOW - 5000 + i, audit=True, audit_probability=0.05, agreed=i % 2 == 0) for i in range(200)]
    state = state_of(first + then, url)
    # Each stands for 4,000 requests, so the share of wrong ones is 0.3, not the raw 0.14; and every row counts.
    assert (state["risk"]["n"], state["risk"]["hits"]) == (2200, 300)
    assert state["risk"]["estimate"] == pytest.approx(0.3)
    assert 0.2 < state["risk"]["lower"] < 0.3 < state["risk"]["upper"] < 0.4
    assert "300 of 2,200 audited answers were wrong (30% weighed by the audit shares)" in state["alarms"][0]["text"]
    assert "(30% weighed by the audit shares)" in dashboard_page(state)


def test_alarms(tmp_path: Path) -> None:
    broken = [
        decision(created=NOW - 4000 + i, audit=True, audit_probability=1.0, agreed=i % 3 != 0, decision=kept)
        for i in range(400)
        for kept in ["answer" if i % 5 < 3 else "escalate"]
    ]
    state = state_of(broken, f"sqlite:///{tmp_path}/broken.db")
    assert names(state) == {"promise": "alarm"}
    assert state["verdict"]["status"] == "broken"

    stuck = [decision(created=NOW - 100 + i, decision="escalate", served="expert", raw=None) for i in range(60)]
    state = state_of(stuck, f"sqlite:///{tmp_path}/stuck.db")
    assert names(state) == {"escalation": "alarm", "confidence": "alarm", "coverage": "alarm"}
    assert state["verdict"]["status"] == "alarm"
    assert any("Every one of the last 60" in alarm["text"] for alarm in state["alarms"])

    failing = mixed(100)
    for row in [row for row in failing if row.decision == "escalate"][:9]:
        row.served, row.error = "unverified", "big: timeout"
    state = state_of(failing, f"sqlite:///{tmp_path}/failing.db")
    assert names(state) == {"expert": "alarm"}
    assert state["failures"] == [{"error": "big: timeout", "n": 9}]

    one = mixed(100)
    one[5].raw = None
    one[7].error = "big: timeout"
    state = state_of(one, f"sqlite:///{tmp_path}/one.db")
    assert names(state) == {"confidence": "warning", "failures": "warning"}
    assert state["verdict"]["status"] == "undecided"


@pytest.mark.parametrize(
    ("value", "action", "alarms"), [(0.1, "stop", False), (None, "stop", True), (0.1, "log", True)]
)
def test_an_answer_that_a_signal_ended_lacks_no_confidence(
    tmp_path: Path, value: float | None, action: str, alarms: bool
) -> None:
    flag = {"signal": "red_flag", "value": value, "threshold": 0.5, "action": action}
    rows = mixed(100)
    for row in rows[:10]:
        row.raw, row.flags = None, json.dumps([flag])
    assert ("confidence" in names(state_of(rows, f"sqlite:///{tmp_path}/flagged.db"))) is alarms
    for row in rows:
        row.mode = "observe"  # there nothing ends an answer
    assert "confidence" in names(state_of(rows, f"sqlite:///{tmp_path}/observed.db"))

    unlabelled = mixed(100)
    for row in unlabelled:
        row.agreed = None
    assert names(state_of(unlabelled, f"sqlite:///{tmp_path}/unlabelled.db")) == {"labels": "warning"}


def audit(number: int, share: float, right: bool | None, **changes: Any) -> DecisionRow:
    values = {"created": NOW - 9000 + number, "audit": True, "audit_probability": share, "agreed": right}
    return decision(**values | changes)


def test_a_lower_audit_share_forgets_nothing(url: str) -> None:
    broken = [audit(i, 0.5, i % 6 != 0) for i in range(606)]
    assert state_of(broken, url)["risk"]["status"] == "broken"
    for share, start in ((0.05, 606), (0.001, 607), (1.0, 608)):
        state = state_of([audit(start, share, True)], url)  # one row more each time
        assert (state["risk"]["status"], state["verdict"]["status"]) == ("broken", "broken")
        assert (state["risk"]["n"], state["risk"]["hits"]) == (start + 1, 101)
    good = state_of([audit(700 + i, 0.05, True) for i in range(2_000)], url)
    assert (good["risk"]["status"], good["verdict"]["status"]) == ("broken", "broken")
    assert good["risk"]["late_hits"] == 0
    shown = good["risk"]["shown_after"]
    assert shown["hits"] / shown["n"] > 0.1
    assert f"{shown['hits']} of the first {shown['n']}" in good["alarms"][0]["text"]
    assert f"after {shown['n']} audited answers it was shown" in good["verdict"]["sentences"][0]


def test_a_share_of_nothing_in_between_and_another_policy_do_not_matter(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/confide.db"
    rows = [audit(i, 0.5, i % 30 != 0) for i in range(400)]
    rows += [decision(created=NOW - 8000 + i, audit_probability=0.0) for i in range(50)]
    rows += [audit(2000 + i, 0.5, False, policy_id=name) for i in range(100) for name in ("pol_other", None)]
    rows += [audit(3000 + i, 0.5, i % 30 != 0) for i in range(400)]
    state = state_of(rows, url)
    assert (state["risk"]["n"], state["risk"]["hits"], state["risk"]["status"]) == (800, 28, "holds")


def test_unlabelled_audits_show_neither(tmp_path: Path) -> None:
    rows = [audit(i, 0.5, None if i % 8 == 0 else i % 31 != 1) for i in range(800)]
    state = state_of(rows, f"sqlite:///{tmp_path}/confide.db")
    risk = state["risk"]
    assert (risk["status"], risk["n"], risk["unlabelled"]) == ("undecided", 700, 100)
    assert risk["lower"] < 0.03 < 0.14 < risk["upper"]
    assert "100 without a label may be either" in state["verdict"]["sentences"][0]
    assert state["audits"]["overdue"] == 100


def test_clients_that_hang_up_are_no_missing_answers(url: str) -> None:
    rows = mixed(200)
    left = {"decision": "escalate", "served": "error", "error": "client: gone", "audit": False}
    rows += [decision(created=NOW - i, **left) for i in range(40)]
    state = state_of(rows, url)
    assert "expert" not in names(state)
    assert "failures" not in names(state)
    assert state["failures"] == []
    recent = state["recent"]
    assert (recent["n"], recent["gone"], recent["unserved"], recent["errors"]) == (200, 40, 0, 0)
    many = [decision(created=NOW - i, **left) for i in range(60)]
    assert names(state_of(many, url))["clients"] == "warning"
    # What failed before the client left is a failure all the same, though nobody waits for its answer.
    failed = [decision(created=NOW - i, **left | {"error": "big: timeout; client: gone"}) for i in range(60)]
    state = state_of(failed, url)
    assert names(state)["failures"] == "alarm"
    assert state["recent"]["unserved"] == 0


@pytest.mark.parametrize("hours", [-24 * 365, -2, 2, 24 * 365])
def test_a_wrong_clock_blinds_no_alarm(url: str, hours: int) -> None:
    rng = np.random.default_rng(0)
    decisions = ["answer" if rng.random() < 0.6 else "escalate" for _ in range(600)]
    served = {"answer": "small", "escalate": "expert"}
    wrong = [decision(created=NOW + 3600 * hours, decision=word, served=served[word]) for word in decisions]
    state = state_of(wrong, url)
    assert set(names(state)) == ({"clock"} if hours > 0 else set())
    assert state["coverage"]["n"] == sum(point["n"] for point in state["traffic"]["series"]) == 600
    assert state["traffic"]["last"] <= NOW
    later = {"decision": "escalate", "served": "unverified", "error": "big: timeout", "raw": None}
    state = state_of([decision(created=NOW - 500 + i, **later) for i in range(400)], url)
    assert {"coverage", "expert", "confidence", "escalation"} <= {
        name for name, severity in names(state).items() if severity == "alarm"
    }
    assert state["latest"][0]["served"] == "unverified"
    assert state["coverage"]["late_share"] < 0.2  # of the latest 500, 400 were escalated


@pytest.mark.parametrize("hours", [-2, 2, 24 * 365])
def test_a_wrong_clock_hides_no_broken_promise(url: str, hours: int) -> None:
    good = [audit(i, 1.0, True, created=NOW + 3600 * hours + i) for i in range(400)]
    bad = [audit(i, 1.0, i % 2 == 0) for i in range(40)]
    state = state_of(good, url)
    assert state["risk"]["status"] == "holds"
    state = state_of(bad, url)
    assert (state["risk"]["status"], state["risk"]["changed_lately"]) == ("broken", True)
    assert state["risk"]["late_hits"] == 20


def test_no_policy(tmp_path: Path) -> None:
    rows = [decision(created=NOW - i, policy_id=None, threshold=None, mode="observe") for i in range(100)]
    state = state_of(rows, f"sqlite:///{tmp_path}/confide.db", promise=None)
    assert (state["promise"], state["risk"], state["coverage"], state["alarms"]) == (None, None, None, [])
    assert state["mode"] == "observe"
    assert state["verdict"]["sentences"] == ["There is no policy, so nothing is promised."]


def test_feedback_is_counted_and_relabels_audits_only(tmp_path: Path) -> None:
    async def run() -> dict[str, Any]:
        store = Store.open(f"sqlite:///{tmp_path}/confide.db")
        audited = decision(created=NOW, audit=True, audit_probability=1.0, agreed=True)
        plain = decision(created=NOW)
        for row in (audited, plain):
            await store.add(row)
            await store.feedback(row.id, False)
        found = await store.run(lambda connection: build(connection, PROMISE, NOW, None))
        await store.close()
        return found

    state = asyncio.run(run())
    assert (state["risk"]["n"], state["risk"]["hits"]) == (1, 1)
    assert state["feedback"] == {"n": 2, "wrong": 2}
    assert state["latest"][0]["feedback"] == {"correct": False, "about": "served"}


def policy_with(guarantee: Any) -> Policy:
    return Policy(
        source="stack",
        calibrator=PlattCalibrator(parameters=PlattParameters(transform="logit", slope=1.0, intercept=0.0)),
        thresholds={"*": [Rule(below=0.5, decision="escalate")]},
        guarantee=guarantee,
        data_sha256="0" * 64,
    )


EVIDENCE = {"level": 0.9, "method": "m", "n": 500, "coverage": 0.6, "upper_bound": 0.19}
COST = {"answer": 1, "escalate": 20, "wrong": 100, "n": 500, "coverage": 0.6, "observed_cost": 5, "always": {}}


@pytest.mark.parametrize(
    ("guarantee", "goal", "limit", "n", "sentence"),
    [
        (EVIDENCE | {"max_risk": 0.2, "observed_risk": 0.1}, "max_risk", 0.2, 1, "of the kept answers are wrong"),
        (EVIDENCE | {"goal": "budget", "budget": 0.4, "observed_share": 0.3}, "budget", 0.4, 3, "are escalated"),
        (
            EVIDENCE | {"goal": "match_expert", "margin": 0.05, "observed_loss": -0.01},
            "match_expert",
            0.05,
            2,
            "though the expert says otherwise",
        ),
        (
            EVIDENCE | {"goal": "false_alarms", "max_share": 0.2, "observed_share": 0.1},
            "false_alarms",
            0.2,
            2,
            "of the right answers are not kept",
        ),
        (COST | {"goal": "cost"}, "cost", None, None, "least expected cost, so nothing is promised"),
    ],
)
def test_snapshot_takes_the_promise_from_the_policy(
    tmp_path: Path, guarantee: dict[str, Any], goal: str, limit: float | None, n: int | None, sentence: str
) -> None:
    policy = policy_with(guarantee)

    async def run() -> dict[str, Any]:
        store = Store.open(f"sqlite:///{tmp_path}/confide.db")
        audited = {"policy_id": policy.id, "audit": True, "audit_probability": 1.0, "agreed": True}
        await store.add(decision(**audited))
        await store.add(decision(**audited, decision="escalate", served="expert"))
        await store.add(decision(policy_id=policy.id, decision="escalate", served="expert"))
        await store.add(decision(policy_id="pol_before"))
        found = await snapshot(store, policy, window_s=None)
        await store.close()
        return found

    state = asyncio.run(run())
    promise = state["promise"]
    assert (promise["policy_id"], promise["goal"], promise["limit"]) == (policy.id, goal, limit)
    assert (state["risk"]["n"] if state["risk"] else None) == n
    assert sentence in state["verdict"]["sentences"][0]
    assert (state["coverage"]["n"], state["coverage"]["expected"]) == (3, 0.6)
    assert "<svg" in dashboard_page(state)
    assert json.loads(json.dumps(state)) == state
