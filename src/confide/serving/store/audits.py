"""Audit rows: the random share of requests whose small answer has a label whatever was decided.

Feedback alone is a biased sample (people report what is wrong), and an escalated request has no label for the small
answer. So only audit rows carry statistics. Where rows were drawn with different probabilities they are thinned to
the lowest one; what is left is a sample in which every request had the same chance to be.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, and_, func, or_, select

from confide.serving.store.store_tables import decisions, feedback


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One audited request; ``correct`` is the label of the small answer (None: there is none yet).

    The label is the latest feedback about the small answer where there is some, else whether it agreed with the
    expert's.
    """

    id: str
    created: float
    model: str
    source: str | None
    raw: float | None
    decision: str
    domain: str | None
    probability: float
    correct: bool | None


def audit_rows(connection: Connection, *, since: float | None = None, policy_id: str | None = None) -> list[AuditRow]:
    """All audit rows in the order of their creation, from unix time ``since`` on, of one policy where given."""
    d, f = decisions.c, feedback.c
    about_small = or_(f.about == "small", and_(f.about == "served", d.served.in_(("small", "unverified"))))
    latest = (
        select(f.decision_id, func.max(f.id).label("feedback_id"))
        .join_from(feedback, decisions, f.decision_id == d.id)
        .where(d.audit, about_small)
        .group_by(f.decision_id)
        .subquery()
    )
    said = select(f.decision_id, f.correct).join(latest, f.id == latest.c.feedback_id).subquery()
    wanted: list[ColumnElement[bool]] = [d.audit, d.audit_probability > 0]
    if since is not None:
        wanted.append(d.created >= since)
    if policy_id is not None:
        wanted.append(d.policy_id == policy_id)
    query = (
        select(
            d.id,
            d.created,
            d.model,
            d.source,
            d.raw,
            d.decision,
            d.domain,
            d.audit_probability,
            func.coalesce(said.c.correct, d.agreed),
        )
        .outerjoin(said, said.c.decision_id == d.id)
        .where(*wanted)
        .order_by(d.created, d.id)
    )
    return [
        AuditRow(*row[:-1], correct=None if row[-1] is None else bool(row[-1])) for row in connection.execute(query)
    ]


def equal_chance(rows: list[AuditRow]) -> list[AuditRow]:
    """The ``rows`` thinned to the lowest probability among them: one drawn with p stays with p_min / p.

    The coin is a hash of the row's id, so the same rows stay in every run.
    """
    lowest = min((row.probability for row in rows), default=1.0)
    return [row for row in rows if _uniform(row.id) * row.probability < lowest]


def _uniform(identifier: str) -> float:
    """A number in [0, 1) that looks random but depends on the id alone."""
    return int.from_bytes(hashlib.sha256(identifier.encode()).digest()[:6]) / 2**48
