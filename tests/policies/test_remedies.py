from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from confide.policies.nearest_answers import LEAST, best_observed
from confide.policies.remedies import Remedies
from confide.policies.thresholds.fallback_testing import Attainable, Unmet, worth_having
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
    assert data["rows_needed"] is None
    assert len(text.splitlines()) == 2
    assert "A looser goal" not in text
    assert "A stronger model, or an expert: no number of rows like these would do" in text
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
    assert f"{data['rows_needed']:,} calibration rows" in text
    assert len(text.splitlines()) <= 5
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
    assert (tied.share, tied.risk, tied.rows, tied.fewest) == (1.0, 0.6, None, None)
    assert best_observed(np.zeros(LEAST - 1), correct[: LEAST - 1], 0.2, 0.95) is None


def test_rows_are_told_for_what_was_seen_and_for_one_wrong_answer_more() -> None:
    correct = np.arange(54) >= 26  # the surest 28 are right, none of the others
    best = best_observed(np.arange(54.0), correct, 0.05, 0.95)
    assert best is not None
    assert best.fewest == -(-59 * 54 // 28)  # 59 kept rows without an error show 0.05
    assert best.rows is not None
    assert best.rows > best.fewest
    helped = Remedies(0.05, 28 / 54, best, {}, None)
    (line,) = helped.explain(Unmet("max_risk", 0.05, 0.95, 54), 5.0)
    assert f"about {best.rows:,} calibration rows ({5 * best.rows:,} in the whole file, split as it is)" in line
    assert "3.3% of the surest 52% are wrong (here it is 0.0%)" in line
    assert line.endswith(f"about {best.fewest:,} if it stays so.")


def test_no_line_tells_a_lower_risk_than_the_lowest() -> None:
    correct = np.arange(200) % 10 == 0
    best = best_observed(np.arange(200.0), correct, 0.1, 0.95)
    assert best is not None
    unmet = Unmet("max_risk", 0.1, 0.95, 200, Attainable(0.4, 0.07, 0.2, 0.39), base=0.9)
    first, second = Remedies(0.1, 0.1, best, {}, None).explain(unmet)
    assert "even of the surest 7% 20.0% are wrong" in first
    assert "--max-risk 0.4 is the lowest that could be met; it keeps 7.0% of the answers, of which 20.0%" in second


@pytest.mark.parametrize(
    ("limit", "base", "kept"), [(0.54, 0.88, True), (0.55, 0.88, False), (0.3, 0.1, True), (0.6, 0.1, False)]
)
def test_a_looser_limit_is_nearer_the_goal_than_keeping_everything(limit: float, base: float, kept: bool) -> None:
    hint = Attainable(limit, 0.1, 0.0, limit)
    assert worth_having(hint, 0.2, base) == (hint if kept else None)


def test_the_rows_of_a_file_with_splits_are_told_of_the_whole_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    rows = [
        {"id": f"{i}", "correct": bool(rng.random() < 0.99), "confidence": float(s), "split": split}
        for i, s in enumerate(rng.random(120))
        for split in [("train", "calibration")[i % 2]]
    ]
    text, data = unmet(tmp_path, rows, "--max-risk", 0.01)
    assert "calibration rows (" in text
    assert " in the whole file, split as it is)" in text
    assert data["n"] == 60
