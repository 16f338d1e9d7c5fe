"""``confide evaluate``: is the number honest, and better than what comes for free? With ``confide signal-quality``."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from itertools import count
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text
from typer import Argument, Option

from confide.cli.flags import Flags, Identity
from confide.cli.outputs import Folder
from confide.cli.printing import names_in, print_json
from confide.errors import ConfideError
from confide.files import locked, write_text
from confide.progress import progress_bar
from confide.records.score_columns import ScoreColumns

if TYPE_CHECKING:
    from confide.records import Record

Records = Annotated[
    Path | None,
    Argument(
        metavar="RECORDS", help="Scored records (JSON lines, CSV or Parquet). Default: the first file of --matrix."
    ),
]
Expert = Annotated[
    Path | None,
    Option(
        metavar="RECORDS",
        help="Another model's graded answers to the same questions (same ids), to escalate to. "
        "Without it the expert is always right.",
    ),
]
ExpertCost = Annotated[
    float | None,
    Option(metavar="N", help="What an expert's answer costs, in answers of the model itself. Default: 10."),
]
Matrix = Annotated[
    list[str] | None,
    Option(
        metavar="TRAINED=FILE",
        help="Records scored by what was trained on TRAINED: one row of the matrix of training against test "
        "domains. Repeat it for every row.",
    ),
]
Coupling = Annotated[
    Path | None,
    Option(
        metavar="RECORDS",
        help="The original model's graded answers to the same questions (same ids): after more training, which "
        "model does the confidence follow?",
    ),
]
Sources = Annotated[str | None, Option(metavar="NAMES", help="Judge these sources only (comma-separated).")]
LEFT_OUT = {
    "other_splits": "of other splits",
    "ungraded": "without a grade",
    "without_answer": "that lost their right option, which only count for rejection",
}
"""What `results.json` counts as left out, in words."""
COLUMNS = {"auroc": "AUROC", "brier": "Brier", "log_loss": "log loss", "ece": "ECE(10)"}
"""The metrics that a terminal has room for."""


def evaluate(
    out: Annotated[
        Path,
        Option(metavar="DIR", help="Folder for results.json and report.html."),
        Folder("results.json", "report.html"),
    ],
    columns: Annotated[ScoreColumns, Flags()],
    records: Records = None,
    expert: Expert = None,
    expert_cost: ExpertCost = None,
    matrix: Matrix = None,
    coupling: Coupling = None,
    sources: Sources = None,
    identity: Identity = None,
    seed: Annotated[int, Option(help="Seed of the bootstrap.")] = 0,
    resamples: Annotated[int, Option(min=1, help="Bootstrap draws for the intervals.")] = 1000,
    json: Annotated[bool, Option("--json", help="Print results.json instead of a table.")] = False,
) -> None:
    """Judge every confidence in RECORDS: ranking, calibration, what it saves, with intervals by entity.

    Writes DIR/results.json and DIR/report.html. Only the test split counts where records carry splits. Questions
    that lost their right option (`has_answer` is false) only count for rejection.

    Example: `confide evaluate scored.jsonl --out runs/report`

    Example: `confide evaluate --matrix geography=G.jsonl --matrix law=L.jsonl --out runs/matrix`
    """
    from confide.evaluation import evaluate as judge
    from confide.report import render

    trained = _trained(matrix or [])
    main = records if records is not None else next(iter(trained.values()), None)
    if main is None:
        raise ConfideError("no records: name a file of scored records, or --matrix TRAINED=FILE")
    files = _read(
        [main, *trained.values()], [p for p in (expert, coupling) if p is not None], sources, identity, columns
    )
    rows = files[main]
    total, numbers = len({source for row in rows for source in row.confidence}), count(1)
    with progress_bar("judging") as progress:
        results = judge(
            rows,
            expert=None if expert is None else files[expert],
            expert_cost=expert_cost,
            trained={name: files[path] for name, path in trained.items()},
            original=None if coupling is None else files[coupling],
            seed=seed,
            resamples=resamples,
            progress=lambda source: progress(next(numbers), total, source),
        )
    _note_cut(results, files)
    page = render(results, rows)
    with locked(out):
        write_text(out / "results.json", dumps(results, ensure_ascii=False, allow_nan=False, indent=1) + "\n")
        write_text(out / "report.html", page)
    if json:
        print_json(results, indent=1)
    else:
        _print(results)
        typer.echo(f"{out / 'report.html'}")


def _note_cut(results: dict[str, Any], files: Iterable[Path]) -> None:
    """Say in the controls which files end in a line that was cut off in writing."""
    from confide.evaluation.controls import control
    from confide.records import half_written

    if cut := [path.name for path in files if half_written(path)]:
        names = os.fsencode(", ".join(cut)).decode(errors="replace")  # a name may be no text
        detail = f"the half-written last line of {names} left out"
        results["controls"]["truncated"] = control("warning", detail, count=len(cut))


def signal_quality(
    records: Annotated[Path, Argument(metavar="RECORDS", help="Records whose answers and samples carry confidences.")],
    target: Annotated[
        str | None,
        Option(
            metavar="TARGET",
            help="What a signal should predict: `f_gold`, `correct` or `consistency`. "
            "Default: `f_gold` where answers carry it, else `correct`.",
        ),
    ] = None,
    signal: Annotated[str | None, Option(metavar="NAMES", help="Judge these signals only (comma-separated).")] = None,
    identity: Identity = None,
    seed: Annotated[int, Option(help="Seed of the bootstrap.")] = 0,
    resamples: Annotated[int, Option(min=1, help="Bootstrap draws for the intervals.")] = 1000,
    json: Annotated[bool, Option("--json", help="Print the result as JSON instead of a table.")] = False,
) -> None:
    """Say for every signal in RECORDS whether it orders the answers to a question by what it should predict.

    Training by comparison needs that order; a signal that only knows hard questions from easy ones has none. Rows of
    the training split are left out where there are others. Prompting (`p_true`, `verbalized`) stands beside.

    Example: `confide signal-quality rollouts.jsonl --signal f_pred`
    """
    from confide.evaluation import signal_quality as module
    from confide.policies.identities import answered_by, check_one_model
    from confide.records import read_records

    known = {name: name for name in get_args(module.Target)}
    if target is not None and target not in known:
        raise ConfideError(f"--target is f_gold, correct or consistency, not {target!r}")
    rows = answered_by(identity, read_records(records))
    check_one_model(rows)
    with progress_bar("judging") as progress:
        results = module.signal_quality(
            rows,
            target=None if target is None else known[target],
            signals=None if signal is None else names_in(signal),
            seed=seed,
            resamples=resamples,
            progress=progress,
        )
    if json:
        print_json(results, indent=1)
        return
    console = Console(highlight=False)
    console.print(_signal_table(results))
    for entry in results["signals"].values():
        console.print(entry["sentence"], markup=False)


def _trained(pairs: list[str]) -> dict[str, Path]:
    """The file that was scored with what was trained on a name, by the name."""
    files: dict[str, Path] = {}
    for pair in pairs:
        name, sign, file = pair.partition("=")
        if not (name and sign and file):
            raise ConfideError(f"--matrix wants TRAINED=FILE, not {pair!r}")
        if name in files:
            raise ConfideError(f"--matrix names {name!r} twice")
        files[name] = Path(file)
    return files


def _read(
    judged: list[Path], others: list[Path], sources: str | None, identity: str | None, columns: ScoreColumns
) -> dict[Path, list[Record]]:
    """Every file's records; those that are ``judged`` keep only the named sources and the rows of one model."""
    from confide.evaluation.record_columns import only
    from confide.policies.identities import answered_by
    from confide.records import read_records, read_scores

    files = {path: read_scores(path, columns) for path in dict.fromkeys(judged)}
    files |= {path: read_records(path) for path in others if path not in files}
    files |= {path: answered_by(identity, files[path]) for path in dict.fromkeys(judged)}
    if sources is not None:
        files |= {path: only(files[path], names_in(sources)) for path in dict.fromkeys(judged)}
    return files


