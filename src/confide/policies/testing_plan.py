"""Testing thresholds in an order fixed before any label is seen, with one error rate over all of them.

Learn then test (Angelopoulos et al. 2021, arXiv 2110.01052) with the fallback procedure (Wiens 2003, "A fixed
sequence Bonferroni procedure"; section 2.1 of Bretz et al. 2009 draws it as a graph). Thresholds are tested from
strict to loose. Some of them are *starts*, each with a share of the error rate 1 − level; a test that rejects hands
what it had on to the next one, a test that does not loses it, and the walk goes on with the shares of later starts
only. Any rejected threshold may then be used, and the loosest is. Whatever the dependence of the tests, the
probability of rejecting even one threshold that breaks the promise is at most 1 − level.

Two starts: nearly all of the error rate at a strict threshold, 3 % of it at one that keeps three fifths of the rows.
The second is for a confidence that is too sure at its very top, where a walk with one start ends before it began: with
one answer in four of the surest 5 % wrong and few below them, 1,000 rows met a goal of 0.1 in 1 % of simulated data
sets with one start and in 79 % with two. Elsewhere it costs 0.2 % of the oracle's coverage. More starts, or larger
shares for later ones, cost more than they bring (``docs/decisions/0004-one-walk-two-starts.md``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

RESTART_WEIGHT = 0.03
RESTART_SHARE = 0.6


@dataclass(frozen=True)
class Plan:
    """Which thresholds are tested: the numbers of rows they keep, ascending, and the error rate added at each."""

    kept: Ints
    added: Floats

    def at_ties(self, confidence: Floats) -> Plan:
        """The plan on ``confidence`` (n,), sorted from high to low: a threshold keeps every row tied with it."""
        cut = confidence[self.kept - 1]
        kept, where = np.unique(np.searchsorted(-confidence, -cut, side="right"), return_inverse=True)
        added = np.zeros(len(kept))
        np.add.at(added, where, self.added)
        return Plan(kept, added)


def loosest_rejected(p_values: Floats, added: Floats) -> int | None:
    """Position of the last test that rejects (None: none does), for p-values in order and error rates ``added``."""
    at_hand = 0.0
    last = None
    for position, (p, more) in enumerate(zip(p_values.tolist(), added.tolist(), strict=True)):
        at_hand += more
        if p <= at_hand and at_hand > 0:
            last = position
        else:
            at_hand = 0.0
    return last
