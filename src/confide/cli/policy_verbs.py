"""The verbs that take a policy: ``confide validate``, ``confide decide`` and ``confide policy show``."""

from __future__ import annotations

from dataclasses import asdict
from json import dumps
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option

from confide.cli.exit_codes import ExitCode
from confide.cli.flags import Flags, Identity, Json, add
from confide.cli.last_lines import beside, tell_next
from confide.cli.narrow_help import Verbs
from confide.cli.outputs import say
from confide.cli.printing import print_json, warn
from confide.errors import ConfideError
from confide.files import write_lines
from confide.score_columns import ScoreColumns

if TYPE_CHECKING:
    from confide.policies.kept_answers import SeenRisk
    from confide.policies.policy import Policy
    from confide.records import Record, RecordTable

PolicyFile = Annotated[Path, Argument(help="Policy file from `confide calibrate`.")]
DECISIONS = ("answer", "escalate", "abstain")
VERDICTS = {"holds": ExitCode.DONE, "broken": ExitCode.NO, "undecided": ExitCode.CANNOT_SAY}

app = typer.Typer(cls=Verbs, help="Read a policy file.")


def show(
    policy: PolicyFile,
    json: Json = False,
) -> None:
    """Say in words what a policy does, what it promises and what it does not.

    Example: `confide policy show policy.json`
    """
    from confide.policies.policy import Policy

    promise = Policy.load(policy)
    typer.echo(promise.to_json().rstrip() if json else promise.explain())


add(app, show)


def validate(
    policy: PolicyFile,
    records: Annotated[Path, Argument(help="Scored records that were not used in calibration, with labels.")],
    columns: Annotated[ScoreColumns, Flags()],
    expert: Annotated[
        Path | None,
        Option(metavar="RECORDS", help="The expert's graded answers to them, for a policy that matches one."),
    ] = None,
    identity: Identity = None,
    seed: Annotated[int, Option(help="Draws one row from each group of dependent rows.")] = 0,
    json: Json = False,
) -> None:
    """Check the promise on fresh rows: exit code 0 it holds, 1 it does not, 3 these rows cannot say.

    Rows of the test split are used when the records carry splits, all rows otherwise. Warns when the rows do not look
    like the calibration rows. A policy of least expected cost promises nothing and cannot be validated.

    Example: `confide validate policy.json fresh.jsonl`
    """
    from confide.policies.calibration_rows import in_split
    from confide.policies.policy import Policy
    from confide.policies.validation import validate_policy
    from confide.records import read_record_table

    promise = Policy.load(policy)
    answers = None if expert is None else read_record_table(expert)
    rows = _answered_by(identity, in_split(_scores(records, columns, promise), "test"), promise)
    result = validate_policy(promise, rows, answers, seed=seed)
    code = VERDICTS[result.verdict]
    if json:
        print_json({**asdict(result), "exit_code": code}, indent=2)
    else:
        for warning in result.warnings:
            warn(warning)
        typer.echo(result.explain())
        if code == ExitCode.DONE:
            new, flags = f"NEW{records.suffix or '.jsonl'}", f"{columns.flags()}--out"
            tell_next("confide decide", policy, new, flags, beside(policy, "decisions.jsonl"))
    raise typer.Exit(code)