def _print(results: dict[str, Any]) -> None:
    """Print one line per source, the matrix if any, the verdict, the controls that failed, and which source to take."""
    console = Console(highlight=False)
    fine = results["signal"]["fine"] if results["signal"] else "right"
    table = Table(title=f"{results['n']:,} rows, {results['accuracy']:.0%} {fine}, 95% intervals by entity")
    table.add_column("source")
    for title in (*COLUMNS.values(), "missing"):
        table.add_column(title, justify="right", no_wrap=True)
    for source, entry in results["estimators"].items():
        cells = [_cell(entry[name], 3, interval=name == "auroc") for name in COLUMNS]
        table.add_row(Text(source), *cells, str(entry["missing"] or ""))
    console.print(table)
    if left := [f"{count:,} {LEFT_OUT[name]}" for name, count in results["left_out"].items() if count]:
        console.print(f"Left out: {', '.join(left)}.", markup=False)
    if results["judge"] is not None:
        from confide.policies.guarantees import JudgeError

        said = JudgeError.model_validate(results["judge"]).explain("answers")
        console.print(f"{said} All figures are of rows with a label.", markup=False)
    if results["matrix"] is not None and results["matrix"]["source"] is not None:
        console.print(_matrix_table(results["matrix"]))
    for sentence in results["verdict"]["sentences"]:
        console.print(sentence, markup=False)
    for name, entry in results["controls"].items():
        if entry["verdict"] in ("warning", "failed"):
            console.print(f"{entry['verdict']}: {name}: {entry['detail']}", markup=False, style="yellow")
    console.print(results["recommendation"]["reason"], markup=False)
    if (command := results["recommendation"]["next"]) is not None:
        typer.echo(command)


