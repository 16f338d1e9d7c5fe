"""What a verb says last: the command that comes next, or after Ctrl-C what is kept and how to go on.

Both go to standard error, so that standard output holds results alone. A verb that another one runs says neither.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from shlex import quote
from typing import Any

import typer

from confide.cli.exit_codes import ExitCode
from confide.files import is_stream

_running: ContextVar[int] = ContextVar("running", default=0)
"""How many verbs run, one inside another."""

_as_json: ContextVar[bool] = ContextVar("as_json", default=False)
"""Whether the verb that runs prints JSON, for a program, which needs no hint."""

GOES_ON = "what is finished is in {out}, and the same command goes on from there"
CHECKPOINT = "the last whole checkpoint in {out} is kept, and the same command goes on from there"
KEPT = {
    "annotate": GOES_ON,
    "hedge": GOES_ON,
    "demo": GOES_ON,
    "reader": CHECKPOINT,
    "self_ref": CHECKPOINT,
    "rlmf": CHECKPOINT,
    "red_flag": CHECKPOINT,
    "serve": "what the router decided is in its store, and the same command goes on",
}
"""Verb → what is kept of it; of all others nothing is, as they write at their end."""
NOTHING = "{out} is as it was before, and the same command starts over"
NO_OUT = "nothing was changed, and the same command starts over"


@contextmanager
def running(verb: str, values: Mapping[str, Any]) -> Iterator[None]:
    """Run a verb with these flags; after Ctrl-C it says what is kept, and ends with that exit code."""
    depth, quiet = _running.set(_running.get() + 1), _as_json.set(bool(values.get("json")))
    try:
        yield
    except KeyboardInterrupt:
        if _running.get() == 1:
            tell(f"Interrupted: {kept(verb, values.get('out'))}.")
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    finally:
        _running.reset(depth)
        _as_json.reset(quiet)


def kept(verb: str, out: Path | None) -> str:
    """What is kept of a verb that is interrupted, and how to go on."""
    return KEPT.get(verb, NO_OUT if out is None else NOTHING).format(out=out)


def tell_next(*words: str | Path, comment: str = "") -> None:
    """Say which command comes next; a verb that prints JSON says nothing.

    Args:
        words: the command; files and folders in it are quoted as a shell needs it. Where one is a stream, which a
            second command cannot read, nothing is said.
        comment: what the command is for.
    """
    if _as_json.get() or _running.get() > 1 or any(isinstance(word, Path) and is_stream(word) for word in words):
        return
    command = " ".join(quote(str(word)) if isinstance(word, Path) else word for word in words)
    tell(f"Next: {command}" + (f"  # {comment}" if comment else ""))


def beside(out: Path, name: str) -> Path:
    """The place of a next output: ``name`` in the folder of ``out``."""
    return out.parent / name


def tell(line: str) -> None:
    """Print a line on standard error."""
    typer.echo(line, err=True)
