"""From calibration records and a goal to a policy: calibrator, thresholds, guarantee, and a summary of the rows.

With domains, every domain with enough independent rows gets a threshold of its own and the others share one; the rule
looks at row counts only. The error rate 1 − level is split evenly over the parts, so the promise holds in all of them
at once. A part in which the goal is not shown keeps nothing; the goal is unmet when that is so everywhere, and a budget
when it is so anywhere.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from confide.errors import ConfideError
from confide.policies import budgets, paired
from confide.policies import threshold_bound as thresholds
from confide.policies.calibrators import MIN_ROWS, Calibrator, Kind, fit_calibrator
from confide.policies.costs import Cheapest, Costs, cheapest_thresholds, cost_of
from confide.policies.guarantees import (
    ANY_DOMAIN,
    BudgetGuarantee,
    CostEstimate,
    Evidence,
    Guarantee,
    MatchGuarantee,
)
from confide.policies.labelled import (
    confidence_of,
    data_sha256,
    expert_labels,
    labelled_rows,
    models_of,
    sketch,
)
from confide.policies.policy import NEVER, Decision, Policy, Rule
from confide.policies.profiles import profile_of
from confide.records import Record

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

# A domain gets its own threshold with this many rows, and with this many times those that show the goal when none of
# them goes wrong: with fewer, a threshold of its own would mostly not be found.
_LEAST_ROWS = 200
_TIMES_NEEDED = 10
_POWER = 0.8


@dataclass(frozen=True)
class MaxRisk:
    """P(wrong | kept) ≤ ``limit``, with probability at least ``level``."""

    limit: float
    level: float = 0.95


@dataclass(frozen=True)
class Budget:
    """The largest accuracy with at most a share ``limit`` escalated, with probability at least ``level``."""

    limit: float
    level: float = 0.95


@dataclass(frozen=True)
class MatchExpert:
    """Fewest escalations with accuracy within ``limit`` of the expert's, with probability at least ``level``."""

    limit: float
    level: float = 0.95


Goal = MaxRisk | Budget | MatchExpert | Costs


@dataclass(frozen=True)
class Attainable:
    """What the same rows do show: a looser ``limit``, and what it keeps. A hint for the next goal, not a promise."""

    limit: float
    coverage: float
    observed: float
    upper_bound: float


@dataclass(frozen=True)
class Unmet:
    """The goal cannot be met on these ``n`` rows at any coverage.

    ``rows_needed`` is about the least number of independent rows like these with which it could be (None: no number
    would do, or it cannot be told).
    """

    goal: Literal["max_risk", "budget", "match_expert"]
    limit: float
    level: float
    n: int
    attainable: Attainable | None = None
    rows_needed: int | None = None


@dataclass(frozen=True)
class _Part:
    """Rows that share a threshold, all arrays (n,). ``confidence`` is −inf where there is none; ``correct`` and
    ``expert`` count only where ``labelled``.
    """

    records: list[Record]
    confidence: Floats
    correct: Bools
    expert: Bools
    labelled: Bools

    @property
    def clusters(self) -> list[str]:
        return [record.cluster for record in self.records]

    def take(self, chosen: Sequence[int]) -> _Part:
        return _Part([self.records[i] for i in chosen], self.confidence[list(chosen)], self.correct[list(chosen)],
                     self.expert[list(chosen)], self.labelled[list(chosen)])  # fmt: skip


@dataclass(frozen=True)
class _Met:
    """A part's threshold and its evidence on ``n`` independent rows, ``kept`` of them answered."""

    threshold: float
    n: int
    kept: int
    observed: float
    upper_bound: float


