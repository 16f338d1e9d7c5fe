"""Stores for tests: opened around a coroutine, and all that they hold."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from sqlalchemy import Connection, select

from confide.serving.store.store import Store
from confide.serving.store.tables import DecisionRow, decisions


def using(url: str, body: Callable[[Store], Awaitable[Any]]) -> Any:
    """Run ``body`` on a store that is opened and closed around it."""

    async def run() -> Any:
        store = Store.open(url)
        try:
            return await body(store)
        finally:
            await store.close()

    return asyncio.run(run())


def all_rows(connection: Connection) -> list[DecisionRow]:
    """Every decision, oldest first."""
    found = connection.execute(select(decisions).order_by(decisions.c.created)).mappings()
    return [DecisionRow(**row) for row in found]
