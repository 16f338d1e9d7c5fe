"""A promise against what was seen: arrays of counts in, a state with bounds out. Nothing here reads the store.

Risk and coverage are followed from the first row of the policy on, because a sequence that is valid at all times needs
one fixed start; a new policy starts new ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from confide.numeric import Floats
from confide.serving.monitor import confidence_sequences as sequences
from confide.serving.monitor.confidence_sequences import lower_sequence, upper_sequence
from confide.serving.store.audits import AuditRow

if TYPE_CHECKING:
    from confide.policies.policy import Policy

MARGIN = 0.05  # drift of the share answered that passes, beyond the sampling error of the calibration rows
RUN_LENGTH = 10_000  # audited answers until a late change is reported by mistake, on average at least
RUN_LENGTH_DAYS = 1_000  # the same in days, for the share answered or escalated
CONSTANT_ROWS = 50  # fewest latest rows, all escalated or all not, that raise an alarm
LATE = 100  # latest audited answers, which an alarm about a late change counts apart
LEVEL = 0.95  # of bounds where nothing was promised
_POINTS = 120
_CHANCE = 1e-4
_MOST_CONSTANT_ROWS = 1_000
_DAY = 86_400


@dataclass(frozen=True)
class Promise:
    """What a policy promised: a share of at most ``limit`` at ``level`` (None: it promised nothing).

    ``goal`` says of what: max_risk (wrong among the kept answers), budget (escalated among all requests),
    match_expert (kept though the expert says otherwise, among all requests) or cost (nothing). ``observed`` and
    ``coverage``, the share answered, were seen on ``n`` calibration rows. With ``domains`` the promise holds in each.
    """

    policy_id: str
    source: str
    goal: Literal["max_risk", "budget", "match_expert", "cost"]
    limit: float | None
    level: float
    observed: float
    coverage: float
    n: int
    domains: tuple[str, ...] = ()


def promise_of(policy: Policy) -> Promise:
    """What ``policy`` promised."""
    g = policy.guarantee
    if g.goal == "cost":
        return Promise(policy.id, policy.source, "cost", None, LEVEL, 0.0, g.coverage, g.n)
    domains = tuple(sorted(g.domains))
    return Promise(policy.id, policy.source, g.goal, g.limit, g.level, g.observed, g.coverage, g.n, domains)


def audited_hits(sample: list[AuditRow], promise: Promise) -> tuple[list[float], list[int], list[int]]:
    """Time, 1 and hit of each audit row that the promise is about; see `Promise` for what a hit is.

    The rows of ``sample`` all had the same chance to be drawn and are in time order. For match_expert the expert is
    taken to be right, so that what is counted is at least what the policy loses against it.
    """
    rows = sample if promise.goal == "match_expert" else [row for row in sample if row.decision == "answer"]
    hits = [int(row.decision == "answer" and not row.correct) for row in rows]
    return [row.created for row in rows], [1] * len(rows), hits


def promise_state(
    times: ArrayLike, n: ArrayLike, hits: ArrayLike, promise: Promise, *, by_day: bool = False
) -> dict[str, Any]:
    """Whether the share of ``hits`` keeps the promise; the arrays hold the time, rows and hits of each step.

    The promise is *broken* when the lower sequence is above its limit or a late change was detected. It *holds* when
    the upper sequence is at or under it, and is *undecided* otherwise. Late changes are detected step by step, or
    ``by_day``.
    """
    limit = 1.0 if promise.limit is None else promise.limit
    alpha = 1 - promise.level
    so_far = _sequence(times, n, hits, alpha)
    n, hits = (_by_day(times, n), _by_day(times, hits)) if by_day else (np.asarray(n), np.asarray(hits))
    changed = _has_risen(n, hits, limit, RUN_LENGTH_DAYS if by_day else RUN_LENGTH)
    status = "undecided"
    if so_far["lower"] > limit or changed:
        status = "broken"
    elif so_far["n"] and so_far["upper"] <= limit:
        status = "holds"
    late = 1 if by_day else LATE
    needed = sequences.rows_that_show(limit, max(promise.observed, 0.0), alpha) if status == "undecided" else None
    return {
        "status": status,
        "estimate": so_far.pop("share"),
        **so_far,
        "bound": limit,
        "changed_lately": changed,
        "late_n": int(n[-late:].sum()),
        "late_hits": int(hits[-late:].sum()),
        "rows_needed": needed,
    }


def broken_domains(sample: list[AuditRow], promise: Promise) -> list[dict[str, Any]]:
    """Domains with a promised risk of their own whose lower sequence is above it; the error is shared among them."""
    if promise.goal != "max_risk" or promise.limit is None or len(promise.domains) < 2:
        return []
    broken = []
    for domain in promise.domains:
        # The name "*" stands for every domain that is not named.
        mine = [row for row in sample if (row.domain if row.domain in promise.domains else "*") == domain]
        _, n, hits = audited_hits(mine, promise)
        lower = float(lower_sequence(len(n), sum(hits), (1 - promise.level) / len(promise.domains)))
        if lower > promise.limit:
            name = "other domains" if domain == "*" else domain
            broken.append({"domain": name, "n": len(n), "hits": sum(hits), "lower": lower})
    return broken


def coverage_state(times: ArrayLike, n: ArrayLike, answered: ArrayLike, promise: Promise) -> dict[str, Any]:
    """The running share answered against the calibration's; the arrays hold the end, rows and answers of each bucket.

    *Drifted* when a sequence leaves the calibration's share by more than `MARGIN` and its sampling error, or when the
    rows of late days have done so.
    """
    error = 1.96 * math.sqrt(promise.coverage * (1 - promise.coverage) / promise.n)
    low, high = max(0.0, promise.coverage - MARGIN - error), min(1.0, promise.coverage + MARGIN + error)
    so_far = _sequence(times, n, answered, 1 - promise.level)
    day_n, day_hits = _by_day(times, n), _by_day(times, answered)
    run_length = 2 * RUN_LENGTH_DAYS  # two detectors share the false alarms
    drift = None
    if so_far["upper"] < low or (low > 0 and _has_risen(day_n, day_n - day_hits, 1 - low, run_length)):
        drift = "fell"
    elif so_far["lower"] > high or (high < 1 and _has_risen(day_n, day_hits, high, run_length)):
        drift = "rose"
    del so_far["hits"]
    late_share = float(day_hits[-1] / day_n[-1]) if len(day_n) else None
    return {**so_far, "late_share": late_share, "expected": promise.coverage, "low": low, "high": high, "drift": drift}


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


def _sequence(times: ArrayLike, n: ArrayLike, hits: ArrayLike, alpha: float) -> dict[str, Any]:
    """Rows and hits in all, their share, its bounds at all times, and at most `_POINTS` points of a chart."""
    rows, hit_rows = np.cumsum(n, dtype=float), np.cumsum(hits, dtype=float)
    if not len(rows):
        return {"n": 0, "hits": 0, "share": None, "lower": 0.0, "upper": 1.0, "series": []}
    at = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), _POINTS)).round().astype(np.int64))
    rows, hit_rows = rows[at], hit_rows[at]
    lower, upper = lower_sequence(rows, hit_rows, alpha), upper_sequence(rows, hit_rows, alpha)
    points = np.column_stack([np.asarray(times, dtype=float)[at], hit_rows / rows, lower, upper]).tolist()
    names = ("time", "value", "lower", "upper")
    return {
        "n": int(rows[-1]),
        "hits": int(hit_rows[-1]),
        "share": float(hit_rows[-1] / rows[-1]),
        "lower": float(lower[-1]),
        "upper": float(upper[-1]),
        "series": [dict(zip(names, point, strict=True)) for point in points],
    }


def _has_risen(n: Floats, hits: Floats, limit: float, run_length: int) -> bool:
    """Whether the chance of a hit has risen above ``limit`` at some time; by mistake once in ``run_length`` steps."""
    evidence = sequences.log_change_above(n, hits, limit)
    return len(evidence) > 0 and bool(evidence[-1] >= math.log(run_length))


def _by_day(times: ArrayLike, counts: ArrayLike) -> Floats:
    """Sums of ``counts`` by UTC day; a time is the end of its bucket."""
    _, day = np.unique((np.asarray(times) - 1) // _DAY, return_inverse=True)
    return np.asarray(np.bincount(day, weights=np.asarray(counts)), dtype=np.float64)
