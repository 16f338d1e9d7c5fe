"""Help at every width: each flag in full, nothing beyond the edge; and flags that every verb has."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from confide import __version__
from confide.cli.exit_codes import ExitCode
from confide.cli.main import PATH, app


def walk(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from walk(inner, (*path, name))


ALL = dict(walk(get_command(app)))
VERBS = {path: command for path, command in ALL.items() if not hasattr(command, "commands")}


def helped(path: tuple[str, ...], columns: int, flag: str = "-h") -> str:
    result = CliRunner().invoke(app, [*path, flag], env={"COLUMNS": str(columns)})
    assert result.exit_code == 0, (path, result.exception)
    return result.output


@pytest.mark.parametrize("columns", [40, 60, 80, 120])
def test_every_flag_stands_there_in_full(columns: int) -> None:
    for path, command in ALL.items():
        text = helped(path, columns)
        for parameter in command.params:
            for flag in parameter.opts:
                assert re.search(
                    rf"(?<![\w-]){re.escape(flag if flag.startswith('-') else flag.upper())}(?![\w-])", text
                ), (path, flag)
        assert max(map(len, text.splitlines())) <= columns, path


def test_the_path_of_verbs_stands_in_order_with_the_exit_codes() -> None:
    for columns in (40, 120):
        alone = CliRunner().invoke(app, [], env={"COLUMNS": str(columns)})
        assert alone.exit_code == 0
        places = [alone.output.index(heading[:25]) for heading in PATH]
        assert places == sorted(places)
        text = " ".join(alone.output.split())
        assert all(f"{int(code)} {code.meaning.replace('`', '')[:12]}" in text for code in ExitCode)
    assert set(ALL) - {()} >= {(name,) for name in ("demo", "annotate", "train", "score", "calibrate", "serve")}


def test_no_verb_is_left_out_of_the_path() -> None:
    root = ALL[()]
    assert sorted(root.list_commands(None)) == sorted(root.commands)


def test_every_verb_has_the_same_flags_for_the_same_things() -> None:
    without_json = {("demo",), ("serve",)}  # they print results of other verbs, or serve
    for path, command in VERBS.items():
        flags = {flag for parameter in command.params for flag in parameter.opts}
        assert "--config" in flags, path
        assert ("--json" in flags) == (path not in without_json), path
        assert not flags & {"--records", "--sources"}, path


@pytest.mark.parametrize("path", [("ask",), ("annotate",), ("train", "stack"), ("train", "rlmf")])
def test_one_model_is_the_default(path: tuple[str, ...]) -> None:
    from confide.cli.engines import DEFAULT_MODEL
    from confide.engines.transformers.loading import BUNDLED

    assert DEFAULT_MODEL == BUNDLED
    assert {p.default for p in VERBS[path].params if p.name == "model"} == {BUNDLED}


def test_the_version_is_told() -> None:
    assert CliRunner().invoke(app, ["--version"]).output == f"confide {__version__}\n"
