"""The queries behind the monitor: requests, failures, feedback and audits in numbers.

The latest rows are those that came into the store last. A router's clock may run ahead or behind: a row from the future
counts as one of now.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sqlalchemy import ColumnElement, Connection, Integer, Row, Select, and_, case, cast, func, select

from confide.numeric import Floats
from confide.serving.monitor.promises import LEVEL, Promise, risk_in
from confide.serving.routing.turn import GONE
from confide.serving.store.audits import AuditRow
from confide.serving.store.tables import OTHER_MODEL, arrival, decisions, feedback

RECENT = 500  # the latest rows, whose failures and missing confidences are counted
TIMED = 2_000  # the latest rows, whose latencies are summarised
FOLLOWED = 50_000  # the latest rows, in which a change of the share answered is sought
LATEST = 20  # decisions that are shown one by one
_BUCKETS = 48
_DOMAINS = 20
_ERRORS = 8
_LABEL_PATIENCE_S = 600
_WIDTHS = (60, 300, 900, 3600, 4 * 3600, 86_400)  # seconds; each divides a day
_DAY = 86_400
_AHEAD_S = 60


def quantiles(values: list[float]) -> dict[str, float] | None:
    """Median, 95 % and 99 % quantile of ``values`` (None for none)."""
    if not values:
        return None
    p50, p95, p99 = np.quantile(values, [0.5, 0.95, 0.99]).tolist()
    return {"n": len(values), "p50": p50, "p95": p95, "p99": p99}


def _count(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return func.count().filter(condition)


def _bucket(connection: Connection, start: float, width: float, now: float) -> ColumnElement[int]:
    """The number of the bucket that a row's creation falls into, ``now`` at the latest."""
    created = decisions.c.created
    number = (case((created > now, now), else_=created) - start) / width
    # SQLite's cast cuts off, PostgreSQL's rounds.
    return cast(number if connection.dialect.name == "sqlite" else func.floor(number), Integer)


def recent_rows(connection: Connection) -> list[Row[Any]]:
    """The latest `TIMED` rows, newest first, for `recent_counts` and `latency`."""
    d = decisions.c
    columns = (d.created, d.mode, d.decision, d.served, d.raw, d.error, d.unlike, d.small_ms, d.expert_ms, d.total_ms)
    query: Select[Any] = select(*columns).order_by(arrival(connection).desc()).limit(TIMED)
    return list(connection.execute(query).all())


def recent_counts(rows: list[Row[Any]], now: float) -> dict[str, int]:
    """How many of the latest `RECENT` of ``rows`` are escalated, in trouble or unlike what the policy was made for.

    In trouble: no confidence, no expert's answer (``unserved``), or a failure before the answer (``errors``). They are
    counted among the ``n`` latest rows whose client stayed, or saw something fail before it hung up: so a flood of
    clients that hang up hides no failure. ``gone`` are clients that hung up, ``gave_up`` those of them that waited for
    an expert, ``ahead`` rows whose clock is more than a minute ahead of ``now``, all three among ``rows`` latest ones.
    """
    latest, stayed = rows[:RECENT], [row for row in rows if _failed(row) or not left(row)][:RECENT]
    asked = [row for row in stayed if row.decision == "escalate" and not left(row)]
    return {
        "rows": len(latest),
        "n": len(stayed),
        "without_confidence": sum(row.raw is None for row in stayed),
        "escalated": len(asked),
        "unserved": sum(row.served in ("unverified", "error") for row in asked),
        "errors": sum(_failed(row) for row in stayed),
        "unlike": sum(row.unlike is not None for row in latest),
        "other_model": sum(OTHER_MODEL in (row.unlike or "").split(", ") for row in latest),
        "gone": sum(left(row) for row in latest),
        "waited": sum(row.decision == "escalate" and row.mode == "act" for row in latest),
        "gave_up": sum(_gave_up(row) for row in latest),
        "ahead": sum(row.created > now + _AHEAD_S for row in latest),
    }


def _parts(row: Row[Any]) -> list[str]:
    """The entries of the row's ``error``."""
    return row.error.split("; ") if row.error else []


def _failed(row: Row[Any]) -> bool:
    """Whether something failed before the client of ``row`` had its answer or left; an audit comes after that."""
    return any(part != GONE and not part.startswith("audit: ") for part in _parts(row))


def left(row: Row[Any]) -> bool:
    """Whether the client of ``row`` hung up before it had an answer."""
    return GONE in _parts(row)


def _gave_up(row: Row[Any]) -> bool:
    """Whether the client of ``row`` hung up while it waited for an expert; in mode observe none is asked."""
    return left(row) and row.decision == "escalate" and row.mode == "act" and row.served == "error"


def followed(connection: Connection, promise: Promise) -> Floats:
    """Whether the promise's policy answered (1), escalated (−1) or neither (0) each of its latest requests.

    They are those like the calibration rows among the latest `FOLLOWED` rows of the store, oldest first.
    """
    d = decisions.c
    latest = select(d.policy_id, d.decision, d.unlike).order_by(arrival(connection).desc()).limit(FOLLOWED)
    value = {"answer": 1.0, "escalate": -1.0}
    mine = [r for r in connection.execute(latest) if r.policy_id == promise.policy_id and r.unlike is None]
    found = [value.get(row.decision, 0.0) for row in mine]
    return np.array(found[::-1], dtype=np.float64)


