"""`confide calibrate`: records and a goal in, a policy with a promise out."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from confide.policies.fitting import Goal, Unmet


class Family(StrEnum):
    """The calibrators, and the choice among them."""

    AUTO = "auto"
    PLATT = "platt"
    ISOTONIC = "isotonic"
    TEMPERATURE = "temperature"
    BETA = "beta"


class LastResort(StrEnum):
    """What a router sends when every expert failed."""

    ERROR = "error"
    UNVERIFIED = "unverified"


def calibrate(
    out: Annotated[Path, typer.Option(help="Policy file to write.")],
    records: Annotated[
        Path | None, typer.Argument(help="Scored records, or rows of id, confidence, correct.", show_default=False)
    ] = None,
    from_store: Annotated[
        str | None, typer.Option(metavar="URL", help="Take the audited rows of a router's store instead of RECORDS.")
    ] = None,
    source: Annotated[str, typer.Option(help="Whose confidence decides.")] = "stack",
    max_risk: Annotated[
        float | None, typer.Option(help="Goal: largest share of kept answers that may be wrong.")
    ] = None,
    budget: Annotated[float | None, typer.Option(help="Goal: most accuracy with this share escalated at most.")] = None,
    cost: Annotated[
        str | None,
        typer.Option(metavar="PRICES", help="Goal: least expected cost, answer=1,escalate=20,wrong=100,abstain=5."),
    ] = None,
    match_expert: Annotated[
        float | None, typer.Option(help="Goal: fewest escalations, accuracy at most this far below the expert's.")
    ] = None,
    level: Annotated[float, typer.Option(help="Probability of keeping the promise.")] = 0.95,
    expert: Annotated[
        Path | None,
        typer.Option(metavar="RECORDS", help="The expert's graded answers, same ids. Without: it is always right."),
    ] = None,
    per_domain: Annotated[
        bool, typer.Option("--per-domain", help="A threshold for every domain with enough rows, one for the others.")
    ] = False,
    calibrator: Annotated[
        Family, typer.Option(help="Calibrator; auto: lowest cross-validated log loss.")
    ] = Family.AUTO,
    last_resort: Annotated[
        LastResort, typer.Option(help="When every expert fails: an error, or the small answer marked unverified.")
    ] = LastResort.ERROR,
    seed: Annotated[int, typer.Option(help="Draws one row from each group of dependent rows, and folds.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Fit a calibrator and the thresholds that meet one goal: --max-risk, --budget, --cost or --match-expert.

    Rows of the calibration split are used when the records carry splits, all rows otherwise; they must have been
    used for nothing else. Rows without a label or a confidence are left out, except that --budget counts rows without
    a label and all goals but --max-risk count rows without a confidence as escalated. Exit code 2, and no file, when
    the goal cannot be met.

    Example: `confide calibrate scored.jsonl --source stack --max-risk 0.1 --level 0.95 --out policy.json`
    """
    import asyncio
    import dataclasses
    import json as json_format

    from confide.errors import ConfideError
    from confide.metrics.ranking import auroc
    from confide.policies.fitting import Unmet, calibrate_policy, rows_for_a_domain
    from confide.policies.labelled import in_split, labelled_rows, pick_source, used_before
    from confide.records import read_records

    goal = _goal(max_risk, budget, cost, match_expert, level)
    if (records is None) == (from_store is None):
        raise ConfideError("calibrate takes RECORDS or --from-store URL, one of the two")
    if from_store is not None:
        from confide.serving.store.store import Store

        store = Store.open(from_store)
        try:
            chosen = store.calibration_records()
        finally:
            asyncio.run(store.close())
    elif records is not None:
        everything = read_records(records)
        chosen = in_split(everything, "calibration")
        if count := used_before(everything):
            typer.echo(
                f"Warning: {count} calibration rows share an entity or a prompt with training or validation rows; "
                "the promise is void for them.",
                err=True,
            )
    # A store holds the confidence that its policy decided on, and no other.
    names = {name for row in chosen for name in row.confidence}
    if from_store is not None and source == "stack" and len(names) == 1:
        source = names.pop()
    source = pick_source(chosen, source)
    made = calibrate_policy(
        chosen,
        source,
        goal,
        calibrator=calibrator.value,
        expert=None if expert is None else read_records(expert),
        per_domain=per_domain,
        last_resort=last_resort.value,
        seed=seed,
    )
    rows = labelled_rows(chosen, source)
    left_out = {"without_confidence": rows.without_confidence, "without_label": rows.without_label}
    if isinstance(made, Unmet):
        if json:
            result = {"met": False, "source": source, "left_out": left_out, **dataclasses.asdict(made)}
            typer.echo(json_format.dumps(result, indent=2))
        else:
            typer.echo(_unmet_in_words(made, source))
        raise typer.Exit(2)

    made.save(out)
    ranking = auroc(rows.confidence, rows.correct)
    if ranking <= 0.5:
        typer.echo(f"Warning: a higher {source} does not go with more right answers here.", err=True)
    if json:
        result = {"met": True, "left_out": left_out, "policy": made.model_dump(mode="json", by_alias=True)}
        typer.echo(json_format.dumps(result, indent=2))
        return
    typer.echo(made.explain())
    if per_domain and len(made.thresholds) == 1:
        least = rows_for_a_domain(goal)
        typer.echo(f"No domain has the {least:,} independent rows that a threshold of its own takes: all share one.")
    tested = made.guarantee.n
    dependent = len({record.cluster for record in rows.records}) < len(rows.records)
    typer.echo(
        f"Rows: {len(rows.records)} used"
        + (f", {tested} of them tested" if tested < len(rows.records) else "")
        + (" (one per entity)" if dependent else "")
        + f"; {rows.without_confidence} without a confidence, {rows.without_label} without a label. "
        + f"Calibrator: {made.calibrator.kind}."
    )
    typer.echo(f"Written to {out} ({made.id})")


