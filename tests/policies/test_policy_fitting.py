from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from confide.errors import ConfideError
from confide.policies import (
    Budget,
    BudgetGuarantee,
    CostEstimate,
    Costs,
    FalseAlarms,
    Guarantee,
    MatchExpert,
    MatchGuarantee,
    MaxRisk,
    Policy,
    Unmet,
    calibrate_policy,
)
from confide.policies.policy_fitting import rows_for_a_domain
from confide.policies.policy_part import NEVER
from confide.records import Record
from given_rows import kept_of, made, records


def expert_of(rows: list[Record], accuracy: float, seed: int = 9) -> list[Record]:
    right = np.random.default_rng(seed).random(len(rows)) < accuracy
    return [Record(id=row.id, correct=bool(y), model="big") for row, y in zip(rows, right, strict=True)]


def test_max_risk():
    rows = records(1500)
    policy = made(rows, "given", MaxRisk(0.2))
    g = policy.guarantee
    assert isinstance(g, Guarantee)
    kept = kept_of(policy, rows)
    assert g.coverage == pytest.approx(len(kept) / 1500)
    assert g.observed_risk == pytest.approx(sum(not row.correct for row in kept) / len(kept))
    assert g.observed_risk < g.upper_bound <= 0.2
    assert g.domains == {}
    assert policy.profile is not None
    assert policy.profile.n == 1500


def test_max_risk_looks_at_rows_with_a_label_and_a_confidence_alone():
    extra = [Record(id="x", confidence={"given": None}, correct=False), Record(id="y", confidence={"given": 0.9})]
    assert made([*records(800), *extra], "given", MaxRisk(0.3)).guarantee.n == 800


def test_budget_uses_unlabelled_rows_and_counts_missing_confidences():
    rows = records(900)
    rows += [Record(id=f"u{i}", confidence={"given": 0.5 + i / 200}) for i in range(100)]  # no label
    rows += [Record(id=f"m{i}", correct=True) for i in range(50)]  # no confidence
    policy = made(rows, "given", Budget(0.3))
    g = policy.guarantee
    assert isinstance(g, BudgetGuarantee)
    assert g.n == 1050
    assert 0.25 < g.observed_share < g.upper_bound <= 0.3
    assert g.observed_share == pytest.approx(1 - len(kept_of(policy, rows)) / 1050)
    assert g.expert is None
    # Escalated rows count as right: the expert is taken to be.
    labelled = [row for row in rows if row.correct is not None]
    kept = kept_of(policy, labelled)
    assert g.accuracy == pytest.approx((len(labelled) - len(kept) + sum(bool(r.correct) for r in kept)) / len(labelled))


def test_budget_with_a_poor_expert_escalates_less():
    rows = records(1500)
    full = made(rows, "given", Budget(0.5)).guarantee
    poor = made(rows, "given", Budget(0.5), expert=expert_of(rows, 0.6)).guarantee
    assert isinstance(full, BudgetGuarantee)
    assert isinstance(poor, BudgetGuarantee)
    assert poor.observed_share < full.observed_share - 0.1  # the small model is right 60 % of the time from 0.6 up
    assert poor.expert == "big"


def test_budget_that_missing_confidences_exceed_is_unmet():
    rows = records(300) + [Record(id=f"m{i}", correct=True) for i in range(200)]
    unmet = calibrate_policy(rows, "given", Budget(0.3))
    assert isinstance(unmet, Unmet)
    assert unmet.attainable is not None
    assert unmet.attainable.observed == pytest.approx(0.4)


def test_cost_with_an_expert_taken_to_be_right():
    rows = records(3000)
    policy = made(rows, "given", Costs(1, 20, 100))
    # 1 + 100 (1 − p) = 20 at p = 0.81, and confidences are calibrated.
    assert policy.threshold() == pytest.approx(0.81, abs=0.02)
    g = policy.guarantee
    assert isinstance(g, CostEstimate)
    assert g.expert is None
    assert g.always == {"answer": pytest.approx(1 + 25, abs=3), "escalate": 20}
    assert g.observed_cost < min(g.always.values())


