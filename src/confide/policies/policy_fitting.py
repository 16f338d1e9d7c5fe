"""From calibration records and a goal to a policy: calibrator, thresholds, guarantee, and a profile of the rows.

With domains, every domain with enough independent rows gets a threshold of its own and the others share one; the rule
looks at row counts only. The error rate 1 − level is split evenly over these parts, so the promise holds in all of them
at once. A part in which the goal is not shown keeps nothing; the goal is unmet when that is so everywhere, a budget or
a share of false alarms when it is so anywhere.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import numpy as np

from confide.errors import ConfideError
from confide.policies.calibration_evidence import guarantee_of
from confide.policies.calibration_rows import (
    CalibrationRows,
    data_sha256,
    labelled_rows,
    models_of,
    rows_for,
    sketch,
)
from confide.policies.calibrators import MIN_ROWS, Calibrator, Kind, base_rate, fit_calibrator
from confide.policies.detection import with_detection
from confide.policies.goals import BoundedGoal, Costs, Escalating, FalseAlarms, Goal, MatchExpert, MaxRisk
from confide.policies.guarantees import ANY_DOMAIN, Bounded, CostEstimate
from confide.policies.identities import common_identity
from confide.policies.judged_rows import check_goal
from confide.policies.least_cost import cheapest
from confide.policies.nearest_answers import no_number_would
from confide.policies.policy import Policy
from confide.policies.policy_part import NEVER, Part, Rule
from confide.policies.profiles import profile_of
from confide.policies.ranges import ANY_NUMBER, PROBABILITIES, Range, range_of
from confide.policies.row_estimate import rows_that_meet
from confide.policies.thresholds.binomial_bound import fewest_rows
from confide.policies.thresholds.cluster_bound import Drawn, draw
from confide.policies.thresholds.escalation_thresholds import (
    budget_threshold,
    false_alarm_threshold,
    match_expert_threshold,
)
from confide.policies.thresholds.fallback_testing import BoundedThreshold, Unmet, worth_having
from confide.policies.thresholds.judged_bound import Verdicts
from confide.policies.thresholds.risk_threshold import bounded_risk_threshold
from confide.records import Record

# A domain gets its own threshold with this many rows, and with this many times those that show the goal when none of
# them goes wrong: with fewer, a threshold of its own would mostly not be found.
_LEAST_ROWS = 200
_TIMES_NEEDED = 10

# Rows of entities that a promise per question does not cover: of more than this share it would say too little.
_MOST_UNCOVERED = 0.05

_NOTHING_KEPT = [Rule(below=NEVER, decision="escalate")]
_Fitted = tuple[Calibrator, dict[str, list[Rule]], Bounded | CostEstimate]


def calibrate_policy(
    records: Sequence[Record],
    source: str,
    goal: Goal,
    *,
    calibrator: Kind | Literal["auto"] = "auto",
    expert: Sequence[Record] | None = None,
    per_domain: bool = False,
    last_resort: Literal["unverified", "abstain", "error"] = "error",
    seed: int = 0,
    hints: bool = True,
    any_number: bool = False,
) -> Policy | Unmet:
    """Fit the policy that meets ``goal`` with the confidence of ``source``.

    Args:
        records: calibration rows, used for nothing else before. Rows that lack what the goal needs are left out.
        source: whose confidence decides.
        goal: `MaxRisk`, `Budget`, `MatchExpert`, `FalseAlarms` or `Costs`.
        calibrator: the kind of calibrator, or ``auto`` for the one with the lowest cross-validated log loss.
        expert: another model's graded answers to the same questions (same ids). `MatchExpert` needs them; `Budget` and
            `Costs` take the expert to be always right without them.
        per_domain: whether domains with enough rows get a threshold of their own.
        last_resort: what a router does with an escalated question when every expert failed.
        seed: draws one row from each group of dependent rows, and the folds that choose the calibrator.
        hints: whether an unmet goal comes with what would do, which takes a while.
        any_number: whether the confidences are on a scale of their own (margins, ratings), which the calibrator turns
            into probabilities; otherwise one outside the range of its source is an error.

    Returns:
        The policy, or what stands in its way.

    Raises:
        ConfideError: for a goal that makes no sense, a confidence outside the range of its source, and for rows of
            several models or too few to show the goal.
    """
    _check_expert(goal, expert)
    records = _range(source, any_number).records(records, source)
    rows, judged = _rows(goal, records, source, expert)
    spoken_of = rows.records.union(judged.records)
    identity, name = common_identity(spoken_of, source), None if expert is None else models_of(expert)
    parts = _parts(rows, goal) if per_domain else {ANY_DOMAIN: rows}
    fit = _fitter(judged, calibrator, goal, seed)
    if isinstance(goal, Costs):
        fitted_to_all = fit()
        found: _Fitted | Unmet = (fitted_to_all, *cheapest(goal, parts, fitted_to_all, name, seed))
    else:
        found = _bounded(goal, parts, fit, name, seed, hints)
    if isinstance(found, Unmet):
        return _adoptable(goal, found, rows, per_domain, expert is not None, seed)
    fitted, rules, guarantee = found
    # A domain that no calibration row speaks for is not answered.
    rules.setdefault(ANY_DOMAIN, _NOTHING_KEPT)
    policy = Policy(
        calibrator=fitted, thresholds=rules, guarantee=guarantee, model=models_of(spoken_of), last_resort=last_resort,
        **_of_rows(goal, records, rows, judged, source, identity, seed),
    )  # fmt: skip
    policy = with_detection(policy, records, goal.per, seed) if isinstance(goal, FalseAlarms) else policy
    return policy.with_share_answered(records)


def part_that_keeps_nothing(
    records: Sequence[Record],
    source: str,
    goal: Goal,
    *,
    calibrator: Kind | Literal["auto"] = "auto",
    expert: Sequence[Record] | None = None,
    seed: int = 0,
    any_number: bool = False,
) -> Part:
    """The part of ``source`` in a policy whose ``goal`` these ``records`` do not show with it."""
    records = _range(source, any_number).records(records, source)
    rows, judged = _rows(goal, records, source, expert)
    return Part(
        calibrator=_fitter(judged, calibrator, goal, seed)(),
        thresholds={ANY_DOMAIN: _NOTHING_KEPT},
        guarantee=None,
        **_of_rows(goal, records, rows, judged, source, common_identity(rows.records, source), seed),
    )


def _range(source: str, any_number: bool) -> Range:
    """The range that confidences must lie in; of log-probabilities it is always their own."""
    own = range_of(source)
    return ANY_NUMBER if any_number and own == PROBABILITIES else own


def _of_rows(
    goal: Goal,
    records: Sequence[Record],
    rows: CalibrationRows,
    judged: CalibrationRows,
    source: str,
    identity: str,
    seed: int,
) -> dict[str, Any]:
    """What a part of a policy knows of its calibration rows, whatever its thresholds."""
    return {
        "source": source,
        "scale": "log" if rows.log_space else None,
        "data_sha256": data_sha256(rows if isinstance(goal, MaxRisk) else judged),
        "identity": identity,
        "profile": profile_of(records, source, seed),
        "rows_seen": sketch(rows.records, source),
    }


def _rows(
    goal: Goal, records: Sequence[Record], source: str, expert: Sequence[Record] | None
) -> tuple[CalibrationRows, CalibrationRows]:
    """The rows that ``goal`` is about, and those with a label, which the calibrator is fitted on."""
    check_goal(goal, records)
    rows = rows_for(goal.name, records, source, expert, judged=isinstance(goal, MaxRisk))
    return rows, labelled_rows(records, source)


def _fitter(
    judged: CalibrationRows, calibrator: Kind | Literal["auto"], goal: Goal, seed: int
) -> Callable[[], Calibrator]:
    """What fits the calibrator to the rows with a label."""
    if not isinstance(goal, Costs) and 0 < len(judged.records) < MIN_ROWS:
        # The thresholds are bounded on their own: few rows that show the goal are enough for a policy.
        margins = not judged.log_space and bool(((judged.confidence < 0) | (judged.confidence > 1)).any())
        return partial(base_rate, judged.correct, log_space=judged.log_space, margins=margins)
    return partial(
        fit_calibrator, judged.confidence, judged.correct, calibrator, judged.clusters, seed, log_space=judged.log_space
    )  # fmt: skip


def _check_expert(goal: Goal, expert: Sequence[Record] | None) -> None:
    if isinstance(goal, MatchExpert) and expert is None:
        raise ConfideError("to match an expert its own graded answers are needed (--expert)")
    if isinstance(goal, MaxRisk | FalseAlarms) and expert is not None:
        what = "the risk of kept answers does" if isinstance(goal, MaxRisk) else "false alarms do"
        raise ConfideError(f"{what} not depend on an expert: leave --expert out")


def rows_for_a_domain(goal: Goal) -> int:
    """Independent rows with which a domain gets a threshold of its own; it depends on the goal alone."""
    if isinstance(goal, Costs):
        return _LEAST_ROWS
    return max(_LEAST_ROWS, _TIMES_NEEDED * fewest_rows(goal.limit, goal.level))


def _parts(rows: CalibrationRows, goal: Goal) -> dict[str, CalibrationRows]:
    """Domains with enough independent rows, and the others together if they have enough; never none."""
    least = rows_for_a_domain(goal)
    where: dict[str, list[int]] = defaultdict(list)
    for i, domain in enumerate(rows.records.coded("domain").each()):
        where[domain].append(i)
    clusters = rows.clusters

    def independent(indices: list[int]) -> int:
        # A judge's verdicts alone show nothing.
        return len({clusters[i] for i in indices if rows.labelled[i] or not isinstance(goal, MaxRisk)})

    large = {name: at for name, at in sorted(where.items()) if name and independent(at) >= least}
    rest = [i for name, at in where.items() if name not in large for i in at]
    if not large:
        return {ANY_DOMAIN: rows}
    # Where nothing is kept everything escalates: a budget has to hold for small domains, too, and so have false alarms.
    if independent(rest) >= least or (rest and isinstance(goal, Escalating)):
        large[ANY_DOMAIN] = rest
    return {name: rows.take(at) for name, at in large.items()}


def _bounded(
    goal: BoundedGoal,
    parts: dict[str, CalibrationRows],
    fit: Callable[[], Calibrator],
    expert: str | None,
    seed: int,
    hints: bool,
) -> _Fitted | Unmet:
    """Rules of a goal that bounds a quantity; ``expert`` names the one whose answers were given."""
    level = 1 - (1 - goal.level) / len(parts)
    drawn = {name: draw(part.clusters, goal.per, seed) for name, part in parts.items()}
    _check_covered(drawn)
    solve = partial(_solve, goal, level=level, has_expert=expert is not None, hint=hints)
    solved = {name: solve(part, seed) for name, part in parts.items()}
    # A goal that these rows cannot show is an error before too few labels for a calibrator are.
    fitted = fit()
    if (name := _missed(goal, solved)) is not None:
        unmet = solved[name]
        assert isinstance(unmet, Unmet)
        if not hints or (isinstance(goal, MaxRisk) and (goal.simultaneous or unmet.labels is not None)):
            # In simulations estimates for many thresholds at once were too small; rows and labels are two numbers.
            return unmet
        if isinstance(goal, MaxRisk) and no_number_would(
            parts[name].confidence, parts[name].correct, goal.limit, level
        ):
            return unmet
        return replace(unmet, rows_needed=rows_that_meet(partial(solve, hint=False), parts[name], seed))
    rules = {
        name: _NOTHING_KEPT if isinstance(part, Unmet) else [Rule(below=part.threshold, decision="escalate")]
        for name, part in solved.items()
    }
    return fitted, rules, guarantee_of(goal, parts, drawn, solved, expert)


def _missed(goal: BoundedGoal, solved: dict[str, BoundedThreshold | Unmet]) -> str | None:
    """The part to mend if the whole misses ``goal``: where all do the nearest one, else the furthest of any.

    A share of what is not kept has to be met everywhere.
    """
    missed = {
        name: part.attainable.limit if part.attainable else 1.0
        for name, part in solved.items()
        if isinstance(part, Unmet)
    }
    if isinstance(goal, Escalating):
        return max(missed, key=missed.__getitem__, default=None)
    return min(missed, key=missed.__getitem__) if len(missed) == len(solved) else None


def _adoptable(goal: Goal, unmet: Unmet, rows: CalibrationRows, per_domain: bool, has_expert: bool, seed: int) -> Unmet:
    """``unmet`` with a limit that gives a policy: a looser one may part the rows, and the level, into other domains.

    With domains, a smaller one may do so, too.
    """
    hint = unmet.attainable
    while hint is not None and not isinstance(goal, Costs):
        looser = replace(goal, limit=hint.limit)
        parts = _parts(rows, looser) if per_domain else {ANY_DOMAIN: rows}
        level = 1 - (1 - goal.level) / len(parts)
        solved = {name: _solve(looser, part, seed, level=level, has_expert=has_expert) for name, part in parts.items()}
        name = _missed(looser, solved)
        if name is None:
            break
        part = solved[name]
        assert isinstance(part, Unmet)
        hint = part.attainable
    base = _of_all(goal, rows)
    return replace(unmet, attainable=worth_having(hint, unmet.limit, base), base=base)


def _of_all(goal: Goal, rows: CalibrationRows) -> float | None:
    """What ``goal`` bounds where every answer is kept, as observed (None: it bounds something else)."""
    if isinstance(goal, MaxRisk):
        return float(1 - rows.correct.mean())
    if isinstance(goal, MatchExpert):
        return float(rows.expert.mean() - rows.correct.mean())
    return None


def _check_covered(drawn: dict[str, Drawn]) -> None:
    """Raise `ConfideError` where a promise per question would leave out too many of the questions."""
    for name, sample in drawn.items():
        if sample.uncovered > _MOST_UNCOVERED:
            where = "" if name == ANY_DOMAIN else f" of {name}"
            more = f"{sample.most} row{'s' * (sample.most != 1)}"
            raise ConfideError(
                f"{sample.uncovered:.0%} of the rows{where} are of entities with more than {more} each (in a store: "
                "questions asked again and again), which a promise per question does not cover; take --per entity, "
                "where each counts once, or rows in which none is asked so often"
            )


def _solve(
    goal: BoundedGoal, part: CalibrationRows, seed: int, *, level: float, has_expert: bool, hint: bool = True
) -> BoundedThreshold | Unmet:
    """The threshold of one part at its own ``level``."""
    if isinstance(goal, MaxRisk):
        return bounded_risk_threshold(
            part.confidence, part.correct, goal.limit, level, part.clusters, seed, goal.per, goal.simultaneous, hint,
            Verdicts.of(part),
        )  # fmt: skip
    drawn = draw(part.clusters, goal.per, seed)
    part, groups = part.take(drawn.rows), drawn.clusters
    if isinstance(goal, FalseAlarms):
        return false_alarm_threshold(part.confidence, goal.limit, level, groups, hint)
    if isinstance(goal, MatchExpert):
        return match_expert_threshold(part.confidence, part.correct, part.expert, goal.limit, level, groups, hint)
    gain = np.where(part.labelled, part.expert.astype(float) - part.correct, 0.0) if has_expert else None
    return budget_threshold(part.confidence, goal.limit, level, gain, groups, hint)
