"""The ruling on one answer, in the unit that people and clients see: calibrated confidence, threshold and decision.

`confide ask`, `confide decide` and the router tell the same numbers because they take them from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from confide.policies.policy import Policy
from confide.policies.policy_part import Decision, Part

_MOST_DIGITS = 6


@dataclass(frozen=True)
class Ruling:
    """What a policy makes of the confidences that came with one answer.

    Attributes:
        part: the part of the policy that decides.
        raw: the confidence on its source's own scale, on which the decision is made (None: there is none).
        confidence: the calibrated one: the probability that the answer is right.
        threshold: the confidence from which answers are kept (None: all are; 1: none is). What is kept is never below.
        threshold_raw: the same on the source's own scale.
        decision: answer, escalate or abstain.
    """

    part: Part
    raw: float | None
    confidence: float | None
    threshold: float | None
    threshold_raw: float | None
    decision: Decision

    @classmethod
    def of(cls, policy: Policy, confidences: Mapping[str, float | None], domain: str | None = None) -> Ruling:
        """The ruling of ``policy`` on an answer of ``domain`` with these raw ``confidences``.

        Raises `ConfideError` for a confidence outside the range of its source.
        """
        part = policy.choose(confidences)
        raw = confidences.get(part.source)
        return cls(
            part,
            raw,
            part.probability(raw),
            part.least_probability(domain),
            part.threshold(domain),
            part.decide(raw, domain),
        )

    @property
    def source(self) -> str | None:
        """Whose confidence decided (None: there was none)."""
        return None if self.confidence is None else self.part.source

    def explain(self) -> str:
        """Confidence and threshold, with as many digits as tell them apart."""
        if self.confidence is None:
            return "no confidence"
        if self.threshold is None:
            return f"confidence {self.confidence:.2f}, any is kept"
        if self.part.keeps_nothing:
            return f"confidence {self.confidence:.2f}, none is kept"
        if self.confidence == self.threshold and self.decision != "answer":
            return f"confidence {self.confidence:.2f}, as at the threshold, but {self.part.source} itself says less"
        digits = 2
        while digits < _MOST_DIGITS and round(self.confidence, digits) == round(self.threshold, digits):
            digits += 1
        return f"confidence {self.confidence:.{digits}f}, kept from {self.threshold:.{digits}f} up"
