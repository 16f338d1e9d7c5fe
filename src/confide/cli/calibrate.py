"""`confide calibrate`: records in, a policy with a promise out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def calibrate(
    records: Annotated[Path, typer.Argument(help="Scored records, or rows of id, confidence, correct.")],
    out: Annotated[Path, typer.Option(help="Policy file to write.")],
    source: Annotated[str, typer.Option(help="Whose confidence decides.")] = "stack",
    max_risk: Annotated[float, typer.Option(help="Largest share of kept answers that may be wrong.")] = 0.1,
    level: Annotated[float, typer.Option(help="Probability of keeping that promise.")] = 0.95,
    seed: Annotated[int, typer.Option(help="Draws one row from each group of dependent rows.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Fit a calibrator and the loosest threshold that keeps the risk of answers below a goal.

    Rows of the calibration split are used when the records carry splits, all rows otherwise; rows without a
    label or a confidence are left out. Exit code 2, and no file, when the goal cannot be met.

    Example: `confide calibrate scored.jsonl --source stack --max-risk 0.1 --level 0.95 --out policy.json`
    """
    import dataclasses
    import json as json_format

    from confide.policies.calibrators import PlattCalibrator
    from confide.policies.policy import ANY_DOMAIN, Guarantee, Policy, Rule
    from confide.policies.rows import data_sha256, in_split, labelled_rows, models_of, pick_source, sketch
    from confide.policies.thresholds import Unattainable, bounded_risk_threshold, check_goal
    from confide.records import read_records

    check_goal(max_risk, level)
    chosen = in_split(read_records(records), "calibration")
    source = pick_source(chosen, source)
    rows = labelled_rows(chosen, source)
    found = bounded_risk_threshold(rows.confidence, rows.correct, max_risk, level, clusters=rows.clusters, seed=seed)
    calibrator = PlattCalibrator().fit(rows.confidence, rows.correct)

    left_out = {"without_confidence": rows.without_confidence, "without_label": rows.without_label}
    if isinstance(found, Unattainable):
        if json:
            result = {"met": False, "source": source, "left_out": left_out, **dataclasses.asdict(found)}
            typer.echo(json_format.dumps(result, indent=2))
        else:
            typer.echo(
                f"The goal cannot be met: no threshold on {source} shows a risk of at most {max_risk:g} "
                f"at level {level:g} on these {found.n} rows."
            )
            if hint := found.attainable:
                typer.echo(
                    f"What could be met: a risk of {hint.max_risk:g}, keeping {hint.coverage:.1%} of the "
                    f"answers (observed {hint.observed_risk:.1%}, upper bound {hint.upper_bound:.1%})."
                )
            else:
                typer.echo("No larger risk below 1 could be shown either.")
        raise typer.Exit(2)

    policy = Policy(
        source=source,
        calibrator=calibrator.state,
        thresholds={ANY_DOMAIN: [Rule(below=found.threshold, decision="escalate")]},
        guarantee=Guarantee(
            max_risk=max_risk,
            level=level,
            method=found.method,
            n=found.n,
            observed_risk=found.observed_risk,
            upper_bound=found.upper_bound,
            coverage=found.coverage,
        ),
        data_sha256=data_sha256(rows),
        model=models_of(rows.records),
        rows_seen=sketch(rows.records, source),
    )
    policy.save(out)
    if calibrator.slope_ == 0:
        typer.echo(f"Warning: a higher {source} does not go with more right answers here.", err=True)
    if json:
        result = {"met": True, "left_out": left_out, "policy": policy.model_dump(mode="json", by_alias=True)}
        typer.echo(json_format.dumps(result, indent=2))
        return
    typer.echo(policy.explain())
    dependent = len(rows.records) - found.n
    typer.echo(
        f"Rows: {len(rows.records)} used"
        + (f", {found.n} of them tested (one per entity)" if dependent else "")
        + f"; left out {rows.without_confidence} without a confidence, {rows.without_label} without a label."
    )
    typer.echo(f"Written to {out}")
