"""Counts queued audits: adds each new one, or one whose label changed, to the totals of its policy.

A policy's audits are numbered as they are counted, and `block_of` a number never changes. Blocks grow with the number
of audits, so that a million of them are about a thousand blocks and the evidence after each block is still followed
within 1 % of the audits that came before.

Each question counts once a day: the first audit that has a label stands for it, or the first where none has. A burst of
one question says no more than its first answer; one that comes back on another day counts again.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite

from confide.serving.store.audits import AuditRow, audit_rows
from confide.serving.store.counters import audit_counts, audit_labels, audit_questions, audit_queue

ALL = ""
"""The scope of all domains together."""

CHUNK = 500  # audits that are counted in one go
_SINGLE = 200  # blocks of one audit; each later one is 1 % longer than the one before
_GROWTH = math.log(1.01)
_DAY = 86_400
# Any number that nothing else in the database takes, other than that of the migrations.
_POSTGRES_LOCK = 0x636F756E74

Key = tuple[Any, ...]


def scope_of(domain: str | None) -> str:
    """The scope of a domain's audits; None is that of requests without one."""
    return "-" if domain is None else f"={domain}"


def block_of(number: int) -> int:
    """The block of a policy's audit ``number`` (from 0 on)."""
    return number if number < _SINGLE else _SINGLE + int(math.log(number / _SINGLE) / _GROWTH)


def count_queued(connection: Connection, most: int = CHUNK) -> int | None:
    """Count up to ``most`` queued changes and return how many there were (None: another process counts now)."""
    q = audit_queue.c
    queued = connection.execute(sa.select(q.id, q.decision_id).order_by(q.id).limit(most)).all()
    if not queued:
        return 0
    if connection.dialect.name == "postgresql":
        if not connection.scalar(sa.select(sa.func.pg_try_advisory_xact_lock(_POSTGRES_LOCK))):
            return None
        queued = connection.execute(sa.select(q.id, q.decision_id).order_by(q.id).limit(most)).all()
    ids = list(dict.fromkeys(row.decision_id for row in queued))
    _Counting(connection, ids).run()
    connection.execute(sa.delete(audit_queue).where(q.id.in_([row.id for row in queued])))
    return len(queued)


@dataclass(slots=True)
class _Standing:
    """The audit that stands for a question."""

    decision_id: str
    number: int
    label: bool | None
    probability: float
    created: float


class _Counting:
    """One chunk: what is in the tables, what changes, and how it is written."""

    def __init__(self, connection: Connection, ids: list[str]):
        self._connection = connection
        found = audit_rows(connection, ids=ids)
        self._rows = [row for row in found if row.policy_id is not None and not row.unlike]
        asked = {_question(row) for row in self._rows}
        mine = {row.policy_id for row in self._rows}
        c, q = audit_labels.c, audit_questions.c
        labels = connection.execute(sa.select(c.decision_id, c.number, c.label).where(c.decision_id.in_(ids)))
        self._labels: dict[str, tuple[int, bool | None]] = {row[0]: (row[1], row[2]) for row in labels}
        self._next: dict[str, int] = defaultdict(int)
        for table in (c, q):  # the labels of deleted decisions are gone
            most = sa.select(table.policy_id, sa.func.max(table.number)).where(table.policy_id.in_(mine))
            for policy, number in connection.execute(most.group_by(table.policy_id)):
                self._next[policy] = max(self._next[policy], number + 1)
        self._standing: dict[Key, _Standing] = {}
        query = sa.select(audit_questions).where(q.policy_id.in_(mine), q.question.in_(asked))
        for row in connection.execute(query):
            key = (row.policy_id, row.scope, row.question, row.day, row.kept)
            self._standing[key] = _Standing(row.decision_id, row.number, row.label, row.probability, row.created)
        self._changed: set[Key] = set()
        self._counts: dict[Key, dict[str, Any]] = {}

    def run(self) -> None:
        """Count every row and write what changed."""
        for row in self._rows:
            self._count(row)
        labels = [
            {"decision_id": row.id, "policy_id": row.policy_id, "number": number, "label": label}
            for row in self._rows
            for number, label in [self._labels[row.id]]
        ]
        questions = [
            dict(zip(("policy_id", "scope", "question", "day", "kept"), key, strict=True))
            | {name: getattr(self._standing[key], name) for name in _Standing.__slots__}
            for key in self._changed
        ]
        counts = [
            dict(zip(("policy_id", "scope", "block", "kept", "probability"), key, strict=True)) | values
            for key, values in self._counts.items()
        ]
        self._write(audit_labels, labels)
        self._write(audit_questions, questions)
        self._write(audit_counts, counts, add=True)

    def _count(self, row: AuditRow) -> None:
        assert row.policy_id is not None
        first = row.id not in self._labels
        if first:
            self._labels[row.id] = (self._next[row.policy_id], None)
            self._next[row.policy_id] += 1
        number, before = self._labels[row.id]
        self._labels[row.id] = (number, row.correct)
        now = _Standing(row.id, number, row.correct, row.probability, row.created)
        kept = row.decision == "answer"
        for scope in (ALL, scope_of(row.domain)):
            place = (row.policy_id, scope, kept)
            if not first:
                self._add(place, _Standing(row.id, number, before, row.probability, row.created), -1, "all_")
            self._add(place, now, 1, "all_")
            key = (row.policy_id, scope, _question(row), int(row.created // _DAY), kept)
            old = self._standing.get(key)
            if old is None or old.decision_id == row.id or _goes_before(now, old):
                if old is not None:
                    self._add(place, old, -1)
                self._add(place, now, 1)
                self._standing[key] = now
                self._changed.add(key)

    def _add(self, place: Key, row: _Standing, sign: int, prefix: str = "") -> None:
        policy, scope, kept = place
        key = (policy, scope, block_of(row.number), kept, row.probability)
        empty = {f"{p}{name}": 0 for p in ("", "all_") for name in ("n", "good", "bad")}
        counts = self._counts.setdefault(key, {"latest": row.created, **empty})
        counts["latest"] = max(counts["latest"], row.created)
        counts[f"{prefix}n"] += sign
        if row.label is not None:
            counts[f"{prefix}{'good' if row.label else 'bad'}"] += sign

    def _write(self, table: Table, rows: list[dict[str, Any]], *, add: bool = False) -> None:
        """Insert rows or replace those of the same key; ``add``: add to their counts."""
        if not rows:
            return
        dialect = sqlite if self._connection.dialect.name == "sqlite" else postgresql
        statement = dialect.insert(table)
        keys = [column.name for column in table.primary_key.columns]
        new = {c.name: statement.excluded[c.name] for c in table.columns if c.name not in keys}
        if add:
            highest = sa.case((new["latest"] > table.c.latest, new["latest"]), else_=table.c.latest)
            new = {name: highest if name == "latest" else table.c[name] + value for name, value in new.items()}
        self._connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=new), rows)


def _question(row: AuditRow) -> str:
    """What the row asks; a row without a hash is a question of its own."""
    return row.question_hash or row.id


def _goes_before(row: _Standing, other: _Standing) -> bool:
    """Whether ``row`` rather than ``other`` stands for their question."""
    return row.label is not None and (other.label is None or row.number < other.number)
