"""``confide import``: answers that another tool has logged, as records."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from confide.cli.exit_codes import ExitCode
from confide.cli.flags import Json
from confide.cli.last_lines import beside, tell_next
from confide.cli.outputs import say
from confide.cli.printing import print_json, warn

if TYPE_CHECKING:
    from confide.records import Record


def import_(
    log: Annotated[Path, Argument(help="What another tool has written; whose it is, is seen from what it holds.")],
    out: Annotated[Path, Option(help="Records file to write.")],
    label: Annotated[
        str | None, Option(help="The metric, scorer or reward that says which answers are right; by default the first.")
    ] = None,
    only: Annotated[
        str | None,
        Option("--filter", help="lm-evaluation-harness: take the answers of this filter; by default the first."),
    ] = None,
    requests: Annotated[
        Path | None, Option(help="OpenAI's batches: the input file, which holds the questions.")
    ] = None,
    json: Json = False,
) -> None:
    """Make records of answers that another tool has logged, with their grades and log-probabilities.

    Reads samples of lm-evaluation-harness (`--log_samples`), a log of inspect_ai in JSON (`inspect log dump`),
    completions of TRL and RLCR (`log_completions=True`), the output of an OpenAI batch, and JSON lines that hold a
    `request` (or its `messages`) and a `response`, with `correct` where it is known. What an answer says of its own
    confidence in tags, as RLCR teaches, becomes the source `verbalized`.

    Example: `confide import samples_mmlu_2026-11-30T18-30-18.9.jsonl --out records.jsonl`
    """
    from confide.imports import import_log
    from confide.records import check_records_file, write_records

    check_records_file(out)
    found = import_log(log, label=label, only=only, requests=requests)
    records = found.records(str(log))
    write_records(out, records)
    labelled = [record.correct for record in records if record.correct is not None]
    if json:
        print_json(
            {
                "out": str(out),
                "tool": found.tool,
                "answers": len(records),
                "label": found.label or None,
                "labels": list(found.labels),
                "labelled": len(labelled),
                "right": sum(labelled),
                "left_out": dict(found.left_out),
            }
        )
    else:
        graded = f"{sum(labelled):,} of {len(labelled):,} right" if labelled else "none with a label"
        by = f" by {found.label}" if found.label else ""
        others = [name for name in found.labels if name != found.label]
        more = f" (--label takes another: {', '.join(others)})" if others else ""
        say(out, f"{out}: {len(records):,} answers of {found.tool}, {graded}{by}{more}")
        _tell_what_follows(out, records)
    for reason, count in found.left_out.items():
        warn(f"left out {count:,}: {reason}")
    if found.left_out:
        raise typer.Exit(ExitCode.LEFT_OUT)


def _tell_what_follows(out: Path, records: list[Record]) -> None:
    """Say what comes next: labels first, then what the rows have a confidence for."""
    if all(record.correct is None for record in records):
        tell_next("confide label", out, "--out", beside(out, "sheet.csv"))
    elif any(record.confidence for record in records):
        tell_next("confide evaluate", out, "--out", beside(out, "report"))
    elif any(record.logprobs for record in records):
        tell_next("confide score", out, "--source logprob_sum,logprob_mean --out", beside(out, "scored.jsonl"))
