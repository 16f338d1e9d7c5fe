"""Policies with an order of sources: the first that gives a confidence decides, by its own part and promise."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from confide.errors import ConfideError
from confide.policies import Budget, Costs, FalseAlarms, MatchExpert, MaxRisk, Policy, Unmet, calibrate_policy, shift
from confide.policies.calibration_rows import sketch
from confide.policies.kept_answers import cautions
from confide.policies.policy_part import NEVER
from confide.policies.source_choice import calibrate_best_source
from confide.policies.validation import validate_policy
from confide.records import Record
from shapes import allowed
from two_sources import two_sources

ORDER = ["stack", "logprob_sum"]


def in_order(rows: list[Record], goal=None, sources=("stack",), fallbacks=("logprob_sum",), **options) -> Policy:
    goal = goal or MaxRisk(0.1)
    _, made = calibrate_best_source(rows, sources, goal, fallbacks=fallbacks, calibrator="platt", **options)
    assert isinstance(made, Policy), made
    return made


@pytest.fixture(scope="module")
def policy() -> Policy:
    return in_order(two_sources(1500, missing=0.2))


def test_each_part_is_what_its_source_alone_gives_at_its_share_of_the_error_rate(policy):
    rows = two_sources(1500, missing=0.2)
    assert policy.sources == ORDER
    for part in policy.parts:
        alone = calibrate_policy(rows, part.source, MaxRisk(0.1, 0.975), calibrator="platt")
        assert (part.thresholds, part.calibrator, part.scale) == (alone.thresholds, alone.calibrator, alone.scale)
        assert part.guarantee.upper_bound == alone.guarantee.upper_bound
        assert part.guarantee.level == 0.95
        assert part.guarantee.method.endswith("; stack, then logprob_sum, each at level 0.975")
        assert (part.data_sha256, part.rows_seen) == (alone.data_sha256, alone.rows_seen)
        assert part.profile.confidence == alone.profile.confidence
    stack, free = policy.parts
    assert stack.thresholds != free.thresholds
    assert (stack.guarantee.n, free.guarantee.n) == (sum(r.confidence["stack"] is not None for r in rows), 1500)


@pytest.mark.parametrize(
    ("given", "source"),
    [
        ({"stack": 0.2, "logprob_sum": -0.01}, "stack"),  # it decides also where it is less sure
        ({"stack": None, "logprob_sum": -0.01}, "logprob_sum"),
        ({"logprob_sum": -0.01}, "logprob_sum"),
        ({"stack": math.nan, "logprob_sum": -0.01}, "logprob_sum"),
        ({"stack": math.inf, "logprob_sum": -0.01}, "logprob_sum"),
        ({"stack": 0.0, "logprob_sum": -0.01}, "stack"),
        ({"stack": None, "logprob_sum": -math.inf}, "stack"),
        ({"answer_only": 0.99}, "stack"),
        ({}, "stack"),
    ],
)
def test_the_first_source_that_gives_a_number_decides(policy, given, source):
    part = policy.choose(given)
    assert part.source == source
    value = given.get(source)
    known = value is not None and math.isfinite(value)
    own = {"stack": policy, "logprob_sum": policy.fallbacks[0]}[source]
    limit = own.thresholds["*"][0].below
    assert part.decide(value) == ("answer" if known and value >= limit else "escalate")
    assert part.threshold() == limit
    assert (part.probability(value) is None) == (not known)


@pytest.mark.parametrize("given", [{"stack": 87.0}, {"stack": None, "logprob_sum": 0.4}, {"stack": "0.4"}])
def test_a_number_on_another_scale_is_refused_not_passed_over(policy, given):
    with pytest.raises(ConfideError):
        policy.choose(given)


def test_a_cut_answer_has_no_confidence_from_any_source(policy):
    row = Record(id="a", confidence={"stack": 0.99, "logprob_sum": -0.01})
    decided = policy.decided([row, row.model_copy(update={"finish": "length"})])
    assert decided.part.tolist() == [0, 0]
    assert decided.confidence.tolist() == pytest.approx([0.99, math.nan], nan_ok=True)
    assert decided.decision[1] == "escalate"


def test_a_file_keeps_its_text_and_id_without_fallbacks_and_comes_back_with_them(policy, tmp_path):
    alone = policy.model_copy(update={"fallbacks": []})
    assert "fallbacks" not in json.loads(alone.to_json())
    assert alone.id != policy.id
    policy.save(tmp_path / "p.json")
    data = json.loads((tmp_path / "p.json").read_text())
    assert list(data)[:2] == ["schema", "source"]
    assert [*data][-1] == "fallbacks"
    part = data["fallbacks"][0]
    keys = {"source", "scale", "calibrator", "thresholds", "guarantee", "data_sha256", "profile", "rows_seen"}
    assert part.keys() == keys
    assert part["profile"].keys() == {"n", "confidence"}  # the rest is said once
    again = Policy.load(tmp_path / "p.json")
    assert (again, again.id, again.to_json()) == (policy, policy.id, policy.to_json())


def easier(rows: list[Record]) -> list[Record]:
    """``rows`` of which every second wrong answer is right."""
    return [row.model_copy(update={"correct": row.correct or i % 2 > 0}) for i, row in enumerate(rows)]


def changed(policy: Policy, **changes) -> dict:
    data = json.loads(policy.to_json())
    data["fallbacks"][0] |= changes
    return data


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"source": "stack", "scale": None}, "in the order once"),
        ({"guarantee": None}, "may keep no answer"),
        ({"model": "other"}, "Extra inputs"),
        ({"fallbacks": []}, "Extra inputs"),
        ({"thresholds": {"law": []}}, "every other domain"),
        ({"source": "answer_only"}, "its scale cannot be log"),
    ],
)
def test_an_order_that_makes_no_sense_is_refused(policy, tmp_path, changes, words):
    (tmp_path / "p.json").write_text(json.dumps(changed(policy, **changes)))
    with pytest.raises(ConfideError, match=words):
        Policy.load(tmp_path / "p.json")


@pytest.mark.parametrize("other", [{"max_risk": 0.2}, {"level": 0.9}])
def test_parts_promise_the_same(policy, tmp_path, other):
    data = json.loads(policy.to_json())
    data["fallbacks"][0]["guarantee"] |= other
    (tmp_path / "p.json").write_text(json.dumps(data))
    with pytest.raises(ConfideError, match="logprob_sum has another goal than stack"):
        Policy.load(tmp_path / "p.json")


def test_a_fallback_that_does_not_show_the_goal_keeps_nothing():
    made = in_order(two_sources(800, sharp=0.0))
    (part,) = made.fallbacks
    assert part.guarantee is None
    assert part.thresholds["*"][0].below == NEVER
    assert part.decide(0.0) == "escalate"
    assert 0.4 < part.probability(-0.01) < 0.8  # a probability is told all the same
    assert "do not show the goal with logprob_sum, so it keeps nothing" in made.explain()
    assert Policy.model_validate_json(made.to_json()) == made
    assert list(validate_policy(made, two_sources(800, 1, sharp=0.0, prefix="t")).fallbacks) == []


def test_the_goal_is_met_or_not_by_the_first_source_alone():
    rows = two_sources(800, sharp=0.0)
    _, made = calibrate_best_source(rows, ["logprob_sum"], MaxRisk(0.1), fallbacks=["stack"], calibrator="platt")
    assert isinstance(made, Unmet)
    assert made.level == 0.975


def test_the_best_of_several_may_come_first():
    rows = two_sources(1500, sharp=1.0)
    rows = [
        r.model_copy(update={"confidence": r.confidence | {"p_true": math.exp(r.confidence["logprob_sum"])}})
        for r in rows
    ]
    made = in_order(rows, sources=["p_true", "stack"])
    assert made.sources == ORDER
    level = 1 - 0.05 / 3
    assert made.guarantee.method.endswith(f"the best of p_true, stack, then logprob_sum, each at level {level:.6g}")
    assert made.thresholds == calibrate_policy(rows, "stack", MaxRisk(0.1, level), calibrator="platt").thresholds


@pytest.mark.parametrize("fallbacks", [["stack"], ["logprob_sum", "logprob_sum"]])
def test_a_source_named_twice_is_refused(fallbacks):
    with pytest.raises(ConfideError, match=r"once, got (stack|logprob_sum) twice"):
        in_order(two_sources(200), fallbacks=fallbacks)


def test_too_few_rows_of_a_fallback_name_it():
    rows = two_sources(400)
    bare = [r if i < 9 else r.model_copy(update={"confidence": {"stack": r.confidence["stack"]}}) for i, r in
            enumerate(rows)]  # fmt: skip
    with pytest.raises(ConfideError, match=r"the fallback logprob_sum: .*needs at least"):
        in_order(bare)


def test_sources_that_different_models_gave_make_no_policy():
    one = [
        r.model_copy(update={"confidence": {"stack": r.confidence["stack"]}, "identity": "weights=aa"})
        for r in two_sources(400)
    ]
    two = [
        r.model_copy(update={"confidence": {"logprob_sum": r.confidence["logprob_sum"]}, "identity": "weights=bb"})
        for r in two_sources(400, 1, prefix="s")
    ]
    with pytest.raises(ConfideError, match="answers of different models"):
        in_order(one + two)


def test_each_part_knows_the_weights_that_gave_its_confidence():
    rows = two_sources(600, identity="weights=aa", scored_by={"stack": "bb"})
    made = in_order(rows)
    assert (made.identity, made.fallbacks[0].identity) == ("weights=aa, confidence=bb", "weights=aa")
    assert "Made for weights=aa.\n" in made.explain()
    other = two_sources(100, 1, missing=1.0, prefix="t", identity="weights=aa", scored_by={"stack": "cc"})
    assert not any("other weights" in word for word in validate_policy(made, other).warnings)
    other = two_sources(100, 1, prefix="t", identity="weights=aa", scored_by={"stack": "cc"})
    assert any("other weights (weights=aa, confidence=bb)" in word for word in validate_policy(made, other).warnings)


def test_every_goal_has_an_order():
    rows = two_sources(1200)
    expert = [Record(id=row.id, correct=i % 20 > 0, model="big") for i, row in enumerate(rows)]
    costs = Costs.parse("answer=1,escalate=20,wrong=100")
    for goal, more in ((Budget(0.5), {}), (FalseAlarms(0.4), {}), (MatchExpert(0.05), {"expert": expert}), (costs, {})):
        made = in_order(rows, goal, **more)
        assert [part.guarantee.goal for part in made.parts] == [goal.name] * 2
        assert Policy.model_validate_json(made.to_json()) == made
        assert ("all of them hold at once" in made.explain()) == (goal is not costs)
    assert "at level" not in made.explain()  # nothing is promised, so nothing is split


def test_each_part_has_domains_of_its_own():
    rows = [row.model_copy(update={"domain": "law" if i % 2 else "art"}) for i, row in enumerate(two_sources(2000))]
    # With too few rows in a domain a source has no threshold of its own there.
    rows = [
        row if row.domain == "art" or i % 4 == 1 else row.model_copy(
            update={"confidence": row.confidence | {"stack": None}}
        )
        for i, row in enumerate(rows)
    ]  # fmt: skip
    made = in_order(rows, per_domain=True, goal=MaxRisk(0.15))
    assert {*made.thresholds} >= {"art"}
    assert {*made.fallbacks[0].thresholds} == {"art", "law", "*"}
    assert made.choose({"logprob_sum": -0.1}).threshold("law") == made.fallbacks[0].thresholds["law"][0].below
    assert made.choose({"logprob_sum": -0.1}).threshold("chess") == NEVER  # no row speaks for it


def test_the_share_answered_is_that_of_the_order(policy):
    rows = two_sources(1500, missing=0.2)
    stack, free = (part.threshold() for part in policy.parts)
    kept = [
        (r.confidence["stack"] >= stack) if r.confidence["stack"] is not None else (r.confidence["logprob_sum"] >= free)
        for r in rows
    ]
    assert policy.profile.answered == np.mean(kept)


def test_validation_checks_each_promise_by_itself(policy):
    fresh = easier(two_sources(3000, 5, missing=0.2, prefix="t"))
    good = validate_policy(policy, fresh)
    assert (good.verdict, good.source, list(good.fallbacks)) == ("holds", "stack", ["logprob_sum"])
    assert good.fallbacks["logprob_sum"].checks["*"].n == 3000
    limit = policy.threshold()
    assert good.checks["*"].kept == sum((row.confidence["stack"] or 0) >= limit for row in fresh)
    assert "Every promise holds" in good.explain()
    assert "From logprob_sum, every domain: holds." in good.explain()
    assert good.warnings == []


def test_one_broken_promise_breaks_the_whole(policy):
    fresh = easier(two_sources(3000, 5, prefix="t", sharp=0.0))
    found = validate_policy(policy, fresh)
    assert (found.verdict, found.fallbacks["logprob_sum"].verdict) == ("broken", "broken")
    assert found.checks["*"].verdict == "holds"
    assert "One promise does not hold" in found.explain()
    assert any("confidence from logprob_sum" in word for word in found.warnings)
    # The error rate of the lower bounds is shared by all that are checked.
    alone = validate_policy(policy.model_copy(update={"fallbacks": []}), fresh)
    assert found.checks["*"].lower < alone.checks["*"].lower
    assert found.checks["*"].upper == alone.checks["*"].upper


@pytest.mark.parametrize(("gone", "left"), [("logprob_sum", "stack"), ("stack", "logprob_sum")])
def test_a_source_without_fresh_rows_leaves_the_whole_undecided(policy, gone, left):
    fresh = [
        row.model_copy(update={"confidence": {left: row.confidence[left]}})
        for row in easier(two_sources(3000, 5, prefix="t"))
    ]
    found = validate_policy(policy, fresh)
    assert (found.verdict, found.source, found.checks["*"].verdict) == ("undecided", left, "holds")
    assert f"no fresh row has a confidence from {gone}: its promise is not checked" in found.warnings
    with pytest.raises(ConfideError, match="no fresh row has a confidence from stack"):
        validate_policy(policy, [row.model_copy(update={"confidence": {}}) for row in fresh])


def test_rows_of_any_part_are_known_again():
    rows = two_sources(600)
    one = [r.model_copy(update={"confidence": {"stack": r.confidence["stack"]}}) for r in rows[:300]]
    two = [r.model_copy(update={"confidence": {"logprob_sum": r.confidence["logprob_sum"]}}) for r in rows[300:]]
    made = in_order(one + two, MaxRisk(0.2))  # as from a store: a row has the confidence that decided
    some = one[:20] + two[:30] + two_sources(40, 1, prefix="t")
    assert made.used_before(some) == (50, True)
    assert any("50 of the 90 rows were used in calibration" in word for word in cautions(made, some))


def verdicts_on(rows: list[Record], seed: int) -> list[Record]:
    """``rows`` judged by one that is wrong on one answer in twenty; of three labels in ten the truth is known."""
    rng = np.random.default_rng(seed)
    return [
        row.model_copy(
            update={
                "judged": row.correct != (rng.random() < 0.05),
                "judged_by": "big",
                "correct": row.correct if rng.random() < 0.3 else None,
            }
        )
        for row in rows
    ]


def test_each_source_counts_a_judges_verdicts_on_its_own_rows():
    rows = verdicts_on(two_sources(2000, missing=0.2), 1)
    made = in_order(rows, MaxRisk(0.2))
    for part in made.parts:
        alone = calibrate_policy(rows, part.source, MaxRisk(0.2, 0.975), calibrator="platt")
        assert part.guarantee.judge == alone.guarantee.judge
        assert (part.thresholds, part.data_sha256, part.rows_seen) == (
            alone.thresholds, alone.data_sha256, alone.rows_seen,
        )  # fmt: skip
    assert made.guarantee.judge != made.fallbacks[0].guarantee.judge
    assert made.explain().count("graded by big, whose own error was measured on") == 2
    assert Policy.model_validate_json(made.to_json()) == made
    found = validate_policy(made, verdicts_on(two_sources(2000, 5, missing=0.2, prefix="t"), 2))
    assert found.judge.judged != found.fallbacks["logprob_sum"].judge.judged
    assert found.explain().count("graded by big") == 2


@pytest.mark.parametrize("goal", [MaxRisk(0.2), Budget(0.3)])
def test_a_part_that_keeps_nothing_knows_all_its_rows(goal):
    rows = verdicts_on(two_sources(500, sharp=0.0), 1)
    if isinstance(goal, Budget):  # most rows have no free confidence, so that they escalate
        rows = [
            row if at < 100 else row.model_copy(update={"confidence": {"stack": row.confidence["stack"]}})
            for at, row in enumerate(rows)
        ]
    made = in_order(rows, goal)
    (part,) = made.fallbacks
    assert part.guarantee is None
    assert part.rows_seen == sketch(rows, "logprob_sum")
    assert part.data_sha256 != in_order(verdicts_on(two_sources(500, sharp=0.0), 3), MaxRisk(0.2)).fallbacks[
        0].data_sha256  # fmt: skip


def test_parts_count_alike_where_they_say_what_counts(tmp_path):
    rows = [row.model_copy(update={"entity": f"e{at // 2}"}) for at, row in enumerate(two_sources(3000))]
    made = in_order(rows, MaxRisk(0.2, per="entity"))
    assert made.per == "entity"
    data = json.loads(made.to_json())
    del data["guarantee"]["per"]  # as where the first source has one row of each entity
    (tmp_path / "p.json").write_text(json.dumps(data))
    assert Policy.load(tmp_path / "p.json").per == "entity"
    data["guarantee"]["per"] = "question"
    (tmp_path / "p.json").write_text(json.dumps(data))
    with pytest.raises(ConfideError, match="per question and another per entity"):
        Policy.load(tmp_path / "p.json")


def test_rows_without_any_source_are_counted_once(policy):
    rows = two_sources(100, 3, missing=1.0, prefix="t")
    assert not any("have no confidence" in word for word in cautions(policy, rows))
    rows = [row.model_copy(update={"confidence": {}}) for row in rows]
    assert any("have no confidence from stack or logprob_sum" in word for word in cautions(policy, rows))


def test_rows_that_only_the_fallback_decides_look_unlike(policy):
    rows = two_sources(400, 3, missing=1.0, prefix="t")
    (warning,) = shift(policy, rows).warnings
    assert warning.startswith("confidence: ")  # the first source is missing
    rows = [row.model_copy(update={"confidence": row.confidence | {"logprob_sum": -0.01}}) for row in rows]
    assert [w.split(":")[0] for w in shift(policy, rows).warnings] == ["confidence", "confidence from logprob_sum"]
    assert shift(policy, two_sources(400, 3, missing=0.2, prefix="t")).warnings == []


def test_all_promises_hold_at_once_where_each_source_decides_on_everything():
    """Scores that say nothing, of answers with a risk of 0.102: whatever is kept breaks a promise of 0.1."""
    noise = [f"noise{j}" for j in range(6)]
    sets, broken = 100, []
    for seed in range(sets):
        rng = np.random.default_rng(seed)
        right, scores = rng.random(400) >= 0.102, rng.random((400, 6))
        rows = [
            Record(
                id=str(i), correct=good, confidence={"stack": 0.7 + 0.2 * good, **dict(zip(noise, values, strict=True))}
            )
            for i, (good, values) in enumerate(zip(right.tolist(), scores.tolist(), strict=True))
        ]
        made = in_order(rows, fallbacks=noise)
        broken.append([part.guarantee is not None for part in made.fallbacks])
    assert np.mean(broken, axis=0).max() <= allowed(sets)
    assert np.mean(np.any(broken, axis=1)) <= allowed(sets)
