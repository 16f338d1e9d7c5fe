"""Rows to calibrate on, and the policy verbs as a command line, for the tests of these verbs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import typer
from typer.testing import CliRunner

from confide.cli import policy_verbs
from confide.cli.calibrate import calibrate
from confide.cli.flags import command
from confide.cli.policy_verbs import decide, validate

app = typer.Typer()
for verb in (calibrate, validate, decide):
    app.command()(command(verb))
app.add_typer(policy_verbs.app, name="policy")


def run(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def write(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def foreign(n: int, seed: int = 0, prefix: str = "r") -> list[dict]:
    """Rows of any system: the confidence is calibrated, so risk falls from 0.5 to 0 as it rises."""
    rng = np.random.default_rng(seed)
    confidence = rng.uniform(0.5, 1, n)
    correct = rng.random(n) < confidence
    return [
        {"id": f"{prefix}{i}", "confidence": float(c), "correct": bool(y)}
        for i, (c, y) in enumerate(zip(confidence, correct, strict=True))
    ]


def with_expert(tmp_path: Path, n: int, accuracy: float, prefix: str = "r") -> tuple[Path, Path]:
    rng = np.random.default_rng(1)
    expert = [{"id": f"{prefix}{i}", "correct": bool(rng.random() < accuracy), "model": "big"} for i in range(n)]
    return (
        write(tmp_path / f"{prefix}.jsonl", foreign(n, seed=len(prefix), prefix=prefix)),
        write(tmp_path / f"{prefix}-expert.jsonl", expert),
    )
