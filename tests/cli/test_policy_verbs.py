"""``confide policy``, ``validate`` and ``decide``, and the help of all verbs on policies."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from confide.policies import Policy
from policy_runs import foreign, run, write


def test_policy_show(made):
    result = run("policy", "show", made)
    assert result.exit_code == 0
    assert "at most 20% of the kept answers are wrong" in result.stdout
    assert json.loads(run("policy", "show", made, "--json").stdout) == json.loads(made.read_text())


@pytest.mark.parametrize("verb", [["calibrate"], ["validate"], ["decide"], ["policy", "show"]])
def test_help_has_an_example(verb):
    result = run(*verb, "--help")
    assert result.exit_code == 0
    assert "Example: " in result.output


def test_validate_exit_codes(tmp_path, made):
    rows = [row | {"correct": i % 10 != 0} for i, row in enumerate(foreign(900, prefix="g"))]
    good = write(tmp_path / "good.jsonl", rows)
    assert run("validate", made, good).exit_code == 0
    bad = write(
        tmp_path / "bad.jsonl",
        [row | {"correct": i % 2 == 0} for i, row in enumerate(foreign(900, prefix="b"))],
    )
    assert run("validate", made, bad).exit_code == 1
    few = write(tmp_path / "few.jsonl", foreign(20, seed=6, prefix="f"))
    result = run("validate", made, few)
    assert result.exit_code == 3
    assert "rows would decide" in result.stdout


def test_validate_prints_json_and_warns(tmp_path, made):
    result = run("validate", made, tmp_path / "r.jsonl", "--json")
    data = json.loads(result.stdout)
    assert data["exit_code"] == result.exit_code
    assert data["checks"]["*"]["n"] == 1500
    assert "used in calibration" in data["warnings"][0]
    assert "used in calibration" in run("validate", made, tmp_path / "r.jsonl").stderr


def test_validate_uses_the_test_split(tmp_path, made):
    rows = [row | {"split": "test"} for row in foreign(100, prefix="t")]
    rows += [row | {"split": "train"} for row in foreign(100, prefix="u")]
    data = json.loads(run("validate", made, write(tmp_path / "s.jsonl", rows), "--json").stdout)
    assert data["checks"]["*"]["n"] == 100


def test_decide_and_validate_warn_of_rows_unlike_the_calibration_rows(tmp_path, made):
    unlike = write(tmp_path / "u.jsonl", [row | {"confidence": 0.95} for row in foreign(200, prefix="u")])
    for result in (run("decide", made, unlike, "--out", tmp_path / "d.jsonl"), run("validate", made, unlike)):
        assert "Warning: confidence: " in result.stderr
        assert "unlike the calibration rows" in result.stderr
    like = write(tmp_path / "l.jsonl", foreign(400, seed=3, prefix="l"))
    assert "Warning" not in run("decide", made, like, "--out", tmp_path / "d.jsonl").stderr


def test_decide_writes_every_row(tmp_path, made):
    limit = Policy.load(made).thresholds["*"][0].below
    rows = [
        {"id": "a", "confidence": 0.99, "answer": "Rome", "correct": True},
        {"id": "b", "confidence": limit, "answer": "Oslo"},
        {"id": "c", "confidence": limit - 1e-9},
        {"id": "d"},
    ]
    out = tmp_path / "d.jsonl"
    result = run("decide", made, write(tmp_path / "s.jsonl", rows), "--out", out)
    assert result.exit_code == 0, result.output
    written = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["decision"] for row in written] == ["answer", "answer", "escalate", "escalate"]
    assert [row["answer"] for row in written] == ["Rome", "Oslo", "", ""]
    assert written[0]["confidence"] > 0.9
    assert written[3] == {
        "id": "d",
        "confidence": None,
        "raw": None,
        "source": None,
        "threshold": Policy.load(made).least_probability(),
        "decision": "escalate",
        "answer": "",
    }
    assert "1 rows had no confidence" in result.stdout
    summary = json.loads(run("decide", made, tmp_path / "s.jsonl", "--out", out, "--json").stdout)
    assert summary["decisions"] == {"answer": 2, "escalate": 2, "abstain": 0}
    assert summary["decided_by"] == {"given": 3}


def test_decide_bad_input(tmp_path, made):
    other = write(tmp_path / "o.jsonl", [{"id": "a", "confidence": {"reader": 0.5}}])
    assert "there are: reader" in str(run("decide", made, other, "--out", tmp_path / "d.jsonl").exception)
    assert "overwrite" in str(run("decide", made, other, "--out", other).exception)
    assert "does not exist" in str(run("decide", tmp_path / "no.json", other, "--out", tmp_path / "d").exception)
    assert not (tmp_path / "d.jsonl").exists()


def test_rows_of_other_weights_are_warned_of(tmp_path):
    rows = [row | {"identity": "weights=ab"} for row in foreign(600)]
    out = tmp_path / "p.json"
    assert run("calibrate", write(tmp_path / "r.jsonl", rows), "--max-risk", 0.3, "--out", out).exit_code == 0
    assert "Made for weights=ab." in run("policy", "show", out).stdout
    for identity, warned in (("weights=ab", False), ("weights=cd", True), ("", False)):
        fresh = [row | {"identity": identity} for row in foreign(400, seed=1, prefix="f")]
        records = write(tmp_path / "f.jsonl", fresh)
        for said in (
            run("validate", out, records),
            run("decide", out, records, "--out", tmp_path / "d.jsonl"),
        ):
            assert ("made for other weights (weights=ab) than answered 400 of the 400 rows" in said.stderr) is warned


def long_answers(prefix: str, seed: int) -> list[dict]:
    """Answers of a thousand tokens, as the older versions and as this one write their `logprob_sum`."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(600):
        whole = float(rng.uniform(-1500, -500))
        value = whole if i % 2 else math.exp(whole)
        rows.append(
            {
                "id": f"{prefix}{i}",
                "correct": whole > -1000,
                "logprobs": [whole / 1000] * 1000,
                "confidence": {"logprob_sum": value},
            }
        )
    return rows


