"""The rules over fields: what a policy makes of each field of an answer, and whether the answer escalates for one."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any

from typing_extensions import TypedDict

from confide.errors import ConfideError
from confide.parts.answer_part import AnswerPart
from confide.policies.identities import same_model
from confide.policies.policy import Policy
from confide.serving.config import ServeConfig
from confide.sources import Source


class FieldWord(TypedDict):
    """One field of an answer: its pointer, its value, how sure the model is of it, and whether that is enough."""

    pointer: str
    value: Any
    confidence: float | None
    calibrated: float | None
    source: str
    kept: bool | None


class FieldRules:
    """Decides field by field.

    Args:
        policy: a policy that was calibrated on records of fields; None: nothing is decided, only told.
        required: pointers that an answer in JSON must have; empty: those that it has count, all of them.
        identity: the model whose fields are told.

    Raises:
        ConfideError: the policy was made for another model.
    """

    def __init__(self, policy: Policy | None, required: Collection[str] = (), identity: str = ""):
        self._policy = policy
        self._required = frozenset(required)
        other = next((p for p in policy.parts if same_model(p.identity, identity) is False), None) if policy else None
        if other is not None:
            raise ConfideError(f"the policy of fields was made for {other.identity}, the small model is {identity}")

    @classmethod
    def load(cls, config: ServeConfig, identity: str) -> FieldRules | None:
        """The rules of a configuration, for the model ``identity``; None where nothing is told of fields."""
        if (rules := config.field_rules) is None:
            return None
        return cls(Policy.load(rules.policy) if rules.policy else None, rules.required, identity)

    def words(self, parts: Sequence[AnswerPart]) -> list[FieldWord]:
        """What is told of each field."""
        return [self._word(part) for part in parts]

    def escalates(self, words: Sequence[FieldWord], *, wanted: bool) -> bool:
        """Whether a required field is not sure enough, or missing.

        Args:
            wanted: whether JSON was asked for: an answer in other words has no fields that could be missing.
        """
        if self._policy is None or not (words or wanted):
            return False
        kept = {word["pointer"]: word["kept"] for word in words}
        return not all(kept.get(name) is True for name in self._required or kept)

    def _word(self, part: AnswerPart) -> FieldWord:
        calibrated, kept = None, None
        if self._policy is not None:
            own = {part.source: _on_scale(part)}
            rule = self._policy.choose(own)
            raw = own.get(rule.source)
            kept = rule.decide(raw, part.kind) == "answer"
            calibrated = rule.probability(raw)
        return {
            "pointer": part.name,
            "value": part.value,
            "confidence": part.confidence,
            "calibrated": calibrated,
            "source": part.source,
            "kept": kept,
        }


def _on_scale(part: AnswerPart) -> float | None:
    """A field's confidence on the scale of its source."""
    if part.confidence is None or not Source.parse(part.source).log_space:
        return part.confidence
    return math.log(part.confidence) if part.confidence > 0 else None
