"""The decision row: what the router keeps of one routed request."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Literal

About = Literal["served", "small", "expert"]
"""Which answer a piece of feedback judges: the one that the client got, the small model's or the expert's."""


@dataclass(slots=True, kw_only=True)
class DecisionRow:
    """One routed request, as it stands in the table ``decisions``.

    ``decision`` is the policy's word (answer, escalate, abstain), ``served`` what the client got (small, expert,
    unverified, abstained, error), ``mode`` act or observe. ``raw`` is the confidence of ``source`` on its own
    scale, ``probability`` the calibrated one; None means not available. ``audit`` says that the row was drawn to get
    both answers, ``audit_probability`` how likely that was (0: no audits configured), ``agreed`` whether the two
    answers say the same. Times are unix seconds (``created``) and milliseconds, money is in the unit of the prices.
    ``error`` names a class of failure, never a key or a body. Texts are there only when the router stores texts.
    """

    id: str
    created: float
    request_id: str | None = None
    model: str
    source: str | None
    raw: float | None
    probability: float | None
    decision: str
    served: str
    answered_by: str | None
    domain: str | None
    policy_id: str | None
    threshold: float | None
    mode: str
    audit: bool = False
    audit_probability: float = 0.0
    agreed: bool | None = None
    small_ms: float | None
    expert_ms: float | None
    total_ms: float
    small_tokens: int
    expert_tokens: int
    cost: float
    cost_saved: float
    error: str | None = None
    question: str | None = None
    small_answer: str | None = None
    expert_answer: str | None = None


def new_decision_id() -> str:
    """A fresh id: ``dec_`` and 32 hexadecimal digits that nobody can guess."""
    return f"dec_{secrets.token_hex(16)}"
