"""``confide score``: every source's confidence for answered records."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def _load(name: str) -> Any:
    """A model; what needs none works without torch."""
    from confide.model import load

    return load(name)


def score(
    records: Annotated[Path, typer.Option(help="Annotated records.")],
    out: Annotated[Path, typer.Option(help="Scored records (JSON lines or Parquet).")],
    model: Annotated[
        str | None,
        typer.Option(help="Trained folder, or the model that answered; none for sources that need no model."),
    ] = None,
    sources: Annotated[
        str,
        typer.Option(
            help="Comma-separated sources, `all` that there are, or `standard`: all but those that write for every row."
        ),
    ] = "standard",
    verifier: Annotated[str | None, typer.Option(help="Another model that judges the answers (`verifier`).")] = None,
    judge: Annotated[
        str | None, typer.Option(help="A model that says which sampled answers mean the same (`semantic_entropy`).")
    ] = None,
    other_model: Annotated[
        bool, typer.Option("--other-model", help="The answers are another model's; sources become `other_…`.")
    ] = False,
    samples: Annotated[
        bool, typer.Option("--samples", help="Also read the sampled answers of the rows reported on.")
    ] = False,
    controls: Annotated[
        bool, typer.Option("--controls", help="Add `…_swapped`: the same answer read with another question.")
    ] = False,
    calibrated: Annotated[
        bool, typer.Option("--calibrated", help="Add `…_calibrated`, fitted on the validation rows.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of the floor `shuffled` and of exchanged questions.")] = 0,
) -> None:
    """Add confidences to records; confidences that are already there are kept.

    Example: `confide score --model runs/reader --records runs/records.jsonl --out runs/scored.jsonl`
    """
    from rich.console import Console

    from confide.methods.catalogue import available
    from confide.methods.sampled import ModelJudge
    from confide.methods.scoring import Options
    from confide.methods.scoring import score as run
    from confide.progress import progress_bar
    from confide.records import read_records, write_records

    rows = read_records(records)
    loaded = _load(model) if model else None
    options = Options(
        verifier=_load(verifier).engine if verifier else None,
        judge=ModelJudge(_load(judge).engine) if judge else None,
        other_model=other_model,
        samples=samples,
        controls=controls,
        calibrated=calibrated,
        seed=seed,
    )
    if sources in ("all", "standard"):
        wanted = available(rows, loaded, verifier=verifier is not None, slow=sources == "all")
    else:
        wanted = [name.strip() for name in sources.split(",")]
    with progress_bar("scoring") as progress:
        scored = run(rows, wanted, model=loaded, options=options, progress=progress)
    write_records(out, scored)
    Console(soft_wrap=True).print(f"{out}: {len(scored)} records, {len(wanted)} sources: {', '.join(wanted)}")
