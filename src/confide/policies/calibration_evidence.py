"""What the calibration rows say of a goal: the guarantee that stands in the policy file."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

import numpy as np

from confide.policies.calibration_rows import CalibrationRows
from confide.policies.goals import BoundedGoal, FalseAlarms, MatchExpert, MaxRisk
from confide.policies.guarantees import (
    ANY_DOMAIN,
    Bounded,
    BudgetGuarantee,
    Evidence,
    FalseAlarmGuarantee,
    Guarantee,
    MatchGuarantee,
)
from confide.policies.judged_rows import METHOD, error_of, judges_of
from confide.policies.thresholds.cluster_bound import Drawn
from confide.policies.thresholds.fallback_testing import BoundedThreshold, Unmet


def guarantee_of(
    goal: BoundedGoal,
    parts: dict[str, CalibrationRows],
    drawn: dict[str, Drawn],
    solved: dict[str, BoundedThreshold | Unmet],
    expert: str | None,
) -> Bounded:
    """The promise over all ``parts``, with each one's evidence when there are several.

    Args:
        goal: what was asked for.
        parts: the rows that it is about, by domain.
        drawn: which of them were tested.
        solved: the threshold of each part, or what stands in its way; at least one was found.
        expert: the model whose answers were given (None: none were).
    """
    met = {name: part for name, part in solved.items() if isinstance(part, BoundedThreshold)}
    n = sum(part.n for part in solved.values())
    kept = sum(part.count.kept for part in met.values())
    clustered = any(sample.clusters for sample in drawn.values())
    shared: dict[str, Any] = {
        "level": goal.level, "method": goal.method(clustered), "n": n, "coverage": kept / n,
        "upper_bound": max(part.upper_bound for part in met.values()), **_counting(drawn.values()),
    }  # fmt: skip
    if len(parts) > 1 or ANY_DOMAIN not in parts:
        shared["domains"] = {
            name: Evidence(met=False, n=part.n)
            if isinstance(part, Unmet)
            else Evidence(
                met=True,
                n=part.n,
                observed=part.count.observed,
                upper_bound=part.upper_bound,
                coverage=part.coverage,
                most_rows=drawn[name].most,
            )
            for name, part in solved.items()
        }
    if isinstance(goal, MaxRisk):
        wrong = sum(part.count.observed * part.count.kept for part in met.values())
        by = judges_of(*(part.records for part in parts.values()))
        if judge := error_of((part.count for part in met.values()), by):
            shared |= {"judge": judge, "method": f"{goal.order}, {METHOD}"}
        return Guarantee(max_risk=goal.limit, observed_risk=wrong / kept, **shared)
    if isinstance(goal, MatchExpert):
        # Rows of a part that keeps nothing all escalate, and lose nothing.
        lost = sum(part.count.observed * part.n for part in met.values())
        return MatchGuarantee(
            goal="match_expert", margin=goal.limit, observed_loss=lost / n, expert=expert or "", **shared
        )
    if isinstance(goal, FalseAlarms):
        return FalseAlarmGuarantee(goal="false_alarms", max_share=goal.limit, observed_share=1 - kept / n, **shared)
    right: list[bool] = []
    for name, part in parts.items():
        limit = met[name].threshold if name in met else math.inf
        right += np.where(part.confidence >= limit, part.correct, part.expert)[part.labelled].tolist()
    accuracy = float(np.mean(right)) if right else None
    return BudgetGuarantee(
        goal="budget", budget=goal.limit, observed_share=1 - kept / n, accuracy=accuracy, expert=expert, **shared
    )


def _counting(drawn: Collection[Drawn]) -> dict[str, Any]:
    """What counts alike in the promise over all parts; nothing is said where each entity has one row."""
    several = [sample for sample in drawn if sample.per is not None]
    if not several:
        return {}
    per = several[0].per
    if per == "entity":
        return {"per": per}
    entities = sum(sample.entities for sample in drawn)
    uncovered = max(sample.uncovered for sample in several)
    most = max(sample.most or 1 for sample in several)
    return {"per": per, "entities": entities, "most_rows": most, "uncovered": uncovered or None}
