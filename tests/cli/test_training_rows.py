from __future__ import annotations

from pathlib import Path

import pytest

from confide.cli.training_rows import graded_rows
from policy_runs import write


def test_only_what_training_lacks_is_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    splits = ("train", "validation", "calibration", "test")
    rows = [{"id": f"{i}", "correct": i == 0, "split": splits[i % 4], "finish": "length"} for i in range(80)]
    graded_rows(write(tmp_path / "r.jsonl", rows))
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("Warning: training: 1 of the 20 train answers are right")
