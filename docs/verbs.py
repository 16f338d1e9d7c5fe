"""The command line's part of the reference, from the command line itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from typer.main import get_command

from confide.cli.exit_codes import ExitCode
from confide.cli.main import app


def exit_codes_table() -> str:
    """Every exit code and its meaning."""
    rows = (f"| {int(code)} | {code.meaning} |" for code in ExitCode)
    return "\n".join(["| code | meaning |", "|---|---|", *rows])


def verbs_page() -> str:
    """A section for every verb: what it does, and a table of what it takes."""
    return "\n\n".join(_section(name, verb) for name, verb in _verbs(get_command(app), "confide"))


def _verbs(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    commands = getattr(command, "commands", None)
    if commands is None:
        yield name, command
        return
    for word, verb in commands.items():
        yield from _verbs(verb, f"{name} {word}")


def _section(name: str, verb: Any) -> str:
    rows = [_row(parameter) for parameter in verb.params if not getattr(parameter, "hidden", False)]
    table = ["| argument or flag | default | meaning |", "|---|---|---|", *rows]
    return "\n".join([f"### {name}", "", _one_line(verb.help), "", *table])


def _row(parameter: Any) -> str:
    argument = parameter.param_type_name == "argument"
    name = parameter.name.upper() if argument else ", ".join([*parameter.opts, *parameter.secondary_opts])
    default = "required" if parameter.required else _default(parameter)
    return f"| `{name}` | {default} | {_one_line(parameter.help or '').replace('|', chr(92) + '|')} |"


def _default(parameter: Any) -> str:
    default = parameter.default
    empty = default is None or default is False or default in ("", (), [])
    return "–" if callable(default) or empty else f"`{default}`"


def _one_line(text: str) -> str:
    """Paragraphs stay, lines inside one are joined."""
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))