def latency(rows: list[Row[Any]]) -> dict[str, Any]:
    """Quantiles (milliseconds) of the small model's, the expert's and the whole request's time."""
    return {
        name: quantiles([value for row in rows if (value := getattr(row, f"{name}_ms")) is not None])
        for name in ("small", "expert", "total")
    }


def life_of(connection: Connection, promise: Promise, now: float) -> tuple[Floats, Floats, Floats, Floats]:
    """The requests that the promise's policy decided since its first one, in time buckets, oldest first.

    Requests unlike the calibration rows are left out: nothing is promised about them. Returns the buckets' ends (unix
    time), and how many requests each holds, answered and escalated ones.
    """
    d = decisions.c
    mine = and_(d.policy_id == promise.policy_id, d.unlike.is_(None))
    first = min(connection.execute(select(func.min(d.created)).where(mine)).scalar_one() or 0.0, now)
    width = next((w for w in _WIDTHS if (now - first) / w <= 300), _WIDTHS[-1])
    start = first // _DAY * _DAY
    bucket = _bucket(connection, start, width, now).label("bucket")
    columns = (bucket, func.count(), _count(d.decision == "answer"), _count(d.decision == "escalate"))
    rows = connection.execute(select(*columns).where(mine).group_by(bucket).order_by(bucket)).all()
    buckets, n, answered, escalated = np.asarray(rows, dtype=float).reshape(-1, 4).T
    return start + (buckets + 1) * width, n, answered, escalated


def traffic(connection: Connection, start: float, now: float) -> dict[str, Any]:
    """Decisions and money, in all and over time, from the window's first row on."""
    d = decisions.c
    inside = d.created >= start
    first, last = connection.execute(select(func.min(d.created), func.max(d.created)).where(inside)).one()
    sums = {
        "n": func.count(),
        "answered": _count(d.decision == "answer"),
        "escalated": _count(d.decision == "escalate"),
        "abstained": _count(d.decision == "abstain"),
        "cost": func.coalesce(func.sum(d.cost), 0.0),
        "saved": func.coalesce(func.sum(d.cost_saved), 0.0),
    }
    if first is None:
        return {**dict.fromkeys(sums, 0), "first": None, "last": None, "series": []}
    first, last = min(first, now), min(last, now)
    width = max((last - first) / _BUCKETS, 1.0) * (1 + 1e-9)  # the last row belongs to the last bucket
    bucket = _bucket(connection, first, width, now).label("bucket")
    columns = [expression.label(name) for name, expression in sums.items()]
    query = select(bucket, *columns).where(inside).group_by(bucket).order_by(bucket)
    series = [
        {"time": first + (row["bucket"] + 0.5) * width, **{name: row[name] for name in sums}}
        for row in connection.execute(query).mappings()
    ]
    totals = {name: sum(point[name] for point in series) for name in sums}
    return {**totals, "first": first, "last": last, "series": series}


def by_domain(
    connection: Connection, start: float, sample: list[AuditRow], promise: Promise | None
) -> list[dict[str, Any]]:
    """The busiest domains of the window, with the risk seen in their audited answers since the policy began."""
    d = decisions.c
    n = func.count().label("n")
    columns = (d.domain, n, _count(d.decision == "answer"), _count(d.decision == "escalate"))
    query = select(*columns).where(d.created >= start).group_by(d.domain).order_by(n.desc()).limit(_DOMAINS)
    level = promise.level if promise else LEVEL
    domains = []
    for domain, rows, answered, escalated in connection.execute(query):
        counts = {"n": rows, "answered": answered, "escalated": escalated}
        domains.append({"domain": domain, **counts, **risk_in([r for r in sample if r.domain == domain], level)})
    return domains


def failures(connection: Connection, start: float) -> list[dict[str, Any]]:
    """The most frequent classes of failure since unix time ``start``."""
    error, n = decisions.c.error, func.count().label("n")
    failed = select(error, n).where(decisions.c.created >= start, error.is_not(None), error != GONE)
    rows = connection.execute(failed.group_by(error).order_by(n.desc()).limit(_ERRORS))
    return [dict(row) for row in rows.mappings()]


def feedback_counts(connection: Connection, start: float) -> dict[str, int]:
    """Pieces of feedback since unix time ``start``, and how many of them are complaints."""
    n, wrong = func.count().label("n"), _count(feedback.c.correct.is_(False)).label("wrong")
    return dict(connection.execute(select(n, wrong).where(feedback.c.created >= start)).mappings().one())


def audit_counts(audits: list[AuditRow], used: int, now: float) -> dict[str, Any]:
    """How many audits were drawn, have a label, are ``used`` in the statistics, and should have had a label by now."""
    # A row from the future tells nothing of its age.
    due = [row for row in audits if not now - _LABEL_PATIENCE_S <= row.created <= now]
    return {
        "drawn": len(audits),
        "labelled": sum(row.correct is not None for row in audits),
        "used": used,
        "overdue": sum(row.correct is None for row in due),
        "probability": min((row.probability for row in audits), default=None),
    }


def latest(connection: Connection) -> list[dict[str, Any]]:
    """The latest decisions with all that is stored of them, newest first."""
    f = feedback.c
    query = select(decisions).order_by(arrival(connection).desc()).limit(LATEST)
    rows = [dict(row) for row in connection.execute(query).mappings()]
    shown = f.decision_id.in_([row["id"] for row in rows])
    judged = connection.execute(select(f.decision_id, f.correct, f.about).where(shown).order_by(f.id))
    last = {decision: {"correct": correct, "about": about} for decision, correct, about in judged}
    return [row | {"feedback": last.get(row["id"])} for row in rows]
