"""The risk of answers that a judge has graded, with the judge's own error in the bound.

A judge, such as a larger model, says of n kept answers which are wrong; of some of them, drawn at random, the truth is
known too. With y = 1 where an answer is wrong and j = 1 where the judge calls it so,

    P(wrong) = E[j] + E[y − j],

so that a cheap, imperfect judge counts on all rows and its error is measured on the labelled ones: the difference
estimator of survey sampling, and the mean of prediction-powered inference (Angelopoulos et al. 2023, arXiv 2301.09633).
Each term gets half of the error rate (Bonferroni's inequality, so it does not matter that the labelled rows are among
the n), and an exact bound: Clopper and Pearson's for E[j], and that of a paired difference
(`confide.policies.thresholds.paired_bound`) for E[y − j], of which missed errors are the losses and false alarms the
gains. The bound holds whatever the judge's error is; a judge that is no better than guessing makes it wide, not wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from confide.policies.thresholds.binomial_bound import clopper_pearson
from confide.policies.thresholds.paired_bound import loss_interval


@dataclass(frozen=True)
class JudgedCount:
    """Of ``n`` kept answers the judge calls ``judged_wrong`` wrong. Of ``labelled`` of them the truth is known:
    ``missed`` are wrong and the judge calls them right, ``false_alarms`` are right and it calls them wrong.
    """

    n: int
    judged_wrong: int
    labelled: int
    missed: int
    false_alarms: int

    @classmethod
    def of(cls, judged_wrong: Sequence[bool], wrong: Sequence[bool | None]) -> Self:
        """The counts of n answers.

        Args:
            judged_wrong: the judge's verdict on each.
            wrong: the truth of each, None where it is not known. Which ones are labelled must be drawn at random,
                whatever the judge says of them.
        """
        pairs = [(judged, truth) for judged, truth in zip(judged_wrong, wrong, strict=True) if truth is not None]
        return cls(
            n=len(judged_wrong),
            judged_wrong=sum(judged_wrong),
            labelled=len(pairs),
            missed=sum(truth and not judged for judged, truth in pairs),
            false_alarms=sum(judged and not truth for judged, truth in pairs),
        )

    @property
    def observed(self) -> float:
        """The estimated risk, without bias; there must be a labelled row."""
        return self.judged_wrong / self.n + (self.missed - self.false_alarms) / self.labelled

    def interval(self, level: float) -> tuple[float, float]:
        """One-sided bounds of the risk, each at ``level``: (lower, upper); (0, 1) without a labelled row."""
        if not self.labelled:
            return 0.0, 1.0
        half = 1 - (1 - level) / 2
        judged = clopper_pearson(self.judged_wrong, self.n, half)
        error = loss_interval(self.missed, self.false_alarms, self.labelled, half)
        return max(0.0, judged[0] + error[0]), min(1.0, judged[1] + error[1])