def calibrate_policy(
    records: Sequence[Record],
    source: str,
    goal: Goal,
    *,
    calibrator: Kind | Literal["auto"] = "auto",
    expert: Sequence[Record] | None = None,
    per_domain: bool = False,
    last_resort: Literal["unverified", "error"] = "error",
    seed: int = 0,
) -> Policy | Unmet:
    """The policy that meets ``goal`` with the confidence of ``source``, or what stands in its way.

    ``records`` are the calibration rows and must have been used for nothing else. ``expert`` holds another model's
    graded answers to the same questions (same ids): `MatchExpert` needs them, `Budget` and `Costs` take the expert to
    be always right without them. Rows that lack what the goal needs are left out. ``seed`` draws one row from each
    group of dependent rows, and the folds that choose the calibrator.

    Raises `ConfideError` for a goal that makes no sense, and for rows that could not show it were they all right.
    """
    if isinstance(goal, MatchExpert) and expert is None:
        raise ConfideError("to match an expert its own graded answers are needed (--expert)")
    if isinstance(goal, MaxRisk) and expert is not None:
        raise ConfideError("the risk of kept answers does not depend on an expert: leave --expert out")
    rows = _rows_for(goal, records, source, expert)
    parts = _parts(rows, goal) if per_domain else {ANY_DOMAIN: rows}
    judged = labelled_rows(list(records), source)

    def fit() -> Calibrator:
        return fit_calibrator(judged.confidence, judged.correct, calibrator, judged.clusters, seed)

    guarantee: Guarantee | BudgetGuarantee | MatchGuarantee | CostEstimate
    if isinstance(goal, Costs):
        fitted = fit()
        cuts = {name: _cheapest(part, fitted, goal, expert is not None, seed) for name, part in parts.items()}
        rules = {name: _rules(cut) for name, cut in cuts.items()}
        guarantee = _cost_estimate(goal, parts, cuts, expert)
    else:
        level = 1 - (1 - goal.level) / len(parts)
        solved = {name: _solve(goal, part, level, expert is not None, seed) for name, part in parts.items()}
        fitted = fit()
        met = {name: part for name, part in solved.items() if isinstance(part, _Met)}
        unmet_parts = [name for name in parts if name not in met]
        if not met or (unmet_parts and isinstance(goal, Budget)):
            largest = max(unmet_parts, key=lambda name: len(parts[name].records))
            unmet = solved[largest]
            assert isinstance(unmet, Unmet)
            return replace(unmet, rows_needed=_rows_needed(goal, parts[largest], fitted, level, seed))
        rules = {
            name: [Rule(below=met[name].threshold if name in met else NEVER, decision="escalate")] for name in parts
        }
        guarantee = _guarantee(goal, parts, solved, expert)
    # A domain that no calibration row speaks for is not answered.
    rules.setdefault(ANY_DOMAIN, [Rule(below=NEVER, decision="escalate")])
    return Policy(
        source=source,
        calibrator=fitted.state,
        thresholds=rules,
        guarantee=guarantee,
        data_sha256=data_sha256(judged),
        model=models_of(rows.records),
        last_resort=last_resort,
        profile=profile_of(records, source, seed),
        rows_seen=sketch(rows.records, source),
    )


def rows_for_a_domain(goal: Goal) -> int:
    """Independent rows with which a domain gets a threshold of its own; it depends on the goal alone."""
    if isinstance(goal, Costs):
        return _LEAST_ROWS
    return max(_LEAST_ROWS, _TIMES_NEEDED * thresholds.rows_needed_for_a_bound(goal.limit, goal.level))


def _rows_for(goal: Goal, records: Sequence[Record], source: str, expert: Sequence[Record] | None) -> _Part:
    """The rows that ``goal`` is tested on."""
    if not isinstance(goal, Costs):
        name = {MaxRisk: "max-risk", Budget: "budget", MatchExpert: "match-expert"}[type(goal)]
        thresholds.check_goal(goal.limit, goal.level, name)
    right = None if expert is None else expert_labels(expert, records)
    chosen, values, labelled = [], [], []
    for record in records:
        value = confidence_of(record, source)
        judged = record.correct is not None and (right is None or record.id in right)
        # The risk of kept answers needs a label and a confidence, a share of escalations neither.
        if isinstance(goal, Budget) or (judged and (value is not None or not isinstance(goal, MaxRisk))):
            chosen.append(record)
            values.append(-math.inf if value is None else value)
            labelled.append(judged)
    return _Part(
        chosen,
        np.array(values, dtype=float),
        np.array([bool(record.correct) for record in chosen], dtype=bool),
        np.array([True if right is None else right.get(record.id, False) for record in chosen], dtype=bool),
        np.array(labelled, dtype=bool),
    )


def _parts(rows: _Part, goal: Goal) -> dict[str, _Part]:
    """Domains with enough independent rows, and the others together if they have enough; never none."""
    least = rows_for_a_domain(goal)
    where: dict[str, list[int]] = defaultdict(list)
    for i, record in enumerate(rows.records):
        where[record.domain].append(i)

    def independent(indices: list[int]) -> int:
        return len({rows.records[i].cluster for i in indices})

    large = {name: at for name, at in sorted(where.items()) if name and independent(at) >= least}
    rest = [i for name, at in where.items() if name not in large for i in at]
    if not large:
        return {ANY_DOMAIN: rows}
    # Where nothing is kept everything escalates: a budget has to hold for small domains, too.
    if independent(rest) >= least or (rest and isinstance(goal, Budget)):
        large[ANY_DOMAIN] = rest
    return {name: rows.take(at) for name, at in large.items()}


