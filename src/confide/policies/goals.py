"""What a policy is asked to achieve: one class per goal of ``confide calibrate``."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import ClassVar, Literal

from confide.errors import ConfideError

BoundedName = Literal["max_risk", "budget", "match_expert"]
GoalName = Literal[BoundedName, "cost"]


@dataclass(frozen=True)
class BoundedGoal:
    """A quantity that stays within ``limit`` with probability at least ``level`` over the calibration rows.

    Attributes:
        limit: largest value allowed, a share in (0, 1).
        level: probability of keeping the promise, in (0, 1).
        name: the goal's name in policy files.
        method: how policy files say that the threshold is tested.
    """

    limit: float
    level: float = 0.95
    name: ClassVar[BoundedName]
    method: ClassVar[str]

    def __post_init__(self) -> None:
        """Raise `ConfideError` unless limit and level are shares."""
        check_shares(self.limit, self.level, self.name.replace("_", "-"))


class MaxRisk(BoundedGoal):
    """As many answers as possible; at most a share ``limit`` of the kept ones is wrong."""

    name = "max_risk"
    method = "learn-then-test, fallback sequence, binomial tail"


class Budget(BoundedGoal):
    """The largest accuracy; at most a share ``limit`` of the questions escalates."""

    name = "budget"
    method = "order statistic, binomial tail"


class MatchExpert(BoundedGoal):
    """Fewest escalations; small model and expert together lose at most ``limit`` of the expert's accuracy."""

    name = "match_expert"
    method = "learn-then-test, fallback sequence, exact paired test"


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


def check_shares(limit: float, level: float, name: str) -> None:
    """Raise `ConfideError` unless both lie strictly between 0 and 1; ``name`` is what the limit is called."""
    for what, value in ((name, limit), ("level", level)):
        if not 0 < value < 1:
            raise ConfideError(f"{what} must lie strictly between 0 and 1, got {value:g}")
