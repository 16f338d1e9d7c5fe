"""`confide validate`: does a policy's promise hold on fresh rows?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from confide.policies.validation import Check, Validation


def validate(
    policy: Annotated[Path, typer.Argument(help="Policy file from `confide calibrate`.")],
    fresh: Annotated[Path, typer.Argument(help="Records that were not used in calibration, with labels.")],
    expert: Annotated[
        Path | None,
        typer.Option(metavar="RECORDS", help="The expert's graded answers to them, for a policy that matches one."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Draws one row from each group of dependent rows.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Check the promise on fresh rows: exit code 0 it holds, 1 it does not, 3 these rows cannot say.

    Rows of the test split are used when the records carry splits, all rows otherwise. Warns when the rows do not look
    like the calibration rows. A policy of least expected cost promises nothing and cannot be validated.

    Example: `confide validate policy.json fresh.jsonl`
    """
    import dataclasses
    import json as json_format

    from confide.policies.labelled import in_split
    from confide.policies.policy import Policy
    from confide.policies.validation import validate_policy
    from confide.records import read_records

    promise = Policy.load(policy)
    helper = None if expert is None else read_records(expert)
    found = validate_policy(promise, in_split(read_records(fresh), "test"), helper, seed=seed)
    if json:
        typer.echo(json_format.dumps({**dataclasses.asdict(found), "exit_code": found.exit_code}, indent=2))
        raise typer.Exit(found.exit_code)
    for warning in found.warnings:
        typer.echo(f"Warning: {warning}.", err=True)
    what = {"max_risk": "the risk is", "budget": "the share escalated is", "match_expert": "the loss of accuracy is"}
    said = {
        "holds": f"The promise holds: {what[found.goal]} at most",
        "broken": f"The promise does not hold: {what[found.goal]} above",
        "undecided": f"These rows cannot say whether {what[found.goal]} at most",
    }
    typer.echo(f"{said[found.verdict]} {found.limit:g} at level {found.level:g}.")
    for domain, check in found.checks.items():
        if len(found.checks) > 1:
            typer.echo(f"{'Every other domain' if domain == '*' else domain}: {check.verdict}.")
        for line in _in_words(found, check):
            typer.echo(line)
    if found.left_out:
        typer.echo(f"{found.left_out} rows without a label were left out.")
    raise typer.Exit(found.exit_code)


def _in_words(found: Validation, check: Check) -> list[str]:
    kept = f"{check.kept} of {check.n} independent rows kept"
    if check.n:
        kept += f" ({check.kept / check.n:.1%})"
    if check.observed is None:
        lines = [f"{kept}, so nothing was observed."]
    else:
        name = {"max_risk": "wrong", "budget": "of all escalated", "match_expert": "of accuracy lost to the expert's"}
        lines = [f"{kept}; {check.observed:.1%} {name[found.goal]} (bounds {check.lower:.1%} and {check.upper:.1%})."]
    if check.power is not None:
        lines.append(
            f"Power: this many rows show the promise with probability {check.power:.2f} if all is as in calibration."
        )
    if check.verdict == "undecided":
        lines.append(
            f"About {check.rows_needed:,} independent rows would decide, if all stays as seen."
            if check.rows_needed is not None
            else "What was observed is so close to the limit that no practical number of rows would decide."
        )
    return lines
