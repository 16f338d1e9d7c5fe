"""``confide evaluate``: is the number honest, and better than what comes for free?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table


def evaluate(
    records: Annotated[Path, typer.Argument(metavar="RECORDS", help="Scored records (JSON lines or Parquet).")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for results.json and report.html.")],
    expert: Annotated[
        Path | None,
        typer.Option(
            metavar="RECORDS",
            help="Another model's graded answers to the same questions (same ids), to escalate to. "
            "Without it the expert is always right.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap.")] = 0,
    resamples: Annotated[int, typer.Option(min=1, help="Bootstrap draws for the intervals.")] = 1000,
    json: Annotated[bool, typer.Option("--json", help="Print results.json instead of a table.")] = False,
) -> None:
    """Judge every confidence in RECORDS: ranking, calibration, what it saves, with intervals by entity.

    Writes DIR/results.json and DIR/report.html. Only the test split counts where records carry splits.

    Example: `confide evaluate scored.jsonl --out runs/report`
    """
    from json import dumps

    from rich.console import Console
    from rich.progress import Progress

    from confide import metrics
    from confide.errors import ConfideError
    from confide.files import locked, write_text
    from confide.records import read_records
    from confide.report import render

    if out.exists() and not out.is_dir():
        raise ConfideError(f"{out} is a file, --out wants a folder")
    rows = read_records(records)
    helper = None if expert is None else read_records(expert)
    names = {source for row in rows for source in row.confidence}
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("Judging", total=len(names) + 1)

        def step(source: str) -> None:
            progress.update(task, advance=1, description=f"Judging {source}".replace("[", r"\["))

        results = metrics.evaluate(rows, expert=helper, seed=seed, resamples=resamples, progress=step)
        progress.update(task, description="Writing the report")
        page = render(results, rows)
    text = dumps(results, ensure_ascii=False, allow_nan=False, indent=1)
    with locked(out):
        write_text(out / "results.json", text + "\n")
        write_text(out / "report.html", page)
    if json:
        typer.echo(text)
        return
    console = Console(highlight=False)
    console.print(_table(results))
    for sentence in results["verdict"]["sentences"]:
        console.print(sentence, markup=False)
    for name, control in results["controls"].items():
        if control["verdict"] in ("warning", "failed"):
            console.print(f"{control['verdict']}: {name}: {control['detail']}", markup=False, style="yellow")
    console.print(f"{out / 'report.html'}", markup=False, soft_wrap=True)


def _table(results: dict[str, Any]) -> Table:
    """One line a source: the metrics that a terminal has room for."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=f"{results['n']:,} rows, {results['accuracy']:.0%} right, 95% intervals by entity")
    table.add_column("source")
    columns = {"auroc": "AUROC", "brier": "Brier", "log_loss": "log loss", "ece": "ECE(10)"}
    for title in (*columns.values(), "missing"):
        table.add_column(title, justify="right", no_wrap=True)
    for source, entry in results["estimators"].items():
        cells = [_cell(entry[name], interval=name == "auroc") for name in columns]
        table.add_row(Text(source), *cells, str(entry["missing"] or ""))
    return table


def _cell(metric: dict[str, Any] | None, *, interval: bool) -> str:
    if metric is None or metric["value"] is None:
        return "–"
    if not interval or metric["low"] is None:
        return f"{metric['value']:.3f}"
    return f"{metric['value']:.3f} \\[{metric['low']:.3f}, {metric['high']:.3f}]"