def _goal(
    max_risk: float | None, budget: float | None, cost: str | None, match_expert: float | None, level: float
) -> Goal:
    from confide.errors import ConfideError
    from confide.policies.costs import Costs
    from confide.policies.fitting import Budget, MatchExpert, MaxRisk

    goals: list[Goal] = []
    if max_risk is not None:
        goals.append(MaxRisk(max_risk, level))
    if budget is not None:
        goals.append(Budget(budget, level))
    if cost is not None:
        goals.append(Costs.parse(cost))
    if match_expert is not None:
        goals.append(MatchExpert(match_expert, level))
    if len(goals) != 1:
        raise ConfideError(f"calibrate takes one of --max-risk, --budget, --cost and --match-expert, got {len(goals)}")
    return goals[0]


def _unmet_in_words(unmet: Unmet, source: str) -> str:
    goal = {
        "max_risk": f"a risk of at most {unmet.limit:g}",
        "budget": f"at most {unmet.limit:.1%} escalated",
        "match_expert": f"an accuracy at most {unmet.limit:g} below the expert's",
    }[unmet.goal]
    lines = [
        f"The goal cannot be met: no threshold on {source} shows {goal} at level {unmet.level:g} "
        f"on these {unmet.n} rows."
    ]
    hint = unmet.attainable
    if unmet.goal == "budget" and hint:
        lines.append(
            f"{hint.observed:.1%} of them have no confidence and escalate (upper bound {hint.upper_bound:.1%})."
        )
        return "\n".join(lines)
    if hint:
        what = "a risk" if unmet.goal == "max_risk" else "a loss"
        lines.append(
            f"What could be met: {what} of {hint.limit:g}, keeping {hint.coverage:.1%} of the answers (observed "
            f"{hint.observed:.1%}, upper bound {hint.upper_bound:.1%})."
        )
    else:
        lines.append("No looser limit could be shown either.")
    if unmet.rows_needed is None:
        lines.append("More rows like these would not help: on none of them does the goal seem to be kept.")
    elif unmet.rows_needed > unmet.n:
        lines.append(f"At least about {unmet.rows_needed:,} independent rows like these would be needed.")
    else:
        lines.append("These rows come close: a few more like them may show it.")
    return "\n".join(lines)
