"""What would help where a goal cannot be met: rows, another source, a budget, or answers that are right more often.

All numbers come from the rows at hand, which were looked at, so they say where to go next and promise nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from confide.errors import ConfideError
from confide.numeric import Bools, Floats
from confide.policies.calibration_rows import labelled_rows
from confide.policies.goals import BoundedGoal, Budget, Goal, MatchExpert, MaxRisk
from confide.policies.policy import Policy
from confide.policies.policy_fitting import calibrate_policy
from confide.policies.thresholds.binomial_bound import counted_rows_that_decide
from confide.policies.thresholds.fallback_testing import Unmet
from confide.records import Record

LEAST = 20
"""Surest answers from which a share of wrong ones is read; that of fewer says nothing."""

_GRID = 40
_WORTH = 0.75
_SHOWN = 3


@dataclass(frozen=True)
class Best:
    """The surest answers that come closest to a goal: a ``share`` of all, of which ``risk`` are wrong.

    About ``rows`` would show the goal there with probability 0.8, if new rows are like these; None: no number would.
    """

    share: float
    risk: float
    rows: int | None


@dataclass(frozen=True)
class Remedies:
    """What would help; each is None, or empty, where it would not.

    ``right`` is the share of all answers that is right, ``others`` are sources of the same rows that meet the goal with
    the share that they keep, ``budget`` is a share escalated that can be promised, with what is then wrong of the rest.
    """

    limit: float
    right: float
    best: Best | None
    others: dict[str, float]
    budget: tuple[float, float] | None

    def explain(self) -> list[str]:
        """A line for each."""
        lines = []
        if self.best is not None:
            surest = f"of the surest {self.best.share:.0%} of the answers {self.best.risk:.1%} are wrong"
            if self.best.rows is None:
                lines.append(f"More rows: no number of them, as they look; even {surest}.")
            else:
                lines.append(
                    f"More rows: {surest}; about {self.best.rows:,} rows like these would show the goal there."
                )
        if self.others:
            told = ", ".join(f"{name} (it keeps {kept:.0%})" for name, kept in self.others.items())
            lines.append(f"Another source: {told} would meet the goal; take it with --source, on fresh rows.")
        if self.budget is not None:
            share, wrong = self.budget
            lines.append(
                f"Another goal: --budget {share:g} can be promised; it keeps the surest {1 - share:.0%}, of which "
                f"{wrong:.1%} are wrong here, and escalates the rest."
            )
        if self.best is not None and self.best.rows is None:
            lines.append(
                f"A stronger model: {self.right:.0%} of the answers are right; with more of them right, or an expert "
                "for the others, a confidence has more to keep."
            )
        return lines


def remedies(
    records: Sequence[Record], sources: Sequence[str], unmet: Unmet, goal: Goal, source: str, **options: Any
) -> Remedies | None:
    """What would help where ``goal`` cannot be met with any of ``sources``, the nearest of which is ``source``.

    Args:
        records: the calibration rows.
        sources: what was tried.
        unmet: what came of it.
        goal: the goal.
        source: the source that ``unmet`` is about.
        **options: those of `calibrate_policy`.
    """
    rows = labelled_rows(records, source)
    if not isinstance(goal, BoundedGoal) or not len(rows.records):
        return None
    best = budget = None
    if isinstance(goal, MaxRisk):
        best = best_observed(rows.confidence, rows.correct, goal.limit, goal.level)
        if best is not None and best.rows is not None and unmet.rows_needed is not None:
            best = None  # the whole procedure was simulated, and says it better
    if isinstance(goal, MaxRisk | MatchExpert):
        budget = _budget(records, rows.confidence, rows.correct, goal, source, options)
    return Remedies(goal.limit, float(rows.correct.mean()), best, _others(records, sources, goal, options), budget)


def best_observed(confidence: Floats, correct: Bools, limit: float, level: float) -> Best | None:
    """The surest answers (of at least `LEAST`) at which the fewest rows would show ``limit`` at ``level``.

    Where their observed risk is nowhere below the limit, those with the lowest risk. None for fewer rows.

    >>> best_observed(np.arange(100.0), np.arange(100) >= 60, 0.2, 0.95).risk
    0.0
    """
    n = len(confidence)
    if n < LEAST:
        return None
    order = np.argsort(-confidence, kind="stable")
    ranked, wrong = confidence[order], np.cumsum(~correct[order])
    # A threshold keeps every row tied with it.
    kept = np.unique(np.searchsorted(-ranked, -ranked[np.linspace(LEAST, n, _GRID).astype(int) - 1], side="right"))
    found = []
    for k in kept.tolist():
        risk = float(wrong[k - 1] / k)
        # Laplace's rule of succession: the surest of few rows look better than they are.
        careful = (int(wrong[k - 1]) + 1) / (k + 2)
        counted = counted_rows_that_decide(careful, limit, level) if careful < limit else None
        found.append(Best(k / n, risk, None if counted is None else -(-counted * n // k)))
    enough = [one for one in found if one.rows is not None]
    return min(enough, key=lambda one: one.rows or 0) if enough else min(found, key=lambda one: one.risk)


def _others(records: Sequence[Record], tried: Sequence[str], goal: Goal, options: dict[str, Any]) -> dict[str, float]:
    """Other sources of the rows that meet the goal, with the share that each keeps, the largest first."""
    there = sorted({name for record in records for name in record.confidence} - set(tried))
    kept: dict[str, float] = {}
    for name in there:
        try:
            made = calibrate_policy(records, name, goal, hints=False, **options)
        except ConfideError:  # such a source has too few rows, or numbers on another scale
            continue
        if isinstance(made, Policy):
            kept[name] = made.guarantee.coverage
    return dict(sorted(kept.items(), key=lambda item: -item[1])[:_SHOWN])


def _budget(
    records: Sequence[Record],
    confidence: Floats,
    correct: Bools,
    goal: BoundedGoal,
    source: str,
    options: dict[str, Any],
) -> tuple[float, float] | None:
    """A share escalated that can be promised, in tenths, and the share of wrong ones among what is kept then.

    It is the smallest one with which what is kept keeps to the limit here; where none does, half, if that takes a
    quarter of the errors away.
    """
    order = np.argsort(-confidence, kind="stable")
    wrong = np.cumsum(~correct[order])

    def left(share: float) -> float:
        kept = max(1, round((1 - share) * len(order)))
        return float(wrong[kept - 1] / kept)

    tenths = [k / 10 for k in range(1, 10)]
    share = next((one for one in tenths if left(one) <= goal.limit), 0.5)
    if left(share) > max(goal.limit, _WORTH * left(0.0)):
        return None
    try:
        made = calibrate_policy(records, source, Budget(share, goal.level, goal.per), hints=False, **options)
    except ConfideError:
        return None
    return (share, left(share)) if isinstance(made, Policy) else None
