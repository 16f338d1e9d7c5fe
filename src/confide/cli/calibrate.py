"""`confide calibrate`: records and a goal in, a policy with a promise out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from json import loads
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer import Argument, Option

from confide.cli.exit_codes import ExitCode
from confide.cli.flags import Flags, Identity, Json
from confide.cli.last_lines import tell_next
from confide.cli.outputs import say
from confide.cli.printing import print_json, tell_source, warn
from confide.cli.unmet_goals import for_the_worse, price_of_missing, tell_unmet
from confide.errors import ConfideError
from confide.files import is_stream
from confide.score_columns import ScoreColumns

if TYPE_CHECKING:
    from confide.policies.calibration_rows import CalibrationRows
    from confide.policies.goals import Goal, Per
    from confide.policies.policy import Policy
    from confide.policies.policy_part import Part
    from confide.policies.thresholds.fallback_testing import Unmet
    from confide.records import Record, RecordTable

Records = Annotated[
    Path | None, Argument(help="Scored records, or rows of id, confidence, correct.", show_default=False)
]
FromStore = Annotated[
    str | None, Option(metavar="URL", help="Take the audited rows of a router's store instead of RECORDS.")
]
Cost = Annotated[
    str | None, Option(metavar="PRICES", help="Goal: least expected cost, answer=1,escalate=20,wrong=100,abstain=5.")
]
MatchExpert = Annotated[
    float | None, Option(help="Goal: fewest escalations, accuracy at most this far below the expert's.")
]
MaxFalseAlarms = Annotated[
    float | None, Option(help="Goal: highest threshold with this share of fine answers (correct) below it at most.")
]
Expert = Annotated[
    Path | None, Option(metavar="RECORDS", help="The expert's graded answers, same ids. Without: it is always right.")
]
PerDomain = Annotated[
    bool, Option("--per-domain", help="A threshold for every domain with enough rows, one for the others.")
]
PerWhat = Annotated[
    Literal["question", "entity"],
    Option("--per", help="What counts alike in the promise: every question, or every entity, by one question of each."),
]
Simultaneous = Annotated[
    bool,
    Option("--simultaneous", help="For --max-risk: bound all thresholds at once, also where surer answers are worse."),
]
Calibrator = Annotated[
    Literal["auto", "platt", "isotonic", "temperature", "beta"],
    Option(help="Calibrator; auto: lowest cross-validated log loss."),
]
Fallback = Annotated[
    str | None,
    Option(metavar="SOURCES", help="Who decides where the source gives none: b,c in this order. The level is split."),
]
LastResort = Annotated[
    Literal["error", "unverified", "abstain"],
    Option(help="When every expert fails: an error, the small answer marked unverified, or no answer as a refusal."),
]


def calibrate(
    out: Annotated[Path, Option(help="Policy file to write.")],
    columns: Annotated[ScoreColumns, Flags()],
    records: Records = None,
    from_store: FromStore = None,
    source: Annotated[str, Option(help="Whose confidence decides. a,b,c: the best of them, level split.")] = "stack",
    fallback: Fallback = None,
    identity: Identity = None,
    max_risk: Annotated[float | None, Option(help="Goal: largest share of kept answers that may be wrong.")] = None,
    budget: Annotated[float | None, Option(help="Goal: most accuracy with this share escalated at most.")] = None,
    cost: Cost = None,
    match_expert: MatchExpert = None,
    max_false_alarms: MaxFalseAlarms = None,
    level: Annotated[float, Option(help="Probability of keeping the promise.")] = 0.95,
    per: PerWhat = "question",
    simultaneous: Simultaneous = False,
    expert: Expert = None,
    per_domain: PerDomain = False,
    calibrator: Calibrator = "auto",
    last_resort: LastResort = "error",
    seed: Annotated[int, Option(help="Draws or orders groups of dependent rows, and folds.")] = 0,
    json: Json = False,
) -> None:
    """Fit a calibrator and the thresholds that meet one goal, such as --max-risk; the flags below name all five.

    Of records with splits the calibration rows are used; they must have served nothing else. Rows without a label or a
    confidence are left out, except that --budget counts rows without a label, --max-risk takes a judge's verdict
    instead, and all goals but --max-risk count rows without a confidence as escalated. A store's audits without a label
    count for the worse. Exit code 1 and no file when the goal cannot be met; a --fallback that misses keeps nothing.

    Example: `confide calibrate scored.jsonl --source stack --max-risk 0.1 --level 0.95 --out policy.json`
    """
    from confide.policies.remedies import remedies
    from confide.policies.source_choice import calibrate_best_source
    from confide.policies.thresholds.fallback_testing import Unmet
    from confide.records import read_record_table

    goal = _goal(max_risk, budget, cost, match_expert, max_false_alarms, level, per, simultaneous)
    taken = _take(records, from_store, source, fallback, identity, columns)
    how: dict[str, Any] = {"calibrator": calibrator, "per_domain": per_domain, "last_resort": last_resort, "seed": seed}
    how |= {"expert": None if expert is None else read_record_table(expert), "any_number": columns.named}
    tried: dict[str, Any] = {"sources": taken.sources, "fallbacks": taken.fallbacks, "decided": from_store is not None}
    best: Callable[..., tuple[str, Policy | Unmet]] = partial(calibrate_best_source, goal=goal, **tried, **how)
    missing = {row.id for row in taken.rows if row.correct is None} if from_store and budget is None else set()
    worst, counted = for_the_worse(taken.rows, missing, goal)
    source, made = best(worst)
    used = _used(worst, source, made, from_store is not None, max_risk is not None)
    _warn_of_ranking(used, goal, seed)
    price = price_of_missing(taken.rows, missing, made, best, counted)
    told = {"met": not isinstance(made, Unmet), **_left_out(used), f"counted_as_{counted}": len(missing)}
    if isinstance(made, Unmet):
        help = remedies(worst, taken.sources, made, goal, source, **how)
        tell_unmet(made, source, help, told, price, json, taken.rows_for_each)
        raise typer.Exit(ExitCode.NO)
    made.save(out)
    _warn_of_what_is_missing(made, taken.rows)
    if json:
        return print_json({**told, "policy": loads(made.to_json())}, indent=2)
    _print(made, used, goal, per_domain, out, price)
    return _tell_next(records, out, columns, tested=taken.tested)


def _used(
    rows: Sequence[Record], source: str, made: Policy | Unmet, decided: bool, judged: bool
) -> dict[str, CalibrationRows]:
    """The rows with a confidence, and a label or where ``judged`` a judge's verdict, of each source of what was
    ``made``, or of the ``source`` that missed. ``decided`` as in `calibrate_best_source`.
    """
    from confide.policies.calibration_rows import rows_decided_by, rows_for
    from confide.policies.policy import Policy

    sources = made.sources if isinstance(made, Policy) else [source]
    own = {name: rows_decided_by(name, rows) if decided else rows for name in sources}
    return {name: rows_for("max_risk", those, name, judged=judged) for name, those in own.items()}


def _left_out(used: dict[str, CalibrationRows]) -> dict[str, object]:
    """How many rows lack what is needed: of the first source, and of each fallback where there are any."""
    first, *others = (
        {"without_confidence": rows.without_confidence, "without_label": rows.without_label} for rows in used.values()
    )
    fallbacks = dict(zip([*used][1:], others, strict=True))
    return {"left_out": first, **({"left_out_of_fallbacks": fallbacks} if others else {})}


def _warn_of_ranking(used: dict[str, CalibrationRows], goal: Goal, seed: int) -> None:
    """Warn where surer answers, by the confidence of a source, are not more often right."""
    from confide.metrics.ranking import auroc
    from confide.policies.goals import MaxRisk
    from confide.policies.thresholds.risk_threshold import surest_are_worse

    for source, all_rows in used.items():
        those = all_rows.take([i for i, labelled in enumerate(all_rows.labelled) if labelled])
        if auroc(those.confidence, those.correct) <= 0.5:
            warn(f"a higher {source} does not go with more right answers here")
        rows = those.independent(seed)
        if isinstance(goal, MaxRisk) and not goal.simultaneous and surest_are_worse(rows.confidence, rows.correct):
            by = f" by {source}" * (len(used) > 1)
            warn(
                f"the surest answers{by} are wrong more often than those below: --simultaneous assumes no shape. "
                "Chosen after this look, it takes fresh rows, or half the error rate (--level "
                f"{(1 + goal.level) / 2:g})"
            )


def _warn_of_what_is_missing(made: Policy, rows: RecordTable) -> None:
    """Warn where the policy knows no model, or promises nothing about some of the rows that it was made on."""
    from confide.policies.guarantees import CostEstimate

    if not made.identity and any(rows.coded("identity").present()):
        warn("not all rows say which weights answered them, so the policy will not notice another model")
    for part in made.parts:
        g = part.guarantee
        if g is None:
            warn(
                f"the goal is not shown with {part.source}: what falls back to it escalates; `--source {part.source}` "
                "alone tells what these rows show"
            )
        elif not isinstance(g, CostEstimate) and g.uncovered is not None:
            more = f"{g.most_rows} row{'s' * (g.most_rows != 1)}"
            warn(
                f"{g.uncovered:.1%} of the rows are of entities with more than {more} each, about which nothing is "
                "promised; --per entity counts each once"
            )


def _goal(
    max_risk: float | None,
    budget: float | None,
    cost: str | None,
    match_expert: float | None,
    max_false_alarms: float | None,
    level: float,
    per: Per,
    simultaneous: bool,
) -> Goal:
    from confide.policies.goals import Budget, Costs, FalseAlarms, MatchExpert, MaxRisk

    goals: list[Goal] = [] if max_risk is None else [MaxRisk(max_risk, level, per, simultaneous)]
    if budget is not None:
        goals.append(Budget(budget, level, per))
    if match_expert is not None:
        goals.append(MatchExpert(match_expert, level, per))
    if max_false_alarms is not None:
        goals.append(FalseAlarms(max_false_alarms, level, per))
    if cost is not None:
        goals.append(Costs.parse(cost))
    if len(goals) != 1:
        names = "--max-risk, --budget, --cost, --match-expert and --max-false-alarms"
        raise ConfideError(f"calibrate takes one of {names}, got {len(goals)}")
    if simultaneous and max_risk is None:
        raise ConfideError("--simultaneous is about the risk of kept answers: it goes with --max-risk alone")
    return goals[0]


@dataclass(frozen=True)
class Taken:
    """What there is to calibrate on: the rows, the sources of which one's confidence will decide, and those after it.

    ``rows_for_each`` is how many rows the whole file has for each of them, ``tested`` whether it has a test split.
    """

    rows: RecordTable
    sources: list[str]
    fallbacks: list[str]
    rows_for_each: float
    tested: bool


def _take(
    records: Path | None,
    from_store: str | None,
    source: str,
    fallback: str | None,
    identity: str | None,
    columns: ScoreColumns,
) -> Taken:
    """Read the rows of a file or of a store, and pick the sources that are meant."""
    from confide.policies.calibration_rows import in_split, pick_source, used_before
    from confide.policies.identities import answered_by
    from confide.records import RecordTable, read_scores

    asked = source
    if (records is None) == (from_store is None):
        raise ConfideError("calibrate takes RECORDS or --from-store URL, one of the two")
    if from_store is not None:
        rows = RecordTable.of(_stored(from_store, identity))
        # A store holds the confidence that its policy decided on, and no other.
        names = sorted(rows.sources)
        if len(names) > 1:
            warn(
                f"each row of the store has the confidence that decided, of {' or '.join(names)}: what is promised of "
                "one source is about questions like those that it decided"
            )
        if source == "stack" and len(names) == 1 and fallback is None:
            source = names[0]
        everything = rows
    elif records is not None:
        everything = read_scores(records, columns)
        if source == "stack" and columns.named:
            source = ",".join(columns.sources or everything[0].confidence)
        rows = in_split(everything, "calibration")
        if count := used_before(everything):
            warn(
                f"{count} calibration rows share an entity or a prompt with training or validation rows; "
                "the promise is void for them"
            )
    sources, fallbacks = ([pick_source(rows, name) for name in _names(text)] for text in (source, fallback))
    if asked == "stack" and sources != ["stack"]:
        tell_source(sources)
    rows_for_each = len(everything) / len(rows) if rows else 1.0
    if identity is not None:
        for name in sources + fallbacks:
            rows = answered_by(identity, rows, name)
    return Taken(rows, sources, fallbacks, rows_for_each, "test" in everything.coded("split").present())


def _stored(url: str, identity: str | None) -> list[Record]:
    """The audited rows of a router's store, also those without a label."""
    import asyncio

    from confide.serving.store.store import Store

    store = Store.open(url, create=False)
    try:
        return store.calibration_records(unlabelled=None, identity=identity)
    finally:
        asyncio.run(store.close())