def _matrix_table(matrix: dict[str, Any]) -> Table:
    """AUROC of the main source: a row per training domain, a column per test domain."""
    source = matrix["source"]
    table = Table(title=f"AUROC of {source}; in brackets its lead over the best free source")
    table.add_column("trained on")
    for column in matrix["columns"]:
        table.add_column(Text(column), justify="right")
    cells = {(cell["trained_on"], cell["tested_on"]): cell for cell in matrix["cells"]}
    for row in matrix["rows"]:
        table.add_row(Text(row), *(_matrix_cell(cells.get((row, column)), source) for column in matrix["columns"]))
    return table


def _matrix_cell(cell: dict[str, Any] | None, source: str) -> str:
    entry = None if cell is None else cell["sources"].get(source)
    if cell is None or entry is None or entry["auroc"]["value"] is None:
        return "–"
    if not cell["measurable"]:
        return "not measurable"
    lead = entry["against_free"]
    gap = "" if lead is None or lead["value"] is None else f" ({lead['value']:+.3f})"
    return _cell(entry["auroc"], 3) + gap


def _signal_table(results: dict[str, Any]) -> Table:
    """One line per signal: the correlations that a terminal has room for."""
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
            _cell(within["spearman"], 2, interval=True),
            _cell(within["kendall"], 2),
            _cell(entry["pooled"]["spearman"], 2),
            f"{entry['n']:,}",
            f"{missing:,}" if missing else "",
        )
    return table


def _cell(estimate: Mapping[str, Any] | None, digits: int, *, interval: bool = False) -> str:
    """A cell of a table: the value, and the bounds of its interval where asked for; a dash where there is none."""
    if estimate is None or estimate["value"] is None:
        return "–"
    value = f"{estimate['value']:.{digits}f}"
    if not interval or estimate["low"] is None:
        return value
    return rf"{value} \[{estimate['low']:.{digits}f}, {estimate['high']:.{digits}f}]"
