"""What ``confide calibrate`` says where a goal cannot be met, and of audits that have no label."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from confide.cli.printing import print_json

if TYPE_CHECKING:
    from confide.policies.goals import Goal
    from confide.policies.policy import Policy
    from confide.policies.remedies import Remedies
    from confide.policies.thresholds.fallback_testing import Unmet
    from confide.records import Record


def tell_unmet(
    unmet: Unmet, source: str, help: Remedies | None, told: dict[str, object], price: str, json: bool, file: float
) -> None:
    """Print why there is no policy, and what would help: five lines at most, and the ``price`` of missing labels.

    ``file`` is how many rows the whole file has for each calibration row.
    """
    if json:
        would_help = None if help is None else asdict(help)
        print_json({**told, "source": source, **asdict(unmet), "would_help": would_help}, indent=2)
        return
    lines = [unmet.next_step(file), unmet.looser()] if help is None else help.explain(unmet, file)
    for line in filter(None, [unmet.why(source), *lines, price]):
        typer.echo(line)


def _told(rows: Sequence[Record], missing: set[str], right: bool) -> Sequence[Record]:
    """``rows`` with ``right`` as the label of those ``missing`` one."""
    if not missing:
        return rows
    return [row.model_copy(update={"correct": right}) if row.id in missing else row for row in rows]


def for_the_worse(rows: Sequence[Record], missing: set[str], goal: Goal) -> tuple[Sequence[Record], str]:
    """``rows`` with those ``missing`` a label as ``goal`` has to fear they are, and what they count as.

    Which audits of a store lack a label is not chance. The worst case of a promise is that they are wrong, and of one
    about fine answers that they are fine and lie below every threshold, as without a confidence.
    """
    from confide.policies.goals import FalseAlarms

    if not isinstance(goal, FalseAlarms):
        return _told(rows, missing, False), "wrong"
    if not missing:
        return rows, "false_alarms"
    none = {row.id: dict.fromkeys(row.confidence) for row in rows if row.id in missing}
    flagged = [r.model_copy(update={"confidence": none[r.id]}) if r.id in none else r for r in rows]
    return _told(flagged, missing, True), "false_alarms"


def price_of_missing(
    rows: Sequence[Record],
    missing: set[str],
    made: Policy | Unmet,
    best: Callable[..., tuple[str, Policy | Unmet]],
    counted: str,
) -> str:
    """How many audits lack a label, and what is kept with ``made`` and by the ``best`` if all of them were right.

    Where they are ``counted`` as false alarms only how many.
    """
    from confide.policies.policy import Policy

    if not missing:
        return ""
    if counted == "false_alarms":
        return (
            f"{len(missing)} of the {len(rows)} audits have no label and count as false alarms. Label them with "
            "POST /v1/feedback."
        )
    _, most = best(_told(rows, missing, True))
    kept, might = (f"{p.guarantee.coverage:.1%}" if isinstance(p, Policy) else "nothing" for p in (made, most))
    return (
        f"{len(missing)} of the {len(rows)} audits have no label and count as wrong: kept is {kept}, "
        f"and were they all right it would be {might}. Label them with POST /v1/feedback."
    )
