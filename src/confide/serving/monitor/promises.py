"""A promise against what was seen: arrays of counts in, a state with bounds out. Nothing here reads the store.

Risk and coverage are followed from the first row of the policy on, because a sequence that is valid at all times needs
one fixed start; a new policy starts new ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from confide.serving.monitor.confidence_sequences import (
    Floats,
    log_change_above,
    lower_sequence,
    rows_that_show,
    upper_sequence,
)
from confide.serving.store.audits import AuditRow

if TYPE_CHECKING:
    from confide.policies.policy import Policy

MARGIN = 0.05
"""Drift of the share answered that is let pass, beyond the sampling error of the calibration rows."""

RUN_LENGTH = 10_000
"""Audited answers until a late change is reported by mistake: at least this many on average."""

RUN_LENGTH_DAYS = 1_000
"""Days until a late change of the share answered is reported by mistake: at least this many on average."""

CONSTANT_ROWS = 50
"""Fewest rows without, or with nothing but, escalations that raise an alarm."""

LATE = 100
"""The latest audited answers that are told apart when a late change was found."""

LEVEL = 0.95
"""The level of bounds where nothing was promised."""

_POINTS = 120
_CHANCE = 1e-4
_MOST_CONSTANT_ROWS = 1_000
_DAY = 86_400

Status = Literal["holds", "undecided", "broken"]


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


def counted(sample: list[AuditRow], promise: Promise) -> tuple[list[float], list[int], list[int]]:
    """Time, 1 and hit of each audit row that the promise is about; see `Promise` for what a hit is.

    The rows of ``sample`` all had the same chance to be there and are in time order. For match_expert the expert is
    taken to be right, so that what is counted is at least what the policy loses against it.
    """
    rows = sample if promise.goal == "match_expert" else [row for row in sample if row.decision == "answer"]
    hits = [int(row.decision == "answer" and not row.correct) for row in rows]
    return [row.created for row in rows], [1] * len(rows), hits


def promise_state(
    times: list[float], n: list[int], hits: list[int], promise: Promise, *, by_day: bool = False
) -> dict[str, Any]:
    """Whether the share of ``hits`` keeps the promise; the lists hold the time, rows and hits of each step.

    The promise is *broken* when the lower sequence is above its limit or a late change was found, it *holds* when the
    upper sequence is at or under it, and is *undecided* otherwise. Late changes are looked for step by step, or
    ``by_day``.
    """
    limit = 1.0 if promise.limit is None else promise.limit
    alpha = 1 - promise.level
    rows, k = np.cumsum(n, dtype=float), np.cumsum(hits, dtype=float)
    at = _spread(len(rows))
    lower, upper = lower_sequence(rows[at], k[at], alpha), upper_sequence(rows[at], k[at], alpha)
    blocks, block_hits = (_by_day(times, n), _by_day(times, hits)) if by_day else (np.asarray(n), np.asarray(hits))
    late = 1 if by_day else LATE
    some = bool(len(at))
    run_length = RUN_LENGTH_DAYS if by_day else RUN_LENGTH
    changed = some and bool(log_change_above(blocks, block_hits, limit)[-1] >= math.log(run_length))
    status: Status = "undecided"
    if some and (lower[-1] > limit or changed):
        status = "broken"
    elif some and upper[-1] <= limit:
        status = "holds"
    needed = rows_that_show(limit, max(promise.observed, 0.0), alpha) if status == "undecided" else None
    return {
        "status": status,
        "n": int(rows[-1]) if some else 0,
        "hits": int(k[-1]) if some else 0,
        "estimate": float(k[-1] / rows[-1]) if some else None,
        "lower": float(lower[-1]) if some else 0.0,
        "upper": float(upper[-1]) if some else 1.0,
        "bound": limit,
        "changed_lately": changed,
        "late_n": int(blocks[-late:].sum()),
        "late_hits": int(block_hits[-late:].sum()),
        "rows_needed": needed,
        "series": _series(times, at, k / rows, lower, upper),
    }


def broken_domains(sample: list[AuditRow], promise: Promise) -> list[dict[str, Any]]:
    """Domains with a promised risk of their own whose lower sequence is above it; the error is shared among them."""
    found = []
    for domain in promise.domains if promise.goal == "max_risk" and len(promise.domains) > 1 else ():
        # The name "*" stands for every domain that is not named.
        mine = [row for row in sample if (row.domain if row.domain in promise.domains else "*") == domain]
        _, n, hits = counted(mine, promise)
        lower = float(lower_sequence(len(n), sum(hits), (1 - promise.level) / len(promise.domains)))
        if promise.limit is not None and lower > promise.limit:
            name = "other domains" if domain == "*" else domain
            found.append({"domain": name, "n": len(n), "hits": sum(hits), "lower": lower})
    return found


def coverage_state(times: list[float], n: list[int], answered: list[int], promise: Promise) -> dict[str, Any]:
    """The running share answered against the calibration's; the lists hold the end, rows and answers of each bucket.

    *Drifted* when a sequence leaves the calibration's share by more than `MARGIN` and its sampling error, or when the
    rows of late days have done so.
    """
    error = 1.96 * math.sqrt(promise.coverage * (1 - promise.coverage) / promise.n)
    low, high = max(0.0, promise.coverage - MARGIN - error), min(1.0, promise.coverage + MARGIN + error)
    rows, hits = np.cumsum(n, dtype=float), np.cumsum(answered, dtype=float)
    alpha = 1 - promise.level
    at = _spread(len(rows))
    lower, upper = lower_sequence(rows[at], hits[at], alpha), upper_sequence(rows[at], hits[at], alpha)
    day_n, day_hits = _by_day(times, n), _by_day(times, answered)
    limit = math.log(2 * RUN_LENGTH_DAYS)  # two detectors share the false alarms
    fell = bool(len(at)) and low > 0 and bool(log_change_above(day_n, day_n - day_hits, 1 - low)[-1] >= limit)
    rose = bool(len(at)) and high < 1 and bool(log_change_above(day_n, day_hits, high)[-1] >= limit)
    drift = None
    if len(at) and (upper[-1] < low or fell):
        drift = "fell"
    elif len(at) and (lower[-1] > high or rose):
        drift = "rose"
    return {
        "n": int(rows[-1]) if len(at) else 0,
        "share": float(hits[-1] / rows[-1]) if len(at) else None,
        "late_share": float(day_hits[-1] / day_n[-1]) if len(at) else None,
        "lower": float(lower[-1]) if len(at) else 0.0,
        "upper": float(upper[-1]) if len(at) else 1.0,
        "expected": promise.coverage,
        "low": low,
        "high": high,
        "drift": drift,
        "series": _series(times, at, hits / rows, lower, upper),
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
    needed: float = _MOST_CONSTANT_ROWS
    if 0 < share < 1:
        needed = min(needed, max(CONSTANT_ROWS, math.ceil(math.log(_CHANCE) / math.log(share))))
    elif share == 0:
        needed = CONSTANT_ROWS
    return (run, kind) if run >= needed else None


def _series(
    times: list[float], at: NDArray[np.int64], share: Floats, lower: Floats, upper: Floats
) -> list[dict[str, float]]:
    """The points of a chart: ``share`` is of every row, the bounds of those ``at`` which there is a point."""
    bounds = zip(at.tolist(), lower.tolist(), upper.tolist(), strict=True)
    return [{"time": times[i], "value": float(share[i]), "lower": low, "upper": high} for i, low, high in bounds]


def _spread(length: int) -> NDArray[np.int64]:
    """Positions of at most `_POINTS` of ``length`` rows, the last one included."""
    if length <= _POINTS:
        return np.arange(length)
    return np.unique(np.linspace(0, length - 1, _POINTS).round().astype(np.int64))


def _by_day(times: list[float], counts: list[int]) -> Floats:
    """Sums of ``counts`` by UTC day; a time is the end of its bucket."""
    _, day = np.unique((np.asarray(times) - 1) // _DAY, return_inverse=True)
    return np.asarray(np.bincount(day, weights=counts), dtype=np.float64)