def test_cost_counts_the_errors_of_an_expert_and_can_abstain():
    rows = records(3000)
    poor = made(rows, "given", Costs(1, 20, 100, 60), expert=expert_of(rows, 0.7))
    # Escalating costs 50, answering 1 + 100 (1 − p): from 0.51 up the small model answers.
    assert poor.threshold() == pytest.approx(0.51, abs=0.03)
    cheap = made(rows, "given", Costs(1, 20, 100, 5))
    assert {rule.decision for rule in cheap.thresholds["*"]} == {"abstain"}
    assert cheap.threshold() == pytest.approx(0.96, abs=0.02)
    never = made(rows, "given", Costs(200, 20, 100))
    assert never.threshold() == NEVER


def test_match_expert():
    rows = records(3000)
    expert = expert_of(rows, 0.9)
    policy = made(rows, "given", MatchExpert(0.02), expert=expert)
    g = policy.guarantee
    assert isinstance(g, MatchGuarantee)
    right = {row.id: row.correct for row in expert}
    loss = sum(bool(right[row.id]) - bool(row.correct) for row in kept_of(policy, rows)) / 3000
    assert g.observed_loss == pytest.approx(loss)
    assert loss < g.upper_bound <= 0.02 + 1e-4
    assert 0.1 < g.coverage < 0.6
    assert g.expert == "big"


def test_match_expert_counts_rows_that_both_have():
    rows = records(2000)
    policy = made(rows, "given", MatchExpert(0.05), expert=expert_of(rows[:1500], 0.9))
    assert policy.guarantee.n == 1500


def test_domains_get_their_own_thresholds_and_share_the_error():
    rows = [
        *records(1500, 1, "a", domain="easy"),
        *records(1500, 2, "b", harder=0.15, domain="hard"),
        *records(220, 3, "c", domain="rare"),
        *records(220, 4, "d", domain="odd"),
    ]
    goal = MaxRisk(0.3)
    assert rows_for_a_domain(goal) == 200
    assert rows_for_a_domain(MaxRisk(0.1)) == 290
    policy = made(rows, "given", goal, per_domain=True)
    # Domains that no calibration row speaks for are not answered.
    assert set(policy.thresholds) == {"easy", "hard", "rare", "odd", "*"}
    assert policy.threshold("unheard of") == NEVER
    easy, hard = policy.threshold("easy"), policy.threshold("hard")
    assert easy is not None
    assert hard is not None
    assert hard > easy + 0.05
    # Each bound is at 1 − 0.05 / 4: looser rows would pass alone.
    assert all(seen.upper_bound is None or seen.upper_bound <= 0.3 for seen in policy.guarantee.domains.values())
    assert policy.decide(0.99, "unheard of") == "escalate"
    alone = made(rows[:1500], "given", goal)
    assert easy >= alone.threshold()


def test_small_domains_share_a_threshold():
    rows = [*records(1500, 1, "a", domain="big")]
    for i in range(10):
        rows += records(60, 10 + i, f"s{i}-", domain=f"small{i}")
    policy = made(rows, "given", MaxRisk(0.3), per_domain=True)
    assert set(policy.thresholds) == {"big", "*"}
    assert policy.guarantee.domains["*"].n == 600
    assert policy.threshold("small3") == policy.threshold("*") != policy.threshold("big")
    lone = made(records(90, domain="small"), "given", MaxRisk(0.45), per_domain=True)
    assert set(lone.thresholds) == {"*"}
    assert lone.guarantee.domains == {}


def test_the_pooling_rule_does_not_look_at_labels():
    rows = [*records(300, 1, "a", domain="x"), *records(300, 2, "b", domain="y")]
    flipped = [row.model_copy(update={"correct": not row.correct}) for row in rows]
    goal = Costs(1, 20, 100)
    assert set(made(rows, "given", goal, per_domain=True).thresholds) == {"x", "y", "*"}
    assert set(made(flipped, "given", goal, per_domain=True).thresholds) == {"x", "y", "*"}


def test_a_domain_that_cannot_meet_the_goal_keeps_nothing():
    rows = [*records(800, 1, "a", domain="good"), *records(800, 2, "b", harder=0.5, domain="bad")]
    policy = made(rows, "given", MaxRisk(0.25), per_domain=True)
    assert policy.threshold("bad") == NEVER
    seen = policy.guarantee.domains
    assert (seen["good"].met, seen["bad"].met, seen["bad"].observed) == (True, False, None)
    assert "bad: 800 rows do not show the goal" in policy.explain()


