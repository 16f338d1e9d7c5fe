"""One request on its way: what is known of it, and how that is told in headers, in the body and in its row."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from confide.serving.config import Price
from confide.serving.http.api_errors import ModelError
from confide.serving.http.request_bodies import Asked
from confide.serving.routing.chat import Delta, Reply, chunk_body
from confide.serving.store.decision_row import DecisionRow, new_decision_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What all requests of a router share.

    ``first_price`` is that of the first expert (None: there is no expert).
    """

    small: str
    mode: str
    policy_id: str | None
    audit_share: float
    store_text: bool
    first_price: Price | None


@dataclass(slots=True)
class Turn:
    """One request: its replies, its confidence, the decision, and what was served."""

    asked: Asked
    frame: Frame
    audit: bool = False
    id: str = field(default_factory=new_decision_id)
    created: float = field(default_factory=time.time)
    began: float = field(default_factory=time.perf_counter)
    small: Reply | None = None
    expert: Reply | None = None
    expert_asked: bool = False
    source: str | None = None
    raw: float | None = None
    probability: float | None = None
    decision: str = "escalate"
    threshold: float | None = None
    served: str = "error"
    by: str | None = None
    errors: list[str] = field(default_factory=list)
    kept: bool = False

    @property
    def seconds(self) -> float:
        """Time since the request began."""
        return time.perf_counter() - self.began

    @property
    def completion_id(self) -> str:
        """The response's ``id``."""
        return ("chatcmpl-" if self.asked.chat else "cmpl-") + self.id.removeprefix("dec_")

    def note(self, name: str, failure: ModelError) -> None:
        """Keep that ``name`` failed, for the row."""
        self.errors.append(f"{name}: {failure.kind}")

    def serve(self, reply: Reply, served: str) -> Reply:
        """Settle what the client gets."""
        self.served, self.by = served, reply.by
        return reply

    def fail(self, why: str | None = None) -> None:
        """Settle that the client gets an error."""
        self.served, self.by = "error", None
        if why is not None:
            self.errors.append(why)

    def chunk(self, piece: Delta, finish: str | None = None) -> dict[str, Any]:
        """A chunk of the stream that answers."""
        return chunk_body(
            self.asked, self.by or "", piece, id=self.completion_id, created=int(self.created), finish=finish
        )

    def extension(self) -> dict[str, Any]:
        """The field ``confide`` of a response."""
        calibrated = self.probability is not None
        return {
            "decision_id": self.id,
            "confidence": self.probability if calibrated else self.raw,
            "raw": self.raw,
            "source": self.source if self.raw is not None else None,
            "calibrated": calibrated,
            "format_mass": None,
            "decision": self.decision,
            "threshold": self.threshold,
            "policy_id": self.frame.policy_id,
            "answered_by": self.by,
            "served": self.served,
            "mode": self.frame.mode,
            "tokens_saved": self.tokens_saved,
            "cost_saved": self.cost_saved,
            "verified": self.served == "expert" or (self.served == "small" and self.decision == "answer"),
        }

    def headers(self) -> dict[str, str]:
        """The decision as headers of a response."""
        confidence = self.raw if self.probability is None else self.probability
        found = {
            "X-Confide-Decision-Id": self.id,
            "X-Confide-Decision": self.decision,
            "X-Confide-Served": self.served,
        }
        if confidence is not None:
            found["X-Confide-Confidence"] = f"{confidence:.6g}"
        if self.by is not None:
            found["X-Confide-Answered-By"] = self.by
        return found

    def row(self, agreed: bool | None) -> DecisionRow:
        """The request as a row of the store."""
        small, expert, frame, texts = self.small, self.expert, self.frame, self.frame.store_text
        return DecisionRow(
            id=self.id,
            created=self.created,
            request_id=self.asked.request_id,
            model=frame.small,
            source=self.source,
            raw=self.raw,
            probability=self.probability,
            decision=self.decision,
            served=self.served,
            answered_by=self.by,
            domain=self.asked.domain,
            policy_id=frame.policy_id,
            threshold=self.threshold,
            mode=frame.mode,
            audit=self.audit,
            audit_probability=frame.audit_share,
            agreed=agreed,
            small_ms=small.ms if small else None,
            expert_ms=expert.ms if expert else None,
            total_ms=1000 * self.seconds,
            small_tokens=small.tokens if small else 0,
            expert_tokens=expert.tokens if expert else 0,
            cost=self.cost,
            cost_saved=self.cost_saved,
            error="; ".join(self.errors) or None,
            question=self.asked.question if texts else None,
            small_answer=small.text if texts and small else None,
            expert_answer=expert.text if texts and expert else None,
        )

    @property
    def cost(self) -> float:
        """What was spent on this request."""
        return sum(reply.cost for reply in (self.small, self.expert) if reply is not None)

    @property
    def tokens_saved(self) -> int:
        """Tokens that no expert had to read or write; the small model's count stands for theirs."""
        kept = self.frame.first_price is not None and not self.expert_asked
        return self.small.tokens if kept and self.small else 0

    @property
    def cost_saved(self) -> float:
        """What asking the first expert alone would have cost, minus what was spent (0 without experts)."""
        price = self.frame.first_price
        if price is None:
            return 0.0
        alone = 0.0
        if self.expert is not None:
            alone = self.expert.cost
        elif self.small is not None and not self.expert_asked:
            alone = price.of(self.small.prompt_tokens, self.small.completion_tokens)
        return alone - self.cost