def test_long_answers_from_calibrate_to_validate(tmp_path):
    policy, source = tmp_path / "long.json", ["--source", "logprob_sum"]
    rows = write(tmp_path / "c.jsonl", long_answers("c", 0))
    result = run("calibrate", rows, *source, "--max-risk", 0.1, "--out", policy)
    assert result.exit_code == 0, result.output
    fresh = write(tmp_path / "f.jsonl", long_answers("f", 1))
    assert run("validate", policy, fresh).exit_code in (0, 3)  # as wrong as allowed, so the rows may not say
    assert run("decide", policy, fresh, "--out", tmp_path / "d.jsonl").exit_code == 0
    told = [json.loads(line) for line in (tmp_path / "d.jsonl").read_text().splitlines()]
    kept = [row["raw"] > -1050 for row in told]
    assert sum((row["decision"] == "answer") != keep for row, keep in zip(told, kept, strict=True)) < 40
    bare = [{k: v for k, v in row.items() if k != "logprobs"} for row in long_answers("b", 2)]
    refused = run("calibrate", write(tmp_path / "b.jsonl", bare), *source, "--max-risk", 0.1, "--out", policy)
    assert "logprob_sum of row b" in str(refused.exception)
    assert "score the answers again" in str(refused.exception)


def test_decide_says_how_many_kept_answers_are_wrong_and_what_they_are(tmp_path, made):
    fresh = [row | {"id": f"f{i}", "correct": i % 5 > 0, "confidence": 0.9} for i, row in enumerate(foreign(50))]
    out = tmp_path / "d.jsonl"

    def decided(rows, *flags):
        return run("decide", made, write(tmp_path / "f.jsonl", rows), "--out", out, *flags)

    said = decided([row | {"correct": i % 2 > 0} for i, row in enumerate(fresh)]).output
    assert "Of 50 kept answers with a label, 25 are wrong (50.0%, 95% interval 36.6% to 63.4%" in said
    assert "above the promised 20.0%; `confide validate`" in said
    assert "not clearly on one side of the promised 20.0%" in decided(fresh).output
    assert "within the promised 20.0%" in decided([row | {"correct": True} for row in fresh]).output
    risk = json.loads(decided(fresh, "--json").stdout)["kept_risk"]
    assert risk["value"] == 0.2
    assert risk["low"] < 0.2 < risk["high"]
    escalated = json.loads(decided([row | {"confidence": 0.5} for row in fresh], "--json").stdout)
    assert escalated["kept_risk"] is None
    assert (
        "25 of the 50 rows are of the training or validation split"
        in decided([row | {"split": "train" if i % 2 else "test"} for i, row in enumerate(fresh)]).output
    )
    missing = [row | {"confidence": {"given": 0.9 if i < 10 else None}} for i, row in enumerate(fresh)]
    assert "40 of the 50 rows have no confidence from given" in decided(missing).output
    assert "were used in calibration" in decided(foreign(100)).output
    assert "used in calibration" not in decided(fresh).output
