"""The rules over fields: what a policy makes of each field of an answer, and whether the answer escalates for one."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any

from typing_extensions import TypedDict

from confide.errors import ConfideError
from confide.methods.parts.told_parts import MOST_FIELDS
from confide.parts.answer_part import AnswerPart
from confide.policies.policy import Policy
from confide.serving.config import ServeConfig
from confide.serving.routing.likeness import Likeness
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
    """

    def __init__(self, policy: Policy | None, required: Collection[str] = ()):
        self._policy = policy
        self._required = frozenset(required)

    @classmethod
    def load(cls, config: ServeConfig, identity: str, source: str = "") -> FieldRules | None:
        """The rules of a configuration; None where nothing is told of fields.

        Args:
            identity: what is known of the small model and of what gives confidences of its fields.
            source: where these come from ("": it is not known).

        Raises:
            ConfideError: the policy was made for another model, or decides on what is never told.
        """
        if (rules := config.field_rules) is None:
            return None
        policy = Policy.load(rules.policy) if rules.policy else None
        try:
            Likeness(config, policy).check_start(identity)
        except ConfideError as error:
            raise ConfideError(f"fields: {error}") from None
        if policy is not None and source and source not in policy.sources:
            raise ConfideError(
                f"fields: the policy decides on {' or '.join(policy.sources)}, and the fields of the small model "
                f"{config.small.name} come with {source}: every answer would escalate"
            )
        return cls(policy, rules.required)

    @property
    def named(self) -> frozenset[str]:
        """The fields that the operator names: required ones, and those with thresholds of their own."""
        parts = self._policy.parts if self._policy is not None else ()
        return self._required.union(*(part.thresholds for part in parts))

    def words(self, parts: Sequence[AnswerPart]) -> list[FieldWord]:
        """What is told of each field of the first choice."""
        return [self._word(part) for part in parts if part.choice == 0]

    def escalates(self, parts: Sequence[AnswerPart], *, wanted: bool, choices: int = 1) -> bool:
        """Whether in any choice a required field is not sure enough, or missing, or there are too many to tell.

        Args:
            wanted: whether JSON was asked for: an answer in other words has no fields that could be missing.
        """
        if self._policy is None:
            return False
        each = [[self._word(part) for part in parts if part.choice == number] for number in range(choices)]
        return any(self._fails(words, wanted=wanted) for words in each)

    def _fails(self, words: Sequence[FieldWord], *, wanted: bool) -> bool:
        """Whether one choice with these fields escalates."""
        if not words:
            return wanted
        there = {word["pointer"] for word in words}
        unsure = {word["pointer"] for word in words if word["kept"] is not True}
        wrong = any(name in unsure or name not in there for name in self._required or there)
        return wrong or len(words) >= MOST_FIELDS

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
            "value": _as_json(part),
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


def _as_json(part: AnswerPart) -> Any:
    """A field's value; a number beyond all that JSON may hold as it was written."""
    endless = isinstance(part.value, float) and not math.isfinite(part.value)
    return part.text if endless else part.value
