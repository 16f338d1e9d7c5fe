"""Policies on log-probabilities, and those made when the same source gave the probability itself."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from confide.errors import ConfideError
from confide.policies import Policy
from confide.policies.goals import Budget, Costs, FalseAlarms, Goal, MatchExpert, MaxRisk
from confide.policies.policy_fitting import calibrate_policy
from confide.policies.policy_part import NEVER
from confide.policies.profiles import shift
from confide.policies.validation import validate_policy
from confide.records import Record, parse_lines

SAVED = Path(__file__).parent / "saved"
OLD = json.loads((SAVED / "probability-expected.json").read_text())


def rows(sums: list[float] = OLD["sums"], correct: list[bool] = OLD["correct"], start: int = 0) -> list[Record]:
    return [
        Record(id=str(start + i), domain="ab"[i % 2], model="small", confidence={"logprob_sum": s}, correct=right)
        for i, (s, right) in enumerate(zip(sums, correct, strict=True))
    ]


def long_rows(n: int = 400, start: int = 0) -> list[Record]:
    """Answers of a thousand tokens, the right ones likelier: as probabilities nearly all of them are 0."""
    sums = np.random.default_rng(7 + start).uniform(-1500, -500, n)
    return rows(sums.tolist(), (sums > -1000).tolist(), start)


@pytest.mark.parametrize("name", OLD["policies"])
def test_a_policy_of_before_decides_as_it_did(name: str) -> None:
    path, before = SAVED / f"probability-{name}.json", OLD["policies"][name]
    policy = Policy.load(path)
    assert policy.to_json() == path.read_text()
    assert policy.id == before["id"]
    assert [policy.decide(c) for c in OLD["grid"]] == before["decisions"]
    assert [policy.probability(c) for c in OLD["grid"]] == pytest.approx(before["probability"], rel=1e-12)
    limit = policy.threshold()
    assert limit is not None
    assert math.exp(limit) == pytest.approx(policy.thresholds["*"][0].below, rel=1e-12)
    assert "logprob_sum (as a probability)" in policy.explain()
    assert policy.decide(None) == policy.decide(-math.inf) == "escalate"


def test_a_policy_of_before_knows_its_calibration_rows_and_sees_no_shift() -> None:
    policy = Policy.load(SAVED / "probability-platt.json")
    found = validate_policy(policy, rows())
    assert found.warnings == ["400 of the 400 rows were used in calibration: they are not fresh"]
    assert shift(policy, rows()).warnings == []
    moved = shift(policy, [*rows(), *long_rows(start=1000)]).warnings
    assert moved[0].startswith("confidence: ")


def test_limits_of_before_that_no_or_every_confidence_reaches() -> None:
    data = json.loads((SAVED / "probability-platt.json").read_text())
    for below, limit, decision in ((0.0, None, "answer"), (NEVER, NEVER, "escalate")):
        data["thresholds"] = {"*": [{"below": below, "decision": "escalate"}]}
        policy = Policy.model_validate(data)
        assert policy.threshold() == limit
        assert {policy.decide(c) for c in OLD["grid"]} == {decision}


@pytest.mark.parametrize("kind", ["platt", "temperature", "beta", "isotonic"])
def test_ordinary_answers_get_the_policy_that_they_got_before(kind: str) -> None:
    kept = [i for i, s in enumerate(OLD["sums"]) if s > -13]
    sums, correct = ([OLD[name][i] for i in kept] for name in ("sums", "correct"))
    now = calibrate_policy(rows(sums, correct), "logprob_sum", MaxRisk(0.35), calibrator=kind)  # type: ignore[arg-type]
    as_given = [
        Record(id=r.id, confidence=math.exp(s), correct=r.correct)
        for r, s in zip(rows(sums, correct), sums, strict=True)
    ]
    before = calibrate_policy(as_given, "given", MaxRisk(0.35), calibrator=kind)  # type: ignore[arg-type]
    assert isinstance(now, Policy)
    assert isinstance(before, Policy)
    assert math.exp(now.threshold() or 0) == pytest.approx(before.threshold(), rel=1e-12)
    assert [now.decide(s) for s in sums] == [before.decide(math.exp(s)) for s in sums]
    assert [now.probability(s) for s in sums] == pytest.approx(
        [before.probability(math.exp(s)) for s in sums], abs=1e-6
    )
    assert now.guarantee == before.guarantee


@pytest.mark.parametrize("kind", ["auto", "platt", "temperature", "beta", "isotonic"])
def test_long_answers_keep_their_ranks(kind: str) -> None:
    policy = calibrate_policy(long_rows(), "logprob_sum", MaxRisk(0.1), calibrator=kind)  # type: ignore[arg-type]
    assert isinstance(policy, Policy)
    assert policy.scale == "log"
    assert policy.guarantee.coverage > 0.45
    assert -1100 < (policy.threshold() or 0) < -990
    assert policy.decide(-700.0) == "answer"
    assert policy.decide(-1400.0) == "escalate"
    assert (policy.probability(-700.0) or 0) > (policy.probability(-1400.0) or 1)
    again = Policy.model_validate_json(policy.to_json())
    assert again == policy
    assert again.id == policy.id
    assert json.loads(policy.to_json())["scale"] == "log"  # older versions refuse keys that they do not know
    assert "in nats" in policy.explain()
    assert validate_policy(policy, long_rows(start=1000)).verdict == "holds"


@pytest.mark.parametrize(
    "goal", [Budget(0.5), MatchExpert(0.3), FalseAlarms(0.1), Costs(answer=1, escalate=20, wrong=100, abstain=50)]
)
@pytest.mark.parametrize("per_domain", [False, True])
def test_every_goal_works_in_log_space(goal: Goal, per_domain: bool) -> None:
    sums = np.random.default_rng(1).uniform(-1500, -500, 2000)
    answers = rows(sums.tolist(), (sums > -1000).tolist())
    expert = [Record(id=row.id, correct=i % 20 > 0, model="big") for i, row in enumerate(answers)]
    whose = None if isinstance(goal, FalseAlarms) else expert
    policy = calibrate_policy(answers, "logprob_sum", goal, expert=whose, per_domain=per_domain)
    assert isinstance(policy, Policy)
    assert policy.decide(-501.0, "a") == "answer"
    assert policy.decide(-1499.0, "a") == "escalate"
    assert -1400 < (policy.threshold("a") or 0) < -900


def test_only_log_probabilities_have_that_scale(tmp_path: Path) -> None:
    data = json.loads((SAVED / "platt.json").read_text()) | {"scale": "log"}
    path = tmp_path / "p.json"
    path.write_text(json.dumps(data))
    with pytest.raises(ConfideError, match="given gives no log-probabilities"):
        Policy.load(path)


def test_old_and_new_rows_may_be_mixed_in_calibration() -> None:
    old = [
        f'{{"id": "{r.id}", "correct": {str(r.correct).lower()}, "confidence": {{"logprob_sum": {math.exp(s)!r}}}}}'
        for r, s in zip(rows(), OLD["sums"], strict=True)
        if s > -13
    ]
    new = [r.line() for r in rows(start=1000) if (r.confidence["logprob_sum"] or 0) > -13]
    read = parse_lines("\n".join(old + new), "rows")
    values = np.array([r.confidence["logprob_sum"] for r in read], dtype=float)
    assert values[: len(old)] == pytest.approx(values[len(old) :], abs=1e-9)
