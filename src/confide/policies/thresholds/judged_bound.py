"""The risk of answers that a judge has graded, with the judge's own error in the bound.

A judge, such as a larger model, says of kept answers which are wrong; of some of them, drawn at random, the truth is
known too. With y = 1 where an answer is wrong and j = 1 where the judge calls it so,

    P(wrong) = E[j] + E[y − j],

so that a cheap, imperfect judge counts on all rows and its error is measured on the labelled ones: the difference
estimator of survey sampling, and the mean of prediction-powered inference (Angelopoulos et al. 2023, arXiv 2301.09633).
Where a grader has decided and no judge was asked, j is the grader's word and the error is 0; with a share s of rows
that were judged, P(wrong) = E[j] + s · E[y − j | judged].

Each term gets an even part of the error rate (Bonferroni's inequality, so it does not matter that the labelled rows are
among all), and an exact bound: Clopper and Pearson's for E[j] and s, and that of a paired difference
(`confide.policies.thresholds.paired_bound`) for E[y − j], of which missed errors are the losses and false alarms the
gains. The bound holds whatever the judge's error is. It pays where
answers are wrong more often than the judge, on labelled rows enough to tell; elsewhere the labels alone say more. So
both bounds are computed, each at its part of the error rate, and the better one counts: a judge that is no better than
guessing costs a fifth of the error rate.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np

from confide.errors import ConfideError
from confide.numeric import Bools, Ints
from confide.policies.calibration_rows import CalibrationRows
from confide.policies.thresholds.binomial_bound import clopper_pearson, fewest_rows
from confide.policies.thresholds.cluster_bound import Drawn
from confide.policies.thresholds.paired_bound import loss_interval, p_value

# The labels alone get this part of the error rate, the judge's verdicts with them the rest.
ALONE = 0.8

Share = Callable[[int, int, float, float], tuple[float, float]]
"""From the rows that are so, and those that count, to the bounds of a share at two error rates."""
Loss = Callable[[int, int, int, float, float], tuple[float, float]]
"""From losses, gains and rows to the bounds of their mean difference at two error rates."""


@dataclass(frozen=True)
class JudgedCount:
    """Of ``n`` independent rows ``kept`` are answered. A grader decided on ``graded`` of these, ``graded_wrong`` are
    wrong. The judge decided on the others, and calls ``said_wrong`` wrong.

    Of ``labelled`` of the judge's rows the truth is known: ``wrong`` are wrong. Of these the judge calls ``missed``
    right, and of the right ones it calls ``false_alarms`` wrong.
    """

    n: int
    kept: int
    said_wrong: int
    labelled: int
    wrong: int
    missed: int
    false_alarms: int
    graded: int = 0
    graded_wrong: int = 0

    @property
    def counted(self) -> int:
        """Rows that the risk is about: the kept ones."""
        return self.kept

    @property
    def judged(self) -> int:
        """Kept rows that the judge has judged."""
        return self.kept - self.graded

    @property
    def observed(self) -> float:
        """The estimated risk, without bias inside [0, 1]; some row must be kept."""
        error = (self.missed - self.false_alarms) / max(1, self.labelled)
        said = self.said_wrong + self.graded_wrong
        return min(1.0, max(0.0, (said + error * self.judged) / self.kept))

    def shows(self, limit: float, error: float) -> bool:
        """Whether "the risk exceeds ``limit``" is rejected at ``error``."""
        if not self.kept or not self.labelled:
            return False
        if self._alone(_exact_share, ALONE * error, ALONE * error)[1] <= limit:
            return True
        part = (1 - ALONE) * error / self._terms
        left = limit - _exact_share(self.said_wrong + self.graded_wrong, self.kept, part, part)[1]
        least, most = self._share_judged(_exact_share, part)
        margin = left / (most if left >= 0 else least)
        if not -1 < margin < 1:
            return margin >= 1
        return p_value(self.missed, self.false_alarms, self.labelled, margin) <= part

    def interval(self, level: float) -> tuple[float, float]:
        """One-sided bounds of the risk, each at ``level``: (lower, upper); (0, 1) without a labelled row."""
        return self.bounds(_exact_share, _exact_loss, 1 - level, 1 - level)

    def bounds(self, of_share: Share, of_error: Loss, below: float, above: float) -> tuple[float, float]:
        """Bounds of the risk at the error rates ``below`` and ``above``, from those of its terms."""
        if not self.kept or not self.labelled:
            return 0.0, 1.0
        alone = self._alone(of_share, ALONE * below, ALONE * above)
        judged = self._judged(of_share, of_error, (1 - ALONE) * below, (1 - ALONE) * above)
        return max(alone[0], judged[0]), min(alone[1], judged[1])

    def _alone(self, of_share: Share, below: float, above: float) -> tuple[float, float]:
        """Bounds by the labels without the judge's verdicts: s · E[y | judged], and E[y] of what a grader decided."""
        if not self.graded:
            return of_share(self.wrong, self.labelled, below, above)
        parts = (below / 3, above / 3)
        graded = of_share(self.graded_wrong, self.kept, *parts)
        least, most = of_share(self.judged, self.kept, *parts)
        low, high = of_share(self.wrong, self.labelled, *parts)
        return graded[0] + least * low, min(1.0, graded[1] + most * high)

    def _judged(self, of_share: Share, of_error: Loss, below: float, above: float) -> tuple[float, float]:
        """Bounds by E[j] + s · E[y − j | judged]."""
        parts = (below / self._terms, above / self._terms)
        said = of_share(self.said_wrong + self.graded_wrong, self.kept, *parts)
        low, high = of_error(self.missed, self.false_alarms, self.labelled, *parts)
        # A negative error is bounded by the other end of the share, at the same error rate.
        share_below, share_above = (self._share_judged(of_share, part) for part in parts)
        lower, upper = low * share_below[low < 0], high * share_above[high > 0]
        return max(0.0, said[0] + lower), min(1.0, said[1] + upper)

    @property
    def _terms(self) -> int:
        return 3 if self.graded else 2

    def _share_judged(self, of_share: Share, error: float) -> tuple[float, float]:
        return of_share(self.judged, self.kept, error, error) if self.graded else (1.0, 1.0)


