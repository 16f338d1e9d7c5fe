"""One request while it is routed, and its decision as a response's field, as headers and as a row of the store."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field
from typing import Annotated, NotRequired

from pydantic import ConfigDict, WithJsonSchema, with_config
from typing_extensions import TypedDict

from confide.engines.openai.asked import Asked
from confide.engines.openai.reply import Reply
from confide.parts.part import kind_of
from confide.records import RequestShape
from confide.serving.config import Action, ServeConfig
from confide.serving.routing.field_rules import FieldWord
from confide.serving.routing.watching import Flag
from confide.serving.store.tables import DecisionRow, new_decision_id
from confide.sources import as_probability

GONE = "client: gone"
"""The entry among a row's errors that says that its client hung up before it had an answer."""


@with_config(ConfigDict(use_attribute_docstrings=True))
class Extension(TypedDict):
    """The field ``confide``: how sure the small model is, what was decided, and who answered."""

    decision_id: str
    """Names the decision, in feedback and in the store."""
    confidence: float | None
    """The calibrated probability that the small answer is right; without a policy the raw confidence."""
    raw: float | None
    """What ``confidence`` was made of, on the scale of its source (nats for ``logprob_sum``); null: there was none."""
    source: str | None
    """The source that decided: the first of the policy's order that gave a number."""
    calibrated: bool
    """Whether the probability stands under the policy's promise."""
    unlike: list[str]
    """In what the request, or the model that answered, is unlike the calibration rows."""
    reason: str | None
    """Why an escalated question did not get an expert's answer; null: it did, or did not escalate."""
    decision: Annotated[str, WithJsonSchema({"enum": ["answer", "escalate", "abstain"]})]
    """What the policy says: ``answer``, ``escalate`` or ``abstain``."""
    threshold: float | None
    """From where on the policy keeps an answer of this domain."""
    policy_id: str | None
    """The policy that decided."""
    answered_by: str | None
    """Who answered, by its name in the configuration."""
    served: Annotated[str, WithJsonSchema({"enum": ["small", "expert", "unverified", "abstained", "stopped"]})]
    """What you got: the ``small`` answer, an ``expert``'s, the small one ``unverified`` since no expert answered, a
    refusal (``abstained``), or what was written before a watched signal ``stopped`` the answer."""
    mode: Annotated[str, WithJsonSchema({"enum": ["act", "observe"]})]
    """Whether the router acts on the decision or observes."""
    tokens_saved: int
    """Tokens that no expert had to handle."""
    cost_saved: float
    """What the first expert alone would have cost minus what was spent; negative where both were asked."""
    verified: bool
    """True: an expert's whole answer, or a small one that the policy keeps under its promise. Nobody looked it up."""
    flags: list[Flag]
    """The watched signals that fell below their thresholds: signal, lowest value, threshold, action."""
    fields: NotRequired[list[FieldWord]]
    """The fields of the answer, each with its confidence, where the configuration has ``fields``."""


