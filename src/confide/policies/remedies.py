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
from confide.policies.nearest_answers import LEAST, Best, best_observed
from confide.policies.policy import Policy
from confide.policies.policy_fitting import calibrate_policy
from confide.policies.thresholds.fallback_testing import Unmet, rows_of_file
from confide.records import Record, RecordTable

_WORTH = 0.75
_SHOWN = 3


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

    def explain(self, unmet: Unmet, file: float = 1.0) -> list[str]:
        """What would help where a goal is ``unmet``, at most four lines; ``file`` as in `Unmet.next_step`."""
        lines = [self._rows(unmet, file)]
        if self.others:
            told = ", ".join(f"{name} (it keeps {kept:.0%})" for name, kept in self.others.items())
            lines.append(f"Another source: {told} would meet the goal; take it with --source, on fresh rows.")
        if (looser := unmet.looser()) is not None:
            lines.append(looser)
        if self.budget is not None:
            share, wrong = self.budget
            lines.append(
                f"Another goal: --budget {share:g} can be promised; it keeps the surest {1 - share:.0%}, of which "
                f"{wrong:.1%} are wrong here, and escalates the rest."
            )
        return lines

    def _rows(self, unmet: Unmet, file: float) -> str:
        """How many rows would do, and if these are right; or that no number would, and what else."""
        best = self.best
        if best is None:
            return unmet.next_step(file)
        if best.fewest is None:
            shown = [(best.risk, best.share)]  # the lowest of what is told anywhere, so that no line belies another
            if unmet.attainable is not None:
                shown.append((unmet.attainable.observed, unmet.attainable.coverage))
            if self.budget is not None:
                shown.append((self.budget[1], 1 - self.budget[0]))
            risk, share = min(shown)
            return (
                f"A stronger model, or an expert: no number of rows like these would do, as even of the surest "
                f"{share:.0%} {risk:.1%} are wrong; {self.right:.0%} of all answers are right."
            )
        fewest = max(best.fewest, unmet.rows_needed or 0, unmet.n)
        if best.rows is None:
            return (
                f"More rows: about {rows_of_file(fewest, file)} would show it if of the surest {best.share:.0%} no "
                f"more than {best.risk:.1%} are wrong, as here; if {best.careful:.1%} are (one more), none would."
            )
        rows = max(best.rows, fewest)
        careful = f"{best.careful:.1%} of the surest {best.share:.0%} are wrong (here it is {best.risk:.1%})"
        more = f"More rows: about {rows_of_file(rows, file)} would show it if {careful}"
        return f"{more}, about {fewest:,} if it stays so." if fewest < rows else f"{more}."


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
        if best is not None and best.fewest is not None and unmet.rows_needed is not None and unmet.too_few is None:
            best = None  # the whole procedure was simulated, and says it better
    if isinstance(goal, MaxRisk | MatchExpert):
        budget = _budget(records, rows.confidence, rows.correct, goal, source, options)
    return Remedies(goal.limit, float(rows.correct.mean()), best, _others(records, sources, goal, options), budget)


def _others(records: Sequence[Record], tried: Sequence[str], goal: Goal, options: dict[str, Any]) -> dict[str, float]:
    """Other sources of the rows that meet the goal, with the share that each keeps, the largest first."""
    there = sorted(RecordTable.of(records).sources - set(tried))
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

    tenths = [k / 10 for k in range(1, 10) if (1 - k / 10) * len(order) >= LEAST or k == 5]
    share = next((one for one in tenths if left(one) <= goal.limit), 0.5)
    if left(share) > max(goal.limit, _WORTH * left(0.0)):
        return None
    try:
        made = calibrate_policy(records, source, Budget(share, goal.level, goal.per), hints=False, **options)
    except ConfideError:
        return None
    return (share, left(share)) if isinstance(made, Policy) else None
