"""The policy: calibrator, thresholds and guarantee of one source, in a JSON file that a person can review."""

from __future__ import annotations

import json
import math
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from confide.errors import ConfideError
from confide.files import read_text, write_text
from confide.policies.calibrators import PlattCalibrator, PlattState

Decision = Literal["answer", "escalate", "abstain"]

ANY_DOMAIN = "*"


class Rule(BaseModel):
    """A raw confidence under ``below`` gets ``decision``."""

    model_config = ConfigDict(extra="forbid")

    below: float = Field(allow_inf_nan=False)
    decision: Literal["escalate", "abstain"]


class Guarantee(BaseModel):
    """What is promised about kept answers, and the calibration rows that it rests on.

    With probability at least ``level`` over the calibration rows, P(wrong | kept) ≤ ``max_risk`` for new
    rows exchangeable with them. ``n`` rows were tested; ``observed_risk``, ``upper_bound`` and ``coverage``
    are shares seen on them.
    """

    model_config = ConfigDict(extra="forbid")

    max_risk: float = Field(gt=0, lt=1)
    level: float = Field(gt=0, lt=1)
    method: str
    n: int = Field(ge=1)
    observed_risk: float = Field(ge=0, le=1)
    upper_bound: float = Field(ge=0, le=1)
    coverage: float = Field(ge=0, le=1)


class Policy(BaseModel):
    """What to do with an answer, given the raw confidence of ``source``.

    ``thresholds`` maps a domain, or ``"*"`` for every other one, to rules from low to high: the first rule
    whose ``below`` exceeds the confidence decides, and a confidence above all of them is an ``answer``.
    Confidences are on the source's own scale, before calibration. ``data_sha256`` identifies the
    calibration rows, ``rows_seen`` holds fingerprints of them (see `confide.policies.rows`), and ``model``
    names the model that answered them.
    """

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    schema_version: Literal[1] = Field(default=1, alias="schema")
    source: str
    calibrator: PlattState
    thresholds: dict[str, list[Rule]]
    guarantee: Guarantee
    data_sha256: str
    model: str = ""
    rows_seen: str = ""

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

    def decide(self, confidence: float | None, domain: str | None = None) -> Decision:
        """What to do with an answer of this raw ``confidence``.

        A confidence that is missing or not finite escalates: without it nothing is known, and a wrong answer
        that passes costs more than a question asked twice.
        """
        if confidence is None or not math.isfinite(confidence):
            return "escalate"
        rules = self.thresholds.get(domain, []) if domain else []
        for rule in rules or self.thresholds[ANY_DOMAIN]:
            if confidence < rule.below:
                return rule.decision
        return "answer"

    def probability(self, confidence: float | None) -> float | None:
        """Calibrated probability that an answer of this raw ``confidence`` is right (None: not available)."""
        if confidence is None or not math.isfinite(confidence):
            return None
        return float(self._calibrator.predict(confidence))

    @cached_property
    def _calibrator(self) -> PlattCalibrator:
        return PlattCalibrator.from_state(self.calibrator)

    def to_json(self) -> str:
        """The policy file's text."""
        return json.dumps(self.model_dump(mode="json", by_alias=True), indent=2, ensure_ascii=False) + "\n"

    def save(self, path: Path) -> None:
        """Write the policy to ``path``, whole or not at all."""
        write_text(path, self.to_json())

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a policy; `ConfideError` names the file and its first problem."""
        try:
            return cls.model_validate_json(read_text(path))
        except ValidationError as error:
            problem = error.errors()[0]
            where = ".".join(str(part) for part in problem["loc"])
            message = problem["msg"].removeprefix("Value error, ")
            raise ConfideError(f"{path} is not a policy: {where + ': ' if where else ''}{message}") from None

    def explain(self) -> str:
        """The promise, the evidence and their limits, in a few sentences."""
        g = self.guarantee
        lines = [f"Source: {self.source}" + (f", answers by {self.model}." if self.model else ".")]
        for domain, rules in self.thresholds.items():
            where = "Every domain" if len(self.thresholds) == 1 else "Every other domain"
            lines.append(f"{where if domain == ANY_DOMAIN else domain}: {self._rules_in_words(rules)}")
        lines += [
            "An answer without a confidence escalates.",
            f"Promise: with probability at least {_percent(g.level)} over the calibration rows, at most "
            f"{_percent(g.max_risk)} of the kept answers are wrong, for new questions drawn as those were.",
            f"Evidence: {g.n:,} calibration rows, {g.coverage:.1%} of them kept; {g.observed_risk:.1%} of "
            f"the kept ones were wrong (upper bound {g.upper_bound:.1%}; {g.method}).",
            "Not promised: anything about one single answer, another model or source, or questions unlike "
            "the calibration rows. `confide validate` checks the promise on fresh rows.",
        ]
        return "\n".join(lines)

    def _rules_in_words(self, rules: list[Rule]) -> str:
        if not rules:
            return "every answer is kept."
        words = {"escalate": "escalated", "abstain": "withheld"}
        parts = [f"{words[rule.decision]} below {rule.below:.6g}" for rule in rules]
        sure = self.probability(rules[-1].below)
        return f"{', '.join(parts)}; kept from {rules[-1].below:.6g} up (there {sure:.1%} likely to be right)."


def _percent(share: float) -> str:
    return f"{100 * share:.4g}%"
