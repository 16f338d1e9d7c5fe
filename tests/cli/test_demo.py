"""Every command of the demo is one that the command line takes, and its last lines say what was found."""

from __future__ import annotations

import re
from pathlib import Path
from shlex import split
from typing import Any

import numpy as np
import pytest
import yaml
from typer.core import TyperCommand
from typer.testing import CliRunner

from confide.cli.main import app
from confide.records import write_records
from confide.serving.config import ServeConfig
from given_rows import records as given_records

JUDGED = ("evaluate", "calibrate", "validate")


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the demo ran: verbs that need the model are parsed and left alone, and scores are made up."""
    names: list[str] = []
    invoke = TyperCommand.invoke

    def without_the_model(self: TyperCommand, context: Any) -> Any:
        if self.name == "demo":
            return invoke(self, context)
        names.append(str(self.name))
        if self.name == "score":
            write_records(context.params["out"], made_up())
        return invoke(self, context) if self.name in JUDGED else 0

    monkeypatch.setattr(TyperCommand, "invoke", without_the_model)
    return names


def made_up() -> list[Any]:
    """Rows for calibration and test whose confidences are right on average."""
    rows = given_records(800)
    noise = np.random.default_rng(1).normal(0, 0.1, len(rows))
    for number, row in enumerate(rows):
        given = row.confidence.pop("given")
        assert given is not None
        row.split = "calibration" if number % 2 else "test"
        row.confidence = {"stack": given, "portable": given**2, "logprob_sum": float(noise[number] - 1 - given)}
    return rows


@pytest.mark.parametrize("flags", [[], ["--quick"], ["--with-tokens"], ["--seed", "3"]])
def test_the_demo_runs_commands_that_there_are(ran: list[str], flags: list[str], tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["demo", "--out", str(tmp_path / "my demo"), *flags])
    assert result.exit_code == 0, (result.output, result.exception)
    kind = "reader" if "--with-tokens" in flags else "stack"
    shown = [split(line)[2:] for line in result.output.splitlines() if line.startswith("$ confide ")]
    assert [line[:2] if line[0] == "train" else line[:1] for line in shown] == [
        ["annotate"], ["train", kind], ["score"], ["evaluate"], ["calibrate"], ["validate"],
    ]  # fmt: skip
    assert ran == ["annotate", kind, "score", "evaluate", "calibrate", "validate"]
    assert all(line[-2:] == flags for line in shown if "--seed" in flags)
    served = yaml.safe_load((tmp_path / "my demo" / "serve.yaml").read_text())
    assert served["small"]["model"] == Path(shown[1][shown[1].index("--out") + 1]).name
    assert ServeConfig.model_fields.keys() >= served.keys()


def test_the_demo_ends_with_three_lines(ran: list[str], tmp_path: Path) -> None:
    out = tmp_path / "demo"
    result = CliRunner().invoke(app, ["demo", "--out", str(out)])
    good, promised, following = result.output.split("\n\n")[-2].splitlines()
    assert re.search(r"more confidence in \d\d% \[\d\d%, \d\d%\] with the model opened", good)
    assert re.search(r"answers \d+% of such questions itself .* at most 30% .* with 95% certainty", promised)
    assert re.search(r"Of fresh answers it kept, \d+% \[\d+%, \d+%\] were wrong: (the promise|too few)", promised)
    assert f"{out}/report.html" in following
    assert f"confide serve --config {out}/serve.yaml" in following


def test_a_risk_that_cannot_be_shown_gives_way_to_a_budget(
    ran: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("confide.cli.demo.MAX_RISK", 0.02)
    result = CliRunner().invoke(app, ["demo", "--out", str(tmp_path)])
    assert result.exit_code == 0, (result.output, result.exception)
    assert ran[-3:] == ["calibrate", "calibrate", "validate"]
    assert re.search(r"Promised +it hands on at most 50% of such questions, with 95% certainty", result.output)
    assert re.search(r"Of fresh answers \d+% \[\d+%, \d+%\] were handed on", result.output)
    assert (tmp_path / "serve.yaml").exists()


def test_a_demo_without_a_promise_says_so(ran: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("confide.cli.demo.MAX_RISK", 0.02)
    monkeypatch.setattr("confide.cli.demo.BUDGET", 0.001)
    (tmp_path / "policy.json").write_text("an older one")
    result = CliRunner().invoke(app, ["demo", "--out", str(tmp_path)])
    assert result.exit_code == 0, (result.output, result.exception)
    assert ran[-1] == "calibrate"
    assert "nothing: no threshold keeps either goal" in result.output
    assert not (tmp_path / "policy.json").exists()
    assert not (tmp_path / "serve.yaml").exists()
