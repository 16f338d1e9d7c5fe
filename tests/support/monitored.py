"""What the monitor says of rows in a store."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from confide.methods.answer_traffic import UnseenShare
from confide.serving.monitor.promises import Promise
from confide.serving.monitor.snapshot import build
from confide.serving.store.store import Store
from confide.serving.store.tables import DecisionRow

PROMISE = Promise("pol_0123456789ab", "stack", "max_risk", 0.1, 0.95, 0.06, 0.6, 1000)
NOW = 1_700_500_000.0


def state_of(
    rows: list[DecisionRow],
    url: str,
    promise: Promise | None = PROMISE,
    window_s: float | None = None,
    unseen: Mapping[str, UnseenShare] | None = None,
) -> dict[str, Any]:
    async def run() -> dict[str, Any]:
        store = Store.open(url)
        await asyncio.gather(*[store.add(row) for row in rows])
        found = await store.run(lambda connection: build(connection, promise, NOW, window_s, unseen))
        await store.close()
        return found

    return asyncio.run(run())


def names(state: dict[str, Any]) -> dict[str, str]:
    return {alarm["name"]: alarm["severity"] for alarm in state["alarms"]}
