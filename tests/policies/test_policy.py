from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest

from confide.errors import ConfideError
from confide.policies import Policy
from confide.policies.policy_part import NEVER


def policy_data() -> dict:
    return {
        "schema": 1,
        "source": "stack",
        "calibrator": {"kind": "platt", "parameters": {"transform": "logit", "slope": 1.0, "intercept": 0.0}},
        "thresholds": {
            "*": [{"below": 0.6, "decision": "escalate"}],
            "law": [{"below": 0.3, "decision": "abstain"}, {"below": 0.9, "decision": "escalate"}],
        },
        "guarantee": {
            "max_risk": 0.1, "level": 0.95, "method": "m", "n": 1000, "observed_risk": 0.08,
            "upper_bound": 0.099, "coverage": 0.55,
        },
        "data_sha256": "0" * 64,
        "model": "small",
    }  # fmt: skip


@pytest.fixture
def policy() -> Policy:
    return Policy.model_validate(policy_data())


@pytest.mark.parametrize(
    ("confidence", "domain", "decision"),
    [
        (0.6, None, "answer"),
        (0.5999, None, "escalate"),
        (1.0, "unknown", "answer"),
        (0.7, "law", "escalate"),
        (0.2, "law", "abstain"),
        (0.9, "law", "answer"),
        (0.0, "", "escalate"),
        (None, None, "escalate"),
        (None, "law", "escalate"),
        (math.nan, None, "escalate"),
        (math.inf, None, "escalate"),
    ],
)
def test_decide(policy, confidence, domain, decision):
    assert policy.decide(confidence, domain) == decision


def test_probability(policy):
    assert policy.probability(0.7) == pytest.approx(0.7)
    assert policy.probability(None) is None
    assert policy.probability(math.nan) is None


def test_saved_file_has_the_published_keys_and_comes_back(policy, tmp_path):
    path = tmp_path / "deep" / "policy.json"
    policy.save(path)
    data = json.loads(path.read_text())
    assert list(data)[:7] == [
        "schema",
        "source",
        "calibrator",
        "thresholds",
        "guarantee",
        "data_sha256",
        "model",
    ]
    assert data["schema"] == 1
    expected = policy_data()
    expected["guarantee"] |= {"goal": "max_risk", "domains": {}}  # what files of before do not say
    assert {key: data[key] for key in expected} == expected
    assert Policy.load(path) == policy


def test_id_and_threshold(policy):
    assert re.fullmatch(r"pol_[0-9a-f]{12}", policy.id)
    assert policy.id == Policy.model_validate(policy_data()).id
    assert policy.id != Policy.model_validate(policy_data() | {"last_resort": "unverified"}).id
    assert (policy.threshold(None), policy.threshold("law"), policy.threshold("unknown")) == (0.6, 0.9, 0.6)
    open_data = policy_data() | {"thresholds": {"*": [{"below": 0.6, "decision": "escalate"}], "law": []}}
    everything = Policy.model_validate(open_data)
    assert everything.threshold("law") is None
    assert everything.decide(0.0, "law") == "answer"


def test_a_policy_that_never_answers(policy):
    never = Policy.model_validate(
        policy_data()
        | {"thresholds": {"*": [{"below": 0.2, "decision": "abstain"}, {"below": NEVER, "decision": "escalate"}]}}
    )
    assert never.decide(1.0) == "escalate"
    assert "(raw 0.2), every other answer is escalated." in never.explain()
    again = Policy.model_validate_json(never.to_json())
    assert again.threshold() == NEVER


