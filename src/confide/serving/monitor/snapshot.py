"""What the stored decisions say now: does the promise hold, has the traffic changed, does anything fail.

`snapshot` reads the store once and returns plain numbers and words; the dashboard draws them and ``/metrics`` exports
some. The promise and the share answered are about the policy's whole life, everything else about a window.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection

from confide.serving.monitor.alarms import alarms_in, verdict_of
from confide.serving.monitor.promises import (
    Promise,
    broken_domains,
    constant_escalation,
    counted,
    coverage_state,
    promise_of,
    promise_state,
)
from confide.serving.monitor.traffic import (
    RECENT,
    audit_counts,
    by_domain,
    failures,
    feedback_counts,
    latency,
    latest,
    life_of,
    recent_counts,
    recent_rows,
    traffic,
)
from confide.serving.store.audits import audit_rows, equal_chance

if TYPE_CHECKING:
    from confide.policies.policy import Policy
    from confide.serving.store.store import Store


async def snapshot(store: Store, policy: Policy | None, *, window_s: float | None) -> dict[str, Any]:
    """The state of the router: verdict, alarms, risk, coverage, traffic, latency, domains and the latest decisions.

    ``window_s`` limits traffic, domains, failures and feedback to the last seconds (None: everything). The result is
    plain JSON: ``docs/monitoring.md`` describes its keys. Reads run in a thread of the store; raises its
    `StoreError` when the database fails.
    """
    promise = None if policy is None else promise_of(policy)
    now = time.time()
    return await store.run(lambda connection: build(connection, promise, now, window_s))


def build(connection: Connection, promise: Promise | None, now: float, window_s: float | None) -> dict[str, Any]:
    """`snapshot` at unix time ``now`` on a connection."""
    start = 0.0 if window_s is None else now - window_s
    recent = recent_rows(connection)
    audits = audit_rows(connection, policy_id=promise.policy_id) if promise else []
    sample = equal_chance([row for row in audits if row.correct is not None])
    risk, coverage = None, None
    if promise is not None:
        life = life_of(connection, promise, now)
        coverage = coverage_state(life.ends, life.n, life.answered, promise)
        if promise.goal == "budget":
            risk = promise_state(life.ends, life.n, life.escalated, promise, by_day=True)
        elif promise.goal != "cost":
            risk = promise_state(*counted(sample, promise), promise)
    found = {
        "generated": now,
        "window_s": window_s,
        "mode": recent[0].mode if recent else None,
        "promise": None if promise is None else vars(promise) | {"domains": list(promise.domains)},
        "risk": risk,
        "coverage": coverage,
        "broken_domains": broken_domains(sample, promise) if promise else [],
        "audits": audit_counts(audits, sample, now),
        "traffic": traffic(connection, start, now),
        "latency": latency(recent),
        "domains": by_domain(connection, start, sample, promise),
        "failures": failures(connection, start),
        "feedback": feedback_counts(connection, start),
        "recent": recent_counts(recent[:RECENT]),
        "latest": latest(connection),
    }
    constant = constant_escalation([row.decision == "escalate" for row in recent], promise)
    found["alarms"] = alarms_in(found, constant)
    found["verdict"] = verdict_of(found)
    return found
