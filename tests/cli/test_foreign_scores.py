"""Scores of other systems through evaluate, calibrate, validate and decide, by the names of their columns."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from confide.cli.main import app
from confide.policies import Policy

COLUMNS = ("--confidence-column", "score", "--correct-column", "label")


def run(*arguments: object):
    return CliRunner().invoke(app, [str(one) for one in arguments])


def scores(path: Path, n: int, seed: int, *, margin: bool = False, more: bool = False) -> Path:
    """A CSV of scores; ``margin``: on a scale of their own; with ``more``: a second column, of noise."""
    rng = np.random.default_rng(seed)
    z = rng.normal(0.7, 2.0, n)
    right = rng.random(n) < 1 / (1 + np.exp(-z))
    shown = z if margin else 1 / (1 + np.exp(-z))
    lines = [f"{s:.6f},{int(y)},{u:.6f}" for s, y, u in zip(shown, right, rng.random(n), strict=True)]
    names = "score,label,noise"
    if not more:
        names, lines = "score,label", [line.rpartition(",")[0] for line in lines]
    path.write_text("\n".join([names, *lines]) + "\n")
    return path


@pytest.mark.parametrize("margin", [False, True])
def test_from_a_table_to_decisions(tmp_path: Path, margin: bool) -> None:
    first = scores(tmp_path / "a.csv", 800, 0, margin=margin)
    fresh = scores(tmp_path / "b.csv", 800, 1, margin=margin)
    policy = tmp_path / "p.json"
    made = run("calibrate", first, *COLUMNS, "--max-risk", 0.15, "--out", policy)
    assert made.exit_code == 0, made.output
    assert Policy.load(policy).source == "score"
    checked = run("validate", policy, fresh, *COLUMNS)
    assert checked.exit_code in (0, 3), checked.output
    assert "not fresh" not in checked.output
    assert "used in calibration" in run("validate", policy, first, *COLUMNS).output
    assert run("decide", policy, fresh, *COLUMNS, "--out", tmp_path / "d.jsonl").exit_code == 0
    rows = [json.loads(line) for line in (tmp_path / "d.jsonl").read_text().splitlines()]
    assert len(rows) == 800
    assert all(0 <= row["confidence"] <= 1 for row in rows)
    judged = run("evaluate", fresh, *COLUMNS, "--out", tmp_path / "r", "--resamples", 20)
    assert judged.exit_code == 0, judged.output
    found = json.loads((tmp_path / "r" / "results.json").read_text())["estimators"]["score"]
    assert found["auroc"]["value"] > 0.75
    assert (found["brier"] is None) == margin
    assert ("which calibration figures need" in " ".join(judged.stdout.split())) == margin


def test_several_columns_are_sources_and_the_best_of_them_decides(tmp_path: Path) -> None:
    file = scores(tmp_path / "a.csv", 900, 2, more=True)
    both = ("--confidence-column", "noise,score", "--correct-column", "label")
    assert run("calibrate", file, *both, "--max-risk", 0.15, "--out", tmp_path / "p.json").exit_code == 0
    made = Policy.load(tmp_path / "p.json")
    assert made.source == "score"
    assert "noise" in made.guarantee.method  # the level is split over both
    assert run("evaluate", file, *both, "--out", tmp_path / "r", "--resamples", 20).exit_code == 0
    assert set(json.loads((tmp_path / "r" / "results.json").read_text())["estimators"]) == {"noise", "score"}


def test_fresh_rows_may_call_their_column_otherwise(tmp_path: Path) -> None:
    file = scores(tmp_path / "a.csv", 800, 0)
    assert run("calibrate", file, *COLUMNS, "--max-risk", 0.15, "--out", tmp_path / "p.json").exit_code == 0
    fresh = tmp_path / "b.csv"
    fresh.write_text(scores(tmp_path / "c.csv", 300, 3).read_text().replace("score,label", "p,y"))
    named = ("--confidence-column", "p", "--correct-column", "y")
    assert run("validate", tmp_path / "p.json", fresh, *named).exit_code in (0, 3)


@pytest.mark.parametrize("verb", ["calibrate", "evaluate"])
def test_a_file_with_other_names_is_told_which_flags(tmp_path: Path, verb: str) -> None:
    goal = ("--max-risk", 0.1) if verb == "calibrate" else ()
    failed = run(verb, scores(tmp_path / "a.csv", 50, 0), *goal, "--out", tmp_path / "out")
    assert "Its columns are score, label: name them with --confidence-column" in str(failed.exception)


def test_one_class_only(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("score,label\n" + "".join(f"0.{i:03},1\n" for i in range(1, 101)))
    failed = run("evaluate", tmp_path / "a.csv", *COLUMNS, "--out", tmp_path / "r")
    assert "all answers are right (100 right, 0 wrong)" in str(failed.exception)
