"""Every command of the demo is one that the command line takes, and the last ones follow from the first."""

from __future__ import annotations

from pathlib import Path
from shlex import split
from typing import Any

import pytest
import yaml
from typer.core import TyperCommand
from typer.testing import CliRunner

from confide.cli.main import app
from confide.serving.config import ServeConfig


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the demo ran: its own verbs are parsed and then left alone."""
    names: list[str] = []
    invoke = TyperCommand.invoke

    def only_the_demo(self: TyperCommand, context: Any) -> Any:
        if self.name == "demo":
            return invoke(self, context)
        names.append(str(self.name))
        return 0

    monkeypatch.setattr(TyperCommand, "invoke", only_the_demo)
    return names


@pytest.mark.parametrize("flags", [[], ["--quick"], ["--seed", "3"]])
def test_the_demo_runs_commands_that_there_are(ran: list[str], flags: list[str], tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["demo", "--out", str(tmp_path / "my demo"), *flags])
    assert result.exit_code == 0, (result.output, result.exception)
    shown = [split(line)[2:] for line in result.output.splitlines() if line.startswith("$ confide ")]
    assert [line[:2] if line[0] == "train" else line[:1] for line in shown] == [
        ["annotate"], ["train", "stack"], ["score"], ["evaluate"], ["calibrate"], ["validate"],
    ]  # fmt: skip
    assert ran == ["annotate", "stack", "score", "evaluate", "calibrate", "validate"]
    assert all(line[-2:] == flags for line in shown if "--seed" in flags)
    served = yaml.safe_load((tmp_path / "my demo" / "serve.yaml").read_text())
    assert served["small"]["model"] == Path(shown[1][shown[1].index("--out") + 1]).name
    assert ServeConfig.model_fields.keys() >= served.keys()
