"""Schema versions of the store, on SQLite and on a real PostgreSQL."""

import asyncio
import dataclasses
import math
import subprocess
import sys
import time
from typing import Any

import pytest
from sqlalchemy import Connection, inspect, text

from confide.errors import ConfideError
from confide.serving.monitor.snapshot import build
from confide.serving.store.audits import audit_rows
from confide.serving.store.migrations import LATEST
from confide.serving.store.store import Store
from confide.serving.store.tables import DecisionRow, decisions, metadata
from decision_rows import decision, mixed
from monitored import NOW, PROMISE
from stores import all_rows, using


def test_the_tables_are_those_that_the_migrations_make(url: str, raw: Connection) -> None:
    Store.open(url)
    check_tables(raw)
    assert [c.name for c in decisions.columns] == [f.name for f in dataclasses.fields(DecisionRow)]


def check_tables(raw: Connection) -> None:
    """The database has the columns and indexes of the tables."""
    inspector = inspect(raw)
    # PostgreSQL is told to number the decisions; SQLite does by itself.
    numbered = raw.dialect.name == "postgresql"
    for table in metadata.tables.values():
        numbers = {"arrival": False} if numbered and table is decisions else {}
        made = {c["name"]: c["nullable"] for c in inspector.get_columns(table.name)}
        expected = {c.name: c.nullable for c in table.columns} | numbers
        # SQLite calls a primary key nullable unless told otherwise.
        assert {n: v for n, v in made.items() if n != "id"} == {n: v for n, v in expected.items() if n != "id"}
        assert set(made) == set(expected)
        indexes = {index.name for index in table.indexes} | ({"decisions_arrival"} if numbers else set())
        assert {i["name"] for i in inspector.get_indexes(table.name)} == indexes


V1_SCHEMA = """
CREATE TABLE decisions (
    id TEXT PRIMARY KEY,
    created DOUBLE PRECISION NOT NULL,
    request_id TEXT,
    model TEXT NOT NULL,
    source TEXT,
    raw DOUBLE PRECISION,
    probability DOUBLE PRECISION,
    decision TEXT NOT NULL,
    served TEXT NOT NULL,
    answered_by TEXT,
    domain TEXT,
    policy_id TEXT,
    threshold DOUBLE PRECISION,
    mode TEXT NOT NULL,
    audit BOOLEAN NOT NULL,
    audit_probability DOUBLE PRECISION NOT NULL,
    agreed BOOLEAN,
    small_ms DOUBLE PRECISION,
    expert_ms DOUBLE PRECISION,
    total_ms DOUBLE PRECISION NOT NULL,
    small_tokens BIGINT NOT NULL,
    expert_tokens BIGINT NOT NULL,
    cost DOUBLE PRECISION NOT NULL,
    cost_saved DOUBLE PRECISION NOT NULL,
    error TEXT,
    question TEXT,
    small_answer TEXT,
    expert_answer TEXT
);
CREATE INDEX decisions_created ON decisions (created);
CREATE TABLE schema_version (version INTEGER NOT NULL);
INSERT INTO schema_version (version) VALUES (1)
"""
V1_ROW = """
INSERT INTO decisions (id, created, model, decision, served, mode, audit, audit_probability, total_ms, small_tokens,
                       expert_tokens, cost, cost_saved, domain)
VALUES ('dec_old', 5.0, 'small', 'answer', 'small', 'act', {yes}, 0.5, 3.0, 1, 0, 0.0, 0.0, 'geography')
"""


def test_a_database_of_version_1_is_migrated_with_its_rows(url: str, raw: Connection) -> None:
    sqlite = url.startswith("sqlite")
    for statement in V1_SCHEMA.split(";"):
        raw.execute(text(statement))
    raw.execute(text(V1_ROW.format(yes=1 if sqlite else "true")))
    raw.commit()
    assert "feedback" not in inspect(raw).get_table_names()
    raw.commit()

    async def body(store: Store) -> list[bool | None]:
        assert [row.id for row in await store.run(all_rows)] == ["dec_old"]
        assert await store.feedback("dec_old", False)
        return [audit.correct for audit in await store.run(audit_rows)]

    assert using(url, body) == [False]
    assert raw.execute(text("SELECT version FROM schema_version")).scalar_one() == LATEST
    check_tables(raw)
    using(url, body)  # opening it again changes nothing


def test_rows_from_before_keep_their_order_and_new_ones_follow(url: str, raw: Connection) -> None:
    yes = "1" if url.startswith("sqlite") else "true"
    for statement in V1_SCHEMA.split(";"):
        raw.execute(text(statement))
    row = V1_ROW.format(yes=yes)
    for number, created in enumerate((5.0, 7.0)):
        raw.execute(text(row.replace("'dec_old', 5.0", f"'dec_{number}', {created}")))
    raw.commit()

    async def body(store: Store) -> list[str]:
        for name, created in (("ahead", 99.0), ("behind", 1.0)):
            await store.add(decision(id=f"dec_{name}", created=created, audit=True, audit_probability=1.0))
        return [audit.id for audit in await store.run(audit_rows)]

    assert using(url, body) == ["dec_0", "dec_1", "dec_ahead", "dec_behind"]


