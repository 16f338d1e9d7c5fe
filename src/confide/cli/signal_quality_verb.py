"""``confide signal-quality``: is a dense signal worth training on?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table


def signal_quality(
    records: Annotated[
        Path, typer.Argument(metavar="RECORDS", help="Records whose answers and samples carry confidences.")
    ],
    target: Annotated[
        str | None,
        typer.Option(
            metavar="TARGET",
            help="What a signal should predict: `f_gold`, `correct` or `consistency`. "
            "Default: `f_gold` where answers carry it, else `correct`.",
        ),
    ] = None,
    signal: Annotated[
        str | None, typer.Option(metavar="NAMES", help="Judge these signals only (comma-separated).")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap.")] = 0,
    resamples: Annotated[int, typer.Option(min=1, help="Bootstrap draws for the intervals.")] = 1000,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON instead of a table.")] = False,
) -> None:
    """Say for every signal in RECORDS whether it orders the answers to a question by what it should predict.

    Training by comparison needs that order; a signal that only knows hard questions from easy ones has none. Rows of
    the training split are left out where there are others. Prompting (`p_true`, `verbalized`) stands beside.

    Example: `confide signal-quality rollouts.jsonl --signal f_pred`
    """
    from json import dumps
    from typing import get_args

    from rich.console import Console
    from rich.progress import Progress

    from confide.errors import ConfideError
    from confide.evaluation import signal_quality as module
    from confide.records import read_records

    known = {name: name for name in get_args(module.Target)}
    if target is not None and target not in known:
        raise ConfideError(f"--target is f_gold, correct or consistency, not {target!r}")
    names = None if signal is None else [name.strip() for name in signal.split(",") if name.strip()]
    rows = read_records(records)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("Judging", total=None)
        results = module.signal_quality(
            rows,
            target=None if target is None else known[target],
            signals=names,
            seed=seed,
            resamples=resamples,
            progress=lambda name: progress.update(task, description=f"Judging {name}".replace("[", r"\[")),
        )
    if json:
        typer.echo(dumps(results, ensure_ascii=False, allow_nan=False, indent=1))
        return
    console = Console(highlight=False)
    console.print(_table(results))
    for entry in results["signals"].values():
        console.print(entry["sentence"], markup=False)


def _table(results: dict[str, Any]) -> Table:
    """One line a signal: the correlations that a terminal has room for."""
    from rich.table import Table
    from rich.text import Text

    n, questions = results["n"], results["questions"]
    table = Table(
        title=f"Rank correlation with {results['target']}; {n:,} answers, {questions:,} questions",
        caption="ρ Spearman, τ Kendall's τ_b; within a question, averaged; 95% intervals by entity; † prompting",
    )
    table.add_column("signal", overflow="fold")
    for title in ("ρ within", "τ", "ρ pooled", "answers", "missing"):
        table.add_column(title, justify="right", no_wrap=True)
    for name, entry in results["signals"].items():
        within, missing = entry["within"], entry["missing"]
        table.add_row(
            Text(name + (" †" if entry["family"] == "asked" else "")),
            _cell(within["spearman"], interval=True),
            _cell(within["kendall"]),
            _cell(entry["pooled"]["spearman"]),
            f"{entry['n']:,}",
            f"{missing:,}" if missing else "",
        )
    return table


def _cell(entry: dict[str, float | None], *, interval: bool = False) -> str:
    if entry["value"] is None:
        return "–"
    bounds = f" \\[{entry['low']:.2f}, {entry['high']:.2f}]" if interval and entry["low"] is not None else ""
    return f"{entry['value']:.2f}{bounds}"
