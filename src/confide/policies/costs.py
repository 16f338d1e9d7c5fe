"""Thresholds of least expected cost: answer, escalate or abstain, whichever is cheapest at a confidence.

With p the probability that the small model is right and q that the expert is, at the same confidence, answering
costs ``answer`` + ``wrong`` · (1 − p), escalating ``escalate`` + ``wrong`` · (1 − q), abstaining ``abstain``. Both
probabilities are calibrated ones: thresholds picked on 0/1 outcomes follow their noise, and in simulation (100 to
1,000 rows) cost two to five times as much above the optimum. Nothing is promised: an expectation is estimated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from confide.errors import ConfideError

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Costs:
    """What an answer, an escalation, an abstention (None: not allowed) and a wrong answer cost, in one unit.

    ``wrong`` comes on top of ``answer`` or ``escalate``, whoever was wrong.
    """

    answer: float
    escalate: float
    wrong: float
    abstain: float | None = None

    def __post_init__(self) -> None:
        """Refuse what is not a price."""
        for name in ("answer", "escalate", "wrong", "abstain"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise ConfideError(f"the cost of {name} must be a number of at least 0, got {value}")

    @classmethod
    def parse(cls, text: str) -> Costs:
        """Costs from ``answer=1,escalate=20,wrong=100,abstain=5``; ``abstain`` may be left out."""
        values: dict[str, float] = {}
        for part in text.split(","):
            name, _, value = (piece.strip() for piece in part.partition("="))
            try:
                values[name] = float(value)
            except ValueError:
                raise ConfideError(f"--cost wants name=number, got {part.strip()!r}") from None
        names = {"answer", "escalate", "wrong", "abstain"}
        if unknown := sorted(set(values) - names):
            raise ConfideError(f"--cost knows {', '.join(sorted(names))}, not {', '.join(unknown)}")
        if missing := sorted(names - {"abstain"} - set(values)):
            raise ConfideError(f"--cost lacks {', '.join(missing)}")
        return cls(**values)


@dataclass(frozen=True)
class Cheapest:
    """Abstain below ``abstain_below`` (None: never), escalate below ``answer_from`` (None: never answer)."""

    abstain_below: float | None
    answer_from: float | None


def cheapest_thresholds(confidence: ArrayLike, right: ArrayLike, expert: ArrayLike, costs: Costs) -> Cheapest:
    """The two thresholds of least expected cost over the rows.

    ``confidence`` is finite; ``right`` and ``expert`` are the calibrated probabilities that either model is right;
    all (n,). With rising confidence the decision goes from abstain over escalate to answer, each possibly never.
    """
    c = np.asarray(confidence, dtype=float)
    order = np.argsort(-c, kind="stable")
    c = c[order]
    p, q = np.asarray(right, dtype=float)[order], np.asarray(expert, dtype=float)[order]
    n = len(c)
    escalating = costs.escalate + costs.wrong * (1 - q)
    # Cost of answering the surest k instead of escalating them, and of abstaining on all but the surest k.
    answering = np.concatenate([[0.0], np.cumsum(costs.answer + costs.wrong * (1 - p) - escalating)])
    withheld = np.zeros(n + 1)
    if costs.abstain is not None:
        withheld[:n] = np.cumsum((costs.abstain - escalating)[::-1])[::-1]
    # A threshold cannot part equal confidences.
    allowed = np.concatenate([[True], c[1:] < c[:-1], [True]]) if n else np.array([True])
    answering[~allowed] = np.inf
    withheld = np.where(allowed, withheld, np.inf)
    if costs.abstain is None:
        withheld[:n] = np.inf
    # From each k on, the cheapest place to start abstaining; of equals the one that abstains least.
    later = np.minimum.accumulate(withheld[::-1])[::-1]
    kept = int(n - np.argmin((answering + later)[::-1]))
    stop = int(n - np.argmin(withheld[kept:][::-1]))
    return Cheapest(
        abstain_below=None if stop == n else (float(c[stop - 1]) if stop > 0 else math.inf),
        answer_from=float(c[kept - 1]) if kept > 0 else None,
    )


def cost_of(decisions: list[str], correct: ArrayLike, expert: ArrayLike, costs: Costs) -> float:
    """Mean cost of ``decisions`` given who was right, all (n,)."""
    y, e = np.asarray(correct, dtype=float), np.asarray(expert, dtype=float)
    each = {
        "answer": costs.answer + costs.wrong * (1 - y),
        "escalate": costs.escalate + costs.wrong * (1 - e),
        "abstain": np.full(len(y), costs.abstain if costs.abstain is not None else 0.0),
    }
    made = np.asarray(decisions)
    return float(np.select([made == name for name in each], list(each.values())).mean())
