"""The commands and programs of the pages about policies run, in the order of the page, on made-up rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from confide.policies import MaxRisk, Policy, calibrate_policy
from confide.records import Record, write_records
from page_fences import ROOT, confide_commands, fences
from policy_runs import run

HOW_TO = ROOT / "docs" / "how-to"
PAGES = {"choose-a-goal": 7, "several-sources": 2, "validate": 1, "stop-an-answer": 1}
"""Page → how many commands it has, at least."""


def rows(n: int, seed: int, noise: float = 1.0) -> list[Record]:
    """Answers of which 80 % are right, with confidences that know it, the better the less ``noise`` there is."""
    rng = np.random.default_rng(seed)
    sign = np.where(rng.random(n) < 0.8, 1.0, -1.0)
    sure = 1 / (1 + np.exp(-(2.5 * sign + noise * rng.normal(size=n))))
    free = -np.exp(-(2.0 * sign + noise * rng.normal(size=n)))
    return [
        Record(
            id=f"{seed}-{i}",
            model="small",
            answer="an answer",
            correct=bool(sign[i] > 0),
            confidence={
                **dict.fromkeys(("stack", "red_flag"), float(sure[i])),
                "stack_served": None if i % 5 == 0 else float(sure[i]),
                "logprob_sum": float(free[i]),
            },
        )
        for i in range(n)
    ]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    scored = rows(800, 0)
    write_records(tmp_path / "scored.jsonl", scored)
    write_records(tmp_path / "fresh.jsonl", rows(800, 1, noise=0.5))  # so that it can be shown
    expert = [row.model_copy(update={"correct": i % 20 > 0, "confidence": {}}) for i, row in enumerate(scored)]
    write_records(tmp_path / "big.jsonl", expert)
    made = calibrate_policy(scored, "stack", MaxRisk(0.1), calibrator="platt")
    assert isinstance(made, Policy)
    made.save(tmp_path / "policy.json")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", PAGES)
def test_a_page_does_what_it_says(name: str, folder: Path) -> None:
    page = HOW_TO / f"{name}.md"
    commands = confide_commands(page)
    assert len(commands) >= PAGES[name]
    for words in commands:
        ended = run(*words)
        assert ended.exit_code == 0, (words, ended.output)
        if "--out" in words:
            assert (folder / words[words.index("--out") + 1]).stat().st_size > 0
    for block in fences(page, "python"):
        exec(compile(block, str(page), "exec"), {})
