"""``confide evaluate``: is the number honest, and better than what comes for free?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table


def evaluate(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for results.json and report.html.")],
    records: Annotated[
        Path | None,
        typer.Argument(
            metavar="RECORDS", help="Scored records (JSON lines or Parquet). Default: the first file of --matrix."
        ),
    ] = None,
    expert: Annotated[
        Path | None,
        typer.Option(
            metavar="RECORDS",
            help="Another model's graded answers to the same questions (same ids), to escalate to. "
            "Without it the expert is always right.",
        ),
    ] = None,
    expert_cost: Annotated[
        float | None,
        typer.Option(metavar="N", help="What an expert's answer costs, in answers of the model itself. Default: 10."),
    ] = None,
    matrix: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TRAINED=FILE",
            help="Records scored by what was trained on TRAINED: one row of the matrix of training against test "
            "domains. Repeat it for every row.",
        ),
    ] = None,
    coupling: Annotated[
        Path | None,
        typer.Option(
            metavar="RECORDS",
            help="The original model's graded answers to the same questions (same ids): after more training, which "
            "model does the confidence follow?",
        ),
    ] = None,
    sources: Annotated[
        str | None, typer.Option(metavar="NAMES", help="Judge these sources only (comma-separated).")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap.")] = 0,
    resamples: Annotated[int, typer.Option(min=1, help="Bootstrap draws for the intervals.")] = 1000,
    json: Annotated[bool, typer.Option("--json", help="Print results.json instead of a table.")] = False,
) -> None:
    """Judge every confidence in RECORDS: ranking, calibration, what it saves, with intervals by entity.

    Writes DIR/results.json and DIR/report.html. Only the test split counts where records carry splits. Questions
    that lost their right option (`has_answer` is false) only count for rejection.

    Example: `confide evaluate scored.jsonl --out runs/report`

    Example: `confide evaluate --matrix geography=G.jsonl --matrix law=L.jsonl --out runs/matrix`
    """
    from json import dumps

    from rich.console import Console
    from rich.progress import Progress

    from confide.errors import ConfideError
    from confide.evaluation import evaluate as judge
    from confide.evaluation.controls import control
    from confide.evaluation.record_columns import only
    from confide.files import locked, write_text
    from confide.records import Record, read_records
    from confide.report import render

    if out.exists() and not out.is_dir():
        raise ConfideError(f"{out} is a file, --out wants a folder")
    trained_files = _trained(matrix or [])
    main = records if records is not None else next(iter(trained_files.values()), None)
    if main is None:
        raise ConfideError("no records: name a file of scored records, or --matrix TRAINED=FILE")
    read: dict[Path, list[Record]] = {}
    for path in (main, *trained_files.values(), *(p for p in (expert, coupling) if p is not None)):
        if path not in read:
            read[path] = read_records(path)
    names = None if sources is None else [name.strip() for name in sources.split(",") if name.strip()]
    if names is not None:
        for path in {main, *trained_files.values()}:
            read[path] = only(read[path], names)
    rows = read[main]
    total = len({source for row in rows for source in row.confidence})
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("Judging", total=total + 1)

        def step(source: str) -> None:
            progress.update(task, advance=1, description=f"Judging {source}".replace("[", r"\["))

        results = judge(
            rows,
            expert=None if expert is None else read[expert],
            expert_cost=expert_cost,
            trained={name: read[path] for name, path in trained_files.items()},
            original=None if coupling is None else read[coupling],
            seed=seed,
            resamples=resamples,
            progress=step,
        )
        if cut := [path.name for path in read if _half_written(path)]:
            detail = f"the half-written last line of {', '.join(cut)} left out"
            results["controls"]["truncated"] = control("warning", detail, count=len(cut))
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
    if (table := _matrix(results)) is not None:
        console.print(table)
    for sentence in results["verdict"]["sentences"]:
        console.print(sentence, markup=False)
    for name, entry in results["controls"].items():
        if entry["verdict"] in ("warning", "failed"):
            console.print(f"{entry['verdict']}: {name}: {entry['detail']}", markup=False, style="yellow")
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


def _trained(pairs: list[str]) -> dict[str, Path]:
    """What was trained on to the file scored with it."""
    from confide.errors import ConfideError

    out: dict[str, Path] = {}
    for pair in pairs:
        name, sign, file = pair.partition("=")
        if not (name and sign and file):
            raise ConfideError(f"--matrix wants TRAINED=FILE, not {pair!r}")
        if name in out:
            raise ConfideError(f"--matrix names {name!r} twice")
        out[name] = Path(file)
    return out


def _half_written(path: Path) -> bool:
    """Whether the last line was cut off in writing, so that it was not read."""
    from pydantic import ValidationError

    from confide.records import Record

    last = b"" if path.suffix == ".parquet" else path.read_bytes().rpartition(b"\n")[2]
    try:
        return bool(last.strip()) and not Record.model_validate_json(last)
    except ValidationError:
        return True


def _matrix(results: dict[str, Any]) -> Table | None:
    """AUROC of the main source, what it was trained on down, where it is tested across."""
    from rich.table import Table
    from rich.text import Text

    found = results["matrix"]
    if found is None or found["source"] is None:
        return None
    table = Table(title=f"AUROC of {found['source']}; in brackets its lead over the best free source")
    table.add_column("trained on")
    for column in found["columns"]:
        table.add_column(Text(column), justify="right")
    cells = {(cell["trained_on"], cell["tested_on"]): cell for cell in found["cells"]}
    for row in found["rows"]:
        table.add_row(Text(row), *(_matrix_cell(cells.get((row, c)), found["source"]) for c in found["columns"]))
    return table


def _matrix_cell(cell: dict[str, Any] | None, source: str) -> str:
    entry = None if cell is None else cell["sources"].get(source)
    if cell is None or entry is None or entry["auroc"]["value"] is None:
        return "–"
    if not cell["measurable"]:
        return "not measurable"
    lead = entry["against_free"]
    gap = "" if lead is None or lead["value"] is None else f" ({lead['value']:+.3f})"
    return f"{entry['auroc']['value']:.3f}{gap}"


def _cell(metric: dict[str, Any] | None, *, interval: bool) -> str:
    if metric is None or metric["value"] is None:
        return "–"
    if not interval or metric["low"] is None:
        return f"{metric['value']:.3f}"
    return f"{metric['value']:.3f} \\[{metric['low']:.3f}, {metric['high']:.3f}]"
