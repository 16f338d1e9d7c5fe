"""``confide compare``: two runs on the same questions, before and after a training or of two models."""

from __future__ import annotations

import json as plain_json
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option

from confide.cli.flags import Flags, Json
from confide.cli.outputs import Folder
from confide.cli.printing import names_in, print_json
from confide.cli.terminal_tables import make_console, print_table
from confide.errors import ConfideError
from confide.files import locked, write_text
from confide.hashing import sha256_of_file
from confide.score_columns import ScoreColumns

if TYPE_CHECKING:
    from confide.records import Record

WHAT = "Scored, graded records, or the folder of a report on them."
SHOWN = {"auroc": "AUROC", "brier": "Brier", "coverage_at_risk": "kept"}
"""The compared figures, as a terminal names them."""


def compare(
    a: Annotated[Path, Argument(metavar="A", help=f"The run before. {WHAT}")],
    b: Annotated[Path, Argument(metavar="B", help=f"The run after. {WHAT}")],
    columns: Annotated[ScoreColumns, Flags()],
    out: Annotated[
        Path | None,
        Option(metavar="DIR", help="Folder for compare.json and compare.html."),
        Folder("compare.json", "compare.html"),
    ] = None,
    source: Annotated[str | None, Option(metavar="NAMES", help="Compare these sources only (comma-separated).")] = None,
    max_risk: Annotated[float, Option(help="The share of wrong for which the share kept is given.")] = 0.1,
    seed: Annotated[int, Option(help="Seed of the bootstrap.")] = 0,
    resamples: Annotated[int, Option(min=1, help="Bootstrap draws for the intervals.")] = 1000,
    json: Json = False,
) -> None:
    """Compare two runs on the same questions: B minus A, with intervals by entity.

    Rows are matched by id, or by their number where neither file has ids. Only the test split counts where records
    carry splits. Says for accuracy and for every source that both have whether B is better, worse, or cannot be told
    apart, and which answers changed. A single source of each is compared with the other. The folder of a report knows
    the columns that its report was called with.

    Example: `confide compare before.jsonl after.jsonl --out runs/compared`

    Example: `confide compare runs/report-small runs/report-large`
    """
    from confide.evaluation.comparison import compare as judge
    from confide.evaluation.pairs import Pairs
    from confide.records import read_scores
    from confide.report.comparison_page import render_comparison

    runs = [list(read_scores(*file_of(path, columns))) for path in (a, b)]
    if source is not None:
        runs = [_only(rows, names_in(source), runs) for rows in runs]
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


def file_of(path: Path, columns: ScoreColumns) -> tuple[Path, ScoreColumns]:
    """The file of records that ``path`` is, with the ``columns`` that are named, or that its report was made of.

    Raises:
        ConfideError: A folder without a report, or one whose records are not known, not there, or others by now.
    """
    if not path.is_dir():
        return path, columns
    file, digest, called_with = _told(path)
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
    return same, called_with


def _told(folder: Path) -> tuple[str, str, ScoreColumns]:
    """The file that a report says it is of, its SHA-256 and its columns."""
    results = folder / "results.json"
    if not results.is_file():
        raise ConfideError(f"{folder} holds no results.json: name the folder of a report, or a file of scored records")
    try:
        named = plain_json.loads(results.read_text(encoding="utf-8")).get("records")
        return named["file"], named["sha256"], ScoreColumns(**named.get("columns", {}))
    except (ValueError, AttributeError, TypeError, KeyError):
        raise ConfideError(
            f"{results} does not say which records it is of; a comparison needs the rows: name their file instead"
        ) from None


def _only(rows: list[Record], names: list[str], runs: list[list[Record]]) -> list[Record]:
    """The records with these sources alone; of several names each run may lack some, if not all."""
    from confide.evaluation.record_columns import only

    here = {source for record in rows for source in record.confidence}
    anywhere = {source for run in runs for record in run for source in record.confidence}
    return list(only(rows, [name for name in names if name in here or name not in anywhere] or names))


def _print(results: dict[str, Any]) -> None:
    """Print the sentences, one line a source, and what has no partner."""
    from confide.evaluation.comparison import unpaired
    from confide.evaluation.wording import some

    console = make_console()
    for which, name in results["names"].items():
        models = ", ".join(results["models"][which])
        console.print(f"{which.upper()}: {name}{f' ({models})' if models else ''}", markup=False, soft_wrap=True)
    if entries := results["sources"]:
        n, risk = some(results["n"], "common row"), results["max_risk"]
        cells = {title: [_cell(name, entry[name]) for entry in entries.values()] for name, title in SHOWN.items()}
        title = f"B − A on {n}, 95% intervals by entity; kept: share with at most {risk:.0%} wrong"
        print_table(console, [("source", list(entries)), *cells.items()], title=title)
    for sentence in results["verdict"]["sentences"]:
        console.print(sentence, markup=False)
    for line in unpaired(results):
        console.print(line, markup=False, style="yellow")


def _cell(name: str, entry: dict[str, Any] | None) -> str:
    """A difference with its interval, and a word where the interval leaves 0 out."""
    from confide.evaluation.comparison import better
    from confide.evaluation.wording import interval

    if entry is None or entry["difference"]["value"] is None:
        return "–"
    found = better(name, entry["difference"])
    return interval(entry["difference"], sign=True) + (f" {found}" if found != "level" else "")
