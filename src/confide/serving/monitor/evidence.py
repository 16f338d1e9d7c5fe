"""The audits of a policy as steps of evidence, read from running totals: about a thousand rows for a million audits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import Connection, func, select

from confide.numeric import Floats
from confide.serving.monitor.eras import Steps
from confide.serving.monitor.promises import Promise
from confide.serving.store.audit_counts import ALL, scope_of
from confide.serving.store.counters import audit_counts, audit_labels, audit_questions, audit_queue
from confide.serving.store.tables import decisions

LATEST_AUDITS = 2_000  # in which a late change is sought
COUNTED = 10_000  # rows that are counted one by one at most
LABEL_PATIENCE_S = 600

_C = audit_counts.c
_SUMS = ("n", "good", "bad")
_ALL_SUMS = ("all_n", "all_good", "all_bad")
_BOTH = ("match_expert", "false_alarms")
"""Goals that are about answers that were not kept, too."""


@dataclass(frozen=True)
class Evidence:
    """The audits that a promise is about.

    ``steps`` count each question once a day, ``repeats`` each audit; ``latest`` are the newest questions one by one, 1
    for a hit, oldest first. ``domains`` has the steps of each domain of the promise. ``counts`` is for people.
    """

    steps: Steps
    repeats: Steps
    latest: Floats
    domains: dict[str, Steps]
    counts: dict[str, Any]


def evidence_of(connection: Connection, promise: Promise, now: float) -> Evidence:
    """What the audits of the promise's policy show at unix time ``now``."""
    found = _blocks(connection, promise, ALL)
    spoken_of = [row for row in found if row["kept"] or promise.goal in _BOTH]
    count = right_steps_of if promise.goal == "false_alarms" else steps_of
    domains: dict[str, Steps] = {}
    if promise.in_domains:
        kept = [row for row in found if row["kept"]]
        named = {name: _blocks(connection, promise, scope_of(name)) for name in promise.domains if name != "*"}
        domains = {name: steps_of(row for row in rows if row["kept"]) for name, rows in named.items()}
        domains["*"] = steps_of(_without(kept, [row for rows in named.values() for row in rows if row["kept"]]))
    return Evidence(
        steps=count(spoken_of),
        repeats=count(spoken_of, _ALL_SUMS),
        latest=_latest(connection, promise),
        domains=domains,
        counts=_numbers(connection, promise, found, now),
    )


def steps_of(rows: Iterable[dict[str, Any]], names: Sequence[str] = _SUMS) -> Steps:
    """Rows of the totals as steps: of what is kept, the wrong are hits, and those without a label may be."""
    some = [row for row in rows if row[names[0]]]
    counts = []
    for row in some:
        n, right, wrong = (row[name] for name in names)
        counts.append((n, wrong, n - right) if row["kept"] else (n, 0, 0))
    return _steps(some, counts)


def right_steps_of(rows: Iterable[dict[str, Any]], names: Sequence[str] = _SUMS) -> Steps:
    """Rows of the totals as steps of right answers: those not kept are hits.

    One without a label counts for whatever is worse: for the upper bound as right and not kept, for the lower one as
    right and kept, since leaving out a hit, or adding a row that is none, lowers the share.
    """
    some = [row for row in rows if row[names[0]] > row[names[2]]]
    counts = []
    for row in some:
        n, right, wrong = (row[name] for name in names)
        hits = 0 if row["kept"] else right
        counts.append((n - wrong, hits, hits + n - wrong - right))
    return _steps(some, counts)


def _steps(rows: Sequence[dict[str, Any]], counts: Sequence[tuple[int, int, int]]) -> Steps:
    """Steps of ``rows``; of each ``counts`` says how many there are, and the least and the most hits."""
    n, least, most = np.array(counts, dtype=float).reshape(-1, 3).T
    times, share = (np.array([row[name] for row in rows], dtype=float) for name in ("latest", "probability"))
    return Steps(times=times, n=n, least=least, most=most, share=share)


