"""Does a policy's promise hold on fresh rows? Three answers: it holds, it does not, the rows cannot say."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from scipy.stats import binom

from confide.errors import ConfideError
from confide.policies.policy import Policy
from confide.policies.rows import confidence_of, models_of, seen_again
from confide.policies.thresholds import affordable_wrong, one_per_cluster, risk_interval
from confide.records import Record

Verdict = Literal["holds", "broken", "undecided"]

EXIT_CODES: dict[Verdict, int] = {"holds": 0, "broken": 1, "undecided": 3}

# The number of rows that would decide is the one that decides with this probability.
_POWER = 0.8
_MOST_ROWS = 100_000_000


@dataclass(frozen=True)
class Validation:
    """What fresh rows say about a promise.

    ``n`` independent labelled rows were used, ``kept`` of them answered, ``wrong`` of those wrong;
    ``lower`` and ``upper`` are one-sided Clopper–Pearson bounds of the risk, each at ``level``.
    ``rows_needed`` is the number of fresh rows that would decide with probability 0.8 if risk and coverage
    are as they look now (None: decided already, or no number would). ``left_out`` counts rows without a
    label.
    """

    verdict: Verdict
    n: int
    kept: int
    wrong: int
    observed_risk: float | None
    lower: float
    upper: float
    coverage: float
    max_risk: float
    level: float
    rows_needed: int | None
    left_out: int
    warnings: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """0 the promise holds, 1 it does not, 3 these rows cannot say."""
        return EXIT_CODES[self.verdict]


def validate_policy(policy: Policy, records: list[Record], seed: int = 0) -> Validation:
    """Check ``policy`` on fresh ``records`` of any split; the caller picks the rows.

    The promise *holds* when the upper bound of the risk of kept rows is at most ``max_risk``, is *broken*
    when the lower bound exceeds it, and is *undecided* otherwise. As in calibration, one row a cluster is
    drawn (with ``seed``). Rows without a confidence count as escalated.

    Raises `ConfideError` when no row has a label, or none has a confidence from the policy's source.
    """
    labelled = [record for record in records if record.correct is not None]
    if not labelled:
        raise ConfideError(f"none of the {len(records)} fresh rows says whether its answer is correct")
    if all(confidence_of(record, policy.source) is None for record in labelled):
        there = ", ".join(sorted({source for record in labelled for source in record.confidence})) or "none"
        raise ConfideError(f"no fresh row has a confidence from {policy.source}; there are: {there}")
    rows = [labelled[i] for i in one_per_cluster([record.cluster for record in labelled], seed)]
    kept = [r for r in rows if policy.decide(confidence_of(r, policy.source), r.domain) == "answer"]
    wrong = sum(not record.correct for record in kept)

    goal = policy.guarantee
    lower, upper = risk_interval(wrong, len(kept), goal.level)
    verdict: Verdict = "undecided"
    if upper <= goal.max_risk:
        verdict = "holds"
    elif lower > goal.max_risk:
        verdict = "broken"
    rows_needed = None
    if verdict == "undecided":
        # Without a kept row, the calibration rows are the best guess at risk and coverage.
        risk = wrong / len(kept) if kept else goal.observed_risk
        coverage = len(kept) / len(rows) if kept else goal.coverage
        needed = kept_rows_that_decide(risk, goal.max_risk, goal.level)
        rows_needed = None if needed is None or coverage == 0 else int(np.ceil(needed / coverage))
    return Validation(
        verdict=verdict,
        n=len(rows),
        kept=len(kept),
        wrong=wrong,
        observed_risk=wrong / len(kept) if kept else None,
        lower=lower,
        upper=upper,
        coverage=len(kept) / len(rows),
        max_risk=goal.max_risk,
        level=goal.level,
        rows_needed=rows_needed,
        left_out=len(records) - len(labelled),
        warnings=doubts(policy, labelled),
    )


def doubts(policy: Policy, fresh: list[Record]) -> list[str]:
    """Reasons not to read a validation on ``fresh`` rows as one of this policy, in words."""
    found = []
    again, complete = seen_again(policy.rows_seen, fresh, policy.source)
    if again:
        count = f"{again}" if complete else f"at least {again}"
        found.append(f"{count} of the {len(fresh)} rows were used in calibration: they are not fresh")
    models = models_of(fresh)
    if models and policy.model and models != policy.model:
        found.append(f"the policy was made for {policy.model}, these rows were answered by {models}")
    return found


def kept_rows_that_decide(risk: float, max_risk: float, level: float) -> int | None:
    """Kept rows that decide with probability 0.8 if the true risk is ``risk`` (None: none would)."""

    def decides(kept: int) -> bool:
        if risk < max_risk:
            most = int(affordable_wrong(np.array([kept]), max_risk, level)[0])
            return bool(binom.cdf(most, kept, risk) >= _POWER)
        # The lower bound exceeds max_risk once P(Binomial(kept, max_risk) ≥ wrong) < 1 − level.
        least = binom.ppf(level, kept, max_risk) + 1
        return bool(binom.sf(least - 1, kept, risk) >= _POWER)

    if risk == max_risk:
        return None
    high = 1
    while not decides(high):
        high *= 2
        if high > _MOST_ROWS:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if decides(middle) else (middle, high)
    return high
