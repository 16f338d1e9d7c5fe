"""What the tests of the policy verbs share."""

from __future__ import annotations

import pytest

from policy_runs import foreign, run, write


@pytest.fixture
def made(tmp_path):
    records = write(tmp_path / "r.jsonl", foreign(1500))
    result = run("calibrate", records, "--max-risk", 0.2, "--out", tmp_path / "policy.json")
    assert result.exit_code == 0, result.output
    return tmp_path / "policy.json"