GUARANTEES = {
    "budget": {
        "goal": "budget", "budget": 0.3, "level": 0.9, "method": "m", "n": 400, "coverage": 0.72,
        "observed_share": 0.28, "upper_bound": 0.299, "accuracy": 0.91, "expert": None,
    },
    "match_expert": {
        "goal": "match_expert", "margin": 0.01, "level": 0.95, "method": "m", "n": 2000, "coverage": 0.4,
        "observed_loss": 0.004, "upper_bound": 0.0099, "expert": "big",
    },
    "false_alarms": {
        "goal": "false_alarms", "max_share": 0.05, "level": 0.95, "method": "m", "n": 800, "coverage": 0.97,
        "observed_share": 0.03, "upper_bound": 0.042,
        "detection": {"n": 300, "detected": 0.91, "low": 0.87, "high": 0.94},
    },
    "cost": {
        "goal": "cost", "answer": 1, "escalate": 20, "wrong": 100, "abstain": 30, "n": 500, "coverage": 0.6,
        "observed_cost": 14.2, "always": {"answer": 31, "escalate": 20, "abstain": 30}, "expert": "",
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("goal", "words"),
    [
        ("budget", ["at least 90%", "at most 30% of new questions escalate", "28.0% escalated", "always right"]),
        ("false_alarms", ["at most 5% of fine answers (correct is true) are not kept", "800 fine calibration rows",
                          "97.0% of them kept; 3.0% were not (upper bound 4.2%; m)",
                          "Of 300 rows that are not fine, 91.0% are not kept either (95% interval 87.0% to 94.0%)"]),
        ("match_expert", ["at most 1% less accurate than big alone", "+0.4% of accuracy lost", "Not promised"]),
        ("cost", ["wrong 100, abstain 30", "14.2 a question, against 31 to answer always", "Nothing is promised",
                  "own errors are counted"]),
    ],
)  # fmt: skip
def test_every_goal_survives_a_file_and_is_told_in_words(tmp_path, goal, words):
    made = Policy.model_validate(policy_data() | {"guarantee": GUARANTEES[goal]})
    made.save(tmp_path / "p.json")
    assert Policy.load(tmp_path / "p.json") == made
    assert made.guarantee.goal == goal
    for phrase in words:
        assert phrase in made.explain()


def test_domains_are_told_apart_in_words():
    evidence = {
        "law": {"met": True, "n": 400, "observed": 0.05, "upper_bound": 0.09, "coverage": 0.3},
        "*": {"met": False, "n": 500},
    }
    data = policy_data()
    data["guarantee"] |= {"domains": evidence}
    text = Policy.model_validate(data).explain()
    assert "law: 400 rows, 30.0% kept, 5.0% observed, upper bound 9.0%." in text
    assert "every other domain: 500 rows do not show the goal" in text


def test_explain_says_the_promise_in_words(policy):
    text = policy.explain()
    for words in ("stack", "small", "law: withheld below a confidence of ", "(raw 0.3)",
                  "Every other domain: escalated below a confidence of ",
                  "at least 95%", "at most 10% of the kept answers are wrong", "55.0% of them kept", "8.0%",
                  "9.9%", "Not promised"):  # fmt: skip
        assert words in text


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"schema": 2}, "schema"),
        ({"surprise": 1}, "surprise"),
        ({"thresholds": {"law": []}}, "every other domain"),
        (
            {"thresholds": {"*": [{"below": 0.5, "decision": "escalate"}, {"below": 0.4, "decision": "abstain"}]}},
            "low",
        ),
        ({"thresholds": {"*": [{"below": 0.5, "decision": "guess"}]}}, "decision"),
        ({"calibrator": {"kind": "magic", "parameters": {}}}, "calibrator"),
        (
            {
                "calibrator": {
                    "kind": "platt",
                    "parameters": {"transform": "logit", "slope": -1, "intercept": 0},
                }
            },
            "slope",
        ),
        ({"guarantee": None}, "guarantee"),
        ({"guarantee": {"goal": "luck"}}, "guarantee"),
        ({"last_resort": "shrug"}, "last_resort"),
        ({"calibrator": {"kind": "isotonic", "parameters": {"confidence": [0.2, 0.1], "probability": [0, 1]}}}, "rise"),
    ],
)
def test_broken_policies_are_named(tmp_path, change, says):
    path = tmp_path / "p.json"
    path.write_text(json.dumps(policy_data() | change))
    with pytest.raises(ConfideError, match=rf"p\.json is not a policy: .*{says}"):
        Policy.load(path)


def test_missing_and_unreadable_files_are_named(tmp_path):
    with pytest.raises(ConfideError, match="does not exist"):
        Policy.load(tmp_path / "none.json")
    (tmp_path / "half.json").write_text('{"schema": 1, "sour')
    with pytest.raises(ConfideError, match="is not a policy"):
        Policy.load(tmp_path / "half.json")
    (tmp_path / "latin.json").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfideError, match="not UTF-8"):
        Policy.load(tmp_path / "latin.json")


SAVED = Path(__file__).parent / "saved"
EXPECTED = json.loads((SAVED / "expected.json").read_text())


@pytest.mark.parametrize("name", EXPECTED["policies"])
def test_saved_policies_load_and_decide_as_when_they_were_made(name):
    """One file per calibrator and goal, saved before calibrators and their states became one family."""
    policy, expected = Policy.load(SAVED / f"{name}.json"), EXPECTED["policies"][name]
    assert policy.to_json() == (SAVED / f"{name}.json").read_text()
    assert policy.id == expected["id"]
    assert policy.explain() == expected["explained"]
    assert [policy.probability(c) for c in EXPECTED["confidence"]] == pytest.approx(expected["probability"], abs=1e-9)
    for domain, decisions in expected["decisions"].items():
        assert [policy.decide(c, domain) for c in EXPECTED["confidence"]] == decisions


def test_saved_policies_hold_every_calibrator_and_goal():
    policies = [Policy.load(SAVED / f"{name}.json") for name in EXPECTED["policies"]]
    assert {policy.calibrator.kind for policy in policies} == {"platt", "temperature", "beta", "isotonic"}
    assert {policy.guarantee.goal for policy in policies} == {
        "max_risk",
        "budget",
        "match_expert",
        "cost",
        "false_alarms",
    }
    assert any(len(policy.thresholds) > 1 for policy in policies)
    (order,) = [policy for policy in policies if policy.fallbacks]
    assert all(part.guarantee.judge for part in order.parts)
