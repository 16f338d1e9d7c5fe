"""The store's tables. `DecisionRow` is the one definition of a decision's fields; its table follows from it."""

from __future__ import annotations

import math
import secrets
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args, get_type_hints

import sqlalchemy as sa
from sqlalchemy import Column, Index, Table

About = Literal["served", "small", "expert"]
"""Which answer a piece of feedback judges: the one that the client got, the small model's or the expert's."""


OTHER_MODEL = "model"
"""What a row is marked with in ``unlike`` when another model than the policy's answered."""


@dataclass(slots=True, kw_only=True)
class DecisionRow:
    """One routed request, as it stands in the table ``decisions``.

    ``decision`` is the policy's word (answer, escalate, abstain), ``served`` what the client got (small, expert,
    unverified, abstained, stopped, error), ``mode`` act or observe. ``raw`` is the confidence of ``source`` on its own
    scale, ``probability`` the calibrated one; None means not available. ``audit`` says that the row was drawn to get
    both answers, ``audit_probability`` how likely that was (0: no audits configured), ``agreed`` whether the two
    answers say the same. Times are unix seconds (``created``) and milliseconds, money is in the unit of the prices.
    ``error`` names a class of failure, never a key or a body. Texts are there only when the router stores texts.
    ``identity`` says which weights gave the small answer, ``key`` which client's key asked, ``question_hash`` which
    rows asked the same, and ``unlike`` in what the request differs from the calibration rows (None: in nothing).
    ``request_shape`` is what could be seen of how it was asked (`confide.records.RequestShape` as JSON).
    ``flags`` are the signals that fell below their thresholds, as JSON (None: none did).
    ``audit_due`` is when another process may take up an audit that is not done (None: there is none to do), and
    ``audit_request`` what it needs for that, where texts are stored. ``parts`` is what was told of the small answer's
    fields, as JSON.

    A new field also needs a step in `confide.serving.store.migrations`.
    """

    id: str
    created: float
    request_id: str | None = None
    model: str
    source: str | None
    raw: float | None
    probability: float | None
    decision: str
    served: str
    answered_by: str | None
    domain: str | None
    policy_id: str | None
    threshold: float | None
    mode: str
    audit: bool = False
    audit_probability: float = 0.0
    agreed: bool | None = None
    small_ms: float | None
    expert_ms: float | None
    total_ms: float
    small_tokens: int
    expert_tokens: int
    cost: float
    cost_saved: float
    error: str | None = None
    question: str | None = None
    small_answer: str | None = None
    expert_answer: str | None = None
    identity: str | None = None
    key: str | None = None
    question_hash: str | None = None
    unlike: str | None = None
    request_shape: str | None = None
    audit_due: float | None = None
    audit_request: str | None = None
    flags: str | None = None
    parts: str | None = None

    def values(self) -> dict[str, Any]:
        """The fields as a database takes them: no NaN, no half characters."""
        values = {name: getattr(self, name) for name in _NAMES}
        for name, value in values.items():
            if isinstance(value, str):
                values[name] = storable(value)
            elif isinstance(value, float) and not math.isfinite(value):
                values[name] = None
        return values


_NAMES = tuple(field.name for field in fields(DecisionRow))


def new_decision_id() -> str:
    """A fresh id: ``dec_`` and 32 hexadecimal digits that nobody can guess."""
    return f"dec_{secrets.token_hex(16)}"


def storable(text: str) -> str:
    """``text`` without what PostgreSQL (U+0000) or UTF-8 (lone surrogates) cannot hold."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", "\ufffd")


_TYPES = {str: sa.Text, float: sa.DOUBLE_PRECISION, int: sa.BigInteger, bool: sa.Boolean}


def _column(name: str, hint: Any) -> Column[Any]:
    """The column of a field; ``X | None`` is one that may be null."""
    kind, *none = get_args(hint) or (hint,)
    return Column(name, _TYPES[kind], primary_key=name == "id", nullable=bool(none))


metadata = sa.MetaData()
decisions = Table("decisions", metadata, *(_column(*field) for field in get_type_hints(DecisionRow).items()))
feedback = Table(
    "feedback",
    metadata,
    Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), sa.Identity(), primary_key=True),
    Column("decision_id", sa.Text, sa.ForeignKey(decisions.c.id, ondelete="CASCADE"), nullable=False),
    Column("created", sa.DOUBLE_PRECISION, nullable=False),
    Column("correct", sa.Boolean, nullable=False),
    Column("about", sa.Text, nullable=False),
    Column("note", sa.Text),
    Column("author", sa.Text),
    Column("trusted", sa.Boolean),
)
store_probe = Table(
    "store_probe",
    metadata,
    Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), sa.Identity(), primary_key=True),
    Column("payload", sa.LargeBinary, nullable=False),
)


@sa.event.listens_for(decisions, "after_create")
def _number_rows(_: Table, connection: sa.Connection, **__: Any) -> None:
    """PostgreSQL is told to number the rows as they come; SQLite does so by itself."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("ALTER TABLE decisions ADD COLUMN arrival BIGINT GENERATED BY DEFAULT AS IDENTITY")
        connection.exec_driver_sql("CREATE INDEX decisions_arrival ON decisions (arrival)")


def arrival(connection: sa.Connection) -> sa.ColumnElement[int]:
    """What orders decisions as they came into the store, whatever the clocks of the routers say."""
    name = "rowid" if connection.dialect.name == "sqlite" else "arrival"
    return sa.literal_column(f"decisions.{name}", sa.BigInteger())


Index("feedback_decision", feedback.c.decision_id)
Index("decisions_created", decisions.c.created)
_AUDITED = sa.text("audit")
Index("decisions_audit", decisions.c.created, sqlite_where=_AUDITED, postgresql_where=_AUDITED)
_DUE = sa.text("audit_due IS NOT NULL")
Index("decisions_audit_due", decisions.c.audit_due, sqlite_where=_DUE, postgresql_where=_DUE)
