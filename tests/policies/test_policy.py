from __future__ import annotations

import json
import math

import pytest

from confide.errors import ConfideError
from confide.policies import Policy


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
    assert {key: data[key] for key in policy_data()} == policy_data()
    assert Policy.load(path) == policy


def test_explain_says_the_promise_in_words(policy):
    text = policy.explain()
    for words in ("stack", "small", "law: withheld below 0.3", "Every other domain: escalated below 0.6",
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