def decide(
    policy: PolicyFile,
    records: Annotated[Path, Argument(help="Scored records; labels are not needed.")],
    out: Annotated[Path, Option(help="File of decisions (JSON lines) to write.")],
    columns: Annotated[ScoreColumns, Flags()],
    identity: Identity = None,
    seed: Annotated[int, Option(help="Draws one row from each group of dependent rows, for the warning.")] = 0,
    json: Json = False,
) -> None:
    """Decide for every row whether to answer, escalate or abstain.

    Writes id, confidence and threshold (calibrated: probabilities of being right), raw (the source's own number),
    source, decision and answer of every row. A row without a confidence escalates. Warns when the rows do not look
    like the calibration rows, whose promise may then not hold.

    Example: `confide decide policy.json scored.jsonl --out decisions.jsonl`
    """
    from confide.policies.kept_answers import cautions, seen_of_kept
    from confide.policies.policy import Policy
    from confide.policies.profiles import shift
    from confide.policies.validation import other_models

    _check_lines(out)
    rule = Policy.load(policy)
    scored = _scores(records, columns, rule)
    rows = _to_decide(rule, _answered_by(identity, scored, rule))
    write_lines(out, (dumps(_decision(rule, record), ensure_ascii=False) for record in rows))
    decided = rule.decided(rows)
    decisions, deciding = decided.counts(rule.sources)
    missing = len(rows) - deciding.total()
    unlike = shift(rule, rows, seed).warnings
    for warning in cautions(rule, rows) + unlike + other_models(rule, rows):
        warn(warning)
    seen = seen_of_kept(rows.take(decided.decision == "answer"))
    if json:
        counts = {"decisions": {name: decisions[name] for name in DECISIONS}}
        counts |= {"decided_by": {source: deciding[source] for source in rule.sources}}
        return print_json(
            {
                "n": len(rows),
                **counts,
                "without_confidence": missing,
                **_kept(seen),
                "policy_id": rule.id,
                "shift": unlike,
            },
            indent=2,
        )
    told = [f"{name:<9}{decisions[name]:>8}  {decisions[name] / len(rows):6.1%}" for name in DECISIONS]
    told += [f"{deciding[source]} rows were decided by {source}." for source in rule.sources * bool(rule.fallbacks)]
    say(out, "\n".join(told))
    if missing:
        say(out, f"{missing} rows had no confidence from {' or '.join(rule.sources)} and escalate.")
    if seen:
        say(out, seen.explain(rule))
    say(out, f"Written to {out}")
    if not columns.named:
        _tell_hedge(records, scored, rule.source, out)
    return None


def _kept(seen: SeenRisk | None) -> dict[str, Any]:
    """What the labels of kept answers show, as JSON has it."""
    labelled, wrong = (seen.labelled, seen.wrong) if seen else (0, 0)
    risk = None if seen is None else {"value": seen.risk, "low": seen.low, "high": seen.high}
    return {"kept_with_label": labelled, "kept_wrong": wrong, "kept_risk": risk}


def _check_lines(out: Path) -> None:
    """Raise `ConfideError` where a file's name says another format than JSON lines."""
    if out.suffix.lower() in (".csv", ".tsv", ".parquet", ".pq"):
        raise ConfideError(f"decisions are written as JSON lines: {out} should end in .jsonl")


def _tell_hedge(path: Path, rows: RecordTable, source: str, out: Path) -> None:
    """Say how to reword the answers of a file, where its ``rows`` have answers and ids of their own."""
    from confide.records.score_tables import numbered

    if any(rows.coded("answer").present()) and not numbered(rows):
        tell_next("confide hedge", path, f"--source {quote(source)} --out", beside(out, "hedged.jsonl"))


def _scores(path: Path, columns: ScoreColumns, policy: Policy) -> RecordTable:
    """The rows of a file; a single column of confidences is that of the one source that the ``policy`` decides on."""
    from confide.records import read_scores

    return read_scores(path, columns, source=None if policy.fallbacks else policy.source)


def _answered_by(identity: str | None, rows: RecordTable, policy: Policy) -> RecordTable:
    """The ``rows`` whose identity agrees with ``identity``, by every source of the ``policy``."""
    from confide.policies.identities import answered_by

    for source in policy.sources:
        rows = answered_by(identity, rows, source)
    return rows


def _to_decide(policy: Policy, rows: RecordTable) -> RecordTable:
    """``rows`` in range; raises `ConfideError` where several models answered them, or none has a confidence."""
    from confide.policies.calibration_rows import missing_source
    from confide.policies.identities import common_identity

    for source in policy.sources:
        common_identity(rows, source)
    if not rows.sources.intersection(policy.sources):
        raise missing_source(rows, f"{' or '.join(policy.sources)}, the policy's source{'s' * bool(policy.fallbacks)}")
    return policy.in_range(rows)


def _decision(policy: Policy, record: Record) -> dict[str, Any]:
    from confide.policies.calibration_rows import confidence_of
    from confide.policies.ruling import Ruling

    ruling = Ruling.of(policy, {name: confidence_of(record, name) for name in policy.sources}, record.domain)
    return {
        "id": record.id,
        "confidence": ruling.confidence,
        "raw": ruling.raw,
        "source": ruling.source,
        "threshold": ruling.threshold,
        "decision": ruling.decision,
        "answer": record.answer,
    }
