"""What compares speeds: ratios of rounds in turn, a side that works when told to, and goals that can be missed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.common import ROOT
from benchmarks.speed import speed_tables
from benchmarks.speed.side_process import Side, compared, python_of, ratio

SCRIPT = """
from benchmarks.speed.peers.side_loop import serve

def prepare(config):
    calls = []
    def count():
        print("noise of a library")
        calls.append(config["step"])
        return lambda: {"calls": len(calls)}
    return {"count": count, "plain": lambda: {"calls": -1}}

serve(prepare, ("numpy", "no-such-package"))
"""


def side(tmp_path: Path, name: str) -> Side:
    script, config = tmp_path / "script.py", tmp_path / "config.json"
    script.write_text(SCRIPT)
    config.write_text(json.dumps({"threads": 1, "step": 1}))
    process = subprocess.Popen(
        [sys.executable, str(script), str(config)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={"PYTHONPATH": str(ROOT)}, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    found = Side(name, process)
    found.versions = found.answer()["versions"]
    return found


def ended(*sides: Side) -> None:
    for one in sides:
        assert one.process.stdin is not None
        one.process.stdin.close()
        assert one.process.wait() == 0


def test_sides_work_in_turn_and_are_profiled_first(tmp_path: Path) -> None:
    ours, theirs = side(tmp_path, "confide"), side(tmp_path, "peer")
    assert list(ours.versions) == ["numpy"]
    figures, found, other = compared(ours, theirs, ("count", "plain"), 3)
    assert (found, other) == ({"calls": 4}, {"calls": -1})
    assert (figures["rounds"], set(figures["profiles"])) == (3, {"confide", "peer"})
    ended(ours, theirs)


def test_a_side_that_ends_is_told(tmp_path: Path) -> None:
    one = side(tmp_path, "peer")
    with pytest.raises(SystemExit, match="peer ended"):
        one.order("no such work")


def test_the_ratio_is_of_medians_and_the_range_of_neighbours() -> None:
    found = ratio([1.0, 2.0, 4.0], [4.0, 6.0, 40.0])
    assert (found["ratio"], found["low"], found["high"]) == (3.0, 3.0, 10.0)


def test_an_interpreter_may_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONFIDE_PEER_TRL", "/somewhere/python")
    assert python_of("trl", tmp_path) == Path("/somewhere/python")
    there = tmp_path / "uqlm" / "bin" / "python"
    there.parent.mkdir(parents=True)
    there.touch()
    assert python_of("uqlm", tmp_path) == there


@pytest.mark.parametrize(("value", "reached"), [(1.9, False), (2.0, True)])
def test_a_goal_can_be_missed(value: float, reached: bool) -> None:
    figures: dict[str, Any] = {"ratio": value, "low": value, "high": value, "questions": 4, "same_answers": 3}
    figures |= {"same_texts": 3}
    figures |= {"same_sums": 3, "largest_gap": 1e-5}
    goals = {what: met for what, _, met in speed_tables.goals({"annotation": figures})}
    assert [met for what, met in goals.items() if "times as fast" in what] == [reached]
    assert goals["lm-evaluation-harness: the same answers"] is False
