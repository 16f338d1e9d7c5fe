"""``confide evaluate``: is the number honest, and better than what comes for free? With ``confide signal-quality``."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from itertools import count
from json import dumps
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer
from rich.console import Console
from typer import Argument, Option

from confide.cli.flags import Flags, Identity, Json
from confide.cli.last_lines import beside, tell_next
from confide.cli.outputs import Folder
from confide.cli.printing import names_in, print_json
from confide.cli.terminal_tables import make_console, print_table
from confide.data_files import files_of
from confide.errors import ConfideError
from confide.files import is_stream, locked, write_text
from confide.hashing import sha256_of_files
from confide.progress import progress_bar
from confide.score_columns import ScoreColumns

if TYPE_CHECKING:
    from confide.records import RecordTable

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
Source = Annotated[str | None, Option(metavar="NAMES", help="Judge these sources only (comma-separated).")]
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
    source: Source = None,
    identity: Identity = None,
    seed: Annotated[int, Option(help="Seed of the bootstrap.")] = 0,
    resamples: Annotated[int, Option(min=1, help="Bootstrap draws for the intervals.")] = 1000,
    json: Json = False,
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
    main = _main(records, trained)
    files = _read([main, *trained.values()], [path for path in (expert, coupling) if path], source, identity, columns)
    rows = files[main]
    total, numbers = len(rows.sources), count(1)
    with progress_bar("judging") as progress:
        results = judge(
            rows,
            expert=None if expert is None else files[expert],
            expert_cost=expert_cost,
            trained={name: files[path] for name, path in trained.items()},
            original=None if coupling is None else files[coupling],
            file=os.fsencode(main).decode(errors="replace"),
            columns=columns,
            seed=seed,
            resamples=resamples,
            progress=lambda source: progress(next(numbers), total, source),
        )
        _note_cut(results, files)
        if not is_stream(main):
            results["records"]["sha256"] = sha256_of_files(files_of(main))
        page = render(results, rows)
    with locked(out):
        write_text(out / "results.json", dumps(results, ensure_ascii=False, allow_nan=False, indent=1) + "\n")
        write_text(out / "report.html", page)
    if json:
        return print_json(results, indent=1)
    _print(results)
    typer.echo(f"{out / 'report.html'}")
    return _tell_calibrate(main, results["recommendation"]["source"], columns)


def _main(records: Path | None, trained: Mapping[str, Path]) -> Path:
    """The file that is judged: the records, or the first row of a matrix."""
    main = records if records is not None else next(iter(trained.values()), None)
    if main is None:
        raise ConfideError("no records: name a file of scored records, or --matrix TRAINED=FILE")
    return main


def _tell_calibrate(records: Path, source: str | None, columns: ScoreColumns) -> None:
    """Say how to make a policy of the ``source`` that is recommended, where one is."""
    if source is not None:
        chosen = f"{columns.flags()}--source {quote(source)} --max-risk 0.1 --out".lstrip()
        tell_next("confide calibrate", records, chosen, beside(records, "policy.json"))


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
    source: Annotated[str | None, Option(metavar="NAMES", help="Judge these signals only (comma-separated).")] = None,
    identity: Identity = None,
    seed: Annotated[int, Option(help="Seed of the bootstrap.")] = 0,
    resamples: Annotated[int, Option(min=1, help="Bootstrap draws for the intervals.")] = 1000,
    json: Json = False,
) -> None:
    """Say for every signal in RECORDS whether it orders the answers to a question by what it should predict.

    Training by comparison needs that order; a signal that only knows hard questions from easy ones has none. Rows of
    the training split are left out where there are others. Prompting (`p_true`, `verbalized`) stands beside.

    Example: `confide signal-quality rollouts.jsonl --source f_pred`
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
            signals=None if source is None else names_in(source),
            seed=seed,
            resamples=resamples,
            progress=progress,
        )
    if json:
        print_json(results, indent=1)
        return
    console = make_console()
    _print_signals(console, results)
    for entry in results["signals"].values():
        console.print(entry["sentence"], markup=False)
    tell_next("confide evaluate", records, "--out", beside(records, "report"))


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
) -> dict[Path, RecordTable]:
    """Every file's records; those that are ``judged`` keep only the named sources and the rows of one model."""
    from confide.evaluation.record_columns import only
    from confide.policies.identities import answered_by
    from confide.records import read_record_table, read_scores

    files = {path: read_scores(path, columns) for path in dict.fromkeys(judged)}
    files |= {path: read_record_table(path) for path in others if path not in files}
    files |= {path: answered_by(identity, files[path]) for path in dict.fromkeys(judged)}
    if sources is not None:
        files |= {path: only(files[path], names_in(sources)) for path in dict.fromkeys(judged)}
    return files


