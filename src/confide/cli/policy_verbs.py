"""`confide policy`: read a policy file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Read a policy file.")


@app.callback()
def _group() -> None:
    """Read a policy file."""


@app.command()
def show(
    policy: Annotated[Path, typer.Argument(help="Policy file from `confide calibrate`.")],
    json: Annotated[bool, typer.Option("--json", help="Print the checked file as JSON.")] = False,
) -> None:
    """Say in words what a policy does, what it promises and what it does not.

    Example: `confide policy show policy.json`
    """
    from confide.policies.policy import Policy

    promise = Policy.load(policy)
    typer.echo(promise.to_json().rstrip() if json else promise.explain())
