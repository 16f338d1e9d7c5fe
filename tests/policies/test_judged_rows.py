"""Policies on a judge's verdicts: kept although the judge errs, and broken where it is taken at its word."""

from __future__ import annotations

import numpy as np
import pytest

from confide.errors import ConfideError
from confide.policies import (
    Budget,
    Costs,
    FalseAlarms,
    Guarantee,
    MatchExpert,
    MaxRisk,
    Policy,
    Unmet,
    calibrate_policy,
)
from confide.policies.thresholds import fallback_testing
from confide.policies.validation import validate_policy
from confide.records import Record
from judged_records import Rate, judged_records

SETS = 400
LIMIT = 0.3


def flat(share: float) -> Rate:
    return lambda c: np.full(len(c), share)


def falling(c):
    return 0.6 * (1 - c)


@pytest.fixture
def no_hints(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sets that miss the goal are not searched for another limit, which takes most of the time."""
    monkeypatch.setattr(fallback_testing, "LIMITS", 0)


@pytest.mark.parametrize(
    ("missing", "alarming"),
    [
        (lambda c: 0.2 + 0.6 * c, flat(0.0)),  # misses more of the errors of surer answers: 0.16 of all rows
        (flat(0.0), lambda c: 0.3 * (1 - c)),  # raises more false alarms on less sure ones: 0.10
    ],
)
@pytest.mark.usefixtures("no_hints")
def test_the_promise_is_kept_whatever_the_judge_misses(missing: Rate, alarming: Rate) -> None:
    rng = np.random.default_rng(5)
    risk = flat(LIMIT + 0.01)  # so that every policy that answers anything breaks its promise
    sets = [judged_records(rng, 400, 120, risk, missing, alarming) for _ in range(SETS)]
    broken = sum(isinstance(calibrate_policy(rows, "given", MaxRisk(LIMIT)), Policy) for rows in sets)
    assert broken <= 0.05 * SETS + 2 * np.sqrt(0.05 * 0.95 * SETS)


@pytest.mark.usefixtures("no_hints")
def test_a_judge_that_is_taken_at_its_word_breaks_the_promise() -> None:
    rng = np.random.default_rng(5)
    sets = [
        judged_records(rng, 400, 120, flat(LIMIT + 0.01), lambda c: 0.2 + 0.6 * c, flat(0.0)) for _ in range(SETS // 10)
    ]
    blind = [[row.model_copy(update={"correct": row.judged}) for row in rows] for rows in sets]
    broken = sum(isinstance(calibrate_policy(rows, "given", MaxRisk(LIMIT)), Policy) for rows in blind)
    assert broken > 0.9 * len(sets)


def rows(seed: int = 0, n: int = 3000, labels: int = 600, risk: Rate = falling, prefix: str = "r") -> list[Record]:
    """Rows of a judge that misses one error in ten and calls one right answer in fifty wrong."""
    return judged_records(np.random.default_rng(seed), n, labels, risk, flat(0.1), flat(0.02), prefix)


def test_a_policy_says_who_graded_and_how_often_that_was_wrong() -> None:
    some = rows()
    policy = calibrate_policy(some, "given", MaxRisk(0.2))
    assert isinstance(policy, Policy)
    g = policy.guarantee
    assert isinstance(g, Guarantee)
    kept = [r for r in some if policy.decide(r.confidence["given"]) == "answer"]
    labelled = [r for r in kept if r.correct is not None]
    assert g.judge is not None
    assert (g.n, g.judge.by, g.judge.judged, g.judge.labelled) == (3000, "big", len(kept), len(labelled))
    assert g.judge.missed == sum(bool(r.judged) and not r.correct for r in labelled)
    assert g.judge.false_alarms == sum(not r.judged and bool(r.correct) for r in labelled)
    assert g.upper_bound <= 0.2
    said = np.mean([not r.judged for r in kept]) + (g.judge.missed - g.judge.false_alarms) / len(labelled)
    assert g.observed_risk == pytest.approx(said)
    told = f"graded by big, whose own error was measured on {len(labelled)} labelled ones: missed {g.judge.missed}, "
    assert told + f"false alarms {g.judge.false_alarms}." in policy.explain()
    assert "drawn at random" in policy.explain()
    assert Policy.model_validate_json(policy.to_json()) == policy
    assert policy.id != calibrate_policy(rows(1), "given", MaxRisk(0.2)).id  # type: ignore[union-attr]


def test_rows_that_are_all_labelled_need_no_judge() -> None:
    some = rows(labels=3000)
    plain = [row.model_copy(update={"judged": None, "judged_by": ""}) for row in some]
    made, without = (calibrate_policy(of, "given", MaxRisk(0.2)) for of in (some, plain))
    assert isinstance(made, Policy)
    assert made.model_copy(update={"rows_seen": without.rows_seen}) == without  # type: ignore[union-attr]
    assert "judge" not in made.to_json()


def test_the_verdicts_cost_little_of_what_the_labels_alone_keep() -> None:
    found = []
    for seed in range(12):
        some = rows(seed)
        both, alone = (
            calibrate_policy(of, "given", MaxRisk(0.2)) for of in (some, [r for r in some if r.correct is not None])
        )
        assert isinstance(both, Policy)
        assert isinstance(alone, Policy)
        found.append(both.guarantee.coverage - alone.guarantee.coverage)
    assert np.mean(found) > -0.03


def test_what_a_grader_decided_counts_with_what_a_judge_did() -> None:
    graded = [row.model_copy(update={"judged": None, "judged_by": ""}) for row in rows(3, 800, 800, prefix="g")]
    policy = calibrate_policy([*rows(), *graded], "given", MaxRisk(0.25))
    assert isinstance(policy, Policy)
    g = policy.guarantee
    assert isinstance(g, Guarantee)
    assert g.judge is not None
    assert g.n == 3800
    assert 0 < g.judge.judged < g.coverage * g.n


def test_domains_have_a_judge_each() -> None:
    some = [
        row.model_copy(update={"domain": name})
        for name, seed in (("law", 0), ("sport", 1))
        for row in rows(seed, prefix=name)
    ]
    policy = calibrate_policy(some, "given", MaxRisk(0.25), per_domain=True)
    assert isinstance(policy, Policy)
    assert {"law", "sport"} <= set(policy.thresholds)
    few = [r for r in some if r.domain == "law" or r.correct is None or r.id.endswith("7")]
    policy = calibrate_policy(few, "given", MaxRisk(0.25), per_domain=True)  # too few labels on sport
    assert isinstance(policy, Policy)
    assert set(policy.thresholds) == {"law", "*"}


def test_simultaneous_bounds_count_the_judge_too() -> None:
    policy = calibrate_policy(rows(), "given", MaxRisk(0.25, simultaneous=True))
    assert isinstance(policy, Policy)
    assert policy.guarantee.method.startswith("simultaneous boundary, a judge's verdicts")  # type: ignore[union-attr]


def test_a_goal_that_is_missed_says_how_many_labels_there_are() -> None:
    unmet = calibrate_policy(rows(n=600, labels=150), "given", MaxRisk(0.03, level=0.8))
    assert isinstance(unmet, Unmet)
    assert unmet.labels == 150
    assert unmet.rows_needed is None
    assert unmet.attainable is not None
    assert "more labels than these 150 (`confide label`)" in unmet.explain("given")
    met = calibrate_policy(rows(n=600, labels=150), "given", MaxRisk(unmet.attainable.limit, level=0.8))
    assert isinstance(met, Policy)


@pytest.mark.parametrize(
    ("goal", "said"),
    [
        (MatchExpert(0.1), "2400 of the 3000 rows have a judge's verdict and no label, and only --max-risk counts"),
        (Costs(answer=1, escalate=2, wrong=5), "only --max-risk counts the judge's own error"),
    ],
)
def test_other_goals_do_not_take_verdicts_for_labels(goal: MatchExpert | Costs, said: str) -> None:
    some = rows()
    expert = [Record(id=row.id, correct=True) for row in some]
    with pytest.raises(ConfideError, match=said):
        calibrate_policy(some, "given", goal, expert=expert)


def test_false_alarms_count_no_verdict() -> None:
    with pytest.raises(ConfideError, match="only --max-risk counts the judge's own error"):
        calibrate_policy(rows(), "given", FalseAlarms(0.1))


def test_a_budget_reads_no_label_and_needs_no_judge() -> None:
    some = rows()
    bare = [row.model_copy(update={"judged": None, "judged_by": ""}) for row in some]
    made, without = (calibrate_policy(of, "given", Budget(0.3)) for of in (some, bare))
    assert isinstance(made, Policy)
    assert made.model_copy(update={"rows_seen": without.rows_seen}) == without  # type: ignore[union-attr]


def test_verdicts_without_labels_are_refused_in_a_sentence() -> None:
    with pytest.raises(ConfideError, match=r"needs at least \d+ labels .* got 0 on 300 \(`confide label`\)"):
        calibrate_policy(rows(n=300, labels=0), "given", MaxRisk(0.1))


def test_rows_that_depend_on_each_other_count_per_entity() -> None:
    some = [row.model_copy(update={"entity": f"e{place // 2}"}) for place, row in enumerate(rows(n=6000, labels=1500))]
    with pytest.raises(ConfideError, match="a judge's error is measured on independent rows: take --per entity"):
        calibrate_policy(some, "given", MaxRisk(0.25))
    policy = calibrate_policy(some, "given", MaxRisk(0.25, per="entity"))
    assert isinstance(policy, Policy)
    assert policy.guarantee.n == 3000


def test_validation_counts_the_judge_error_on_fresh_rows() -> None:
    policy = calibrate_policy(rows(), "given", MaxRisk(0.25))
    assert isinstance(policy, Policy)
    holds = validate_policy(policy, rows(8, 20_000, 3000, prefix="f"))
    assert holds.verdict == "holds"
    assert holds.judge is not None
    assert f"graded by big, whose own error was measured on {holds.judge.labelled:,} labelled ones" in holds.explain()
    worse = validate_policy(policy, rows(9, 20_000, 3000, lambda c: falling(c) + 0.25, "w"))
    assert worse.verdict == "broken"
    few = validate_policy(policy, rows(10, 300, 30, prefix="s"))
    assert few.verdict == "undecided"
    assert few.checks["*"].power is None
    assert few.checks["*"].rows_needed is not None
    assert few.checks["*"].rows_needed > 300
    nobody = validate_policy(policy, rows(11, 3000, 0, prefix="n"))
    assert (nobody.verdict, nobody.checks["*"].upper) == ("undecided", 1.0)


def test_validation_of_a_judge_that_sees_no_error_is_not_taken_in() -> None:
    policy = calibrate_policy(rows(), "given", MaxRisk(0.25))
    assert isinstance(policy, Policy)
    blind = judged_records(
        np.random.default_rng(4), 5000, 1000, lambda c: falling(c) + 0.25, flat(1.0), flat(0.0), prefix="b"
    )
    assert validate_policy(policy, blind).verdict == "broken"


def test_verdicts_without_a_label_are_no_observation() -> None:
    policy = calibrate_policy(rows(), "given", MaxRisk(0.25))
    assert isinstance(policy, Policy)
    seen = validate_policy(policy, rows(11, 3000, 0, prefix="n"))
    check = seen.checks["*"]
    assert (seen.verdict, check.observed, check.rows_needed) == ("undecided", None, None)
    assert check.kept > 0
    said = seen.explain()
    assert "and none has a label." in said
    assert "cannot be told where no kept one has a label" in said
    assert "whose own error is not known: none of them has a label (`confide label`)" in said
    assert "% wrong" not in said
    assert "so close to the limit" not in said


def relabelled(some: list[Record], place: int, **fields: bool | None) -> list[Record]:
    return [row.model_copy(update=fields) if at == place else row for at, row in enumerate(some)]


def test_the_rows_hash_tells_labels_from_verdicts() -> None:
    some = rows(n=1500, labels=400)
    hashes = {calibrate_policy(some, "given", MaxRisk(0.25)).data_sha256}  # type: ignore[union-attr]
    bare = next(at for at, row in enumerate(some) if row.correct is None)
    known = next(at for at, row in enumerate(some) if row.correct is not None)
    changed = [
        relabelled(some, bare, correct=some[bare].judged),  # as the verdict, but now it is a label
        relabelled(some, bare, judged=not some[bare].judged),
        relabelled(some, known, judged=not some[known].judged),
        relabelled(some, known, correct=not some[known].correct),
    ]
    for other in changed:
        hashes.add(calibrate_policy(other, "given", MaxRisk(0.25)).data_sha256)  # type: ignore[union-attr]
    assert len(hashes) == 1 + len(changed)


def test_a_row_is_known_again_once_it_has_a_label() -> None:
    some = rows(n=500, labels=300)
    policy = calibrate_policy(some, "given", MaxRisk(0.3))
    assert isinstance(policy, Policy)
    assert policy.used_before(some) == (500, True)
    later = [row.model_copy(update={"correct": True}) for row in some]
    assert policy.used_before(later) == (500, True)
