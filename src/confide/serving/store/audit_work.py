"""Audits that are due: who works on which, so that each is done at most once by one of several processes.

``audit_due`` is the time from which anybody may take an audit. Whoever does moves it into the future, and only the
first one can, since the others find another time there. It is null once the audit is done or given up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Row, Select

from confide.serving.store.tables import decisions

_D = decisions.c


def due_audits(connection: Connection, now: float, most: int) -> list[Row[Any]]:
    """``id``, ``created``, ``audit_due`` and ``audit_request`` of up to ``most`` audits that nobody works on."""
    columns = (_D.id, _D.created, _D.audit_due, _D.audit_request)
    found: Select[Any] = sa.select(*columns).where(_D.audit_due <= now).order_by(_D.audit_due).limit(most)
    return list(connection.execute(found).all())


def claim(id: str, due: float, until: float) -> Callable[[Connection], bool]:
    """Work for the store: take an audit that is due at ``due``, until ``until``; False when somebody else has it."""
    return _if_due(id, due, {"audit_due": until})


def give_up(id: str, due: float, error: str) -> Callable[[Connection], bool]:
    """Work for the store: leave an audit without a label for good, and say why; False when somebody else has it."""
    return _if_due(id, due, {"audit_due": None, "audit_request": None, "error": with_error(error)})


def release(ids: Sequence[str], now: float) -> Callable[[Connection], None]:
    """Work for the store: let others take audits that this process will not do."""

    def work(connection: Connection) -> None:
        mine = (_D.id.in_(ids), _D.audit_due.is_not(None))
        connection.execute(sa.update(decisions).where(*mine).values(audit_due=now))

    return work


def with_error(error: str) -> sa.ColumnElement[str]:
    """A row's ``error`` with one more entry."""
    return sa.case((_D.error.is_(None), error), else_=_D.error + f"; {error}")


def _if_due(id: str, due: float, changes: dict[str, Any]) -> Callable[[Connection], bool]:
    statement = sa.update(decisions).where(_D.id == id, _D.audit_due == due).values(changes)
    return lambda connection: bool(connection.execute(statement).rowcount > 0)
