"""The store's tables as the newest schema has them; `confide.serving.store.migrations` creates them."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Double, MetaData, Table, Text

metadata = MetaData()

decisions = Table(
    "decisions",
    metadata,
    Column("id", Text, primary_key=True),
    Column("created", Double, nullable=False),
    Column("request_id", Text),
    Column("model", Text, nullable=False),
    Column("source", Text),
    Column("raw", Double),
    Column("probability", Double),
    Column("decision", Text, nullable=False),
    Column("served", Text, nullable=False),
    Column("answered_by", Text),
    Column("domain", Text),
    Column("policy_id", Text),
    Column("threshold", Double),
    Column("mode", Text, nullable=False),
    Column("audit", Boolean, nullable=False),
    Column("audit_probability", Double, nullable=False),
    Column("agreed", Boolean),
    Column("small_ms", Double),
    Column("expert_ms", Double),
    Column("total_ms", Double, nullable=False),
    Column("small_tokens", BigInteger, nullable=False),
    Column("expert_tokens", BigInteger, nullable=False),
    Column("cost", Double, nullable=False),
    Column("cost_saved", Double, nullable=False),
    Column("error", Text),
    Column("question", Text),
    Column("small_answer", Text),
    Column("expert_answer", Text),
)

feedback = Table(
    "feedback",
    metadata,
    Column("id", BigInteger, primary_key=True),
    Column("decision_id", Text, nullable=False),
    Column("created", Double, nullable=False),
    Column("correct", Boolean, nullable=False),
    Column("about", Text, nullable=False),
    Column("note", Text),
)
