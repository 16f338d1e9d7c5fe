"""Every command in a how-to page is one that the command line takes, and every `serve.yaml` one that is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from confide.cli.main import app
from confide.serving.config import ServeConfig
from page_fences import HOW_TO, ROOT, confide_commands, fences

COMMANDS = [(page, words) for page in HOW_TO for words in confide_commands(page)]
CONFIGURATION = ROOT / "docs" / "reference" / "configuration.md"


@pytest.fixture(scope="module")
def line() -> Any:
    """The command line, whose verbs parse and do nothing."""
    command = typer.main.get_command(app)
    waiting = [command]
    while waiting:
        one = waiting.pop()
        under = list(getattr(one, "commands", {}).values())
        if not under:
            one.callback = lambda **_: None
        waiting += under
    return command


def code_of(line: Any, words: list[str]) -> object:
    """The exit code of a command that is parsed and not run."""
    with pytest.raises(SystemExit) as ended:
        line.main(list(words), "confide")
    return ended.value.code


@pytest.mark.parametrize(("page", "words"), COMMANDS, ids=lambda part: getattr(part, "stem", None))
def test_every_command_is_taken(line: Any, page: Path, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert code_of(line, words) == 0, capsys.readouterr().err


def test_the_pages_have_commands() -> None:
    assert len(COMMANDS) >= 15
    assert {words[0] for _, words in COMMANDS} >= {"calibrate", "validate", "decide", "serve", "train", "score"}


@pytest.mark.parametrize(
    "words",
    [
        ["calibrate", "scored.jsonl", "--max-risks", "0.1", "--out", "p.json"],
        ["calibrate", "scored.jsonl", "--max-risk", "0.1"],
        ["calibrate", "scored.jsonl", "--max-risk", "much", "--out", "p.json"],
        ["validate", "policy.json"],
        ["train", "stacks", "records.jsonl"],
        ["no-such-verb", "--out", "p.json"],
    ],
)
def test_a_wrong_command_is_not_taken(line: Any, words: list[str]) -> None:
    assert code_of(line, words) == 2


@pytest.mark.parametrize("page", [*HOW_TO, CONFIGURATION], ids=lambda page: page.stem)
def test_every_router_configuration_is_read(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for block in fences(page, "yaml"):
        if "small" in yaml.safe_load(block):
            (tmp_path / "serve.yaml").write_text(block)
            ServeConfig.load(tmp_path / "serve.yaml")


def test_the_pages_have_configurations() -> None:
    blocks = [yaml.safe_load(block) for page in HOW_TO for block in fences(page, "yaml")]
    assert len([block for block in blocks if "small" in block]) >= 8
