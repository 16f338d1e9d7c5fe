"""`confide decide`: a policy applied to records."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def decide(
    policy: Annotated[Path, typer.Argument(help="Policy file from `confide calibrate`.")],
    records: Annotated[Path, typer.Argument(help="Scored records; labels are not needed.")],
    out: Annotated[Path, typer.Option(help="Decisions to write, as JSON lines.")],
    seed: Annotated[int, typer.Option(help="Draws one row from each group of dependent rows, for the warning.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Decide for every row whether to answer, escalate or abstain.

    Writes id, confidence, probability, decision and answer of every row. A row without a confidence
    escalates. Warns when the rows do not look like the calibration rows, whose promise may then not hold.

    Example: `confide decide policy.json scored.jsonl --out decisions.jsonl`
    """
    import json as json_format
    from collections import Counter

    from confide.errors import ConfideError
    from confide.files import write_text
    from confide.policies.labelled import confidence_of, models_of
    from confide.policies.policy import Policy
    from confide.policies.profiles import shift
    from confide.records import read_records

    if out.resolve() in (policy.resolve(), records.resolve()):
        raise ConfideError(f"{out} would overwrite its own input")
    rule = Policy.load(policy)
    rows = read_records(records)
    if all(rule.source not in record.confidence for record in rows):
        there = ", ".join(sorted({source for record in rows for source in record.confidence})) or "none"
        raise ConfideError(f"no row has a confidence from {rule.source}, the policy's source; there are: {there}")
    decisions: Counter[str] = Counter()
    missing = labelled = wrong = 0
    lines = []
    for record in rows:
        confidence = confidence_of(record, rule.source)
        decision = rule.decide(confidence, record.domain)
        decisions[decision] += 1
        missing += confidence is None
        if decision == "answer" and record.correct is not None:
            labelled += 1
            wrong += not record.correct
        row = {
            "id": record.id,
            "confidence": confidence,
            "probability": rule.probability(confidence),
            "decision": decision,
            "answer": record.answer,
        }
        lines.append(json_format.dumps(row, ensure_ascii=False) + "\n")
    write_text(out, "".join(lines))

    unlike = shift(rule, rows, seed)
    for warning in unlike.warnings:
        typer.echo(f"Warning: {warning}.", err=True)
    models = models_of(rows)
    if models and rule.model and models != rule.model:
        typer.echo(f"Warning: the policy is for {rule.model}, these rows are from {models}.", err=True)
    if json:
        summary = {
            "n": len(rows),
            "decisions": {name: decisions[name] for name in ("answer", "escalate", "abstain")},
            "without_confidence": missing,
            "kept_with_label": labelled,
            "kept_wrong": wrong,
            "policy_id": rule.id,
            "shift": unlike.warnings,
        }
        typer.echo(json_format.dumps(summary, indent=2))
        return
    for name in ("answer", "escalate", "abstain"):
        typer.echo(f"{name:<9}{decisions[name]:>8}  {decisions[name] / len(rows):6.1%}")
    if missing:
        typer.echo(f"{missing} rows had no confidence from {rule.source} and escalate.")
    if labelled:
        typer.echo(f"Of {labelled} kept answers with a label, {wrong} are wrong ({wrong / labelled:.1%}).")
    typer.echo(f"Written to {out}")
