"""Does a policy's promise hold on fresh rows? Three answers: it holds, it does not, the rows cannot say."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from scipy.stats import binom, norm

from confide.errors import ConfideError
from confide.policies.guarantees import (
    ANY_DOMAIN,
    BudgetGuarantee,
    CostEstimate,
    Evidence,
    Guarantee,
    MatchGuarantee,
)
from confide.policies.labelled import confidence_of, expert_labels, models_of, seen_again
from confide.policies.paired import loss_interval, rows_that_decide
from confide.policies.policy import NEVER, Policy
from confide.policies.profiles import shift
from confide.policies.threshold_bound import (
    affordable_wrong,
    kept_rows_that_decide,
    one_per_cluster,
    risk_interval,
)
from confide.records import Record

Verdict = Literal["holds", "broken", "undecided"]

EXIT_CODES: dict[Verdict, int] = {"holds": 0, "broken": 1, "undecided": 3}

_POWER = 0.8


@dataclass(frozen=True)
class Check:
    """What the fresh rows of one domain say; ``"*"`` is every domain without a threshold of its own.

    ``n`` independent rows were used, ``kept`` of them answered. ``observed`` is the promised quantity (None: nothing
    to see it on), ``lower`` and ``upper`` are one-sided bounds of it at the level of the test that each serves.
    ``power`` is the probability with which as many rows show the promise if the quantity is as it was in calibration
    (None: not known). ``rows_needed`` is the number of fresh rows that would decide with probability 0.8 if all stays
    as it looks now (None: decided already, or no number would).
    """

    verdict: Verdict
    n: int
    kept: int
    observed: float | None
    lower: float
    upper: float
    power: float | None
    rows_needed: int | None


@dataclass(frozen=True)
class Validation:
    """What fresh rows say about a promise, over all (``verdict``) and in each domain that has one (``checks``).

    ``left_out`` counts rows without the labels that the goal needs.
    """

    goal: Literal["max_risk", "budget", "match_expert"]
    limit: float
    level: float
    verdict: Verdict
    checks: dict[str, Check]
    left_out: int
    warnings: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """0 the promise holds, 1 it does not, 3 these rows cannot say."""
        return EXIT_CODES[self.verdict]


def validate_policy(
    policy: Policy, records: Sequence[Record], expert: Sequence[Record] | None = None, seed: int = 0
) -> Validation:
    """Check ``policy`` on fresh ``records`` of any split; the caller picks the rows.

    The promise *holds* when the upper bound of the promised quantity is within the limit in every domain, is *broken*
    when a lower bound exceeds it in one of them, and is *undecided* otherwise. Every bound has the policy's level:
    upper ones as they are, because all of them must be within; lower ones with the error rate split over the domains,
    because one of them is enough. As in calibration, one row a cluster is drawn in each domain (with ``seed``) and
    rows without a confidence count as escalated. A budget needs no labels; matching an expert needs those of
    ``expert``, whose records share ids with the fresh ones.

    Raises `ConfideError` when the policy promises nothing, or no row has what its promise needs.
    """
    promise = policy.guarantee
    if isinstance(promise, CostEstimate):
        raise ConfideError("this policy promises nothing that could be checked: its goal is least expected cost")
    right: dict[str, bool] = {}
    if isinstance(promise, MatchGuarantee):
        if expert is None:
            raise ConfideError("the expert's graded answers to the fresh questions are needed, too (--expert)")
        right = expert_labels(expert, records)
    usable = [
        record
        for record in records
        if isinstance(promise, BudgetGuarantee)
        or (record.correct is not None and (not isinstance(promise, MatchGuarantee) or record.id in right))
    ]
    if not usable:
        raise ConfideError(f"none of the {len(records)} fresh rows says whether its answer is correct")
    if all(confidence_of(record, policy.source) is None for record in usable):
        there = ", ".join(sorted({source for record in usable for source in record.confidence})) or "none"
        raise ConfideError(f"no fresh row has a confidence from {policy.source}; there are: {there}")

    evidence = promise.domains or {
        ANY_DOMAIN: Evidence(
            met=True, n=promise.n, observed=promise.observed, upper_bound=promise.upper_bound, coverage=promise.coverage
        )
    }
    parts = {
        name: _independent(
            [row for row in usable if (row.domain if row.domain in policy.thresholds else ANY_DOMAIN) == name], seed
        )
        for name, seen in evidence.items()
        if seen.met and policy.threshold(name) != NEVER
    }
    checks = {name: _check(policy, promise, part, right, evidence[name], len(parts)) for name, part in parts.items()}
    verdicts = {check.verdict for check in checks.values()}
    verdict: Verdict = "broken" if "broken" in verdicts else "undecided" if "undecided" in verdicts else "holds"
    return Validation(
        goal=promise.goal,
        limit=promise.limit,
        level=promise.level,
        verdict=verdict,
        checks=checks,
        left_out=len(records) - len(usable),
        warnings=doubts(policy, usable) + shift(policy, records, seed).warnings,
    )


def _independent(rows: list[Record], seed: int) -> list[Record]:
    return [rows[i] for i in one_per_cluster([row.cluster for row in rows], seed)]


def doubts(policy: Policy, fresh: Sequence[Record]) -> list[str]:
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


def _check(
    policy: Policy,
    promise: Guarantee | BudgetGuarantee | MatchGuarantee,
    rows: list[Record],
    right: dict[str, bool],
    before: Evidence,
    parts: int,
) -> Check:
    """The verdict on one domain's independent rows."""
    answered = [policy.decide(confidence_of(row, policy.source), row.domain) == "answer" for row in rows]
    n, kept, limit, level = len(rows), sum(answered), promise.limit, promise.level
    strict = 1 - (1 - level) / parts
    expected = before.observed if before.observed is not None else limit
    power: float | None = None
    needed: int | None = None
    if isinstance(promise, MatchGuarantee):
        pairs = [(bool(row.correct), right[row.id]) for row, keep in zip(rows, answered, strict=True) if keep]
        losses, gains = sum(e and not y for y, e in pairs), sum(y and not e for y, e in pairs)
        observed = (losses - gains) / n if n else None
        upper, lower = loss_interval(losses, gains, n, level)[1], loss_interval(losses, gains, n, strict)[0]
        if n:
            spread = math.sqrt(max((losses + gains) / n, limit) / n)
            power = float(norm.cdf((limit - expected) / spread - norm.ppf(level)))
            needed = rows_that_decide(losses / n, gains / n, limit, level, _POWER)
    else:
        # Both are a number of bad rows among those that count: wrong ones of the kept, escalated ones of all.
        counted = n if isinstance(promise, BudgetGuarantee) else kept
        bad = n - kept
        if isinstance(promise, Guarantee):
            bad = sum(keep and not row.correct for row, keep in zip(rows, answered, strict=True))
        observed = bad / counted if counted else None
        upper, lower = risk_interval(bad, counted, level)[1], risk_interval(bad, counted, strict)[0]
        if counted:
            most = int(affordable_wrong(np.array([counted]), limit, level)[0])
            power = float(binom.cdf(most, counted, expected)) if most >= 0 else 0.0
        # Without a row that counts, the calibration rows are the best guess at risk and coverage.
        needed = kept_rows_that_decide(expected if observed is None else observed, limit, level)
        share = counted / n if counted else before.coverage
        needed = None if needed is None or share == 0 else math.ceil(needed / share)
    verdict: Verdict = "holds" if upper <= limit else "broken" if lower > limit else "undecided"
    return Check(verdict, n, kept, observed, lower, upper, power, needed if verdict == "undecided" else None)
