"""The queries behind the monitor: requests, failures and feedback in numbers.

Numbers of requests come from running totals, everything else from the latest `RECENT` rows and pieces of feedback: what
is read does not grow with the store. The latest rows are those that came into the store last. A router's clock may run
ahead or behind: a row from the future counts as one of now.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from sqlalchemy import ColumnElement, Connection, Row, Select, Subquery, and_, case, func, or_, select

from confide.numeric import Floats
from confide.serving.monitor.evidence import risk_by_domain
from confide.serving.monitor.promises import LEVEL, Promise, risks_in
from confide.serving.routing.turn import GONE
from confide.serving.routing.watching import Flag, acts
from confide.serving.store.counters import WIDTHS, traffic_counts
from confide.serving.store.tables import OTHER_MODEL, arrival, decisions, feedback

READ = 10_000  # the latest rows, which are read one by one: domains, failures, and a change of the share answered
RECENT = 500  # the latest rows, whose failures and missing confidences are counted
TIMED = 2_000  # the latest rows, whose latencies are summarised
LATEST = 20  # decisions that are shown one by one
_BUCKETS = 48
_MOST_STRETCHES = 1_000  # of running totals; longer times are read in longer stretches
_DOMAINS = 20
_ERRORS = 8
_AHEAD_S = 60
_SUMS = ("n", "answered", "escalated", "abstained", "cost", "saved")


def quantiles(values: list[float]) -> dict[str, float] | None:
    """Median, 95 % and 99 % quantile of ``values`` (None for none)."""
    if not values:
        return None
    p50, p95, p99 = np.quantile(values, [0.5, 0.95, 0.99]).tolist()
    return {"n": len(values), "p50": p50, "p95": p95, "p99": p99}


def recent_rows(connection: Connection) -> list[Row[Any]]:
    """The latest `TIMED` rows, newest first, for `recent_counts` and `latency`."""
    d = decisions.c
    decided = (d.created, d.mode, d.decision, d.served, d.policy_id, d.source, d.raw)
    columns = (*decided, d.error, d.unlike, d.flags, d.small_ms, d.expert_ms, d.total_ms)
    query: Select[Any] = select(*columns).order_by(arrival(connection).desc()).limit(TIMED)
    return list(connection.execute(query).all())


def _newest(connection: Connection, *columns: ColumnElement[Any]) -> Subquery:
    """These columns of the latest `READ` rows, newest first."""
    return select(*columns).order_by(arrival(connection).desc()).limit(READ).subquery()


def recent_counts(rows: Sequence[Row[Any]], now: float, promise: Promise | None) -> dict[str, Any]:
    """How many of the latest `RECENT` of ``rows`` are escalated, in trouble or unlike what the policy was made for.

    In trouble: no confidence, no expert's answer (``unserved``), or a failure before the answer (``errors``). They are
    counted among the ``n`` latest rows whose client stayed, or saw something fail before it hung up: so a flood of
    clients that hang up hides no failure. ``gone`` are clients that hung up, ``gave_up`` those of them that waited for
    an expert, ``ahead`` rows whose clock is more than a minute ahead of ``now``, and ``fallbacks`` those that each
    source after the first one of the promise's policy decided, all four among ``rows`` latest ones.
    """
    latest, stayed = rows[:RECENT], [row for row in rows if _failed(row) or not left(row)][:RECENT]
    asked = [row for row in stayed if row.decision == "escalate" and not left(row)]
    decided = [r.source for r in latest if promise and r.policy_id == promise.policy_id and r.raw is not None]
    return {
        "rows": len(latest),
        "fallbacks": {source: decided.count(source) for source in (promise.fallbacks if promise else ())},
        "n": len(stayed),
        "without_confidence": sum(row.raw is None and not _ended(row) for row in stayed),
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


def _ended(row: Row[Any]) -> bool:
    """Whether a watched signal ended the answer, which therefore has no confidence."""
    flags: list[Flag] = json.loads(row.flags) if row.flags and row.mode == "act" else []
    return any(flag["value"] is not None and acts(flag) for flag in flags)


def left(row: Row[Any]) -> bool:
    """Whether the client of ``row`` hung up before it had an answer."""
    return GONE in _parts(row)


def _gave_up(row: Row[Any]) -> bool:
    """Whether the client of ``row`` hung up while it waited for an expert; in mode observe none is asked."""
    return left(row) and row.decision == "escalate" and row.mode == "act" and row.served == "error"


def followed(connection: Connection, promise: Promise) -> Floats:
    """Whether the promise's policy answered (1), escalated (−1) or neither (0) each of its latest requests.

    They are those like the calibration rows among the latest `READ` rows of the store, oldest first.
    """
    d = decisions.c
    mine = and_(d.policy_id == promise.policy_id, d.unlike.is_(None))
    word = case((d.decision == "answer", 1), (d.decision == "escalate", -1), else_=0)
    newest = _newest(connection, case((mine, word)).label("word"))
    found = connection.execute(select(newest.c.word)).scalars().all()
    return np.array([word for word in reversed(found) if word is not None], dtype=np.float64)


def latency(rows: Sequence[Row[Any]]) -> dict[str, Any]:
    """Quantiles (milliseconds) of the small model's, the expert's and the whole request's time, of the latest ones."""
    return {
        name: quantiles([value for row in rows if (value := getattr(row, f"{name}_ms")) is not None])
        for name in ("small", "expert", "total")
    }


