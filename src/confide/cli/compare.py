"""``confide compare``: two runs on the same questions, before and after a training or of two models."""

from __future__ import annotations

import json as plain_json
from json import dumps
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text
from typer import Argument, Option

from confide.cli.outputs import Folder
from confide.cli.printing import names_in, print_json
from confide.errors import ConfideError
from confide.files import locked, write_text
from confide.hashing import sha256_of_file

WHAT = "Scored, graded records, or the folder of a report on them."
SHOWN = {"auroc": "AUROC", "brier": "Brier", "coverage_at_risk": "kept"}
"""The compared figures, as a terminal names them."""


def compare(
    a: Annotated[Path, Argument(metavar="A", help=f"The run before. {WHAT}")],
    b: Annotated[Path, Argument(metavar="B", help=f"The run after. {WHAT}")],
    out: Annotated[
        Path | None,
        Option(metavar="DIR", help="Folder for compare.json and compare.html."),
        Folder("compare.json", "compare.html"),
    ] = None,
    source: Annotated[str | None, Option(metavar="NAMES", help="Compare these sources only (comma-separated).")] = None,
    max_risk: Annotated[float, Option(help="The share of wrong for which the share kept is given.")] = 0.1,
    seed: Annotated[int, Option(help="Seed of the bootstrap.")] = 0,
    resamples: Annotated[int, Option(min=1, help="Bootstrap draws for the intervals.")] = 1000,
    json: Annotated[bool, Option("--json", help="Print compare.json instead of a table.")] = False,
) -> None:
    """Compare two runs on the same questions: B minus A, with intervals by entity.

    Rows are matched by id. Only the test split counts where records carry splits. Says for accuracy and for every
    source that both have whether B is better, worse, or cannot be told apart, and which answers changed.

    Example: `confide compare before.jsonl after.jsonl --out runs/compared`

    Example: `confide compare runs/report-small runs/report-large`
    """
    from confide.evaluation.comparison import compare as judge
    from confide.evaluation.pairs import Pairs
    from confide.evaluation.record_columns import only
    from confide.records import read_records
    from confide.report.comparison_page import render_comparison

    runs = [read_records(records_of(path)) for path in (a, b)]
    if source is not None:
        runs = [only(rows, names_in(source)) for rows in runs]
    pairs = Pairs.of(*runs)
    names = tuple(str(path).encode(errors="replace").decode() for path in (a, b))
    results = judge(pairs, names=(names[0], names[1]), max_risk=max_risk, seed=seed, resamples=resamples)
    if out is not None:
        page = render_comparison(results, pairs)
        with locked(out):
            write_text(out / "compare.json", dumps(results, ensure_ascii=False, allow_nan=False, indent=1) + "\n")
            write_text(out / "compare.html", page)
    if json:
        print_json(results, indent=1)
        return
    _print(results)
    if out is not None:
        typer.echo(f"{out / 'compare.html'}")


def records_of(path: Path) -> Path:
    """The file of records that ``path`` is, or that its report was made of.

    Raises:
        ConfideError: A folder without a report, or one whose records are not known, not there, or others by now.
    """
    if not path.is_dir():
        return path
    results = path / "results.json"
    if not results.is_file():
        raise ConfideError(f"{path} holds no results.json: name the folder of a report, or a file of scored records")
    try:
        named = plain_json.loads(results.read_text(encoding="utf-8")).get("records")
        file, digest = named["file"], named["sha256"]
    except (ValueError, AttributeError, TypeError, KeyError):
        raise ConfideError(
            f"{results} does not say which records it is of; a comparison needs the rows: name their file instead"
        ) from None
    # As the report was called for, else beside it: a folder may have been moved with its records.
    there = [place for place in (Path(file), path / Path(file).name, path.parent / Path(file).name) if place.is_file()]
    if not there:
        raise ConfideError(f"{path} is a report on {file}, which is not there: name the file of its records instead")
    same = next((place for place in there if sha256_of_file(place) == digest), None)
    if same is None:
        raise ConfideError(
            f"{there[0]} has changed since the report in {path} was made: run `confide evaluate` on it again, "
            "or name the file itself to compare what it holds now"
        )
    return same


def _print(results: dict[str, Any]) -> None:
    """Print the sentences, one line a source, and what has no partner."""
    from confide.evaluation.comparison import unpaired
    from confide.evaluation.wording import some

    console = Console(highlight=False)
    for which, name in results["names"].items():
        models = ", ".join(results["models"][which])
        console.print(f"{which.upper()}: {name}{f' ({models})' if models else ''}", markup=False, soft_wrap=True)
    if results["sources"]:
        n, risk = some(results["n"], "common row"), results["max_risk"]
        table = Table(
            title=f"B − A on {n}, 95% intervals by entity", caption=f"kept: share with at most {risk:.0%} wrong"
        )
        table.add_column("source", overflow="fold")
        for title in SHOWN.values():
            table.add_column(title, justify="right")
        for source, entry in results["sources"].items():
            table.add_row(Text(source), *(_cell(name, entry[name]) for name in SHOWN))
        console.print(table)
    for sentence in results["verdict"]["sentences"]:
        console.print(sentence, markup=False)
    for line in unpaired(results):
        console.print(line, markup=False, style="yellow")


def _cell(name: str, entry: dict[str, Any] | None) -> Text:
    """A difference with its interval, and a mark where the interval leaves 0 out."""
    from confide.evaluation.comparison import better

    if entry is None or entry["difference"]["value"] is None:
        return Text("–")
    difference = entry["difference"]
    text = f"{difference['value']:+.3f}"
    if difference["low"] is not None:
        text += f"\n[{difference['low']:+.3f}, {difference['high']:+.3f}]"
    found = better(name, difference)
    style = {"better": "green", "worse": "red"}.get(found, "")
    return Text(text + (f"\n{found}" if found != "level" else ""), style=style)