def _solve(
    goal: MaxRisk | Budget | MatchExpert, part: _Part, level: float, has_expert: bool, seed: int
) -> _Met | Unmet:
    """The threshold of one part at its own ``level``."""
    c, y, e = part.confidence, part.correct, part.expert
    if isinstance(goal, MaxRisk):
        risk = thresholds.bounded_risk_threshold(c, y, goal.limit, level, part.clusters, seed)
        if isinstance(risk, thresholds.BoundedRisk):
            return _Met(risk.threshold, risk.n, risk.kept, risk.observed_risk, risk.upper_bound)
        unmet = Unmet("max_risk", goal.limit, level, risk.n)
        if (hint := risk.attainable) is None:
            return unmet
        shown = Attainable(hint.max_risk, hint.coverage, hint.observed_risk, hint.upper_bound)
        return replace(unmet, attainable=shown)
    if isinstance(goal, Budget):
        gain = np.where(part.labelled, e.astype(float) - y, 0.0) if has_expert else None
        share = budgets.budget_threshold(c, goal.limit, level, gain, part.clusters, seed)
        observed = share.escalated / share.n
        upper = thresholds.risk_interval(share.escalated, share.n, level)[1]
        if share.threshold is not None:
            return _Met(share.threshold, share.n, share.n - share.escalated, observed, upper)
        return Unmet("budget", goal.limit, level, share.n, Attainable(upper, 1 - observed, observed, upper))
    loss = paired.match_expert_threshold(c, y, e, goal.limit, level, part.clusters, seed)
    if isinstance(loss, paired.BoundedLoss):
        upper = paired.loss_interval(loss.losses, loss.gains, loss.n, level)[1]
        return _Met(loss.threshold, loss.n, loss.kept, (loss.losses - loss.gains) / loss.n, upper)
    nearest = loss.attainable
    if nearest is None:
        return Unmet("match_expert", goal.limit, level, loss.n)
    upper = paired.loss_interval(nearest.losses, nearest.gains, nearest.n, level)[1]
    observed = (nearest.losses - nearest.gains) / nearest.n
    return Unmet(
        "match_expert", goal.limit, level, loss.n, Attainable(nearest.margin, nearest.kept / loss.n, observed, upper)
    )


def _guarantee(
    goal: MaxRisk | Budget | MatchExpert,
    parts: dict[str, _Part],
    solved: dict[str, _Met | Unmet],
    expert: Sequence[Record] | None,
) -> Guarantee | BudgetGuarantee | MatchGuarantee:
    """The promise over all parts, with each one's evidence when there are several."""
    met = [part for part in solved.values() if isinstance(part, _Met)]
    n, kept = sum(part.n for part in solved.values()), sum(part.kept for part in met)
    # Rows of a part that keeps nothing all escalate, and lose nothing.
    lost = sum(part.observed * part.n for part in met)
    upper = max(part.upper_bound for part in met)
    domains = {}
    if len(parts) > 1 or ANY_DOMAIN not in parts:
        domains = {name: _evidence(part) for name, part in solved.items()}
    seen = {"n": n, "coverage": kept / n, "upper_bound": upper, "domains": domains, "level": goal.level}
    if isinstance(goal, MaxRisk):
        wrong = sum(part.observed * part.kept for part in met)
        return Guarantee(max_risk=goal.limit, method=thresholds.METHOD, observed_risk=wrong / kept, **seen)
    named = None if expert is None else models_of(expert)
    if isinstance(goal, MatchExpert):
        return MatchGuarantee(
            goal="match_expert", margin=goal.limit, method=paired.METHOD, observed_loss=lost / n,
            expert=named or "", **seen,
        )  # fmt: skip
    outcomes: list[bool] = []
    for name, part in parts.items():
        found = solved[name]
        limit = found.threshold if isinstance(found, _Met) else math.inf
        pair = np.where(part.confidence >= limit, part.correct, part.expert)
        outcomes += pair[part.labelled].tolist()
    return BudgetGuarantee(
        goal="budget", budget=goal.limit, method=budgets.METHOD, observed_share=1 - kept / n,
        accuracy=float(np.mean(outcomes)) if outcomes else None, expert=named, **seen,
    )  # fmt: skip