def test_a_budget_holds_in_small_domains_too():
    rows = [*records(900, 1, "a", domain="large"), *records(100, 2, "b", domain="small")]
    policy = made(rows, "given", Budget(0.3), per_domain=True)
    assert set(policy.thresholds) == {"large", "*"}
    small = [row for row in rows if row.domain == "small"]
    assert len(kept_of(policy, small)) >= 0.7 * len(small)
    assert policy.guarantee.n == 1000
    # A domain that escalates everything breaks the budget.
    missing = [Record(id=f"m{i}", domain="mute", correct=True) for i in range(250)]
    assert isinstance(calibrate_policy([*rows, *missing], "given", Budget(0.3), per_domain=True), Unmet)


def test_clusters_count_once():
    rows = [row.model_copy(update={"entity": f"e{i // 3}"}) for i, row in enumerate(records(1500))]
    assert made(rows, "given", MaxRisk(0.3, per="entity")).guarantee.n == 500
    assert made(rows, "given", Budget(0.3, per="entity")).guarantee.n == 500
    assert made(rows, "given", MatchExpert(0.1, per="entity"), expert=expert_of(rows, 0.9)).guarantee.n == 500


GOALS = [MaxRisk(0.3), MaxRisk(0.3, simultaneous=True), Budget(0.3), MatchExpert(0.15), FalseAlarms(0.1)]


@pytest.mark.parametrize("goal", GOALS, ids=lambda goal: f"{goal.name} {getattr(goal, 'simultaneous', '')}")
def test_per_question_all_rows_of_an_entity_count(goal):
    """One entity in ten has 20 rows and is right half as often, at the same confidence; the others have one."""
    rng = np.random.default_rng(3)
    rows = []
    for entity in range(3000):
        size = 20 if entity % 10 == 0 else 1
        for c in rng.uniform(0.5, 1, size).tolist():
            right = isinstance(goal, FalseAlarms) or rng.random() < (c - 0.2 if size == 20 else c)
            rows.append(Record(id=f"r{len(rows)}", confidence={"given": c}, correct=right, entity=f"e{entity}"))
    expert = expert_of(rows, 0.9) if isinstance(goal, MatchExpert) else None
    question = made(rows, "given", goal, expert=expert)
    entity = made(rows, "given", replace(goal, per="entity"), expert=expert)
    g, e = question.guarantee, entity.guarantee
    # One per cent of the entities, 30 of the 300 large ones, set the size up to which the promise is for.
    assert (g.per, g.most_rows) == ("question", 20)
    assert g.entities is not None
    assert 0.85 * 3000 < g.entities <= 2970
    assert g.n == pytest.approx(len(rows) / 3000 * g.entities, rel=0.02)
    assert (e.per, e.n, e.entities, e.most_rows) == ("entity", 3000, None, None)
    assert "betting on entities" in g.method
    assert "Counted per question" in question.explain()
    assert "more than 20 questions are not covered" in question.explain()
    assert "Counted per entity" in entity.explain()
    assert g.observed <= g.upper_bound <= g.limit + 1e-4
    again = Policy.model_validate_json(question.to_json())
    assert (again.guarantee, again.id) == (g, question.id)
    if isinstance(goal, MaxRisk):
        # Twelve answers in thirteen of those kept per entity are about large entities, and wrong too often.
        kept = kept_of(entity, rows)
        assert sum(not row.correct for row in kept) / len(kept) > 0.3
        kept = kept_of(question, rows)
        assert sum(not row.correct for row in kept) / len(kept) < 0.3


@pytest.mark.parametrize("goal", GOALS, ids=lambda goal: f"{goal.name} {getattr(goal, 'simultaneous', '')}")
def test_where_no_rows_share_an_entity_both_promises_are_one_and_the_file_says_neither(goal):
    rows = [row.model_copy(update={"entity": f"e{i}"}) for i, row in enumerate(records(1200))]
    expert = expert_of(rows, 0.9) if isinstance(goal, MatchExpert) else None
    question = made(rows, "given", goal, expert=expert)
    assert question.to_json() == made(rows, "given", replace(goal, per="entity"), expert=expert).to_json()
    assert not {"per", "entities", "most_rows"} & set(json.loads(question.to_json())["guarantee"])
    assert "betting" not in question.guarantee.method