def life_of(connection: Connection, promise: Promise, now: float) -> tuple[Floats, Floats, Floats, Floats]:
    """The requests that the promise's policy decided since its first one, in stretches of time, oldest first.

    Requests unlike the calibration rows are left out: nothing is promised about them. Returns the stretches' ends (unix
    time), and how many requests each holds, answered and escalated ones.
    """
    t = traffic_counts.c
    mine = and_(t.policy_id == promise.policy_id, t.alike)
    first = connection.execute(select(func.min(t.start)).where(t.width == WIDTHS[-1], mine)).scalar_one()
    width = _width(now - (first or 0.0))
    found = _stretches(connection, 0.0, width, now, mine)
    ends = np.array([start + width for start in found], dtype=float)
    n, answered, escalated = (np.array([row[name] for row in found.values()], dtype=float) for name in _SUMS[:3])
    return ends, n, answered, escalated


def traffic(connection: Connection, start: float, now: float) -> dict[str, Any]:
    """Decisions and money, in all and over time, from the window's first minute on."""
    created = decisions.c.created
    begin = start // WIDTHS[0] * WIDTHS[0]
    first = connection.execute(select(func.min(created)).where(created >= begin)).scalar_one()
    if first is None:
        return {**dict.fromkeys(_SUMS, 0), "first": None, "last": None, "series": []}
    last = connection.execute(select(func.max(created))).scalar_one()
    first, last = min(first, now), min(last, now)
    unit = _width(now - first)
    found = _stretches(connection, begin, unit, now)
    width = max((last - first) / _BUCKETS, 1.0) * (1 + 1e-9)  # the last row belongs to the last bucket
    points: dict[int, dict[str, Any]] = {}
    for at, row in found.items():
        bucket = int((min(max(at + unit / 2, first), last) - first) / width)
        point = points.setdefault(bucket, {"time": first + (bucket + 0.5) * width, **dict.fromkeys(_SUMS, 0)})
        for name in _SUMS:
            point[name] += row[name]
    series = [points[bucket] for bucket in sorted(points)]
    totals = {name: sum(point[name] for point in series) for name in _SUMS}
    return {**totals, "first": first, "last": last, "series": series}


def _width(seconds: float) -> int:
    """The shortest stretch of which `_MOST_STRETCHES` cover this time."""
    return next((width for width in WIDTHS if seconds / width <= _MOST_STRETCHES), WIDTHS[-1])