def risk_by_domain(connection: Connection, promise: Promise | None, domains: Sequence[str | None]) -> list[Steps]:
    """The kept audits of each of these domains since the policy began, in one step for each audit share."""
    scopes = [scope_of(domain) for domain in domains]
    sums = [func.sum(_C[name]).label(name) for name in _SUMS]
    columns = (_C.scope, _C.kept, _C.probability, func.max(_C.latest).label("latest"), *sums)
    mine = (_C.policy_id == (promise.policy_id if promise else ""), _C.scope.in_(scopes), _C.kept)
    query = select(*columns).where(*mine).group_by(_C.scope, _C.kept, _C.probability)
    rows = [dict(row) for row in connection.execute(query).mappings()]
    return [steps_of(row for row in rows if row["scope"] == scope) for scope in scopes]


def _blocks(connection: Connection, promise: Promise, scope: str) -> list[dict[str, Any]]:
    mine = (_C.policy_id == promise.policy_id, _C.scope == scope)
    found = connection.execute(select(audit_counts).where(*mine).order_by(_C.block)).mappings()
    return [dict(row) for row in found]


def _without(rows: list[dict[str, Any]], others: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """``rows`` without what ``others`` counted in the same blocks.

    A question that came in several domains on one day may be counted in more than one of them: never below zero.
    """
    left: dict[tuple[int, float], dict[str, Any]] = {(row["block"], row["probability"]): dict(row) for row in rows}
    for other in others:
        row = left.get((other["block"], other["probability"]))
        if row is not None:
            for name in _SUMS:
                row[name] -= other[name]
    for row in left.values():
        good, bad = max(row["good"], 0), max(row["bad"], 0)
        row |= {"good": good, "bad": bad, "n": max(row["n"], good + bad)}
    return list(left.values())


def _latest(connection: Connection, promise: Promise) -> Floats:
    """The newest `LATEST_AUDITS` questions that the promise is about, 1 for a hit, oldest first."""
    q = audit_questions.c
    found: list[tuple[int, float]] = []
    right = promise.goal == "false_alarms"
    for kept in (True, False) if promise.goal in _BOTH else (True,):
        mine = [q.policy_id == promise.policy_id, q.scope == ALL, q.kept.is_(kept)] + [q.label.is_(True)] * right
        query = select(q.number, q.label).where(*mine).order_by(q.number.desc()).limit(LATEST_AUDITS)
        hits = ((row.number, not kept if right else kept and row.label is False) for row in connection.execute(query))
        found += [(number, float(hit)) for number, hit in hits]
    return np.array([hit for _, hit in sorted(found)[-LATEST_AUDITS:]], dtype=float)


def _numbers(connection: Connection, promise: Promise, found: list[dict[str, Any]], now: float) -> dict[str, Any]:
    """How many audits were drawn, have a label, are used in the statistics, and should have had a label by now."""
    drawn = sum(row["all_n"] for row in found)
    labelled = sum(row["all_good"] + row["all_bad"] for row in found)
    d, c = decisions.c, audit_labels.c
    # A row from the future tells nothing of its age.
    young = (
        d.audit,
        d.created.between(now - LABEL_PATIENCE_S, now),
        c.policy_id == promise.policy_id,
        c.label.is_(None),
    )
    fresh = select(d.id).join(audit_labels, c.decision_id == d.id).where(*young)
    return {
        "drawn": drawn,
        "labelled": labelled,
        "used": sum(row["n"] for row in found),
        "overdue": max(0, drawn - labelled - _count(connection, fresh)),
        "probability": min((row["probability"] for row in found if row["all_n"]), default=None),
        "uncounted": _count(connection, select(audit_queue.c.id)),
        "waiting": _count(connection, select(d.id).where(d.audit_due.is_not(None))),
    }


def _count(connection: Connection, query: Any) -> int:
    """How many rows there are, up to `COUNTED`."""
    return int(connection.execute(select(func.count()).select_from(query.limit(COUNTED).subquery())).scalar_one())
