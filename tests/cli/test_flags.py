"""Flags that come from the fields of a settings dataclass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest
import typer
from typer.main import get_command
from typer.testing import CliRunner

from confide.cli.flags import Flags, command
from confide.errors import ConfideError
from confide.methods.finetuning.supervised_config import option


@dataclass(frozen=True)
class Base:
    rank: int = option(8, "Rank of the weights.", min=1)
    beta: float = option(0.5, "Weight of the penalty.", flag="kl_weight", min=0)


@dataclass(frozen=True)
class Settings(Base):
    form: Literal["square", "line"] = option("square", "Form of the loss.")
    positions: bool = option(False, "Also fit positions.")
    masked: bool = option(True, "Mask wrong answers.")
    most: int | None = option(None, "At most this many rows.")
    hidden: int = option(3, "No flag.")


seen: dict[str, Any] = {}


def verb(
    settings: Annotated[Settings, Flags("rank beta form positions masked most")],
    given: Annotated[dict[str, Any], Flags("hidden", given=Settings)],
    name: Annotated[str, typer.Option(help="A name.")] = "none",
) -> None:
    """Do nothing."""
    seen.update(settings=settings, given=given, name=name)


app = typer.Typer()
app.command()(command(verb))


def run(*arguments: object):
    seen.clear()
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_defaults_are_those_of_the_fields():
    assert run().exit_code == 0
    assert seen == {"settings": Settings(), "given": {}, "name": "none"}


def test_flags_fill_the_fields():
    result = run(
        "--rank", 4, "--kl-weight", 0, "--form", "line", "--positions", "--no-masked", "--most", 7, "--hidden", 1
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert seen["settings"] == Settings(rank=4, beta=0, form="line", positions=True, masked=False, most=7)
    assert seen["given"] == {"hidden": 1}


@pytest.mark.parametrize("arguments", [("--rank", 0), ("--kl-weight", -1), ("--form", "cube"), ("--no-positions",)])
def test_a_value_that_a_field_does_not_take(arguments):
    assert run(*arguments).exit_code == 2


def test_help_comes_from_the_fields():
    shown = {parameter.opts[0]: parameter.help for parameter in get_command(app).params if parameter.opts}
    assert shown["--kl-weight"] == "Weight of the penalty."
    assert shown["--rank"] == "Rank of the weights."
    assert shown["--hidden"] == "No flag. Default: 3."
    assert shown["--name"] == "A name."
    assert "--beta" not in shown


def test_a_file_gives_defaults_and_the_command_line_wins(tmp_path):
    config = tmp_path / "c.yaml"
    config.write_text("kl-weight: 2\nrank: 5\nname: file\n")
    assert run("--config", config, "--rank", 6).exit_code == 0
    assert (seen["settings"].beta, seen["settings"].rank, seen["name"]) == (2, 6, "file")
    config.write_text("beta: 2\n")
    assert isinstance(run("--config", config).exception, ConfideError)
