"""Audit rows: the random share of requests whose small answer has a label whatever was decided.

Feedback alone is a biased sample (people report what is wrong), and an escalated request has no label for the small
answer. So only audit rows carry statistics. Where rows were drawn with different probabilities they are thinned to
the lowest one; what is left is a sample in which every request had the same chance to be.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, and_, func, or_, select

from confide.errors import ConfideError
from confide.hashing import sha256_of_text
from confide.records import Record, RequestShape
from confide.serving.store.tables import decisions, feedback


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
    identity: str | None = None
    request_shape: str | None = None


def audit_rows(connection: Connection, *, since: float | None = None, policy_id: str | None = None) -> list[AuditRow]:
    """All audit rows in the order of their creation, from unix time ``since`` on, of one policy where given."""
    d, f = decisions.c, feedback.c
    about_small = or_(f.about == "small", and_(f.about == "served", d.served.in_(("small", "unverified"))))
    judged = select(f.correct).where(f.decision_id == d.id, about_small).order_by(f.id.desc()).limit(1)
    label = func.coalesce(judged.scalar_subquery(), d.agreed)
    decided = (d.id, d.created, d.model, d.source, d.raw, d.decision, d.domain, d.audit_probability)
    columns = (*decided, label, d.identity, d.request_shape)
    query = select(*columns).where(d.audit, d.audit_probability > 0, d.created >= (since or 0.0))
    if policy_id is not None:
        query = query.where(d.policy_id == policy_id, d.unlike.is_(None))  # a promise is about requests like its rows
    return [AuditRow(*row) for row in connection.execute(query.order_by(d.created, d.id))]


def equal_chance(rows: list[AuditRow]) -> list[AuditRow]:
    """The ``rows`` thinned to the lowest probability among them: one drawn with p stays with p_min / p.

    The coin is a hash of the row's id, so the same rows stay in every run.
    """
    lowest = min((row.probability for row in rows), default=1.0)
    return [row for row in rows if int(sha256_of_text(row.id)[:12], 16) / 2**48 * row.probability < lowest]


def calibration_records(audits: list[AuditRow]) -> list[Record]:
    """The labelled ones of ``audits`` as calibration records.

    They are thinned to `equal_chance`, so that the bound of ``confide calibrate`` holds for them. ``confidence`` maps
    the row's source to the raw value. Raises `ConfideError` when no row has a label, when most lack one (those that
    have one are then a biased sample), or when different models answered them.
    """
    labelled = [row for row in audits if row.correct is not None]
    if not labelled:
        raise ConfideError(
            f"the store has no audit row with a label ({len(audits)} audit rows without); set audit_share in the "
            "router's configuration, and only audits say whether the small model was right"
        )
    if 2 * len(labelled) < len(audits):
        raise ConfideError(
            f"only {len(labelled)} of {len(audits)} audit rows have a label, and the labelled ones may be no fair "
            "sample; label the others first (POST /v1/feedback)"
        )
    models = sorted({row.model for row in labelled})
    if len(models) > 1:
        raise ConfideError(
            f"the audit rows are answers of {len(models)} models ({', '.join(models[:3])}); take those of one, "
            "by the time since when it runs"
        )
    return [
        Record(
            id=row.id,
            domain=row.domain or "",
            split="calibration",
            correct=row.correct,
            model=row.model,
            identity=row.identity or "",
            request_shape=RequestShape.model_validate_json(row.request_shape) if row.request_shape else None,
            confidence={} if row.source is None else {row.source: row.raw},
        )
        for row in equal_chance(labelled)
    ]
