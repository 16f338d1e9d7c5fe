"""Does a policy's promise hold on fresh rows? Three answers: it holds, it does not, the rows cannot say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from confide.errors import ConfideError
from confide.policies.anytime_bounds import anytime_interval, power, rows_needed
from confide.policies.calibration_rows import (
    CalibrationRows,
    confidences_of,
    first_of_each,
    missing_source,
    models_of,
    rows_for,
)
from confide.policies.detection import detection_of
from confide.policies.goals import BoundedName, GoalName, Per
from confide.policies.guarantees import (
    ANY_DOMAIN,
    Bounded,
    BudgetGuarantee,
    CostEstimate,
    Detection,
    Evidence,
    FalseAlarmGuarantee,
    Guarantee,
    JudgeError,
    MatchGuarantee,
    explain_counting,
)
from confide.policies.identities import common_identity, identities_of, same_model
from confide.policies.judged_rows import error_of, judges_of
from confide.policies.policy import Policy
from confide.policies.policy_part import NEVER
from confide.policies.profiles import shift
from confide.policies.thresholds.binomial_bound import BinomialCount
from confide.policies.thresholds.cluster_bound import ClusterCount, Clusters, Drawn, within
from confide.policies.thresholds.fallback_testing import Count
from confide.policies.thresholds.judged_bound import JudgedCount, Verdicts
from confide.policies.thresholds.paired_bound import PairedCount
from confide.records import Record, RecordTable

Verdict = Literal["holds", "broken", "undecided"]


@dataclass(frozen=True)
class Check:
    """What the fresh rows of one domain say; ``"*"`` is every domain without a threshold of its own.

    ``n`` independent rows were used, ``kept`` of them answered. ``observed`` is the promised quantity (None: nothing
    to see it on), ``lower`` and ``upper`` are one-sided bounds of it at the level of the test that each serves.
    ``power`` is the probability with which as many rows show the promise if the quantity is as it was in calibration
    (None: not known). ``entities`` is the number of those that dependent rows are about (None: rows are independent).
    ``rows_needed`` is the number of fresh rows that would decide with probability 0.8 if all stays
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
    entities: int | None = None

    def explain(self, goal: BoundedName) -> list[str]:
        """What the rows show of the quantity that ``goal`` bounds, a sentence or two per line."""
        named = "fine rows" if goal == "false_alarms" else "rows"
        rows = f"independent {named}" if self.entities is None else f"{named} of {self.entities} entities"
        kept = f"{self.kept} of {self.n} {rows} kept" + (f" ({self.kept / self.n:.1%})" if self.n else "")
        lines = [f"{kept}, {'and none has a label' if self.kept else 'so nothing was observed'}."]
        if self.observed is not None:
            name = {
                "max_risk": "wrong",
                "budget": "of all escalated",
                "match_expert": "of accuracy lost to the expert's",
                "false_alarms": "were not",
            }
            bounds = f"(bounds {self.lower:.1%} and {self.upper:.1%})"
            lines = [f"{kept}; {self.observed:.1%} {name[goal]} {bounds}."]
        if self.power is not None:
            lines.append(
                f"Power: this many rows show the promise with probability {self.power:.2f} if all is as in calibration."
            )
        if self.rows_needed is not None:
            if_so = "is as in calibration" if self.observed is None else "stays as seen"
            lines.append(f"About {self.rows_needed:,} independent {named} would decide, if all {if_so}.")
        elif self.verdict == "undecided" and self.observed is None:
            lacking = "no kept one has a label" if self.kept else "none is kept"
            lines.append(f"How many rows would decide cannot be told where {lacking}.")
        elif self.verdict == "undecided":
            lines.append("What was observed is so close to the limit that no practical number of rows would decide.")
        return lines


