"""``confide score``: every source's confidence for answered records."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def score(
    records: Annotated[Path, typer.Option(help="Annotated records.")],
    out: Annotated[Path, typer.Option(help="Scored records (JSON lines or Parquet).")],
    model: Annotated[
        str | None,
        typer.Option(help="Trained folder, or the model that answered; none for sources that need no model."),
    ] = None,
    sources: Annotated[str, typer.Option(help="Comma-separated sources, or `all` that there are.")] = "all",
    seed: Annotated[int, typer.Option(help="Seed of the floor `shuffled`.")] = 0,
) -> None:
    """Add confidences to records; confidences that are already there are kept.

    Example: `confide score --model runs/reader --records runs/records.jsonl --out runs/scored.jsonl`
    """
    from rich.console import Console

    from confide.cli.progress import progress_bar
    from confide.model import load
    from confide.records import read_records, write_records
    from confide.scoring import available
    from confide.scoring import score as run

    rows = read_records(records)
    loaded = load(model) if model else None
    wanted = available(rows, loaded) if sources == "all" else [name.strip() for name in sources.split(",")]
    with progress_bar("scoring") as progress:
        scored = run(rows, wanted, model=loaded, seed=seed, progress=progress)
    write_records(out, scored)
    Console(soft_wrap=True).print(f"{out}: {len(scored)} records, {len(wanted)} sources: {', '.join(wanted)}")
