"""Alarms and the verdict, through a real store: what a promise that seems to hold must not hide."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from confide.methods.answer_traffic import UnseenShare
from confide.policies import Budget, FalseAlarms, MaxRisk, Policy, calibrate_policy
from confide.policies.calibration_rows import confidence_of
from confide.policies.goals import Goal
from confide.records import Record
from confide.serving.http.dashboard import dashboard_page
from confide.serving.monitor.promises import promise_of
from confide.serving.store.tables import DecisionRow
from decision_rows import decision
from monitored import NOW, PROMISE, names, state_of
from postgres import postgres as postgres
from postgres import url as url

ESCALATED = {"decision": "escalate", "served": "expert"}
GONE = {"decision": "escalate", "served": "error", "error": "client: gone"}


def audited(n: int, agreed: bool | None, question: str | None = None, **changes: Any) -> list[DecisionRow]:
    """Audited rows of one day; without ``question`` each asks something else."""
    day = NOW // 86_400 * 86_400 - 86_400
    more = {"audit": True, "audit_probability": 0.5, "agreed": agreed} | changes
    return [
        decision(created=day + i, question_hash=question or f"{day} {agreed} {i} {len(changes)}", **more)
        for i in range(n)
    ]


def store(folder: Path, name: str) -> str:
    return f"sqlite:///{folder}/{name}.db"


# -- questions that come again -------------------------------------------------------------------------------


def test_a_wrong_question_asked_again_and_again_is_an_alarm(url: str) -> None:
    state = state_of(audited(400, True) + audited(400, False, "hot"), url)
    assert (state["risk"]["status"], state["risk"]["n"], state["risk"]["hits"]) == ("holds", 401, 1)
    assert (state["risk"]["repeats"]["n"], state["risk"]["repeats"]["hits"]) == (800, 400)
    assert names(state)["repeats"] == "alarm"
    assert state["verdict"]["status"] == "alarm"
    (sentence,) = state["verdict"]["sentences"]
    assert "holds" not in sentence
    assert "400 of 800 audited answers were wrong" in sentence
    assert "The promise holds" not in dashboard_page(state)


def test_several_hot_questions_and_a_promise_to_match_an_expert(tmp_path: Path) -> None:
    hot = [row for i in range(4) for row in audited(60, False, f"hot {i}")]
    assert names(state_of(audited(600, True) + hot, store(tmp_path, "a")))["repeats"] == "alarm"
    match = replace(PROMISE, goal="match_expert", limit=0.05)
    assert names(state_of(audited(600, True) + hot, store(tmp_path, "b"), match))["repeats"] == "alarm"
    # Half of the audits may be wrong where these are escalated.
    escalated = [row for i in range(4) for row in audited(60, False, f"hot {i}", **ESCALATED)]
    assert "repeats" not in names(state_of(audited(600, True) + escalated, store(tmp_path, "c"), match))


def test_false_alarms_are_counted_among_right_answers(tmp_path: Path) -> None:
    promise = replace(PROMISE, goal="false_alarms", limit=0.1)
    wrong = audited(300, False) + audited(300, False, **ESCALATED)
    kept, flagged = audited(300, True), audited(150, True, **ESCALATED)
    fine = state_of(wrong + kept + flagged[:5], store(tmp_path, "a"), promise)
    assert (fine["risk"]["status"], fine["risk"]["n"], fine["risk"]["hits"]) == ("holds", 305, 5)
    (sentence,) = fine["verdict"]["sentences"]
    assert "5 of 305 audited right answers were not kept" in sentence
    assert "Right answers not kept" in dashboard_page(fine)
    broken = state_of(wrong + kept + flagged, store(tmp_path, "b"), promise)
    assert (broken["risk"]["status"], broken["verdict"]["status"]) == ("broken", "broken")
    assert "of the right answers are not kept; at most 10% was promised" in dashboard_page(broken)
    assert names(broken)["promise"] == "alarm"
    # A model that is right less often, on both sides, breaks nothing; nor does one that escalates what is wrong.
    more = audited(300, False, domain="law")
    other = state_of(wrong + more + kept, store(tmp_path, "c"), promise)
    assert (other["risk"]["status"], other["risk"]["hits"]) == ("holds", 0)


@pytest.mark.parametrize("goal", [FalseAlarms(0.4), MaxRisk(0.4), Budget(0.6)])
def test_a_promise_about_harmless_answers_is_not_watched_by_audits_that_say_which_are_right(
    tmp_path: Path, goal: Goal
) -> None:
    rows = [row.model_copy(update={"confidence": {"red_flag": row.confidence.get("given")}}) for row in records(1_500)]
    policy = calibrate_policy(rows, "red_flag", goal)
    assert isinstance(policy, Policy)
    traffic = audited(300, False, policy_id=policy.id) + audited(300, True, policy_id=policy.id, **ESCALATED)
    state = state_of(traffic, store(tmp_path, "a"), promise_of(policy))
    page, (sentence,) = dashboard_page(state), state["verdict"]["sentences"]
    if isinstance(goal, Budget):
        assert (state["promise"]["sides"], state["risk"]["n"]) == (None, 600)
        return
    assert (state["risk"], state["promise"]["sides"]) == (None, ["harmless", "harmful"])
    assert "it is about harmless and harmful answers, and audits say which are right." in sentence
    assert "promise" not in names(state)
    said = "of the harmless answers are not kept" if isinstance(goal, FalseAlarms) else "kept answers are harmful"
    assert f"at most 40% {'' if isinstance(goal, FalseAlarms) else 'of the '}{said}" in page
    # Whether a run ends right is what audits say.
    outcome = [row.model_copy(update={"confidence": {"outcome": row.confidence["red_flag"]}}) for row in rows]
    other = calibrate_policy(outcome, "outcome", goal)
    assert isinstance(other, Policy)
    assert promise_of(other).sides is None


def test_audits_without_a_label_show_no_false_alarms_and_hide_none(tmp_path: Path) -> None:
    promise = replace(PROMISE, goal="false_alarms", limit=0.1)
    held = audited(300, True)
    for name, gaps, status in (
        ("none", [], "holds"),
        ("kept", audited(60, None), "undecided"),  # may be wrong, so that fewer are right
        ("escalated", audited(60, None, **ESCALATED), "undecided"),
    ):
        state = state_of(held + gaps, store(tmp_path, name), promise)
        assert (state["risk"]["status"], state["risk"]["n"], state["risk"]["hits"]) == (status, 300, 0)
        assert state["risk"]["unlabelled"] == len(gaps)
    shown = audited(150, True) + audited(150, True, **ESCALATED)
    assert state_of(shown + audited(60, None), store(tmp_path, "b"), promise)["risk"]["status"] == "broken"


def test_right_or_few_repeats_are_none(tmp_path: Path) -> None:
    for name, rows in (
        ("right", audited(400, True) + audited(400, True, "hot")),
        ("few", audited(400, True) + audited(20, False, "hot")),
        ("little", audited(3, True) + audited(1, False)),
    ):
        assert "repeats" not in names(state_of(rows, store(tmp_path, name))), name


def test_a_label_that_follows_an_audit_without_one_counts(tmp_path: Path) -> None:
    first = [row for i in range(60) for row in (audited(1, None, f"q{i}") + audited(1, False, f"q{i}"))]
    state = state_of(first, store(tmp_path, "a"))
    assert (state["risk"]["n"], state["risk"]["hits"], state["risk"]["unlabelled"]) == (60, 60, 0)
    assert state["verdict"]["status"] == "broken"


# -- requests unlike the calibration rows --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("marked", "severity"), [(0, None), (3, "warning"), (8, "warning"), (20, "alarm"), (120, "alarm"), (400, "alarm")]
)
def test_many_requests_unlike_the_calibration_rows_are_an_alarm(
    tmp_path: Path, marked: int, severity: str | None
) -> None:
    rng = np.random.default_rng(0)
    rows = [row if rng.random() < 0.6 else replace(row, **ESCALATED) for row in audited(500, True)]
    rows[500 - marked :] = [replace(row, unlike="options", agreed=False) for row in rows[500 - marked :]]
    state = state_of(rows, store(tmp_path, "a"))
    assert names(state).get("unlike") == severity
    assert (state["risk"]["hits"], state["recent"]["unlike"]) == (0, marked)
    (sentence,) = state["verdict"]["sentences"]
    if marked == 400:
        assert state["verdict"]["status"] == "alarm"
        assert sentence.startswith("The promise says nothing about today's traffic: 400 of the last 500 requests")
        assert "The promise holds" not in dashboard_page(state)
    else:
        assert state["verdict"]["status"] == ("alarm" if severity == "alarm" else "holds")


def test_all_requests_unlike_leave_no_promise_that_holds(tmp_path: Path) -> None:
    for name, what in (("a", "domain"), ("b", "model"), ("c", "options, model")):
        rows = audited(400, True) + [replace(row, unlike=what) for row in audited(600, False)]
        state = state_of(rows, store(tmp_path, name))
        assert state["risk"]["status"] == "holds"
        assert state["verdict"]["status"] == "alarm"
        assert "says nothing about today's traffic" in state["verdict"]["sentences"][0]


# -- clients that leave --------------------------------------------------------------------------------------


def mixed(n: int, at: int = 0) -> list[DecisionRow]:
    """Requests of which two in five are escalated."""
    return [decision(created=NOW - 9_000 + at + i, **(ESCALATED if i % 5 < 2 else {})) for i in range(n)]


@pytest.mark.parametrize(
    "error", ["client: gone", "client: gone; audit: big: rejected", "client: gone; audit: big: timeout"]
)
def test_an_expert_that_hangs_until_clients_leave_is_an_alarm(tmp_path: Path, error: str) -> None:
    for name, left, alarm in (("a", 4, False), ("b", 30, False), ("c", 45, True), ("d", 400, True)):
        rows = mixed(100) + [decision(created=NOW - 900 + i, **GONE | {"error": error}) for i in range(left)]
        state = state_of(rows, store(tmp_path, name))
        assert (names(state).get("expert") == "alarm") is alarm, name
        assert "failures" not in names(state)
        assert (state["recent"]["gave_up"], state["recent"]["errors"]) == (left, 0)
    assert state["verdict"]["status"] == "alarm"


def test_in_mode_observe_and_after_an_answer_nobody_waits_for_an_expert(tmp_path: Path) -> None:
    for name, change in (("a", {"mode": "observe"}), ("b", {"decision": "answer"})):
        rows = mixed(50) + [decision(created=NOW - 900 + i, **GONE | change) for i in range(60)]
        assert "expert" not in names(state_of(rows, store(tmp_path, name))), name


def test_only_what_fails_before_the_answer_is_a_failure(tmp_path: Path) -> None:
    failed = (
        "big: timeout; client: gone",
        "small: 500; big: timeout; client: gone; audit: big: timeout",
        "big: timeout",
    )
    fine = (
        "client: gone",
        "audit: big: rejected",
        "client: gone; audit: big: rejected",
        "audit: a: 500; audit: b: 500",
    )
    for number, error in enumerate(failed + fine):
        rows = mixed(60) + [decision(created=NOW - 900 + i, error=error) for i in range(20)]
        state = state_of(rows, store(tmp_path, str(number)))
        assert ("failures" in names(state)) is (error in failed), error
        assert state["recent"]["errors"] == (20 if error in failed else 0), error


def test_a_flood_of_clients_that_leave_hides_no_failure(tmp_path: Path) -> None:
    rows = mixed(60) + [decision(created=NOW - 3_000 + i, raw=None, error="small: 500") for i in range(60)]
    rows += [decision(created=NOW - 900 + i, **GONE) for i in range(600)]
    state = state_of(rows, store(tmp_path, "a"))
    assert {"failures", "confidence", "clients"} <= set(names(state))


# -- what a policy promises ----------------------------------------------------------------------------------


def records(n: int, seed: int = 0) -> list[Record]:
    """Rows in five domains, four of them small; one row in five has no confidence; surer ones are more often right."""
    rng = np.random.default_rng(seed)
    return [
        Record(
            id=f"{seed} {i}",
            domain="law" if i % 10 < 6 else f"d{i % 10}",
            correct=bool(rng.random() < (0.99 if c > 0.4 else 0.5)),
            confidence={} if rng.random() < 0.2 else {"given": c},
        )
        for i, c in enumerate(rng.random(n).tolist())
    ]


def routed(policy: Policy, rows: list[Record]) -> list[DecisionRow]:
    """``rows`` as requests of a router with this policy, all of them audited."""
    made = []
    for i, row in enumerate(rows):
        raw = confidence_of(row, policy.source)
        word = policy.decide(raw, row.domain)
        more = {"raw": raw, "decision": word, "served": "small" if word == "answer" else "expert"}
        more |= {"policy_id": policy.id, "audit": True, "audit_probability": 1.0, "agreed": row.correct}
        made.append(decision(created=NOW - 9_000 + i, domain=row.domain, **more))
    return made


@pytest.mark.parametrize("goal", [MaxRisk(0.1), MaxRisk(0.1, per="entity"), Budget(0.7), FalseAlarms(0.4)])
@pytest.mark.parametrize("per_domain", [False, True])
def test_the_calibration_rows_as_traffic_are_no_fall_of_the_share_answered(
    tmp_path: Path, goal: Goal, per_domain: bool
) -> None:
    rows = records(1_500)
    policy = calibrate_policy(rows, "given", goal, per_domain=per_domain)
    assert isinstance(policy, Policy)
    state = state_of(routed(policy, rows + records(1_500, 1)), store(tmp_path, "a"), promise_of(policy))
    answered = np.mean([policy.decide(confidence_of(row, "given"), row.domain) == "answer" for row in rows])
    assert state["coverage"]["expected"] == pytest.approx(float(answered))
    assert state["coverage"]["drift"] is None
    assert "coverage" not in names(state)
    assert policy.profile is not None
    assert policy.profile.answered == answered
    policy.save(tmp_path / "p.json")
    assert Policy.load(tmp_path / "p.json") == policy
    # A policy of before does not say it; its file and its name stay as they were.
    before = policy.model_copy(update={"profile": policy.profile.model_copy(update={"answered": None})})
    assert "answered" not in before.to_json()
    assert promise_of(before).coverage == policy.guarantee.coverage


def test_a_promise_per_entity_is_not_watched_by_question(tmp_path: Path) -> None:
    """Large entities are harder: what is promised for entities is false for questions."""
    rng = np.random.default_rng(0)
    risks = [(f"e{e}", 0.35 if e % 10 == 0 else 0.03) for e in range(1_500) for _ in range(20 if e % 10 == 0 else 1)]
    rows = [
        Record(id=str(i), entity=entity, correct=bool(rng.random() > risk), confidence={"given": rng.random()})
        for i, (entity, risk) in enumerate(risks)
    ]
    for per, status, verdict in (("entity", "unknown", "unknown"), ("question", "broken", "broken")):
        goal = MaxRisk(0.1 if per == "entity" else 0.4, per=per)  # type: ignore[arg-type]
        policy = calibrate_policy(rows, "given", goal)
        assert isinstance(policy, Policy)
        traffic = routed(policy, [row.model_copy(update={"correct": i % 2 == 0}) for i, row in enumerate(rows[:900])])
        state = state_of(traffic, store(tmp_path, per), promise_of(policy))
        assert (state["risk"]["status"], state["promise"]["per"]) == (status, per)
        assert state["verdict"]["status"] == verdict, state["alarms"]
        assert ("promise" in names(state)) is (per == "question")
        assert state["risk"]["hits"] > 300
        if per == "entity":
            assert "cannot be seen here: it counts entities" in state["verdict"]["sentences"][0]
            assert "repeats" not in names(state)
            assert "cannot be seen here" in dashboard_page(state)


@pytest.mark.parametrize("goal", ["max_risk", "match_expert", "budget", "false_alarms"])
def test_no_goal_per_entity_is_called_broken_or_held(tmp_path: Path, goal: Any) -> None:
    promise = replace(PROMISE, goal=goal, per="entity", domains=("a", "b"), coverage=1.0)
    state = state_of(audited(300, False, domain="a"), store(tmp_path, goal), promise)
    assert (state["risk"]["status"], state["broken_domains"]) == ("unknown", [])
    assert (state["verdict"]["status"], names(state)) == ("unknown", {})


# -- what training never saw -----------------------------------------------------------------------------------


def test_traffic_that_is_new_to_training_is_an_alarm_in_words(tmp_path: Path) -> None:
    unseen = {"answers": UnseenShare(610, 1000, 0.17), "phrasings": UnseenShare(20, 1000, 0.01)}
    state = state_of(audited(400, True), store(tmp_path, "a"), unseen=unseen)
    (alarm,) = [alarm for alarm in state["alarms"] if alarm["name"] == "unseen"]
    assert alarm["severity"] == "alarm"
    assert alarm["text"] == (
        "61% of the last 1,000 answers are ones that training never saw (training 17%): "
        "confidences fall back on the answer's probability."
    )
    assert state["verdict"]["status"] == "alarm"
    assert state["unseen"]["answers"]["share"] == 0.61
    asked = state_of([], store(tmp_path, "b"), unseen={"phrasings": UnseenShare(900, 1000, 0.01)})
    (alarm,) = asked["alarms"]
    assert alarm["text"].startswith("90% of the last 1,000 answers are to questions asked anew (training 1%): ")


@pytest.mark.parametrize(
    "unseen",
    [
        {},
        {"answers": UnseenShare(0, 0, 0.17)},
        {"answers": UnseenShare(49, 49, 0.17)},  # too few
        {"answers": UnseenShare(350, 1000, 0.17)},  # a fifth of the traffic at most
        {"answers": UnseenShare(1000, 1000, 1.0), "phrasings": UnseenShare(990, 1000, 0.98)},  # as in training
    ],
)
def test_a_long_tail_is_none(tmp_path: Path, unseen: dict[str, UnseenShare]) -> None:
    state = state_of(audited(400, True), store(tmp_path, "a"), unseen=unseen)
    assert "unseen" not in names(state)
    assert dashboard_page(state).count("new to training") == sum(share.n > 0 for share in unseen.values())