def test_domains_state_their_own_largest_entity():
    rows = [row.model_copy(update={"entity": f"a{i // 2}"}) for i, row in enumerate(records(2000, 1, "a", domain="x"))]
    rows += [row.model_copy(update={"entity": f"b{i // 5}"}) for i, row in enumerate(records(2000, 2, "b", domain="y"))]
    rows += records(600, 3, "c", domain="z")
    policy = made(rows, "given", MaxRisk(0.35), per_domain=True)
    assert {name: seen.most_rows for name, seen in policy.guarantee.domains.items()} == {"x": 2, "y": 5, "z": None}
    assert (policy.guarantee.most_rows, policy.guarantee.per) == (5, "question")


def test_unmet_per_question_says_how_many_rows_it_would_take():
    rows = [row.model_copy(update={"entity": f"e{i // 4}"}) for i, row in enumerate(records(2000, harder=0.04))]
    unmet = calibrate_policy(rows, "given", MaxRisk(0.1))
    assert isinstance(unmet, Unmet)
    assert unmet.rows_needed is not None
    assert 2000 < unmet.rows_needed < 100_000


def test_the_simultaneous_boundary_is_named_with_what_it_assumes():
    policy = made(records(2000), "given", MaxRisk(0.2, simultaneous=True))
    assert policy.guarantee.method == "simultaneous boundary, binomial tail"
    assert "Assumed of the confidence: nothing." in policy.explain()
    walked = made(records(2000), "given", MaxRisk(0.2))
    assert "Assumed of the confidence: surer answers are not wrong more often" in walked.explain()
    assert policy.guarantee.coverage <= walked.guarantee.coverage


def test_an_answer_just_above_the_next_score_is_kept():
    rows = records(1500)
    policy = made(rows, "given", MaxRisk(0.2))
    left = max(row.confidence["given"] for row in rows if policy.decide(row.confidence["given"]) != "answer")
    assert policy.decide(left) == "escalate"
    assert policy.decide(float(np.nextafter(left, 1))) == "answer"
    assert Policy.model_validate_json(policy.to_json()).decide(float(np.nextafter(left, 1))) == "answer"


def test_unmet_says_what_could_be_met_and_with_how_many_rows():
    unmet = calibrate_policy(records(300, harder=0.04), "given", MaxRisk(0.1))
    assert isinstance(unmet, Unmet)
    assert unmet.attainable is not None
    assert unmet.attainable.limit > 0.1
    # The surest 24 % keep the goal, by a hair: about this many rows show a part of them.
    assert unmet.rows_needed is not None
    assert 500 < unmet.rows_needed < 5000
    assert isinstance(calibrate_policy(records(8000, 5, harder=0.04), "given", MaxRisk(0.1)), Policy)
    hopeless = calibrate_policy(records(400, harder=0.4), "given", MaxRisk(0.1))
    assert isinstance(hopeless, Unmet)
    assert hopeless.rows_needed is None


def test_unmet_match_counts_rows_too():
    rows = records(400, harder=0.2)
    unmet = calibrate_policy(rows, "given", MatchExpert(0.008), expert=expert_of(rows, 1.0))
    assert isinstance(unmet, Unmet)
    assert unmet.goal == "match_expert"
    assert unmet.attainable is not None
    assert 0.008 < unmet.attainable.limit < 0.2


def test_the_calibrator_that_is_asked_for():
    rows = records(600)
    for kind in ("platt", "isotonic", "temperature", "beta"):
        assert made(rows, "given", MaxRisk(0.3), calibrator=kind).calibrator.kind == kind


@pytest.mark.parametrize(
    ("goal", "limit", "changes", "says"),
    [
        (MaxRisk, 0.1, {"expert": []}, "leave --expert out"),
        (MatchExpert, 0.1, {}, "to match an expert its own graded answers are needed"),
        (MatchExpert, 0.1, {"expert": [Record(id="other", correct=True)]}, "no labelled row with an id"),
        (Budget, 1.3, {}, "budget must lie strictly between 0 and 1, got 1.3"),
        (MatchExpert, 0.0, {"expert": []}, "match-expert must lie"),
        (MaxRisk, 0.01, {}, "at least 299 rows, got 200"),
        (FalseAlarms, 0.1, {"expert": []}, "false alarms do not depend on an expert: leave --expert out"),
        (FalseAlarms, 5, {}, "false-alarms must lie strictly between 0 and 1, got 5"),
        (FalseAlarms, 0.01, {}, r"at least 299 independent fine rows \(correct is true\), got 149"),
    ],
)
def test_bad_goals_are_named(goal, limit, changes, says):
    with pytest.raises(ConfideError, match=says):
        calibrate_policy(records(200), "given", goal(limit), **changes)
