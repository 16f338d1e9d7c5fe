"""One policy out of several sources: each is calibrated with its part of the error rate, and the best one is taken.

Whoever calibrates on each source in turn and keeps the best looking policy has as many chances to be wrong as there are
sources. Here each of k sources gets (1 − level) / k of the error rate, so that all their promises hold together with
probability at least level (Bonferroni), and so does that of whichever is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from confide.policies.goals import BoundedGoal, Goal
from confide.policies.guarantees import BudgetGuarantee, CostEstimate
from confide.policies.policy import Policy
from confide.policies.policy_fitting import calibrate_policy
from confide.policies.thresholds.fallback_testing import Unmet
from confide.records import Record


def calibrate_best_source(
    records: Sequence[Record], sources: Sequence[str], goal: Goal, **options: Any
) -> tuple[str, Policy | Unmet]:
    """The best policy among those of ``sources``, and its source.

    It is the one that answers most; for a budget the most accurate one, for `Costs` the cheapest. Its guarantee has the
    goal's level, and says at which level each source was tested.

    Args:
        records: calibration rows, as in `calibrate_policy`.
        sources: whose confidences may decide, fixed before the rows are looked at.
        goal: as in `calibrate_policy`.
        **options: its other arguments.

    Raises:
        ConfideError: as `calibrate_policy` does, for any of the sources.
    """
    share = goal
    if isinstance(goal, BoundedGoal):
        share = replace(goal, level=1 - (1 - goal.level) / len(sources))
    made = {source: calibrate_policy(records, source, share, **options) for source in sources}
    met = {source: policy for source, policy in made.items() if isinstance(policy, Policy)}
    if not met:
        return min(made.items(), key=lambda item: _nearest(item[1]))
    source = max(met, key=lambda name: _worth(met[name]))
    if len(sources) == 1 or not isinstance(goal, BoundedGoal) or not isinstance(share, BoundedGoal):
        return source, met[source]
    guarantee = met[source].guarantee
    assert not isinstance(guarantee, CostEstimate)
    method = f"{guarantee.method}; the best of {', '.join(sources)}, each at level {share.level:.6g}"
    told = guarantee.model_copy(update={"level": goal.level, "method": method})
    return source, met[source].model_copy(update={"guarantee": told})


def _worth(policy: Policy) -> tuple[float, float]:
    guarantee = policy.guarantee
    if isinstance(guarantee, CostEstimate):
        return -guarantee.observed_cost, guarantee.coverage
    if isinstance(guarantee, BudgetGuarantee):
        return guarantee.accuracy or 0.0, guarantee.coverage
    return guarantee.coverage, -guarantee.observed


def _nearest(unmet: Policy | Unmet) -> float:
    """The limit that could be met (1: none)."""
    return unmet.attainable.limit if isinstance(unmet, Unmet) and unmet.attainable else 1.0
