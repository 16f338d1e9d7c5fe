"""What a policy is asked to achieve: one class per goal of ``confide calibrate``."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import ClassVar, Literal

from confide.errors import ConfideError

BoundedName = Literal["max_risk", "budget", "match_expert", "false_alarms"]
GoalName = Literal[BoundedName, "cost"]
Per = Literal["question", "entity"]
"""What counts alike in a promise: every question, or every entity, however many questions are about it."""

SIMULTANEOUS = "simultaneous boundary"
"""How policy files say that a threshold was chosen among all, with a bound that holds at every one of them."""


@dataclass(frozen=True)
class BoundedGoal:
    """A quantity that stays within ``limit`` with probability at least ``level`` over the calibration rows.

    Attributes:
        limit: largest value allowed, a share in (0, 1).
        level: probability of keeping the promise, in (0, 1).
        per: whether every question counts alike, or every entity.
        name: the goal's name in policy files.
        method: how policy files say that the threshold is tested.
    """

    limit: float
    level: float = 0.95
    per: Per = "question"
    name: ClassVar[BoundedName]
    _order: ClassVar[str] = "learn-then-test, fallback sequence"
    _test: ClassVar[str]

    def __post_init__(self) -> None:
        """Raise `ConfideError` unless limit and level are shares."""
        check_shares(self.limit, self.level, self.name.replace("_", "-"))

    def method(self, clustered: bool) -> str:
        """How policy files say that the threshold is tested; ``clustered`` when questions of an entity depend."""
        return f"{self.order}, {'betting on entities' if clustered else self._test}"

    @property
    def order(self) -> str:
        """How policy files say in which order thresholds are tested."""
        return self._order


@dataclass(frozen=True)
class MaxRisk(BoundedGoal):
    """As many answers as possible; at most a share ``limit`` of the kept ones is wrong.

    ``simultaneous`` tests all thresholds at once, whatever the shape of the risk, in place of one after the other.
    """

    simultaneous: bool = False
    name = "max_risk"
    _test = "binomial tail"

    @property
    def order(self) -> str:
        """How policy files say in which order thresholds are tested."""
        return SIMULTANEOUS if self.simultaneous else self._order


class Budget(BoundedGoal):
    """The largest accuracy; at most a share ``limit`` of the questions escalates."""

    name = "budget"
    _order = "order statistic"
    _test = "binomial tail"


class FalseAlarms(BoundedGoal):
    """The highest threshold; at most a share ``limit`` of the fine answers, those that are correct, is not kept."""

    name = "false_alarms"
    _order = "order statistic"
    _test = "binomial tail"


class MatchExpert(BoundedGoal):
    """Fewest escalations; small model and expert together lose at most ``limit`` of the expert's accuracy."""

    name = "match_expert"
    _test = "exact paired test"


@dataclass(frozen=True)
class Costs:
    """Least expected cost, given what an answer, an escalation, an abstention and a wrong answer cost, in one unit.

    ``wrong`` comes on top of ``answer`` or ``escalate``, whoever was wrong. Without ``abstain`` no answer is withheld.
    """

    answer: float
    escalate: float
    wrong: float
    abstain: float | None = None
    name: ClassVar[GoalName] = "cost"

    def __post_init__(self) -> None:
        """Raise `ConfideError` unless all are prices."""
        for name, value in vars(self).items():
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise ConfideError(f"the cost of {name} must be a number of at least 0, got {value}")

    @classmethod
    def parse(cls, text: str) -> Costs:
        """Read ``answer=1,escalate=20,wrong=100,abstain=5``; ``abstain`` may be left out.

        >>> Costs.parse("answer=1,escalate=20,wrong=100")
        Costs(answer=1.0, escalate=20.0, wrong=100.0, abstain=None)
        """
        values: dict[str, float] = {}
        for part in text.split(","):
            name, _, value = (piece.strip() for piece in part.partition("="))
            try:
                values[name] = float(value)
            except ValueError:
                raise ConfideError(f"--cost wants name=number, got {part.strip()!r}") from None
        names = {field.name for field in fields(cls)}
        if unknown := sorted(set(values) - names):
            raise ConfideError(f"--cost knows {', '.join(sorted(names))}, not {', '.join(unknown)}")
        if missing := sorted(names - {"abstain"} - set(values)):
            raise ConfideError(f"--cost lacks {', '.join(missing)}")
        return cls(**values)


Goal = BoundedGoal | Costs
Escalating = Budget | FalseAlarms
"""Goals that bound what is not kept: where nothing is kept they are missed, and no confidence is not kept, too."""


def check_shares(limit: float, level: float, name: str) -> None:
    """Raise `ConfideError` unless both lie strictly between 0 and 1; ``name`` is what the limit is called."""
    for what, value in ((name, limit), ("level", level)):
        if not 0 < value < 1:
            raise ConfideError(f"{what} must lie strictly between 0 and 1, got {value:g}")
