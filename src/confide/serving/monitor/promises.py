"""A promise against what was seen: arrays of counts in, a state with bounds out. Nothing here reads the store.

Risk and coverage are followed from the first row of the policy on, because a sequence that is valid at all times needs
one fixed start; a new policy starts new ones. Order is that of arrival in the store, since clocks may be wrong.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from confide.metrics import confidence_sequences as sequences
from confide.numeric import Floats
from confide.serving.monitor.eras import Steps, last_bounds
from confide.signals import CONFIDENCE, SIGNALS

if TYPE_CHECKING:
    from confide.policies.policy import Policy

MARGIN = 0.05  # drift of the share answered that passes, beyond the sampling error of the calibration rows
RUN_LENGTH = 10_000  # audited answers until a late change is reported by mistake, on average at least
RUN_LENGTH_REQUESTS = 1_000_000  # the same in requests, for the share answered or escalated
CONSTANT_ROWS = 50  # fewest latest rows, all escalated or all not, that raise an alarm
LATE = 100  # latest audited answers, which an alarm about a late change counts apart
LATE_REQUESTS = 500  # latest requests, likewise
LEVEL = 0.95  # of bounds where nothing was promised
_POINTS = 120
_CHANCE = 1e-4
_MOST_CONSTANT_ROWS = 1_000


@dataclass(frozen=True)
class Promise:
    """What a policy promised: a share of at most ``limit`` at ``level`` (None: it promised nothing).

    ``goal`` says of what: max_risk (wrong among the kept answers), budget (escalated among all requests),
    match_expert (kept though the expert says otherwise, among all requests), false_alarms (not kept, among requests
    whose small answer is right) or cost (nothing). ``observed`` was seen on ``n`` calibration rows, ``coverage`` is the
    share answered of them all. With ``domains`` the promise holds in each;
    ``per`` entity, it is about entities. ``fallbacks`` are the sources that decide where ``source`` gives nothing, as
    on a share ``fallback_share`` of the calibration rows; the audits are of the answers as served, by any of them.
    ``sides`` are the words for fine and flagged answers where that is not being right or wrong: audits do not tell them
    apart, so such a promise cannot be watched.
    """

    policy_id: str
    source: str
    goal: Literal["max_risk", "budget", "match_expert", "false_alarms", "cost"]
    limit: float | None
    level: float
    observed: float
    coverage: float
    n: int
    domains: tuple[str, ...] = ()
    per: Literal["question", "entity"] = "question"
    fallbacks: tuple[str, ...] = ()
    fallback_share: float = 0.0
    sides: tuple[str, str] | None = None

    @property
    def in_domains(self) -> bool:
        """Whether a risk was promised in each of several domains, which can be watched."""
        several = self.goal == "max_risk" and len(self.domains) > 1
        return several and self.per == "question" and self.sides is None


def promise_of(policy: Policy) -> Promise:
    """What ``policy`` promised."""
    g = policy.guarantee
    # What a goal leaves out of its rows (without a confidence, in a domain that keeps nothing) escalates when asked.
    answered = policy.profile.answered if policy.profile else None
    coverage = g.coverage if answered is None else answered
    seen = policy.profile.confidence.missing / policy.profile.n if policy.profile and policy.fallbacks else 0.0
    order: dict[str, Any] = {"fallbacks": tuple(policy.sources[1:]), "fallback_share": seen}
    signal = SIGNALS.get(policy.source, CONFIDENCE)
    if not signal.audited and g.goal not in ("budget", "cost"):  # these need no label, or promise nothing
        order["sides"] = (signal.fine, signal.flagged)
    if g.goal == "cost":
        return Promise(policy.id, policy.source, "cost", None, LEVEL, 0.0, coverage, g.n, **order)
    domains, per = tuple(sorted(g.domains)), policy.per or "question"
    return Promise(policy.id, policy.source, g.goal, g.limit, g.level, g.observed, coverage, g.n, domains, per, **order)


def repeats_state(steps: Steps, promise: Promise) -> dict[str, Any]:
    """Rows and hits when a question counts as often as it was asked, and the lower bound of their share.

    The audits are a random sample of the requests that came, whatever was asked, so the bound is one of those.
    """
    return {**_counts(steps), "lower": _bounds(steps, 1 - promise.level)[0]}


def requests_steps(times: Floats, n: Floats, hits: Floats) -> Steps:
    """Steps of ``n`` requests each, all of which were seen; ``times`` are their ends."""
    return Steps(times, n, hits, hits, np.ones(len(n)))


def promise_state(steps: Steps, promise: Promise, latest: Floats) -> dict[str, Any]:
    """Whether the share of hits keeps the promise.

    The promise is *broken* when the evidence against it has ever reached its level, which later rows do not undo, or a
    late change was detected. It *holds* when the upper sequence is at or under its limit, and is *undecided* otherwise.
    Of a promise per entity nothing is known (*unknown*): rows do not say which entity they are about.
    Late changes are sought in ``latest``: the latest requests of a budget, or audits of another goal, 1 for a hit,
    oldest first.
    """
    limit = 1.0 if promise.limit is None else promise.limit
    alpha = 1 - promise.level
    so_far = _sequence(steps, alpha)
    length, recent = (RUN_LENGTH_REQUESTS, LATE_REQUESTS) if promise.goal == "budget" else (RUN_LENGTH, LATE)
    changed = _has_risen(latest, limit, length)
    first = steps.first_above(limit, alpha)
    status = "undecided"
    if promise.per == "entity":
        status = "unknown"
    elif first is not None or changed:
        status = "broken"
    elif so_far["n"] and so_far["upper"] <= limit:
        status = "holds"
    needed = sequences.rows_that_show(limit, max(promise.observed, 0.0), alpha) if status == "undecided" else None
    return {
        "status": status,
        "estimate": so_far.pop("share"),
        **so_far,
        "weighed": len(steps.shares) > 1,
        "bound": limit,
        "changed_lately": changed,
        "shown_after": None if first is None else _counts(steps.until(first)),
        "late_n": len(latest[-recent:]),
        "late_hits": int(latest[-recent:].sum()),
        "rows_needed": needed,
    }


def broken_domains(audited: Mapping[str, Steps], promise: Promise) -> list[dict[str, Any]]:
    """Domains with a promised risk of their own whose lower sequence was above it; the error is shared among them.

    ``audited`` has the steps of each domain of the promise; the name "*" stands for every one that is not named.
    """
    if promise.limit is None or not promise.in_domains:
        return []
    broken = []
    alpha = (1 - promise.level) / len(promise.domains)
    for domain in promise.domains:
        steps = audited[domain]
        if steps.first_above(promise.limit, alpha) is not None:
            name = "other domains" if domain == "*" else domain
            broken.append({"domain": name, **_counts(steps), "lower": _bounds(steps, alpha)[0]})
    return broken


def risks_in(audited: Sequence[Steps], level: float) -> list[dict[str, Any]]:
    """For each part: audited and wrong answers among the kept ones, and bounds of its risk, each at ``level``."""
    bounds = last_bounds(audited, 1 - level)
    return [
        {"audited": counts["n"], "wrong": counts["hits"], "lower": lower, "upper": upper}
        for counts, (lower, upper) in zip(map(_counts, audited), bounds, strict=True)
    ]


def coverage_state(steps: Steps, latest: Floats, promise: Promise) -> dict[str, Any]:
    """The running share answered against the calibration's; ``latest`` has 1 for an answer, oldest first.

    *Drifted* when a sequence leaves the calibration's share by more than `MARGIN` and its sampling error, or when the
    latest requests have done so.
    """
    error = 1.96 * math.sqrt(promise.coverage * (1 - promise.coverage) / promise.n)
    low, high = max(0.0, promise.coverage - MARGIN - error), min(1.0, promise.coverage + MARGIN + error)
    so_far = _sequence(steps, 1 - promise.level)
    run_length = 2 * RUN_LENGTH_REQUESTS  # two detectors share the false alarms
    drift = None
    if so_far["upper"] < low or (low > 0 and _has_risen(1 - latest, 1 - low, run_length)):
        drift = "fell"
    elif so_far["lower"] > high or (high < 1 and _has_risen(latest, high, run_length)):
        drift = "rose"
    del so_far["hits"], so_far["unlabelled"]
    late = latest[-LATE_REQUESTS:]
    return {
        **so_far,
        "late_n": len(late),
        "late_share": float(late.mean()) if len(late) else None,
        "expected": promise.coverage,
        "low": low,
        "high": high,
        "drift": drift,
    }


def constant_escalation(escalated: list[bool], promise: Promise | None) -> tuple[int, bool] | None:
    """Number and kind of the latest rows when nothing, or everything, of them was escalated (None: as it should be).

    ``escalated`` is newest first. At least `CONSTANT_ROWS` are needed, and so many that chance would do it less than
    once in 10,000 times at the calibration's share, but never more than 1,000. Without a promise nothing was decided.
    """
    if not escalated or promise is None:
        return None
    kind = escalated[0]
    run = next((i for i, other in enumerate(escalated) if other != kind), len(escalated))
    share = 1 - promise.coverage if kind else promise.coverage
    with np.errstate(divide="ignore"):  # a share of 0 needs the fewest rows, one of 1 the most
        needed = np.clip(-math.log(_CHANCE) / abs(np.log(share)), CONSTANT_ROWS, _MOST_CONSTANT_ROWS)
    return (run, kind) if run >= needed else None


def _sequence(steps: Steps, alpha: float) -> dict[str, Any]:
    """Rows and hits in all, their share, its bounds at all times, and at most `_POINTS` points of a chart."""
    n = len(steps.n)
    if not n:
        return {**_counts(steps), "share": None, "lower": 0.0, "upper": 1.0, "series": []}
    points = max(2, _POINTS // len(steps.shares))  # bounds over several eras take longer
    at = np.unique(np.linspace(0, n - 1, min(n, points)).round().astype(np.int64))
    lower, upper = steps.bounds(at, alpha)
    share = steps.estimates(at)
    series = np.column_stack([steps.times[at], share, lower, upper])
    names = ("time", "value", "lower", "upper")
    return {
        **_counts(steps),
        "share": None if np.isnan(share[-1]) else float(share[-1]),
        "lower": float(lower[-1]),
        "upper": float(upper[-1]),
        "series": [dict(zip(names, point, strict=True)) for point in series[~np.isnan(share)].tolist()],
    }


def _counts(steps: Steps) -> dict[str, int]:
    """Rows with a label, hits among them, and rows without one that may be hits."""
    unlabelled = int((steps.most - steps.least).sum())
    return {"n": int(steps.n.sum()) - unlabelled, "hits": int(steps.least.sum()), "unlabelled": unlabelled}


def _bounds(steps: Steps, alpha: float) -> tuple[float, float]:
    """The bounds after the last step."""
    return last_bounds([steps], alpha)[0]


def _has_risen(hits: Floats, limit: float, run_length: int) -> bool:
    """Whether the chance of a hit has risen above ``limit`` at some time; by mistake once in ``run_length`` rows."""
    evidence = sequences.log_change_above(np.ones(len(hits)), hits, limit)
    return len(evidence) > 0 and bool(evidence[-1] >= math.log(run_length))