@dataclass(frozen=True)
class Validation:
    """What fresh rows say about a promise, over all (``verdict``) and in each domain that has one (``checks``).

    ``left_out`` counts rows without the labels that the goal needs. Of a policy with an order of sources ``verdict`` is
    about all their promises, ``checks`` are those of the first ``source``, and ``fallbacks`` has the others'. ``judge``
    says how often a judge was wrong. ``detection`` is what is not kept of the rows that are not fine, beside a promise
    about false alarms.
    """

    goal: BoundedName
    limit: float
    level: float
    verdict: Verdict
    checks: dict[str, Check]
    left_out: int
    warnings: list[str] = field(default_factory=list)
    per: Per | None = None
    most_rows: int | None = None
    source: str = ""
    fallbacks: dict[str, Validation] = field(default_factory=dict)
    judge: JudgeError | None = None
    detection: Detection | None = None

    def explain(self) -> str:
        """The verdict, and what the rows of each domain show."""
        names = {
            "max_risk": "risk",
            "budget": "share escalated",
            "match_expert": "loss of accuracy",
            "false_alarms": "share of fine answers not kept",
        }
        every, one = ("Every", "One") if self.fallbacks else ("The", "The")
        verdict = {
            "holds": f"{every} promise holds: the {{}} is at most",
            "broken": f"{one} promise does not hold: the {{}} is above",
            "undecided": "These rows cannot say whether the {} is at most",
        }[self.verdict].format(names[self.goal])
        lines = [f"{verdict} {self.limit:g} at level {self.level:g}. {explain_counting(self.per, self.most_rows)}"]
        for source, one_of_them in [(self.source, self), *self.fallbacks.items()]:
            lines += one_of_them._explain_checks(f"From {source}, " * bool(self.fallbacks))
        return "\n".join(lines)

    def _explain_checks(self, source: str) -> list[str]:
        """What the rows of each domain show; ``source`` is said before, where there are several."""
        lines = []
        for domain, check in self.checks.items():
            if source or len(self.checks) > 1:
                other = "every other domain" if len(self.checks) > 1 else "every domain"
                where = source + (other if domain == ANY_DOMAIN else domain)
                lines.append(f"{where[0].upper() + where[1:] if domain == ANY_DOMAIN else where}: {check.verdict}.")
            lines += check.explain(self.goal)
        if self.judge is not None:
            lines.append(self.judge.explain())
        if self.detection is not None:
            lines.append(self.detection.explain())
        if self.left_out:
            lines.append(f"{self.left_out} rows without a label were left out.")
        return lines


def validate_policy(
    policy: Policy, records: Sequence[Record], expert: Sequence[Record] | None = None, seed: int = 0
) -> Validation:
    """Check ``policy`` on fresh rows.

    The promise *holds* when the upper bound of the promised quantity is within the limit in every domain, is *broken*
    when a lower bound exceeds it in one of them, and is *undecided* otherwise. Every bound has the policy's level:
    upper ones as they are, because all of them must be within; lower ones with the error rate split over the domains,
    because one of them is enough. What counts alike is what the policy promises: every question of the entities it
    covers, or the first row of each entity in each domain. The bounds hold at all looks together
    (`confide.policies.anytime_bounds`): after *undecided*, rows of new entities may be added at the end and the whole
    checked again, any number of times. Rows without a confidence count as escalated.

    Of an order of sources each promise is checked by itself, on all rows that have its source; the lower bounds share
    the error rate over all of them. A source without a confidence in any row leaves the whole undecided.

    Args:
        records: fresh rows of any split; the caller picks them. A budget needs no labels.
        expert: the expert's graded answers to the same questions (same ids), for a policy that matches one.
        seed: draws one row from each group of dependent rows when the rows are compared with the calibration rows, and
            where what is detected is counted.

    Raises:
        ConfideError: when the policy promises nothing, no row has what its promise needs, a confidence is outside the
            range of its source, or several models answered.
    """
    promise = policy.guarantee
    if isinstance(promise, CostEstimate):
        raise ConfideError("this policy promises nothing that could be checked: its goal is least expected cost")
    records = policy.in_range(records)
    alone = {part.source: policy.only(part) for part in policy.parts if part.guarantee is not None}
    there = [source for source in alone if np.isfinite(confidences_of(records, source)).any()]
    domains = sum(len(_answered(alone[source])) for source in there)
    # With none at all the first source says what is missing.
    made = {source: _validate(alone[source], records, expert, domains, seed) for source in there or [policy.source]}
    warnings = [
        f"no fresh row has a confidence from {name}: its promise is not checked" for name in alone if name not in there
    ]
    again, complete = policy.used_before(records)
    if again:
        count = f"{again}" if complete else f"at least {again}"
        warnings.append(f"{count} of the {len(records)} rows were used in calibration: they are not fresh")
    warnings += [warning for one in made.values() for warning in one.warnings] + shift(policy, records, seed).warnings
    verdicts = [one.verdict for one in made.values()] + ["undecided"] * (len(alone) - len(made))
    first, *others = made.values()
    return replace(
        first,
        verdict=_worst(verdicts),
        warnings=list(dict.fromkeys(warnings)),
        fallbacks={one.source: replace(one, warnings=[]) for one in others},
    )


