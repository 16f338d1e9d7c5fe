"""One policy out of several sources, the best of them or an order, each with its part of the error rate.

Whoever calibrates on each source in turn and keeps the best looking policy has as many chances to be wrong as there are
sources. Here each of k sources gets (1 − level) / k of the error rate, so that all their promises hold together with
probability at least level (Bonferroni), and so does that of whichever is taken.

So it is with fallbacks, sources that decide where those before them give no confidence: had each its promise at level,
all of them together would have it at less.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from confide.errors import ConfideError, TooFewRowsError
from confide.policies.calibration_rows import labelled_rows, models_of, rows_decided_by
from confide.policies.goals import BoundedGoal, Goal, MaxRisk
from confide.policies.guarantees import BudgetGuarantee, CostEstimate, FalseAlarmGuarantee
from confide.policies.identities import common_identity
from confide.policies.policy import Policy
from confide.policies.policy_fitting import calibrate_policy, part_that_keeps_nothing
from confide.policies.policy_part import Part
from confide.policies.profiles import Profile, profile_of
from confide.policies.thresholds.fallback_testing import LIMITS, Attainable, Unmet, worth_having
from confide.records import Record, RecordTable


def calibrate_best_source(
    records: Sequence[Record],
    sources: Sequence[str],
    goal: Goal,
    *,
    fallbacks: Sequence[str] = (),
    decided: bool = False,
    **options: Any,
) -> tuple[str, Policy | Unmet]:
    """The best policy among those of ``sources``, and its source; ``fallbacks`` decide where it gives no confidence.

    It is the one that answers most; for a budget the most accurate one, for false alarms the one that detects most, for
    `Costs` the cheapest. Its guarantee has the goal's level, and says at which level each source was tested.

    Args:
        records: calibration rows, as in `calibrate_policy`.
        sources: whose confidences may decide, fixed before the rows are looked at.
        goal: as in `calibrate_policy`.
        fallbacks: the sources after it, in their order. Each gets its share of the error rate and a part of its own;
            one with which the rows do not show the goal keeps nothing.
        decided: whether a row holds the confidence that decided and no other. A source is then calibrated on its own
            rows: that it is not on the others does not mean that it would have escalated them.
        **options: its other arguments.

    Returns:
        The source and its policy, or the one that comes nearest and what stands in its way: also rows that are too few.

    Raises:
        ConfideError: as `calibrate_policy` does otherwise, for any of the sources.
    """
    if twice := [name for name in fallbacks if name in sources or fallbacks.count(name) > 1]:
        raise ConfideError(f"a source may stand in the order once, got {twice[0]} twice")
    share, tested = goal, [*sources, *fallbacks]
    if isinstance(goal, BoundedGoal):
        share = replace(goal, level=1 - (1 - goal.level) / len(tested))
    rows = {name: rows_decided_by(name, records) if decided else records for name in tested}
    made = {source: _calibrated(rows[source], source, share, options) for source in sources}
    met = {source: policy for source, policy in made.items() if isinstance(policy, Policy)}
    if not met:
        return min(made.items(), key=lambda item: _nearest(item[1]))
    source = max(met, key=lambda name: _worth(met[name]))
    best = met[source]
    parts = [_fallback(rows[name], name, share, options) for name in fallbacks]
    if len(tested) > 1 and isinstance(goal, BoundedGoal) and isinstance(share, BoundedGoal):
        chosen = f"the best of {', '.join(sources)}" if len(sources) > 1 else source
        how = f"{', then '.join([chosen, *fallbacks])}, each at level {share.level:.6g}"
        best = best.model_copy(update=_told(best, goal.level, how))
        parts = [part.model_copy(update=_told(part, goal.level, how)) for part in parts]
    return source, _in_order(best, parts, records, options.get("seed", 0)) if parts else best


def _calibrated(records: Sequence[Record], source: str, goal: Goal, options: dict[str, Any]) -> Policy | Unmet:
    """What `calibrate_policy` makes; where the rows are too few, how many it takes, and the limit that they do show."""
    try:
        return calibrate_policy(records, source, goal, **options)
    except TooFewRowsError as error:
        if not error.rows or not isinstance(goal, BoundedGoal):
            raise
        unmet = Unmet(goal.name, goal.limit, goal.level, error.rows, rows_needed=error.needed, too_few=str(error))
    limit = math.ceil(goal.limit * LIMITS + 1e-9)
    while limit < LIMITS // 2:
        try:
            made = calibrate_policy(records, source, replace(goal, limit=limit / LIMITS), **options)
        except TooFewRowsError as error:
            # About as many times looser as there are too few rows, or a thousandth.
            limit = max(limit + 1, math.floor(limit * 0.9 * error.needed / error.rows))
            continue
        if isinstance(made, Unmet):
            shown = made.attainable
        else:
            assert not isinstance(made.guarantee, CostEstimate)
            g = made.guarantee
            shown = Attainable(limit / LIMITS, g.coverage, g.observed, g.upper_bound)
        base = float(1 - labelled_rows(records, source).correct.mean()) if isinstance(goal, MaxRisk) else None
        return replace(unmet, attainable=worth_having(shown, goal.limit, base), base=base)
    return unmet


def _told(part: Part, level: float, how: str) -> dict[str, Any]:
    """The guarantee of one of several sources as it is written: at the ``level`` of all of them."""
    guarantee = part.guarantee
    if guarantee is None or isinstance(guarantee, CostEstimate):
        return {}
    method = f"{guarantee.method}; {how}"
    return {"guarantee": guarantee.model_copy(update={"level": level, "method": method})}


def _fallback(records: Sequence[Record], source: str, goal: Goal, options: dict[str, Any]) -> Part:
    """What ``source`` decides where those before it give no confidence."""
    try:
        made = calibrate_policy(records, source, goal, hints=False, **options)
        if isinstance(made, Unmet):
            how = {name: options[name] for name in ("calibrator", "expert", "seed", "any_number") if name in options}
            return part_that_keeps_nothing(records, source, goal, **how)
    except ConfideError as error:
        raise ConfideError(f"the fallback {source}: {error}") from None
    return Part(**{name: getattr(made, name) for name in Part.model_fields})


def _in_order(first: Policy, parts: Sequence[Part], records: Sequence[Record], seed: int) -> Policy:
    """One policy of ``first`` and the ``parts`` after it, all made on ``records``."""
    bare = []
    for part in parts:
        # What the rows look like beside their confidences is said once.
        assert part.profile is not None
        profile = Profile(n=part.profile.n, confidence=part.profile.confidence)
        bare.append(part.model_copy(update={"profile": profile}))
    policy = first.model_copy(update={"fallbacks": bare})
    decided = RecordTable.of(records).take(np.isfinite(policy.decided(records).confidence))
    common_identity(decided, "")  # raises for sources that different models gave
    profile = profile_of(records, first.source, seed)  # requests that fall back are among those that it was made for
    return policy.model_copy(update={"model": models_of(decided), "profile": profile}).with_share_answered(records)


def _worth(policy: Policy) -> tuple[float, float]:
    guarantee = policy.guarantee
    if isinstance(guarantee, CostEstimate):
        return -guarantee.observed_cost, guarantee.coverage
    if isinstance(guarantee, BudgetGuarantee):
        return guarantee.accuracy or 0.0, guarantee.coverage
    if isinstance(guarantee, FalseAlarmGuarantee):
        return guarantee.detection.detected if guarantee.detection else 0.0, guarantee.coverage
    return guarantee.coverage, -guarantee.observed


def _nearest(unmet: Policy | Unmet) -> float:
    """The limit that could be met (1: none)."""
    return unmet.attainable.limit if isinstance(unmet, Unmet) and unmet.attainable else 1.0
