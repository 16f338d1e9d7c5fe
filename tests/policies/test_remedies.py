from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from confide.policies.remedies import LEAST, best_observed
from policy_runs import run, write


def hard(n: int = 200, seed: int = 0) -> list[dict]:
    """Answers of which one in eight is right, whatever the confidence in ``score``; ``sharp`` tells them apart."""
    rng = np.random.default_rng(seed)
    right = rng.random(n) < 0.125
    return [
        {"id": f"{i}", "correct": bool(y), "confidence": {"score": float(s), "sharp": float(0.2 + 0.6 * y + 0.1 * t)}}
        for i, (y, s, t) in enumerate(zip(right, rng.random(n), rng.random(n), strict=True))
    ]


def unmet(path: Path, rows: list[dict], *flags: object) -> tuple[str, dict]:
    file, out = write(path / "r.jsonl", rows), path / "p.json"
    said = run("calibrate", file, *flags, "--out", out)
    assert (said.exit_code, out.exists()) == (1, False), said.output
    return said.stdout, json.loads(run("calibrate", file, *flags, "--out", out, "--json").stdout)


def test_a_risk_worse_than_guessing_is_never_proposed(tmp_path: Path) -> None:
    text, data = unmet(tmp_path, hard(), "--source", "score", "--max-risk", 0.2)
    assert data["attainable"] is None
    assert data["base"] == pytest.approx(np.mean([not row["correct"] for row in hard()]))
    assert "No looser limit is worth having" in text
    assert "What could be met" not in text
    assert "cannot be told from these" not in text
    assert "More rows: no number of them, as they look" in text
    assert "A stronger model: " in text
    assert "--budget 0" not in text  # what is kept would be as wrong as ever


def test_another_source_of_the_file_is_tried(tmp_path: Path) -> None:
    text, data = unmet(tmp_path, hard(2000), "--source", "score", "--max-risk", 0.2)
    assert list(data["would_help"]["others"]) == ["sharp"]
    assert "Another source: sharp (it keeps 1" in text
    good = run("calibrate", tmp_path / "r.jsonl", "--source", "sharp", "--max-risk", 0.2, "--out", tmp_path / "p.json")
    assert good.exit_code == 0


def test_more_rows_are_a_number_and_a_budget_is_one_that_can_be_met(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    score = rng.random(60)
    rows = [
        {"id": f"{i}", "correct": bool(rng.random() < 0.3 + 0.6 * s), "confidence": float(s)}
        for i, s in enumerate(score)
    ]
    text, data = unmet(tmp_path, rows, "--max-risk", 0.12)
    assert data["rows_needed"] > 60
    assert f"{data['rows_needed']:,} rows like these" in text
    assert data["attainable"] is None or data["attainable"]["limit"] < 1 - np.mean([row["correct"] for row in rows])
    share, _ = data["would_help"]["budget"]
    assert f"--budget {share:g} can be promised" in text
    made = run("calibrate", tmp_path / "r.jsonl", "--budget", share, "--out", tmp_path / "p.json")
    assert made.exit_code == 0, made.output


def test_the_best_observed_share_counts_ties_and_is_careful() -> None:
    correct = np.arange(100) >= 60
    best = best_observed(np.arange(100.0), correct, 0.2, 0.95)
    assert best is not None
    assert best.risk == 0.0
    assert best.rows is not None
    assert best.rows > 100 * 14 / 40  # at least the flawless ones
    tied = best_observed(np.zeros(100), correct, 0.2, 0.95)
    assert tied is not None
    assert (tied.share, tied.risk, tied.rows) == (1.0, 0.6, None)
    assert best_observed(np.zeros(LEAST - 1), correct[: LEAST - 1], 0.2, 0.95) is None