def _answered(policy: Policy) -> dict[str, Evidence]:
    """The evidence of each domain in which the first source keeps answers."""
    promise = policy.guarantee
    assert not isinstance(promise, CostEstimate)
    whole = Evidence(
        met=True, n=promise.n, observed=promise.observed, upper_bound=promise.upper_bound, coverage=promise.coverage
    )
    evidence = promise.domains or {ANY_DOMAIN: whole}
    return {name: one for name, one in evidence.items() if one.met and policy.threshold(name) != NEVER}


def _validate(
    policy: Policy, records: Sequence[Record], expert: Sequence[Record] | None, domains: int, seed: int
) -> Validation:
    """The check of one source's promise, one of ``domains`` that are checked in all."""
    promise = policy.guarantee
    assert not isinstance(promise, CostEstimate)
    usable = _usable(policy, promise, records, expert)
    named = usable.records.coded("domain")
    where = named.of([name if name in policy.thresholds else ANY_DOMAIN for name in named.values])
    checks, counts = {}, []
    not_covered = 0
    for name, before in _answered(policy).items():
        part = usable.take(np.flatnonzero(where == name))
        drawn = _drawn(promise, before, part)
        not_covered += len(part.records) - len(drawn.rows) if promise.per == "question" else 0
        seen = _count(policy, promise, part.take(drawn.rows), drawn.clusters)
        counts.append(seen)
        checks[name] = _check(promise, seen, before, domains)
    detection = None
    if isinstance(promise, FalseAlarmGuarantee):
        detection = detection_of(policy, records, promise.per or "question", seed)
    warnings = other_models(policy, usable.records)
    if not_covered:
        warnings.append(f"{not_covered} rows are about larger entities than the promise covers: they were left out")
    return Validation(
        goal=promise.goal,
        limit=promise.limit,
        level=promise.level,
        verdict=_worst([check.verdict for check in checks.values()]),
        checks=checks,
        left_out=usable.without_label,
        warnings=warnings,
        per=promise.per,
        most_rows=promise.most_rows,
        source=policy.source,
        judge=error_of(counts, judges_of(usable.records)),
        detection=detection,
    )


def _worst(verdicts: Sequence[Verdict]) -> Verdict:
    return "broken" if "broken" in verdicts else "undecided" if "undecided" in verdicts else "holds"


def _usable(
    policy: Policy, promise: Bounded, records: Sequence[Record], expert: Sequence[Record] | None
) -> CalibrationRows:
    """The rows that have what ``promise`` needs; those without a confidence are among them."""
    common_identity(records, policy.source)  # a mixture is none of the models that it mixes
    if isinstance(promise, MatchGuarantee) and expert is None:
        raise ConfideError("the expert's graded answers to the fresh questions are needed, too (--expert)")
    graded = expert if isinstance(promise, MatchGuarantee) else None
    goal: GoalName = "match_expert" if promise.goal == "max_risk" else promise.goal
    usable = rows_for(goal, records, policy.source, graded, judged=promise.goal == "max_risk")
    if not usable.records:
        fine = np.isfinite(RecordTable.of(records).truth("correct")).any() and promise.goal == "false_alarms"
        said = "is fine (correct is true)" if fine else "says whether its answer is correct"
        raise ConfideError(f"none of the {len(records)} fresh rows {said}")
    if np.isneginf(usable.confidence).all():
        raise missing_source(usable.records, policy.source, "fresh row")
    return usable