@dataclass(slots=True)
class Turn:
    """One request: its replies, its confidence, the decision, and what was served.

    ``raw`` is the confidence on its source's own scale, ``probability`` the calibrated one; ``threshold`` and
    ``least_probability`` are so, too, of what is kept. ``by`` is the name of the model that answered. ``shape`` is what
    can be seen of how it was asked, ``unlike`` in what it, or the model that answered, is unlike what the policy was
    made for. ``refusal`` says why a model refused the request, ``param`` which field of it no model took, ``no_answer``
    that an expert has no answer. ``reading`` is the task that reads a small answer of which the client was shown a
    part. ``committed`` is set once the row is on its way to the store. ``flags`` are the signals of the small answer
    that fell below their thresholds, ``action`` what is done about them. ``begun`` are the choices of which a stream
    has held a chunk, ``fields`` what is told of the small answer's, ``named`` those that the operator named.
    """

    asked: Asked
    config: ServeConfig
    policy_id: str | None
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
    least_probability: float | None = None
    served: str = "error"
    by: str | None = None
    shape: RequestShape | None = None
    unlike: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    refusal: str | None = None
    param: str | None = None
    no_answer: bool = False
    reading: asyncio.Task[None] | None = None
    committed: bool = False
    flags: list[Flag] = field(default_factory=list)
    action: Action | None = None
    begun: set[int] = field(default_factory=set)
    fields: list[FieldWord] = field(default_factory=list)
    named: frozenset[str] = frozenset()

    @property
    def seconds(self) -> float:
        """Time since the request began."""
        return time.perf_counter() - self.began

    @property
    def confidence(self) -> float | None:
        """What the client is told: the calibrated confidence, or where nothing calibrates it the raw one.

        A raw log-probability is told as a probability.
        """
        if self.probability is not None or self.raw is None or self.source is None:
            return self.probability
        return float(as_probability(self.source, self.raw))

    def last_resort(self, rule: str) -> str:
        """What the client gets where no expert answered: as the configuration says, else by the policy's ``rule``."""
        own = self.config.last_resort
        if not self.expert_asked:
            return "error"
        if not self.no_answer:
            return own.failed or rule
        # An expert that has no answer has not failed: there is none, and asking again would not change that.
        return own.no_answer or ("abstain" if rule == "error" else rule)

    @property
    def reason(self) -> str | None:
        """Why an escalated question did not get an expert's answer (None: it did, or did not escalate)."""
        if self.decision != "escalate" or self.served not in ("unverified", "abstained"):
            return None
        why = "every expert failed" if self.config.experts else "there is no expert"
        if self.no_answer:
            why = "no expert has an answer"
        got = "this is the small model's answer, unverified" if self.served == "unverified" else "there is no answer"
        return f"the question was to go to an expert, and {why}: {got}"

    @property
    def verified(self) -> bool:
        """Whether an expert gave a whole answer, or the policy let the small one to a request of its kind through."""
        if self.served == "expert":
            return self.expert is not None and self.expert.whole
        decided = self.decision == "answer" and self.policy_id is not None
        return self.served == "small" and decided and not self.unlike

    @property
    def failures(self) -> set[str]:
        """The kinds of what went wrong so far."""
        return {error.rpartition(": ")[2] for error in self.errors}

    @property
    def invalid(self) -> bool:
        """Whether every model calls the request itself wrong, or cannot be asked with a field of it.

        One that any model has answered is not wrong: what another does not take of it is not the client's fault.
        """
        kinds = self.failures
        known = "rejected" in kinds or self.param is not None
        return self.small is None and known and kinds <= {"rejected", "unsupported"}

    @property
    def left(self) -> bool:
        """Whether the client hung up before it had an answer."""
        return GONE in self.errors

    def serve(self, reply: Reply, served: str) -> Reply:
        """Set what the client gets."""
        self.served, self.by = served, reply.by or None
        return reply

    def fail(self, why: str | None = None) -> None:
        """Set that the client gets an error."""
        self.served, self.by = "error", None
        if why is not None:
            self.errors.append(why)

    def extension(self) -> Extension:
        """The field ``confide`` of a response."""
        told: Extension = {
            "decision_id": self.id,
            "confidence": self.confidence,
            "raw": self.raw,
            "source": self.source if self.raw is not None else None,
            "calibrated": self.probability is not None and not self.unlike,
            "unlike": self.unlike,
            "reason": self.reason,
            "decision": self.decision,
            "threshold": self.least_probability,
            "policy_id": self.policy_id,
            "answered_by": self.by,
            "served": self.served,
            "mode": self.config.mode,
            "tokens_saved": self.tokens_saved,
            "cost_saved": self.cost_saved,
            "verified": self.verified,
            "flags": self.flags,
        }
        if self.config.field_rules is not None:
            told["fields"] = [] if self.action in ("refuse", "escalate") else self.fields  # of what is withheld
        return told

    def headers(self) -> dict[str, str]:
        """The decision as headers of a response."""
        headers = {
            "X-Confide-Decision-Id": self.id,
            "X-Confide-Decision": self.decision,
            "X-Confide-Served": self.served,
        }
        if self.confidence is not None:
            headers["X-Confide-Confidence"] = f"{self.confidence:.6g}"
        if self.by is not None:
            headers["X-Confide-Answered-By"] = self.by
        if self.reason is not None:
            headers["X-Confide-Reason"] = self.reason
        return headers

    def row(self, agreed: bool | None) -> DecisionRow:
        """The request as a row of the store."""
        small, expert, config, texts = self.small, self.expert, self.config, self.config.store_text
        return DecisionRow(
            id=self.id,
            created=self.created,
            request_id=self.asked.request_id,
            key=self.asked.key,
            model=config.small.name,
            source=self.source,
            raw=self.raw,
            probability=self.probability,
            decision=self.decision,
            served=self.served,
            answered_by=self.by,
            domain=self.asked.domain,
            policy_id=self.policy_id,
            threshold=self.threshold,
            mode=config.mode,
            audit=self.audit,
            audit_probability=config.effective_audit_share,
            agreed=agreed,
            small_ms=small.ms if small else None,
            expert_ms=expert.ms if expert else None,
            total_ms=1000 * self.seconds,
            small_tokens=small.spent_tokens if small else 0,
            expert_tokens=expert.tokens if expert else 0,
            cost=self.cost,
            cost_saved=self.cost_saved,
            error="; ".join(self.errors) or None,
            question=self.asked.question if texts else None,
            small_answer=small.text if texts and small else None,
            expert_answer=expert.text if texts and expert else None,
            identity=(small.identity or None) if small else None,
            unlike=", ".join(self.unlike) or None,
            request_shape=self.shape.model_dump_json(exclude_none=True) if self.shape else None,
            question_hash=self.asked.question_hash,
            flags=json.dumps(self.flags) if self.flags else None,
            parts=self._stored_fields(),
        )

    def _stored_fields(self) -> str | None:
        """The fields as a row holds them: where no texts are stored without values, and names that a model gave."""
        if not self.fields:
            return None
        if self.config.store_text:
            return json.dumps(self.fields, ensure_ascii=False)
        named = [bool(self.named & {word["pointer"], kind_of(word["pointer"])}) for word in self.fields]
        told = zip(self.fields, named, strict=True)
        kept = [{**word, "value": None, "pointer": word["pointer"] if known else "*"} for word, known in told]
        return json.dumps(kept, ensure_ascii=False)

    @property
    def cost(self) -> float:
        """What was spent on this request."""
        return sum(reply.cost for reply in (self.small, self.expert) if reply is not None)

    @property
    def tokens_saved(self) -> int:
        """Tokens that no expert had to read or write; the small model's count stands for theirs."""
        saved = self.config.first_price is not None and not self.expert_asked
        return self.small.tokens if saved and self.small else 0

    @property
    def cost_saved(self) -> float:
        """What asking the first expert alone would have cost, minus what was spent (0 without experts)."""
        price = self.config.first_price
        if price is None:
            return 0.0
        alone = 0.0
        if self.expert is not None:
            alone = self.expert.cost
        elif self.small is not None and not self.expert_asked:
            alone = price.of(self.small.prompt_tokens, self.small.completion_tokens)
        return alone - self.cost
