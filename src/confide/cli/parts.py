"""``confide parts``: records of the parts of answers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from typer import Argument, Option

from confide.cli.engines import EngineName, Judge, judge_of_rows, judged_rows
from confide.cli.exit_codes import ExitCode
from confide.cli.flags import Flags, Json
from confide.cli.last_lines import beside, tell_next
from confide.cli.outputs import say
from confide.cli.printing import print_json, warn
from confide.engines.openai.endpoint_config import EndpointConfig
from confide.errors import ConfideError


def parts(
    records: Annotated[Path, Argument(help="Records, as annotate or score wrote them.")],
    out: Annotated[Path, Option(help="Records file of the parts to write.")],
    endpoint: Annotated[EndpointConfig, Flags()],
    by: Annotated[
        Literal["fields", "sentences", "lines", "steps"],
        Option(help="JSON values and arguments of tool calls; sentences; lines; reasoning steps."),
    ] = "fields",
    judge: Judge = None,
    engine: EngineName = "transformers",
    json: Json = False,
) -> None:
    """Make of every part of an answer a record of its own, which all other verbs then take for an answer.

    A part's record has the part's name (`/year`, `sentence 2`), its text, its tokens and what was written before it;
    fields are graded where the reference is an object, and a judge says whether ungraded parts are right. Train, score
    and calibrate on these records as on any others.

    Example: `confide parts R.jsonl --by fields --out P.jsonl`

    Example: `confide parts R.jsonl --by sentences --judge NAME --out P.jsonl`
    """
    from confide.parts.part_records import split_records
    from confide.records import check_records_file, read_records, write_records
    from confide.tasks.field_grader import part_grader

    check_records_file(out)
    judges = judge_of_rows(engine, endpoint, judge, out)
    rows = read_records(records)
    found, summary = split_records(rows, by, part_grader)
    if not found:
        raise ConfideError(f"{records}: none of the {len(rows)} answers has {by}")
    write_records(out, found)
    silent = judged_rows(judges, out)
    if json:
        print_json({"out": str(out), **vars(summary)})
    else:
        _print(out, by, summary)
    if silent:
        warn(f"{silent} parts got no verdict of the judge")
        raise typer.Exit(ExitCode.LEFT_OUT)
    tell_next("confide train portable", out, "--out", beside(out, "portable"))


def _print(out: Path, by: str, summary: object) -> None:
    """Say how many parts there are, and what is remarkable about them."""
    counts = vars(summary)
    words = f"{out}: {counts['parts']} {by} of {counts['records']} answers"
    if counts["graded"]:
        words += f", {counts['right']} of {counts['graded']} right ({counts['right'] / counts['graded']:.1%})"
    say(out, words)
    for name, sentence in (
        ("without", f"answers without {by}"),
        ("untold", "answers without log-probabilities of their parts (nothing says at which characters tokens start)"),
        ("unfinished", "answers with JSON that is cut or broken (the values that were whole until then count)"),
        ("duplicates", "keys that occur twice in their object (the last one counts)"),
    ):
        if counts[name]:
            say(out, f"{sentence}: {counts[name]}")
