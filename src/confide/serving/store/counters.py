"""Running totals beside the decisions, so that the monitor reads a few rows however many decisions there are.

Triggers keep them in the transaction that writes a decision or feedback, whoever writes it. Requests are counted in
stretches of time (`WIDTHS`); audits are only queued, and `confide.serving.store.audit_counts.count_queued` counts them.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import Column, Index, Table

from confide.serving.store.tables import decisions, metadata

WIDTHS = (60, 900, 86_400)
"""Seconds; each divides the next."""

_BIG, _REAL = sa.BigInteger, sa.DOUBLE_PRECISION

traffic_counts = Table(
    "traffic_counts",
    metadata,
    Column("width", _BIG, primary_key=True, autoincrement=False),
    Column("start", _BIG, primary_key=True, autoincrement=False),
    Column("policy_id", sa.Text, primary_key=True),  # "" where there was no policy
    Column("alike", sa.Boolean, primary_key=True),  # whether the requests are like the calibration rows
    Column("slot", _BIG, primary_key=True, autoincrement=False),  # so that routers do not wait for each other
    *(Column(name, _BIG, nullable=False) for name in ("n", "answered", "escalated", "abstained")),
    *(Column(name, _REAL, nullable=False) for name in ("cost", "saved")),
    sqlite_with_rowid=False,
)
audit_queue = Table(
    "audit_queue",
    metadata,
    Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), sa.Identity(), primary_key=True),
    Column("decision_id", sa.Text, nullable=False),
)
audit_labels = Table(
    "audit_labels",
    metadata,
    Column("decision_id", sa.Text, sa.ForeignKey(decisions.c.id, ondelete="CASCADE"), primary_key=True),
    Column("policy_id", sa.Text, nullable=False),
    Column("number", _BIG, nullable=False),  # of the policy's audits, from 0 on, in the order of their counting
    Column("label", sa.Boolean),
)
Index("audit_labels_number", audit_labels.c.policy_id, audit_labels.c.number)
audit_questions = Table(
    "audit_questions",
    metadata,
    *(Column(name, sa.Text, primary_key=True) for name in ("policy_id", "scope", "question")),
    Column("day", _BIG, primary_key=True, autoincrement=False),
    Column("kept", sa.Boolean, primary_key=True),
    Column("decision_id", sa.Text, nullable=False),  # the audit that stands for the question on this day
    Column("number", _BIG, nullable=False),
    Column("label", sa.Boolean),
    Column("probability", _REAL, nullable=False),
    Column("created", _REAL, nullable=False),
)
Index("audit_questions_number", *(audit_questions.c[name] for name in ("policy_id", "scope", "kept", "number")))
audit_counts = Table(
    "audit_counts",
    metadata,
    *(Column(name, sa.Text, primary_key=True) for name in ("policy_id", "scope")),
    Column("block", _BIG, primary_key=True, autoincrement=False),
    Column("kept", sa.Boolean, primary_key=True),
    Column("probability", _REAL, primary_key=True),
    Column("latest", _REAL, nullable=False),  # the latest creation of a row
    *(Column(name, _BIG, nullable=False) for name in ("n", "good", "bad")),  # each question once a day
    *(Column(f"all_{name}", _BIG, nullable=False) for name in ("n", "good", "bad")),  # each audit
    sqlite_with_rowid=False,
)

_AUDITED = "{0}audit AND {0}audit_probability > 0 AND {0}policy_id IS NOT NULL AND {0}unlike IS NULL"
_FIELDS = ("created", "policy_id", "unlike", "decision", "cost", "cost_saved")


def traffic_statement(dialect: str, source: str, *, new: bool = True, single: bool = False) -> str:
    """SQL that adds the rows of ``source`` to the counts of traffic.

    Args:
        dialect: ``sqlite`` or ``postgresql``.
        source: a table with the columns `_FIELDS`.
        new: whether the rows are new, or only their money is.
        single: whether ``source`` has one row, for which there is nothing to add up and to sort.
    """
    counted, add = "1" if new else "0", "" if single else "sum"
    grouped = "" if single else "GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4 "
    start = "CAST(created / w AS INTEGER) * w" if dialect == "sqlite" else "floor(created / w) * w"
    slot = "0" if dialect == "sqlite" else "mod(pg_backend_pid(), 16)"
    decided = ", ".join(
        f"{add}(CASE WHEN decision = '{word}' THEN {counted} ELSE 0 END)" for word in ("answer", "escalate", "abstain")
    )
    sums = ("n", "answered", "escalated", "abstained", "cost", "saved")
    widths = " UNION ALL ".join(f"SELECT {width} AS w" for width in WIDTHS)
    return (
        f"INSERT INTO traffic_counts (width, start, policy_id, alike, slot, {', '.join(sums)}) "
        f"SELECT w, {start}, coalesce(policy_id, ''), unlike IS NULL, {slot}, {add}({counted}), {decided}, "
        f"{add}(cost), {add}(cost_saved) FROM {source}, ({widths}) AS widths WHERE true {grouped}"
        "ON CONFLICT (width, start, policy_id, alike, slot) DO UPDATE SET "
        + ", ".join(f"{name} = traffic_counts.{name} + excluded.{name}" for name in sums)
    )


def queue_statement(source: str, order: str) -> str:
    """SQL that queues the audits of ``source`` for counting."""
    return f"INSERT INTO audit_queue (decision_id) SELECT id FROM {source} WHERE {_AUDITED.format('')} ORDER BY {order}"


def trigger_statements(dialect: str) -> list[str]:
    """SQL that makes the triggers."""
    return _sqlite_triggers() if dialect == "sqlite" else _postgresql_triggers()


def _row(**changed: str) -> str:
    """The row of a trigger as a table."""
    values = {name: f"NEW.{name}" for name in _FIELDS} | changed
    return "(SELECT " + ", ".join(f"{value} AS {name}" for name, value in values.items()) + ") AS one"


_SPENT = {"cost": "NEW.cost - OLD.cost", "cost_saved": "NEW.cost_saved - OLD.cost_saved"}


def _sqlite_triggers() -> list[str]:
    made, queue = [], "INSERT INTO audit_queue (decision_id)"
    spent = traffic_statement("sqlite", _row(**_SPENT), new=False, single=True)
    for name, event, body in (
        ("traffic", "INSERT ON decisions", traffic_statement("sqlite", _row(), single=True)),
        ("money", "UPDATE OF cost, cost_saved ON decisions", spent),
        ("drawn", f"INSERT ON decisions WHEN {_AUDITED.format('NEW.')}", f"{queue} VALUES (NEW.id)"),
        ("labelled", f"UPDATE OF agreed ON decisions WHEN {_AUDITED.format('NEW.')}", f"{queue} VALUES (NEW.id)"),
        ("judged", "INSERT ON feedback", _judged("NEW")),
        ("rejudged", "UPDATE ON feedback", _judged("NEW")),
        ("unjudged", "DELETE ON feedback", _judged("OLD")),
    ):
        made.append(f"CREATE TRIGGER count_{name} AFTER {event} BEGIN {body}; END")
    return made


def _judged(row: str) -> str:
    found = f"(SELECT * FROM decisions WHERE id = {row}.decision_id) AS one"
    return queue_statement(found, "1")


def _postgresql_triggers() -> list[str]:
    made = []
    for name, event, body in (
        (
            "inserted",
            "INSERT ON decisions REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT",
            f"{traffic_statement('postgresql', 'fresh')}; {queue_statement('fresh', 'arrival')}; RETURN NULL",
        ),
        (
            "money",
            "UPDATE OF cost, cost_saved ON decisions FOR EACH ROW",
            f"{traffic_statement('postgresql', _row(**_SPENT), new=False)}; RETURN NULL",
        ),
        (
            "labelled",
            f"UPDATE OF agreed ON decisions FOR EACH ROW WHEN ({_AUDITED.format('NEW.')})",
            "INSERT INTO audit_queue (decision_id) VALUES (NEW.id); RETURN NULL",
        ),
        ("judged", "INSERT OR UPDATE ON feedback FOR EACH ROW", f"{_judged('NEW')}; RETURN NULL"),
        ("unjudged", "DELETE ON feedback FOR EACH ROW", f"{_judged('OLD')}; RETURN NULL"),
    ):
        made += [
            f"CREATE FUNCTION confide_count_{name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body}; END $$",
            f"CREATE TRIGGER count_{name} AFTER {event} EXECUTE FUNCTION confide_count_{name}()",
        ]
    return made