def _print(results: dict[str, Any]) -> None:
    """Print one line per source, the matrix if any, the verdict, the controls that failed, and which source to take."""
    console = make_console()
    fine = results["signal"]["fine"] if results["signal"] else "right"
    entries = results["estimators"]
    columns = [("source", list(entries))]
    for name, title in COLUMNS.items():
        columns.append((title, [_cell(entry[name], 3, interval=name == "auroc") for entry in entries.values()]))
    columns.append(("missing", [str(entry["missing"] or "") for entry in entries.values()]))
    title = f"{results['n']:,} rows, {results['accuracy']:.0%} {fine}, 95% intervals by entity"
    print_table(console, columns, title=title)
    if left := [f"{count:,} {LEFT_OUT[name]}" for name, count in results["left_out"].items() if count]:
        console.print(f"Left out: {', '.join(left)}.", markup=False)
    if results["judge"] is not None:
        from confide.policies.guarantees import JudgeError

        said = JudgeError.model_validate(results["judge"]).explain("answers")
        console.print(f"{said} All figures are of rows with a label.", markup=False)
    if results["matrix"] is not None and results["matrix"]["source"] is not None:
        _print_matrix(console, results["matrix"])
    for sentence in results["verdict"]["sentences"]:
        console.print(sentence, markup=False)
    for name, entry in results["controls"].items():
        if entry["verdict"] in ("warning", "failed"):
            console.print(f"{entry['verdict']}: {name}: {entry['detail']}", markup=False, style="yellow")
    console.print(results["recommendation"]["reason"], markup=False)


def _print_matrix(console: Console, matrix: dict[str, Any]) -> None:
    """AUROC of the main source: a row per training domain, a column per test domain."""
    source = matrix["source"]
    cells = {(cell["trained_on"], cell["tested_on"]): cell for cell in matrix["cells"]}
    columns = [("trained on", list(matrix["rows"]))]
    for column in matrix["columns"]:
        columns.append((column, [_matrix_cell(cells.get((row, column)), source) for row in matrix["rows"]]))
    print_table(console, columns, title=f"AUROC of {source}; in brackets its lead over the best free source")


def _matrix_cell(cell: dict[str, Any] | None, source: str) -> str:
    entry = None if cell is None else cell["sources"].get(source)
    if cell is None or entry is None or entry["auroc"]["value"] is None:
        return "–"
    if not cell["measurable"]:
        return "not measurable"
    lead = entry["against_free"]
    gap = "" if lead is None or lead["value"] is None else f" ({lead['value']:+.3f})"
    return _cell(entry["auroc"], 3) + gap


def _print_signals(console: Console, results: dict[str, Any]) -> None:
    """One line per signal: the correlations that a terminal has room for."""
    entries = results["signals"]
    within = [entry["within"] for entry in entries.values()]
    print_table(
        console,
        [
            ("signal", [name + (" †" if entry["family"] == "asked" else "") for name, entry in entries.items()]),
            ("ρ within", [_cell(one["spearman"], 2, interval=True) for one in within]),
            ("τ", [_cell(one["kendall"], 2) for one in within]),
            ("ρ pooled", [_cell(entry["pooled"]["spearman"], 2) for entry in entries.values()]),
            ("answers", [f"{entry['n']:,}" for entry in entries.values()]),
            ("missing", [f"{entry['missing']:,}" if entry["missing"] else "" for entry in entries.values()]),
        ],
        title="Rank correlation with {target}; {n:,} answers, {questions:,} questions".format(**results),
    )
    console.print(
        "ρ Spearman, τ Kendall's τ_b; within a question, averaged; 95% intervals by entity; † prompting", markup=False
    )


def _cell(estimate: Mapping[str, Any] | None, digits: int, *, interval: bool = False) -> str:
    """A cell of a table: the value, and the bounds of its interval where asked for; a dash where there is none."""
    if estimate is None or estimate["value"] is None:
        return "–"
    value = f"{estimate['value']:.{digits}f}"
    if not interval or estimate["low"] is None:
        return value
    return f"{value} [{estimate['low']:.{digits}f}, {estimate['high']:.{digits}f}]"
