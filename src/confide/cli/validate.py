"""`confide validate`: does a policy's promise hold on fresh rows?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def validate(
    policy: Annotated[Path, typer.Argument(help="Policy file from `confide calibrate`.")],
    fresh: Annotated[Path, typer.Argument(help="Records that were not used in calibration, with labels.")],
    seed: Annotated[int, typer.Option(help="Draws one row from each group of dependent rows.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Check the promise on fresh rows: exit code 0 it holds, 1 it does not, 3 these rows cannot say.

    Rows of the test split are used when the records carry splits, all rows otherwise.

    Example: `confide validate policy.json fresh.jsonl`
    """
    import dataclasses
    import json as json_format

    from confide.policies.policy import Policy
    from confide.policies.rows import in_split
    from confide.policies.validation import validate_policy
    from confide.records import read_records

    promise = Policy.load(policy)
    found = validate_policy(promise, in_split(read_records(fresh), "test"), seed=seed)
    if json:
        typer.echo(json_format.dumps({**dataclasses.asdict(found), "exit_code": found.exit_code}, indent=2))
        raise typer.Exit(found.exit_code)
    for warning in found.warnings:
        typer.echo(f"Warning: {warning}.", err=True)
    said = {
        "holds": "The promise holds: the risk is at most",
        "broken": "The promise does not hold: the risk is above",
        "undecided": "These rows cannot say whether the risk is at most",
    }
    typer.echo(f"{said[found.verdict]} {found.max_risk:g} at level {found.level:g}.")
    kept = f"{found.kept} of {found.n} independent rows kept ({found.coverage:.1%})"
    if found.observed_risk is None:
        typer.echo(f"{kept}, so no risk was observed; {found.left_out} rows without a label were left out.")
    else:
        typer.echo(
            f"{kept}, {found.wrong} of them wrong ({found.observed_risk:.1%}; bounds {found.lower:.1%} and "
            f"{found.upper:.1%}); {found.left_out} rows without a label were left out."
        )
    if found.verdict == "undecided":
        typer.echo(
            f"About {found.rows_needed:,} independent rows would decide, if risk and coverage stay as seen."
            if found.rows_needed is not None
            else "The observed risk is so close to the goal that no practical number of rows would decide."
        )
    raise typer.Exit(found.exit_code)