def other_models(policy: Policy, records: Sequence[Record]) -> list[str]:
    """Sentences when other models, by name or weights, than the one ``policy`` was made for answered ``records``."""
    table = RecordTable.of(records)
    models = models_of(table)
    found = []
    if models and policy.model and models != policy.model:
        found.append(f"the policy was made for {policy.model}, these rows were answered by {models}")
    others: Counter[tuple[str, str]] = Counter()
    deciding = policy.decided(table).part
    for place, part in enumerate(policy.parts):
        for other, count in identities_of(table.take(deciding == place), part.source)[0].items():
            if same_model(part.identity, other) is False:
                others[part.identity, other] += count
    if others:
        ((own, most), _), *_ = others.most_common(1)
        found.append(
            f"the policy was made for other weights ({own}) than answered {others.total()} of the {len(records)} rows "
            f"({most})"
        )
    return found


def _drawn(promise: Bounded, before: Evidence, rows: CalibrationRows) -> Drawn:
    """The ``rows`` of one domain that count."""
    most = before.most_rows or promise.most_rows
    if promise.per != "question" or most is None:
        return Drawn(first_of_each(rows.clusters))
    # A row without a confidence has no part in the risk of kept answers, in calibration as here.
    counted = np.isfinite(rows.confidence) | (promise.goal != "max_risk")
    return within(rows.clusters, counted, most)


def _count(policy: Policy, promise: Bounded, rows: CalibrationRows, clusters: Clusters | None) -> Count:
    """The promised quantity on ``rows`` of one domain, which are independent without ``clusters``."""
    keep = policy.decide_rows(rows.confidence, rows.records.coded("domain")) == "answer"
    n, kept = len(keep), int(keep.sum())
    verdicts = Verdicts.of(rows) if isinstance(promise, Guarantee) else None
    if verdicts is not None and clusters is None:
        return verdicts.count(keep)
    if verdicts is not None:
        raise ConfideError("a judge's error is measured on independent rows: one row of each entity, or all labelled")
    if clusters is not None:
        if isinstance(promise, MatchGuarantee):
            loss = np.where(keep, rows.expert.astype(int) - rows.correct, 0)
            return clusters.count(loss, np.ones(n), kept, signed=True)
        if isinstance(promise, BudgetGuarantee | FalseAlarmGuarantee):
            return clusters.count(~keep, np.ones(n), kept)
        return clusters.count(keep & ~rows.correct, keep, kept)
    if isinstance(promise, MatchGuarantee):
        losses, gains = keep & rows.expert & ~rows.correct, keep & rows.correct & ~rows.expert
        return PairedCount(n, kept, int(losses.sum()), int(gains.sum()))
    if isinstance(promise, BudgetGuarantee | FalseAlarmGuarantee):
        return BinomialCount(n, kept, bad=n - kept, counted=n)
    return BinomialCount(n, kept, bad=int((keep & ~rows.correct).sum()), counted=kept)


def _check(promise: Bounded, count: Count, before: Evidence, parts: int) -> Check:
    """The verdict on one domain of ``parts``; ``before`` is its evidence in calibration."""
    limit, level = promise.limit, promise.level
    lower, upper = anytime_interval(count, below=1 - (1 - level) / parts, above=level)
    expected = before.observed if before.observed is not None else limit
    verdict: Verdict = "holds" if upper <= limit else "broken" if lower > limit else "undecided"
    # A judge's word alone, without a label that tells its error, is no observation.
    seen = count.counted > 0 and not (isinstance(count, JudgedCount) and not count.labelled)
    return Check(
        verdict=verdict,
        n=count.n,
        kept=count.kept,
        observed=count.observed if seen else None,
        lower=lower,
        upper=upper,
        power=power(count, expected, limit, level) if count.counted else None,
        rows_needed=rows_needed(count, expected, before.coverage, limit, level) if verdict == "undecided" else None,
        entities=count.clusters if isinstance(count, ClusterCount) else None,
    )
