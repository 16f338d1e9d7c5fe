"""How many rows would meet a goal: the number with which the whole procedure meets it in four draws of five.

Which test of a sequence passes depends on where the sequence starts and on what it has spent, so the procedure itself
is run on made-up rows. Rows at hand show only roughly what more of them would be like, so each run draws twice: what
the rows could have been (their entities, with replacement), and from that the number of rows that is tried. Without the
first draw the number was too small in more than half of the simulations. Rows that show no wrong answer among the
surest may have more to come: one row more, at the end of the surest eighth, counts as wrong (as in Laplace's rule of
succession).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from confide.errors import ConfideError
from confide.policies.calibration_rows import CalibrationRows
from confide.policies.thresholds.binomial_bound import POWER
from confide.policies.thresholds.fallback_testing import BoundedThreshold, Unmet

DRAWS = 20
"""Made-up sets of rows for each number; with so many the share that meets the goal is known to 0.09."""

STEP = 1.25
"""One number of rows to the next."""

MOST_ROWS = 50_000
MOST_TIMES = 30
"""Numbers beyond, and beyond so many times the rows at hand, are not tried."""

Solve = Callable[[CalibrationRows, int], BoundedThreshold | Unmet]


def rows_that_meet(solve: Solve, rows: CalibrationRows, seed: int) -> int | None:
    """About the least number of rows like ``rows`` with which ``solve`` meets its goal with probability 0.8.

    Args:
        solve: the procedure, given rows and a seed.
        rows: the rows at hand.
        seed: draws the rows.

    Returns:
        The number, at least that of ``rows``; None where none that is tried will do.
    """
    sizes = [len(rows.records)]
    most = min(MOST_ROWS, MOST_TIMES * sizes[0])
    while sizes[-1] * STEP < most:
        sizes.append(math.ceil(sizes[-1] * STEP))
    if len(sizes) < 2:
        return None
    rng = np.random.default_rng(seed)
    rows = _with_one_more_wrong(rows)

    def enough(size: int) -> bool:
        missed = 0
        for _ in range(DRAWS):
            try:
                missed += isinstance(solve(_made_up(rows, size, rng), seed), Unmet)
            except ConfideError:  # such rows show nothing, whatever their labels
                return False
            if missed > (1 - POWER) * DRAWS:
                return False
        return True

    low, high = -1, 1
    while high < len(sizes) and not enough(sizes[high]):
        low, high = high, 2 * high
    if high >= len(sizes):
        high = len(sizes) - 1
        if low >= high or not enough(sizes[high]):
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(sizes[middle]) else (middle, high)
    return sizes[high]


def _with_one_more_wrong(rows: CalibrationRows) -> CalibrationRows:
    n = len(rows.records)
    sure = int(np.argsort(-rows.confidence, kind="stable")[n // 8])
    more = rows.take([*range(n), sure])
    last = np.arange(n + 1) == n
    names = [*rows.clusters, f"one more than {n}"]
    return replace(more, correct=more.correct & ~last, expert=more.expert | last, entities=names)


def _made_up(rows: CalibrationRows, size: int, rng: np.random.Generator) -> CalibrationRows:
    """About ``size`` rows like ``rows``."""
    entities = len(set(rows.clusters))
    return _drawn(_drawn(rows, entities, rng), max(1, round(size * entities / len(rows.records))), rng)


def _drawn(rows: CalibrationRows, entities: int, rng: np.random.Generator) -> CalibrationRows:
    """So many ``entities`` of ``rows``, drawn with replacement; a copy is an entity of its own."""
    _, code, sizes = np.unique(np.asarray(rows.clusters, dtype=str), return_inverse=True, return_counts=True)
    starts, members = np.cumsum(sizes) - sizes, np.argsort(code, kind="stable")
    drawn = rng.integers(len(sizes), size=entities)
    taken = sizes[drawn]
    within = np.arange(taken.sum()) - np.repeat(np.cumsum(taken) - taken, taken)
    at = members[np.repeat(starts[drawn], taken) + within]
    return replace(rows.take(at), entities=np.repeat(np.arange(entities), taken).astype(str).tolist())
