"""What the stored decisions say now: does the promise hold, has the traffic changed, does anything fail.

`snapshot` reads the store once and returns plain numbers and words; the dashboard draws them and ``/metrics`` exports
some. The promise and the share answered are about the policy's whole life, numbers of requests about a window, and
everything else about the latest rows of the window. What training never saw is counted by the process alone: the store
knows nothing of it.

The keys of a snapshot:

- ``verdict``: ``status`` (broken, alarm, holds, undecided, unknown) and ``sentences``.
- ``alarms``: each with ``name``, ``severity`` (alarm, warning) and ``text``.
- ``promise``: ``policy_id``, ``source``, ``fallbacks`` (the sources after it), ``fallback_share`` (of the calibration
  rows without the first), ``goal``, ``limit``, ``level``, ``domains``, ``per``, ``sides`` (what fine and other answers
  are called where audits cannot tell them, else null), and the calibration's ``observed``, ``coverage`` and ``n``; null
  without a policy.
- ``risk``: the promised share. ``status``, ``n``, ``hits``, ``unlabelled``, ``estimate`` (``weighed`` by the audit
  shares, where there are several), ``lower``, ``upper``, ``bound``, ``shown_after`` (the counts when *broken* was
  shown), ``changed_lately``, ``late_n``, ``late_hits``, ``rows_needed``, ``series``, and ``repeats`` (all audits,
  repeated questions too; not for a budget). Null without a promise, and where ``sides`` are named.
- ``broken_domains``: those that break their promise: ``domain``, ``n``, ``hits``, ``unlabelled``, ``lower``.
- ``coverage``: ``n``, ``share``, ``late_n``, ``late_share``, ``lower``, ``upper``, ``expected``, ``low``, ``high``,
  ``drift`` (fell, rose or null), ``series``.
- ``audits``: ``drawn``, ``labelled``, ``used`` in the statistics, ``overdue`` labels, lowest ``probability``, those
  ``waiting`` for an expert and labels ``uncounted`` as yet (the last two up to 10,000).
- ``traffic``: ``n``, ``answered``, ``escalated``, ``abstained``, ``cost`` and ``saved`` (in the unit of the prices),
  ``first``, ``last`` and ``series`` of the window.
- ``latency``: ``n``, ``p50``, ``p95``, ``p99`` in milliseconds of ``small``, ``expert`` and ``total``.
- ``recent``: of the latest rows whose clients stayed ``n``, ``without_confidence``, ``escalated``, ``unserved``,
  ``errors``; of the latest (``rows``) ``unlike``, ``other_model``, ``gone``, ``waited`` for an expert, ``gave_up``
  waiting, ``ahead`` and ``fallbacks`` (decided by each later source).
- ``fields``: each field of the latest answers that have any: ``n`` values, how many ``kept``, how ``sure`` on average.
- ``domains``, ``failures``, ``feedback``: of the window, among the latest ``latest_rows`` rows or pieces.
- ``latest``: the latest decisions.
- ``unseen``: of ``answers`` and ``phrasings`` how many (``unseen``) of the latest ``n`` training never had, that
  ``share``, training's own (``usual``), and the least part of the traffic that is of a shifted world (``shifted``).
- ``mode`` as the latest row has it, ``generated`` in unix seconds, ``window_s``.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection

from confide.serving.monitor import promises, traffic
from confide.serving.monitor.alarms import alarms_in, verdict_of
from confide.serving.monitor.evidence import evidence_of
from confide.serving.monitor.field_counts import field_counts
from confide.serving.monitor.promises import Promise

if TYPE_CHECKING:
    from confide.methods.answer_traffic import UnseenShare
    from confide.policies.policy import Policy
    from confide.serving.store.store import Store

NO_AUDITS = {
    "drawn": 0,
    "labelled": 0,
    "used": 0,
    "overdue": 0,
    "probability": None,
    "uncounted": 0,
    "waiting": 0,
}


_LISTS = ("domains", "fallbacks", "sides")


async def snapshot(
    store: Store, policy: Policy | None, *, window_s: float | None, unseen: Mapping[str, UnseenShare] | None = None
) -> dict[str, Any]:
    """The state of the router: verdict, alarms, risk, coverage, traffic, latency, domains and the latest decisions.

    Args:
        store: the decision store; it is read once, in one of its threads.
        policy: whose promise is checked (None: nothing was promised).
        window_s: limits traffic, domains, failures and feedback to the last seconds (None: everything).
        unseen: what this process counted of answers and phrasings that training never saw.

    Returns:
        Plain JSON; this module's words name its keys.

    Raises:
        StoreError: the database failed.
    """
    promise = None if policy is None else promises.promise_of(policy)
    now = time.time()
    return await store.run(lambda connection: build(connection, promise, now, window_s, unseen))


def build(
    connection: Connection,
    promise: Promise | None,
    now: float,
    window_s: float | None,
    unseen: Mapping[str, UnseenShare] | None = None,
) -> dict[str, Any]:
    """`snapshot` at unix time ``now`` on a connection."""
    start = 0.0 if window_s is None else now - window_s
    recent = traffic.recent_rows(connection)
    audited, risk, coverage = None, None, None
    if promise is not None:
        audited = evidence_of(connection, promise, now)
        ends, n, answered, escalated = traffic.life_of(connection, promise, now)
        latest = traffic.followed(connection, promise)
        answers = promises.requests_steps(ends, n, answered)
        coverage = promises.coverage_state(answers, (latest == 1).astype(float), promise)
        if promise.goal == "budget":
            steps = promises.requests_steps(ends, n, escalated)
            risk = promises.promise_state(steps, promise, (latest == -1).astype(float))
        elif promise.goal != "cost" and promise.sides is None:
            risk = promises.promise_state(audited.steps, promise, audited.latest)
            risk["repeats"] = promises.repeats_state(audited.repeats, promise)
    state = {
        "generated": now,
        "window_s": window_s,
        "latest_rows": traffic.READ,
        "mode": recent[0].mode if recent else None,
        "promise": None if promise is None else _plain(promise),
        "risk": risk,
        "coverage": coverage,
        "broken_domains": promises.broken_domains(audited.domains, promise) if promise and audited else [],
        "audits": audited.counts if audited else NO_AUDITS,
        "traffic": traffic.traffic(connection, start, now),
        "latency": traffic.latency(recent),
        "domains": traffic.by_domain(connection, start, promise),
        "fields": field_counts(connection, start),
        "failures": traffic.failures(connection, start),
        "feedback": traffic.feedback_counts(connection, start),
        "recent": traffic.recent_counts(recent, now, promise),
        "latest": traffic.latest(connection),
        "unseen": {name: share.told() for name, share in (unseen or {}).items()},
    }
    constant = promises.constant_escalation([row.decision == "escalate" for row in recent], promise)
    state["alarms"] = alarms_in(state, constant)
    state["verdict"] = verdict_of(state)
    return state


def _plain(promise: Promise) -> dict[str, Any]:
    return {k: list(v) if k in _LISTS and v is not None else v for k, v in vars(promise).items()}
