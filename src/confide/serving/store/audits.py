"""Audit rows: the random share of requests whose small answer has a label whatever was decided.

Feedback alone is a biased sample (people report what is wrong), and an escalated request has no label for the small
answer. So only audit rows carry statistics. An audit may stay without a label, and not by chance: an expert that fails
on the hard questions leaves those unlabelled. Such rows are never left out; whoever uses them counts the worse case.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, and_, func, or_, select

from confide.errors import ConfideError
from confide.hashing import sha256_of_text
from confide.policies.identities import same_model
from confide.records import Record, RequestShape
from confide.serving.store.tables import arrival, decisions, feedback


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One audited request; ``correct`` is the label of the small answer (None: there is none yet).

    The label is the latest feedback about the small answer that counts, else whether it agreed with the expert's. The
    word of the key that asked does not count where an expert labelled; where none did, "wrong" counts, and "right" only
    if it was trusted with that. Rows that ask the same share a ``question_hash`` (None: not known, a question of
    its own).
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
    question_hash: str | None = None
    policy_id: str | None = None
    unlike: str | None = None


def audit_rows(
    connection: Connection, *, since: float | None = None, ids: Sequence[str] | None = None
) -> list[AuditRow]:
    """All audit rows in the order of their arrival, from unix time ``since`` on, of these ``ids`` where given."""
    d, f = decisions.c, feedback.c
    about_small = or_(f.about == "small", and_(f.about == "served", d.served.in_(("small", "unverified"))))
    # Else a client could make its own audits right, or wrong, whatever the expert says, or keep the expert from saying.
    by_another = or_(d.key.is_(None), f.author.is_distinct_from(d.key))
    counts = or_(by_another, and_(d.agreed.is_(None), or_(f.correct.is_(False), f.trusted.is_(True))))
    judged = select(f.correct).where(f.decision_id == d.id, about_small, counts).order_by(f.id.desc()).limit(1)
    label = func.coalesce(judged.scalar_subquery(), d.agreed)
    decided = (d.id, d.created, d.model, d.source, d.raw, d.decision, d.domain, d.audit_probability)
    columns = (*decided, label, d.identity, d.request_shape, d.question_hash, d.policy_id, d.unlike)
    query: Select[Any] = select(*columns).where(d.audit, d.audit_probability > 0, d.created >= (since or 0.0))
    if ids is not None:
        query = query.where(d.id.in_(ids))
    return [AuditRow(*row) for row in connection.execute(query.order_by(arrival(connection)))]


def equal_chance(rows: list[AuditRow]) -> list[AuditRow]:
    """The largest sample of ``rows`` in which each of the requests that it stands for had the same chance to be.

    For some probability p, rows that were drawn with less are left out, with all requests of their time, and one drawn
    with q ≥ p stays with probability p / q. The p that leaves the most rows is taken; it depends on numbers of rows
    alone. The coin is a hash of the row's id, so the same rows stay in every run.
    """
    drawn = Counter(row.probability for row in rows)
    left = {p: sum(n * p / q for q, n in drawn.items() if q >= p) for p in drawn}
    chance = max(left, key=lambda p: left[p], default=1.0)
    return [
        row
        for row in rows
        if row.probability >= chance and int(sha256_of_text(row.id)[:12], 16) / 2**48 * row.probability < chance
    ]


def calibration_records(
    audits: list[AuditRow], *, unlabelled: bool | None = False, identity: str | None = None
) -> list[Record]:
    """``audits`` as calibration records, of `equal_chance`, so that the bound of ``confide calibrate`` holds for them.

    Rows that ask the same are one cluster. ``confidence`` maps the row's source to the raw value. A row without a label
    gets ``unlabelled``: wrong unless said otherwise, the worst case of a promise about wrong answers. With ``identity``
    only rows that this model answered are taken. Raises `ConfideError` when no row has a label, when none is of that
    model, or when models of different names answered them and ``identity`` does not say which to take.
    """
    if identity is not None:
        audits = _answered_by(identity, audits)
    if all(row.correct is None for row in audits):
        raise ConfideError(
            f"the store has no audit row with a label ({len(audits)} audit rows without); set audit_share in the "
            "router's configuration, and only audits say whether the small model was right"
        )
    models = sorted({row.model for row in audits})
    if len(models) > 1 and identity is None:
        raise ConfideError(
            f"the audit rows are answers of {len(models)} models ({', '.join(models[:3])}); take those of one with "
            f"--identity: {_identities(audits)}"
        )
    return [
        Record(
            id=row.id,
            domain=row.domain or "",
            entity=row.question_hash,
            split="calibration",
            correct=unlabelled if row.correct is None else row.correct,
            model=row.model,
            identity=row.identity or "",
            request_shape=RequestShape.model_validate_json(row.request_shape) if row.request_shape else None,
            confidence={} if row.source is None else {row.source: row.raw},
        )
        for row in equal_chance(audits)
    ]


def _answered_by(identity: str, audits: list[AuditRow]) -> list[AuditRow]:
    try:
        found = [row for row in audits if same_model(identity, row.identity or "")]
    except ValueError as error:
        raise ConfideError(f"--identity: {error}") from None
    if not found:
        raise ConfideError(f"no row is an answer of {identity}; there are: {_identities(audits)}")
    return found


def _identities(audits: list[AuditRow]) -> str:
    counts = Counter(row.identity or "rows that do not say" for row in audits)
    return "; ".join(f"{identity} ({count} rows)" for identity, count in counts.most_common(3)) or "no rows"