def test_a_newer_database_is_refused(url: str, raw: Connection) -> None:
    Store.open(url)
    raw.execute(text("UPDATE schema_version SET version = 99"))
    raw.commit()
    with pytest.raises(ConfideError, match="schema version 99, made by a newer confide"):
        Store.open(url)


def test_several_processes_may_start_at_once(url: str, raw: Connection) -> None:
    code = "import sys; from confide.serving.store.store import Store; sys.stdin.readline(); Store.open(sys.argv[1])"
    starters = [
        subprocess.Popen([sys.executable, "-c", code, url], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    time.sleep(0.5)
    for starter in starters:
        assert starter.stdin is not None
        starter.stdin.write("\n")
        starter.stdin.flush()
    for starter in starters:
        _, errors = starter.communicate(timeout=60)
        assert starter.returncode == 0, errors
    assert raw.execute(text("SELECT version FROM schema_version")).scalars().all() == [LATEST]


COUNTERS = ("traffic_counts", "audit_queue", "audit_labels", "audit_questions", "audit_counts", "store_probe")


def undo_version_8(raw: Connection) -> None:
    """Make a store of today one of version 7."""
    if raw.dialect.name == "sqlite":
        for name in raw.execute(text("SELECT name FROM sqlite_master WHERE type = 'trigger'")).scalars().all():
            raw.execute(text(f"DROP TRIGGER {name}"))
    else:
        for name in ("inserted", "money", "labelled", "judged", "unjudged"):
            raw.execute(text(f"DROP FUNCTION confide_count_{name} CASCADE"))
    for table in COUNTERS:
        raw.execute(text(f"DROP TABLE {table}"))
    raw.execute(text("DROP INDEX decisions_audit_due"))
    for column in ("audit_due", "audit_request", "flags", "parts"):  # the last ones are of versions 9 and 10
        raw.execute(text(f"ALTER TABLE decisions DROP COLUMN {column}"))
    raw.execute(text("CREATE INDEX decisions_policy ON decisions (policy_id, created, decision)"))
    raw.execute(text("UPDATE schema_version SET version = 7"))
    raw.commit()


def test_what_is_there_is_counted_once_when_the_totals_come(url: str, raw: Connection) -> None:
    rows = mixed(900)

    async def fill(store: Store) -> None:
        await asyncio.gather(*[store.add(row) for row in rows])
        for row in rows[:20]:
            await store.feedback(row.id, False, "small")

    async def read(store: Store) -> dict[str, Any]:
        return await store.run(lambda connection: build(connection, PROMISE, NOW, None))

    using(url, fill)
    before = using(url, read)
    undo_version_8(raw)
    after = using(url, read)
    assert after == before
    assert (after["traffic"]["n"], after["coverage"]["n"], after["audits"]["uncounted"]) == (900, 900, 0)


def test_probabilities_of_answers_become_log_probabilities(url: str, raw: Connection) -> None:
    stored = [
        ("logprob_sum", 0.5, 0.25), ("logprob_sum", 1.0, sys.float_info.max), ("logprob_sum", 0.0, 0.0),
        ("logprob_sum", 1e-300, None), ("logprob_sum", None, 0.5), ("stack", 0.5, 0.25), (None, None, None),
    ]  # fmt: skip
    expected = [
        (math.log(0.5), math.log(0.25)), (0.0, sys.float_info.max), (math.log(5e-324), None),
        (math.log(1e-300), None), (None, math.log(0.5)), (0.5, 0.25), (None, None),
    ]  # fmt: skip

    async def fill(store: Store) -> None:
        for i, (source, value, threshold) in enumerate(stored):
            await store.add(decision(id=f"dec_{i}", created=float(i), source=source, raw=value, threshold=threshold))

    async def read(store: Store) -> list[tuple[float | None, float | None]]:
        return [(row.raw, row.threshold) for row in await store.run(all_rows)]

    using(url, fill)
    undo_version_8(raw)
    raw.execute(text("ALTER TABLE feedback DROP COLUMN trusted"))  # of version 7
    raw.execute(text("ALTER TABLE decisions DROP COLUMN request_shape"))  # of version 5
    if not url.startswith("sqlite"):
        raw.execute(text("ALTER TABLE decisions DROP COLUMN arrival"))  # of version 6
    raw.execute(text("UPDATE schema_version SET version = 3"))
    raw.commit()
    for _ in range(2):  # opening it again changes nothing
        for found, wanted in zip(using(url, read), expected, strict=True):
            assert found == tuple(x if x is None else pytest.approx(x, rel=1e-12) for x in wanted)
