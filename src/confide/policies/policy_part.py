"""What one source decides: its calibrator, thresholds and guarantee, as a part of a policy file."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from itertools import pairwise
from numbers import Real
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    BaseModel,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from confide.arguments import shown
from confide.errors import ConfideError
from confide.numeric import Floats
from confide.policies.calibrators import Calibrator, IsotonicCalibrator
from confide.policies.guarantees import ANY_DOMAIN, AnyGuarantee
from confide.policies.identities import identity_parts
from confide.policies.profiles import Profile
from confide.policies.ranges import ANY_NUMBER, Range, range_of
from confide.records import Record, RecordTable
from confide.records.coded_column import Coded
from confide.signals import CONFIDENCE, SIGNALS
from confide.sources import log_space

Decision = Literal["answer", "escalate", "abstain"]

NEVER = sys.float_info.max
"""A rule below this holds for every confidence: where a goal is not met, no answer is kept."""


class Rule(BaseModel, extra="forbid"):
    """A raw confidence under ``below`` gets ``decision``."""

    below: float = Field(allow_inf_nan=False)
    decision: Literal["escalate", "abstain"]


def decision_by(rules: Sequence[Rule], confidence: float | None) -> Decision:
    """The decision of ``rules``, which go from low to high, on a raw ``confidence``; a missing one escalates."""
    if confidence is None or not math.isfinite(confidence):
        return "escalate"
    for rule in rules:
        if confidence < rule.below:
            return rule.decision
    return "answer"


class Part(BaseModel, extra="forbid", populate_by_name=True):
    """What to do with an answer, given the raw confidence of ``source``.

    ``thresholds`` maps a domain, or ``"*"`` for every other one, to rules from low to high: the first rule
    whose ``below`` exceeds the confidence decides, and a confidence above all of them is an ``answer``.
    Confidences are on the source's own scale, before calibration; ``scale`` is "log" where that is a log-probability.
    A policy on such a source without it was made when the source gave the probability: its numbers stay as they are,
    and confidences are brought to its scale (`own_scale`). ``guarantee`` is None where the calibration rows did not
    show the goal: then nothing is kept. ``data_sha256`` identifies the calibration rows, ``rows_seen`` holds
    fingerprints of them, ``profile`` says what they look like without labels, and ``identity`` what is known of the
    weights that answered them and gave the confidence ("" for nothing).
    """

    source: str
    scale: Literal["log"] | None = None
    calibrator: Calibrator
    thresholds: dict[str, list[Rule]]
    guarantee: AnyGuarantee | None
    data_sha256: str
    profile: Profile | None = None
    rows_seen: str = ""
    identity: str = ""

    @field_validator("identity")
    @classmethod
    def _reads_as_identity(cls, identity: str) -> str:
        identity_parts(identity)
        return identity

    @field_validator("thresholds")
    @classmethod
    def _in_order(cls, thresholds: dict[str, list[Rule]]) -> dict[str, list[Rule]]:
        if ANY_DOMAIN not in thresholds:
            raise ValueError(f'rules for "{ANY_DOMAIN}" (every other domain) are missing')
        for domain, rules in thresholds.items():
            limits = [rule.below for rule in rules]
            if any(low >= high for low, high in pairwise(limits)):
                raise ValueError(f'the rules for "{domain}" must go from low to high, got {limits}')
        return thresholds

    @model_validator(mode="after")
    def _has_that_scale(self) -> Self:
        if self.scale == "log" and not log_space(self.source):
            raise ValueError(f"{self.source} gives no log-probabilities, so its scale cannot be log")
        return self

    @model_serializer(mode="wrap")
    def _without_no_scale(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Files of before lack the field and keep their id; older versions refuse a file that has it.
        data: dict[str, Any] = serialize(self)
        return {key: value for key, value in data.items() if key != "scale" or value is not None}

    @property
    def _of_probabilities(self) -> bool:
        """Whether it was made on e to what its source gives today."""
        return log_space(self.source) and self.scale is None

    @property
    def _range(self) -> Range:
        # Policies of before could be made on margins, which may be any number.
        of_margins = False
        if isinstance(self.calibrator, IsotonicCalibrator):
            knots = self.calibrator.parameters.confidence  # they rise
            of_margins = not (knots[0] >= 0 and knots[-1] <= 1)
        of_margins = of_margins or getattr(self.calibrator.parameters, "transform", None) == "identity"
        return ANY_NUMBER if of_margins and not log_space(self.source) else range_of(self.source)

    def own_scale(self, confidence: float | None) -> float | None:
        """A raw ``confidence`` on the scale of this policy's thresholds, calibrator and profile.

        Raises `ConfideError` for what is neither a number nor None, and for a number outside the range of its source.
        """
        given: Any = confidence
        if given is not None and (isinstance(given, bool) or not isinstance(given, Real)):
            raise ConfideError(f"a confidence is a number or None, not {shown(confidence)}")
        if confidence is None or not math.isfinite(confidence):
            return confidence
        confidence = self._range.within(confidence, self.source)
        # Exactly the number that the source gave then: the limits are such numbers.
        return math.exp(confidence) if self._of_probabilities else confidence

    def in_range(self, records: Sequence[Record]) -> RecordTable:
        """``records`` with confidences in the range of its source; raises `ConfideError` for the first one outside."""
        return self._range.records(records, self.source)

    def on_own_scale(self, records: Sequence[Record]) -> RecordTable:
        """``records`` with the confidence of its source on the scale of this policy."""
        table = RecordTable.of(records)
        if not self._of_probabilities:
            return table
        own = [self.own_scale(value) for value in table.confidence(self.source).tolist()]
        return table.with_confidence(self.source, np.array(own, dtype=np.float64))

    def decide_rows(self, confidence: Floats, domains: Coded) -> NDArray[Any]:
        """What `decide` says of every raw ``confidence`` [n], NaN where there is none, and domain [n]."""
        own = confidence
        if self._of_probabilities:
            own = np.array([self.own_scale(value) for value in confidence.tolist()], dtype=np.float64)
        out = np.full(len(own), "escalate", dtype="<U8")
        with_rules = domains.of([domain if domain in self.thresholds else ANY_DOMAIN for domain in domains.values])
        for domain, rules in self.thresholds.items():
            rows = np.flatnonzero((with_rules == domain) & np.isfinite(own))
            said = np.array([*(rule.decision for rule in rules), "answer"])
            out[rows] = said[np.searchsorted([rule.below for rule in rules], own[rows], side="right")]
        return out

    def decide(self, confidence: float | None, domain: str | None = None) -> Decision:
        """What to do with an answer of this raw ``confidence``.

        A confidence that is missing or not finite escalates: without it nothing is known, and a wrong answer
        that passes costs more than a question asked twice. One outside the range of its source, such as 87 in percent,
        raises `ConfideError`.
        """
        return decision_by(self._rules(domain), self.own_scale(confidence))

    def threshold(self, domain: str | None = None) -> float | None:
        """Raw confidence from which an answer of ``domain`` is kept (None: any is)."""
        rules = self._rules(domain)
        if not rules or not self._of_probabilities or rules[-1].below == NEVER:
            return rules[-1].below if rules else None
        return math.log(rules[-1].below) if rules[-1].below > 0 else None

    def probability(self, confidence: float | None) -> float | None:
        """Calibrated probability that an answer of this raw ``confidence`` is right (None: not available).

        Raises `ConfideError` for a number outside the range of its source.
        """
        own = self.own_scale(confidence)
        return None if own is None or not math.isfinite(own) else float(self.calibrator.predict(own))

    def least_probability(self, domain: str | None = None) -> float | None:
        """Probability of being right from which an answer of ``domain`` is kept (None: any is; 1: none is).

        It is the `probability` of the `threshold`. A calibrator may give a stretch of confidences one probability:
        where the threshold lies inside, answers with this very probability are kept or not by their raw confidence.
        """
        threshold = self.threshold(domain)
        if threshold is None:
            return None
        return 1.0 if threshold == NEVER else self.probability(self._range.cut(threshold))

    @property
    def keeps_nothing(self) -> bool:
        """Whether no confidence is high enough in any domain."""
        return all(rules and rules[-1].below == NEVER for rules in self.thresholds.values())

    def _rules(self, domain: str | None) -> list[Rule]:
        return self.thresholds[domain if domain and domain in self.thresholds else ANY_DOMAIN]

    @property
    def unit(self) -> str:
        """What the numbers of its thresholds are, in brackets ("" where the source's name says it)."""
        return " (a log-probability, in nats)" if self.scale else " (as a probability)" * self._of_probabilities

    def explain_rules(self) -> list[str]:
        """What is done in each domain, a sentence each."""
        every = "Every domain" if len(self.thresholds) == 1 else "Every other domain"
        return [
            f"{every if domain == ANY_DOMAIN else domain}: {self._rules_in_words(rules)}"
            for domain, rules in self.thresholds.items()
        ]

    def _rules_in_words(self, rules: list[Rule]) -> str:
        if not rules:
            return "every answer is kept."
        words = {"escalate": "escalated", "abstain": "withheld"}
        parts = [
            f"{words[rule.decision]} below {self._in_both_units(rule.below)}" for rule in rules if rule.below != NEVER
        ]
        if rules[-1].below == NEVER:
            return f"{', '.join([*parts, ''])}every {'other ' * bool(parts)}answer is {words[rules[-1].decision]}."
        return f"{', '.join(parts)}, kept from there up."

    def _in_both_units(self, limit: float) -> str:
        """A limit of the rules as a calibrated confidence, and as it stands in the file."""
        return f"a confidence of {float(self.calibrator.predict(limit)):.1%} (raw {limit:.6g})"

    @property
    def about_units(self) -> str:
        """What the two numbers of a limit are, in a sentence."""
        fine = SIGNALS.get(self.source, CONFIDENCE).fine
        return f"A confidence is the calibrated probability of being {fine}; raw is what {self.source} itself says."
