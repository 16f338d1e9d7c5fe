"""Rules of least expected cost: what ``--cost`` makes of calibration rows, by calibrated probabilities."""

from __future__ import annotations

import numpy as np

from confide.policies.calibration_rows import CalibrationRows
from confide.policies.calibrators import MIN_ROWS, Calibrator, fit_calibrator
from confide.policies.goals import Costs
from confide.policies.guarantees import CostEstimate
from confide.policies.policy_part import NEVER, Decision, Rule, decision_by
from confide.policies.thresholds.escalation_thresholds import cheapest_thresholds, cost_of


def cheapest(
    costs: Costs, parts: dict[str, CalibrationRows], fitted: Calibrator, expert: str | None, seed: int
) -> tuple[dict[str, list[Rule]], CostEstimate]:
    """Rules of least expected cost, and what they and each decision alone cost on the calibration rows."""
    rules = {name: _cheapest_rules(part, fitted, costs, expert is not None, seed) for name, part in parts.items()}
    decisions = [decision_by(rules[name], value) for name, part in parts.items() for value in part.confidence.tolist()]
    y = np.concatenate([part.correct for part in parts.values()])
    e = np.concatenate([part.expert for part in parts.values()])
    names: list[Decision] = ["answer", "escalate"] if costs.abstain is None else ["answer", "escalate", "abstain"]
    estimate = CostEstimate(
        goal="cost", **vars(costs), n=len(y), coverage=decisions.count("answer") / len(y),
        observed_cost=cost_of(decisions, y, e, costs),
        always={name: cost_of([name] * len(y), y, e, costs) for name in names}, expert=expert,
    )  # fmt: skip
    return rules, estimate


def _cheapest_rules(part: CalibrationRows, fitted: Calibrator, costs: Costs, has_expert: bool, seed: int) -> list[Rule]:
    """The rules of least expected cost for one part, by calibrated probabilities."""
    part = part.take(np.flatnonzero(np.isfinite(part.confidence)))
    c, e = part.confidence, part.expert
    # What the expert gets right may depend on how sure the small model is, and is fitted in the same way.
    expert_right = np.ones(len(c))
    if has_expert:
        expert_right = np.full(len(c), e.mean() if len(c) else 0.0)
        if len(c) >= MIN_ROWS and 0 < e.sum() < len(c):
            expert_right = fit_calibrator(c, e, "auto", part.clusters, seed, log_space=part.log_space).predict(c)
    cut = cheapest_thresholds(c, fitted.predict(c), expert_right, costs)
    answer_from = NEVER if cut.answer_from is None else cut.answer_from
    rules = []
    if cut.abstain_below is not None:
        rules.append(Rule(below=min(cut.abstain_below, NEVER), decision="abstain"))
    if not rules or rules[0].below < answer_from:
        rules.append(Rule(below=answer_from, decision="escalate"))
    return rules
