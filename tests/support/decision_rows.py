"""Decision rows for tests of the store, the monitor and the dashboard."""

from __future__ import annotations

from typing import Any

import numpy as np

from confide.serving.store.tables import DecisionRow, new_decision_id

LAST = 1_700_500_000.0
"""When the latest of `mixed` rows came."""


def decision(**changes: Any) -> DecisionRow:
    """A plain answered request with ``changes``."""
    values: dict[str, Any] = {
        "id": new_decision_id(),
        "created": 1_700_000_000.0,
        "model": "small",
        "source": "stack",
        "raw": 0.8,
        "probability": 0.9,
        "decision": "answer",
        "served": "small",
        "answered_by": "small",
        "domain": "geography",
        "policy_id": "pol_0123456789ab",
        "threshold": 0.5,
        "mode": "act",
        "small_ms": 12.0,
        "expert_ms": None,
        "total_ms": 14.0,
        "small_tokens": 5,
        "expert_tokens": 0,
        "cost": 0.0001,
        "cost_saved": 0.002,
    }
    return DecisionRow(**(values | changes))


def mixed(n: int, seed: int = 0) -> list[DecisionRow]:
    """``n`` requests over five days, as the promise expects them."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        kept, audit = bool(rng.random() < 0.6), bool(rng.random() < 0.5)
        rows.append(
            decision(
                created=LAST - 5 * 86_400 * (1 - (i + 1) / (n + 1)),
                decision="answer" if kept else "escalate",
                served="small" if kept else "expert",
                domain=["a", "b", None][i % 3],
                audit=audit,
                audit_probability=0.5,
                agreed=bool(rng.random() > (0.02 if kept else 0.5)) if audit else None,
                cost=0.5,
                cost_saved=1.5,
                total_ms=float(i),
                expert_ms=None if kept else 100.0,
            )
        )
    return rows
