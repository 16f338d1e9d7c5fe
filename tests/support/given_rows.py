"""Rows with a bare confidence that is their chance of being right, and policies made of them."""

from __future__ import annotations

import numpy as np

from confide.policies import Policy, calibrate_policy
from confide.records import Record


def records(n: int, seed: int = 0, prefix: str = "r", harder: float = 0.0, **more) -> list[Record]:
    """Confidences uniform on [0.5, 1], right with that probability less ``harder``."""
    rng = np.random.default_rng(seed)
    c = rng.uniform(0.5, 1, n)
    y = rng.random(n) < c - harder
    return [
        Record(id=f"{prefix}{i}", confidence={"given": float(v)}, correct=bool(right), **more)
        for i, (v, right) in enumerate(zip(c, y, strict=True))
    ]


def made(*args, **kwargs) -> Policy:
    policy = calibrate_policy(*args, **kwargs)
    assert isinstance(policy, Policy), policy
    return policy


def kept_of(policy: Policy, rows: list[Record]) -> list[Record]:
    return [row for row in rows if policy.decide(row.confidence.get("given"), row.domain) == "answer"]
