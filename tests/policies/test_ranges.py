"""Confidences outside the range of their source: refused with the row, the value and what to do."""

from __future__ import annotations

import math

import pytest

from confide.errors import ConfideError
from confide.policies import MaxRisk, Policy, calibrate_policy, validate_policy
from confide.records import Record
from policy_runs import foreign, run, write


@pytest.fixture
def made(tmp_path):
    assert run("calibrate", write(tmp_path / "r.jsonl", foreign(1500)), "--max-risk", 0.2, "--out", tmp_path / "p.json")
    return tmp_path / "p.json"


def policy_on(source: str) -> Policy:
    rows = [Record.model_validate(row) for row in foreign(600)]
    for row in rows:
        value = row.confidence["given"]
        row.confidence = {source: math.log(value) if source == "logprob_sum" else value}
    made = calibrate_policy(rows, source, MaxRisk(0.25))
    assert isinstance(made, Policy)
    return made


@pytest.mark.parametrize(
    ("source", "value", "says"),
    [
        ("given", 87, "confidence 87 from given is not in \\[0, 1\\]: divide a percentage by 100"),
        ("given", 4.0, "ratings"),
        ("given", 1.0001, "percentage"),
        ("given", -3.2, "logit"),
        ("given", -0.001, "log-probability"),
        ("logprob_sum", 0.87, "at most 0.*logarithm of a probability"),
        ("logprob_sum", 31.5, "negative log-likelihood"),
    ],
)
def test_a_number_on_another_scale_is_never_a_sure_answer(source, value, says):
    policy = policy_on(source)
    for ask in (policy.decide, policy.probability):
        with pytest.raises(ConfideError, match=says):
            ask(value)
    assert policy.decide(None) == policy.decide(math.nan) == "escalate"


@pytest.mark.parametrize(("source", "value", "end"), [("given", 1.0000001, 1.0), ("given", -1e-7, 0.0),
                                                      ("logprob_sum", 1e-7, 0.0)])  # fmt: skip
def test_what_rounding_adds_is_cut_off(source, value, end):
    policy = policy_on(source)
    assert policy.decide(value) == policy.decide(end)
    assert policy.probability(value) == policy.probability(end)


@pytest.mark.parametrize(
    "change",
    [
        lambda i, c: 100 * c,
        lambda i, c: 100 * c if i == 7 else c,
        lambda i, c: 1 + 4 * c,
        lambda i, c: str(round(100 * c)),
        lambda i, c: math.log(c / (1 - c + 1e-9)),
    ],
    ids=["percent", "mixed", "ratings", "text", "logits"],
)
def test_every_verb_refuses_such_a_file_and_names_the_row(tmp_path, made, change):
    rows = [row | {"confidence": {"given": change(i, row["confidence"])}} for i, row in enumerate(foreign(200))]
    rows = rows[7:] + rows[:7]
    records = write(tmp_path / "bad.jsonl", rows)
    for verb in (
        ("calibrate", records, "--max-risk", 0.2, "--out", tmp_path / "p2.json"),
        ("decide", made, records, "--out", tmp_path / "d.jsonl"),
        ("validate", made, records),
    ):
        result = run(*verb)
        assert isinstance(result.exception, ConfideError), result.output
        assert "row r" in str(result.exception)
    assert "row r7:" in str(result.exception)
    assert not (tmp_path / "d.jsonl").exists()
    assert not (tmp_path / "p2.json").exists()


def test_rows_that_rounding_leaves_just_outside_are_calibrated_on(tmp_path):
    rows = [row | {"confidence": 1.0000001} if i == 0 else row for i, row in enumerate(foreign(300))]
    records, out = write(tmp_path / "r.jsonl", rows), tmp_path / "p.json"
    assert run("calibrate", records, "--max-risk", 0.3, "--out", out).exit_code == 0
    assert run("decide", out, records, "--out", tmp_path / "d.jsonl").exit_code == 0


def test_validation_refuses_them_in_python():
    bad = [Record(id="x", confidence={"given": 87}, correct=True)]
    with pytest.raises(ConfideError, match="row x"):
        validate_policy(policy_on("given"), bad)
