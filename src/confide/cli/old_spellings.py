"""Old spellings of flags: they still work, and one warning says how they are written now."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import islice
from typing import Any

from typer.core import TyperCommand

from confide.cli.narrow_help import WholeHelp
from confide.cli.printing import warn

RECORDS = "RECORDS"
"""The argument of every verb that reads records; it is the last one where there are several."""

OLD = {
    "--records": RECORDS,
    "--sources": "--source",
    "--signal": "--source",  # of signal-quality
    "--engine": "--base-url",  # of hedge
    "--fresh": RECORDS,  # of validate, in a configuration
}
"""Old spelling → today's. A verb that has a flag of the old name means that flag."""


class Verb(WholeHelp, TyperCommand):
    """A verb of the command line: takes old spellings, too."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments in today's spelling; warns where some are in an old one."""
        args, old = today(args, spellings(self))
        warn_of(old)
        return super().parse_args(ctx, args)


def spellings(command: Any) -> set[str]:
    """The flags that a command takes, and `RECORDS` where it takes records."""
    return {RECORDS if name == "records" else name for parameter in command.params for name in parameter.opts}


def today(args: Sequence[str], known: Collection[str]) -> tuple[list[str], list[str]]:
    """Arguments in today's spelling, and the old flags among them.

    Args:
        args: as they were given.
        known: the verb's `spellings`.
    """
    new: list[str] = []
    records: list[str] = []
    old: list[str] = []
    rest = iter(args)
    for arg in rest:
        if arg == "--":
            new += [arg, *rest]
            break
        flag, sign, value = arg.partition("=")
        now = renamed(flag, known)
        if now == RECORDS:
            records += [value] if sign else islice(rest, 1)
        else:
            new.append(arg if now is None else f"{now}{sign}{value}")
        old += [] if now is None else [flag]
    if records and "--" not in new:
        new.append("--")
    return [*new, *records], list(dict.fromkeys(old))


def renamed(flag: str, known: Collection[str]) -> str | None:
    """Today's spelling of a flag; None for one that is spelled as today, or that the verb never had."""
    now = OLD.get(flag)
    return now if now in known and flag not in known else None


def warn_of(old: Sequence[str]) -> None:
    """Say in one warning how ``old`` spellings are written now."""
    if old:
        said = "; ".join(
            f"{flag} FILE is now written FILE alone" if OLD[flag] == RECORDS else f"{flag} is now {OLD[flag]}"
            for flag in old
        )
        warn(f"{said} (the old spelling still works)")