def _evidence(part: _Met | Unmet) -> Evidence:
    if isinstance(part, Unmet):
        return Evidence(met=False, n=part.n)
    return Evidence(
        met=True, n=part.n, observed=part.observed, upper_bound=part.upper_bound, coverage=part.kept / part.n
    )


def _rows_needed(
    goal: MaxRisk | Budget | MatchExpert, part: _Part, fitted: Calibrator, level: float, seed: int
) -> int | None:
    """Independent rows with which one test in the sequence would pass with probability 0.8, the easiest of them.

    The risk at each share kept is that of the calibrated probabilities, which is smoother than the observed one.
    """
    chosen = thresholds.one_per_cluster(part.clusters, seed)
    c = np.sort(part.confidence[chosen])[::-1]
    c = c[np.isfinite(c)]
    kept = np.unique(np.linspace(MIN_ROWS, len(c), 50).astype(np.int64)) if len(c) >= MIN_ROWS else np.array([], int)
    options: list[int] = []
    if isinstance(goal, MaxRisk):
        risk = np.cumsum(1 - fitted.predict(c)) / np.arange(1, len(c) + 1)
        for k in kept.tolist():
            needed = (
                thresholds.kept_rows_that_decide(float(risk[k - 1]), goal.limit, level)
                if risk[k - 1] < goal.limit
                else None
            )
            options += [] if needed is None else [math.ceil(needed * len(c) / k)]
    if isinstance(goal, MatchExpert):
        order = chosen[np.argsort(-part.confidence[chosen], kind="stable")]
        losses = np.cumsum((part.expert & ~part.correct)[order]) / len(order)
        gains = np.cumsum((part.correct & ~part.expert)[order]) / len(order)
        for k in kept.tolist():
            if losses[k - 1] - gains[k - 1] < goal.limit:
                needed = paired.rows_that_decide(float(losses[k - 1]), float(gains[k - 1]), goal.limit, level, _POWER)
                options += [] if needed is None else [needed]
    return min(options, default=None)


def _cheapest(part: _Part, fitted: Calibrator, costs: Costs, has_expert: bool, seed: int) -> Cheapest:
    """The cheapest thresholds of one part, by calibrated probabilities."""
    known = np.isfinite(part.confidence)
    c = part.confidence[known]
    # What the expert gets right may depend on how sure the small model is, and is fitted in the same way.
    helper = np.ones(len(c))
    if has_expert:
        e = part.expert[known]
        helper = np.full(len(c), e.mean() if len(c) else 0.0)
        if len(c) >= MIN_ROWS and 0 < e.sum() < len(c):
            clusters = [record.cluster for record, there in zip(part.records, known, strict=True) if there]
            helper = fit_calibrator(c, e, "auto", clusters, seed).predict(c)
    return cheapest_thresholds(c, fitted.predict(c), helper, costs)


def _rules(cut: Cheapest) -> list[Rule]:
    answer_from = NEVER if cut.answer_from is None else cut.answer_from
    rules = []
    if cut.abstain_below is not None:
        rules.append(Rule(below=min(cut.abstain_below, NEVER), decision="abstain"))
    if not rules or rules[0].below < answer_from:
        rules.append(Rule(below=answer_from, decision="escalate"))
    return rules


def _cost_estimate(
    costs: Costs, parts: dict[str, _Part], cuts: dict[str, Cheapest], expert: Sequence[Record] | None
) -> CostEstimate:
    decisions: list[str] = []
    for name, part in parts.items():
        rules = _rules(cuts[name])
        for value in part.confidence.tolist():
            first = next((rule.decision for rule in rules if value < rule.below), "answer")
            decisions.append(first if math.isfinite(value) else "escalate")
    y = np.concatenate([part.correct for part in parts.values()])
    e = np.concatenate([part.expert for part in parts.values()])
    names: list[Decision] = ["answer", "escalate"] if costs.abstain is None else ["answer", "escalate", "abstain"]
    return CostEstimate(
        goal="cost", answer=costs.answer, escalate=costs.escalate, wrong=costs.wrong, abstain=costs.abstain, n=len(y),
        coverage=decisions.count("answer") / len(y), observed_cost=cost_of(decisions, y, e, costs),
        always={name: cost_of([name] * len(y), y, e, costs) for name in names},
        expert=None if expert is None else models_of(expert),
    )  # fmt: skip
