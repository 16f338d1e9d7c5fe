"""``confide export``: an ordinary checkpoint, loadable without confide."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from typer import Option

from confide.cli.outputs import Folder


def export(
    model: Annotated[Path, Option(help="Trained folder.")],
    out: Annotated[Path, Option(help="Folder for the ordinary checkpoint."), Folder()],
) -> None:
    """Write the model with its new vocabulary rows as an ordinary checkpoint; `confide.json` names the rows.

    Example: `confide export --model runs/reader --out runs/exported`
    """
    from confide.methods.checkpoint import export_checkpoint

    ids = export_checkpoint(model, out)
    typer.echo(f"{out}: ordinary checkpoint; new tokens {', '.join(f'{k}={v}' for k, v in ids.items())}")
