"""The surest answers that come nearest to a risk, and how many rows would show it there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from confide.numeric import Bools, Floats
from confide.policies.thresholds.binomial_bound import counted_rows_that_decide

LEAST = 20
"""Surest answers from which a share of wrong ones is read; that of fewer says nothing."""

_GRID = 40


@dataclass(frozen=True)
class Best:
    """The surest answers that come closest to a goal: a ``share`` of all, of which ``risk`` are wrong.

    How many rows would show the goal there, with probability 0.8, depends on the share of wrong ones among new rows:
    about ``rows`` if it is ``careful``, one wrong answer more than was seen and one right (Laplace's rule of
    succession), and ``fewest`` if it is ``risk``, as seen. None: no number would.
    """

    share: float
    risk: float
    careful: float
    rows: int | None
    fewest: int | None


def best_observed(confidence: Floats, correct: Bools, limit: float, level: float) -> Best | None:
    """The surest answers (of at least `LEAST`) at which the fewest rows would show ``limit`` at ``level``.

    Where their careful risk is nowhere below the limit, it is the fewest rows as observed; where that is nowhere below
    it either, those of the lowest observed risk. None for fewer rows.

    >>> best = best_observed(np.arange(100.0), np.arange(100) >= 60, 0.2, 0.95)
    >>> best.risk, best.share, best.fewest, best.rows
    (0.0, 0.4, 35, 55)
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
        risk, careful = float(wrong[k - 1] / k), (int(wrong[k - 1]) + 1) / (k + 2)
        rows, fewest = (
            -(-counted * n // k)
            if share < limit and (counted := counted_rows_that_decide(share, limit, level)) is not None
            else None
            for share in (careful, risk)
        )
        found.append(Best(k / n, risk, careful, rows, fewest))
    enough = [one for one in found if one.rows is not None]
    if enough:
        return min(enough, key=lambda one: one.rows or 0)
    within = [one for one in found if one.fewest is not None]
    return min(within, key=lambda one: one.fewest or 0) if within else min(found, key=lambda one: one.risk)


def no_number_would(confidence: Floats, correct: Bools, limit: float, level: float) -> bool:
    """Whether no number of rows like these would show ``limit``, as nowhere so few of the surest answers are wrong.

    Of rows that are drawn again and again a few lucky ones at the top look flawless; here `LEAST` of them have to be.
    """
    best = best_observed(confidence, correct, limit, level)
    return best is not None and best.fewest is None
