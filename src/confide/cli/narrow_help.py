"""Help where a terminal is too narrow for a table: every flag on a line of its own, what it does below."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator
from typing import Any

import typer
from typer.core import TyperGroup

LEAST_COLUMNS = {True: 72, False: 100}
"""The least width at which a table of verbs (True), or of flags, shows every name in full."""


class WholeHelp:
    """Makes the help of a command of Typer stay whole on a narrow terminal."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help, as a table where there is room for one."""
        text = narrow_help(self, ctx)
        super().format_help(ctx, formatter) if text is None else typer.echo(text)  # type: ignore[misc]


class Verbs(WholeHelp, TyperGroup):
    """A group of verbs, which shows its help where none is named."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments; none at all ask for help."""
        return super().parse_args(ctx, args or ["--help"])


def narrow_help(command: Any, context: Any) -> str | None:
    """The help of a command without a table; None where the terminal has room for one."""
    verbs: dict[str, Any] = getattr(command, "commands", {})
    width = shutil.get_terminal_size().columns
    if width >= LEAST_COLUMNS[bool(verbs)]:
        return None
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    lines = [*_wrapped(f"Usage: {usage}", width), ""]
    for paragraph in (command.help or "").split("\n\n"):
        lines += [*_wrapped(_plain(paragraph), width), ""]
    lines += _parameters(command, context, width)
    for heading, names in _headings(command, context).items():
        lines += _wrapped(f"{heading}:", width)
        for name in names:
            lines += [f"  {name}", *_wrapped(_plain(verbs[name].get_short_help_str(400)), width, 6)]
        lines.append("")
    for line in (command.epilog or "").split("\n"):
        lines += _wrapped(_plain(line), width) if line else []
    return "\n".join(lines).rstrip()


def _parameters(command: Any, context: Any, width: int) -> Iterator[str]:
    """The lines of the arguments and the flags."""
    for kind, heading in (("argument", "Arguments"), ("option", "Options")):
        records = [p.get_help_record(context) for p in command.get_params(context) if p.param_type_name == kind]
        if shown := [record for record in records if record is not None]:
            yield f"{heading}:"
            for name, text in shown:
                yield from _wrapped(name, width, 2)
                yield from _wrapped(_plain(text), width, 6)
            yield ""


def _headings(command: Any, context: Any) -> dict[str, list[str]]:
    """The names of the verbs of a group under their headings."""
    found: dict[str, list[str]] = {}
    for name in command.list_commands(context) if hasattr(command, "list_commands") else ():
        panel = getattr(command.commands[name], "rich_help_panel", None)
        found.setdefault(panel if isinstance(panel, str) else "Commands", []).append(name)
    return found


def _plain(text: str) -> str:
    """A text without the marks of Markdown, on one line."""
    return " ".join(text.replace("`", "").replace("**", "").split())


def _wrapped(text: str, width: int, indent: int = 0) -> list[str]:
    margin = " " * indent
    return textwrap.wrap(text, width, initial_indent=margin, subsequent_indent=margin, break_on_hyphens=False)