def _names(text: str | None) -> list[str]:
    """The names in a list with commas, each once."""
    return [] if text is None else list(dict.fromkeys(name.strip() for name in text.split(",")))


def _print(
    policy: Policy, used: dict[str, CalibrationRows], goal: Goal, per_domain: bool, out: Path, price: str
) -> None:
    """Print what the policy does and which rows it was fitted on."""
    from confide.policies.policy_fitting import rows_for_a_domain

    say(out, policy.explain())
    if per_domain and len(policy.thresholds) == 1:
        least = rows_for_a_domain(goal)
        say(out, f"No domain has the {least:,} independent rows that a threshold of its own takes: all share one.")
    for part in policy.parts:
        rows = used[part.source]
        n, tested = len(rows.records), part.guarantee.n if part.guarantee else len(rows.records)
        say(
            out,
            f"Rows{f' of {part.source}' * bool(policy.fallbacks)}: {n} used"
            + (f", {tested} of them tested" if tested < n else "")
            + _left_out_for(part)
            + f"; {rows.without_confidence} without a confidence, {rows.without_label} without a label. "
            + f"Calibrator: {part.calibrator.kind}"
            + ("." if rows.labelled.all() else f", fitted on the {int(rows.labelled.sum())} rows with a label."),
        )
    if price:
        say(out, price)
    say(out, f"Written to {out} ({policy.id})")


def _tell_next(records: Path | None, out: Path, columns: ScoreColumns, *, tested: bool) -> None:
    """Say how the promise is checked: on the test rows of the same file, or on fresh ones."""
    fresh: Path | str = "FRESH.jsonl"
    if records is not None and not is_stream(records):
        fresh = records if tested else f"FRESH{records.suffix}"
    tell_next("confide validate", out, fresh, *filter(None, [columns.flags().strip()]))


def _left_out_for(part: Part) -> str:
    """Why fewer rows were tested than used: not all are fine, or rows share entities."""
    from confide.policies.guarantees import CostEstimate

    g = part.guarantee
    if g is None or isinstance(g, CostEstimate):
        return ""
    fine = " that are fine" * (g.goal == "false_alarms")
    if g.per is None:
        return fine
    if g.per == "entity":
        return f"{fine} (one per entity)"
    if "betting" in g.method:
        return f"{fine} (all but those of the largest entities)"
    return f"{fine} (entities drawn in proportion to their rows, one row of each)"
