"""``confide export``: an ordinary checkpoint, loadable without confide."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def export(
    model: Annotated[Path, typer.Option(help="Trained folder.")],
    out: Annotated[Path, typer.Option(help="Folder for the ordinary checkpoint.")],
    seed: Annotated[int, typer.Option(help="Unused; kept so that all verbs take it.")] = 0,
) -> None:
    """Write the model with its new vocabulary rows as an ordinary checkpoint; `confide.json` names the rows.

    Example: `confide export --model runs/reader --out runs/exported`
    """
    from rich.console import Console

    from confide.methods.checkpoint import export_checkpoint

    ids = export_checkpoint(model, out)
    Console(soft_wrap=True).print(
        f"{out}: ordinary checkpoint; new tokens {', '.join(f'{k}={v}' for k, v in ids.items())}"
    )