def _stretches(
    connection: Connection, begin: float, width: int, now: float, wanted: ColumnElement[bool] | None = None
) -> dict[float, dict[str, Any]]:
    """Totals of each stretch of ``width`` seconds by its start; ``begin`` is a whole minute.

    Before the first whole stretch shorter ones are read. What came later than ``now`` counts in the last stretch.
    """
    t, parts, start = traffic_counts.c, [], begin
    for shorter, longer in zip(WIDTHS, [*WIDTHS[1:], None], strict=True):
        if shorter == width or longer is None:
            parts.append(and_(t.width == width, t.start >= start))
            break
        end = -(-start // longer) * longer
        parts.append(and_(t.width == shorter, t.start >= start, t.start < end))
        start = end
    query = select(t.start, *[func.sum(t[name]).label(name) for name in _SUMS]).where(or_(*parts))
    if wanted is not None:
        query = query.where(wanted)
    found: dict[float, dict[str, Any]] = {}
    for row in connection.execute(query.group_by(t.start).order_by(t.start)).mappings():
        at = min(row["start"], now) // width * width
        sums = found.setdefault(at, dict.fromkeys(_SUMS, 0))
        for name in _SUMS:
            sums[name] += float(row[name]) if name in ("cost", "saved") else int(row[name])
    return dict(sorted(found.items()))


def by_domain(connection: Connection, start: float, promise: Promise | None) -> list[dict[str, Any]]:
    """The busiest domains of the latest `READ` rows since unix time ``start``.

    With the risk seen in their audited answers since the policy began.
    """
    d, n = _newest(connection, decisions.c.created, decisions.c.domain, decisions.c.decision).c, func.count().label("n")
    decided = [func.count().filter(d.decision == word) for word in ("answer", "escalate")]
    query = select(d.domain, n, *decided).where(d.created >= start).group_by(d.domain)
    busiest = connection.execute(query.order_by(n.desc(), d.domain).limit(_DOMAINS)).all()
    audited = risk_by_domain(connection, promise, [row[0] for row in busiest])
    risks = risks_in(audited, promise.level if promise else LEVEL)
    return [
        {"domain": domain, "n": count, "answered": answered, "escalated": escalated, **risk}
        for (domain, count, answered, escalated), risk in zip(busiest, risks, strict=True)
    ]


def failures(connection: Connection, start: float) -> list[dict[str, Any]]:
    """The most frequent classes of failure in the latest `READ` rows since unix time ``start``."""
    d, n = _newest(connection, decisions.c.created, decisions.c.error).c, func.count().label("n")
    failed = select(d.error, n).where(d.created >= start, d.error.is_not(None), d.error != GONE)
    rows = connection.execute(failed.group_by(d.error).order_by(n.desc(), d.error).limit(_ERRORS))
    return [dict(row) for row in rows.mappings()]


def feedback_counts(connection: Connection, start: float) -> dict[str, int]:
    """Of the latest `READ` pieces of feedback, those since unix time ``start``, and how many of them are complaints."""
    f = feedback.c
    newest = select(f.created, f.correct).order_by(f.id.desc()).limit(READ).subquery()
    wrong = func.count().filter(newest.c.correct.is_(False)).label("wrong")
    query = select(func.count().label("n"), wrong).where(newest.c.created >= start)
    return dict(connection.execute(query).mappings().one())


def latest(connection: Connection) -> list[dict[str, Any]]:
    """The latest decisions with all that is stored of them, newest first."""
    f = feedback.c
    columns = [column for column in decisions.columns if column is not decisions.c.audit_request]
    query = select(*columns).order_by(arrival(connection).desc()).limit(LATEST)
    rows = [dict(row) for row in connection.execute(query).mappings()]
    shown = f.decision_id.in_([row["id"] for row in rows])
    judged = connection.execute(select(f.decision_id, f.correct, f.about).where(shown).order_by(f.id))
    last = {decision: {"correct": correct, "about": about} for decision, correct, about in judged}
    return [row | {"feedback": last.get(row["id"]), "flags": json.loads(row["flags"] or "[]")} for row in rows]