def _exact_share(k: int, n: int, below: float, above: float) -> tuple[float, float]:
    return clopper_pearson(k, n, 1 - below)[0], clopper_pearson(k, n, 1 - above)[1]


def _exact_loss(losses: int, gains: int, n: int, below: float, above: float) -> tuple[float, float]:
    same = loss_interval(losses, gains, n, 1 - below)
    return same if above == below else (same[0], loss_interval(losses, gains, n, 1 - above)[1])


@dataclass(frozen=True, eq=False)
class Verdicts:
    """What is said of n answers, all [n]: ``said_wrong`` by the judge where ``judged``; ``wrong`` in truth, where
    ``labelled``. Rows that are not judged are labelled, by a grader. Which of the others are is drawn at random.
    """

    said_wrong: Bools
    wrong: Bools
    labelled: Bools
    judged: Bools

    @classmethod
    def of(cls, rows: CalibrationRows) -> Self | None:
        """Those on rows; None where all are labelled, so that the judge's word is not needed."""
        if rows.labelled.all():
            return None
        said_wrong = [record.judged is False for record in rows.records]
        judged = [record.judged is not None for record in rows.records]
        return cls(np.array(said_wrong, dtype=bool), ~rows.correct, rows.labelled, np.array(judged, dtype=bool))

    def take(self, rows: Ints | Bools) -> Verdicts:
        """Those on these rows."""
        return Verdicts(self.said_wrong[rows], self.wrong[rows], self.labelled[rows], self.judged[rows])

    def take_drawn(self, drawn: Drawn) -> Verdicts:
        """Those on the rows of a sample; raises `ConfideError` where a promise per question rests on dependent rows."""
        if drawn.per == "question":
            raise ConfideError("a judge's error is measured on independent rows: take --per entity, one row of each")
        return self.take(drawn.rows)

    def count(self, keep: Bools) -> JudgedCount:
        """What they show of the rows to ``keep`` [n]."""
        judged, graded = keep & self.judged, keep & ~self.judged
        known = judged & self.labelled
        return JudgedCount(
            n=len(keep),
            kept=int(keep.sum()),
            said_wrong=int((judged & self.said_wrong).sum()),
            labelled=int(known.sum()),
            wrong=int((known & self.wrong).sum()),
            missed=int((known & self.wrong & ~self.said_wrong).sum()),
            false_alarms=int((known & ~self.wrong & self.said_wrong).sum()),
            graded=int(graded.sum()),
            graded_wrong=int((graded & self.wrong).sum()),
        )

    @property
    def labels(self) -> int:
        """How many of the judged rows are labelled."""
        return int((self.judged & self.labelled).sum())

    def kept_with(self, labels: Ints) -> Ints:
        """The most first rows that hold so many ``labels``, each at least 1 and at most all of them."""
        known = np.cumsum(self.judged & self.labelled)
        return np.searchsorted(known, labels, side="right")

    def check_labels(self, limit: float, error: float) -> None:
        """Raise `ConfideError` where so few rows are labelled that they could not show ``limit``, were none wrong."""
        needed = fewest_rows(limit, 1 - ALONE * error / (1 if self.judged.all() else 3))
        if self.labels < needed:
            judged = int(self.judged.sum())
            wanted = (
                f"at least {needed} labels on rows that the judge has judged, drawn at random, to measure its error"
            )
            if judged <= needed:
                wanted = f"a label on each of the {judged} rows that the judge has judged, too few to measure its error"
            raise ConfideError(f"a bound of {limit:g} needs {wanted}; got {self.labels} on {judged} (`confide label`)")
