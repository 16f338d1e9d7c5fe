"""Decision rows for tests of the store, the monitor and the dashboard."""

from __future__ import annotations

from typing import Any

from confide.serving.store.tables import DecisionRow, new_decision_id


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
