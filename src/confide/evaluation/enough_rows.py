"""Are there rows enough for what comes next? Judged when rows are made, not when a report or a policy is wanted.

The numbers are those that `confide.evaluation` and `confide.policies` go by: the fewest rows of a verdict, the width of
an AUROC's interval, the bound of a policy's promise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from confide.evaluation.evaluation import MIN_ROWS
from confide.policies.thresholds.binomial_bound import counted_rows_that_decide, fewest_rows
from confide.records import Record

RISK, LEVEL = 0.1, 0.95
"""The promise that a number of rows is judged by: at most one kept answer in ten is wrong, with 95 %."""

MOST_CUT = 0.2
"""Share of cut answers from which on the prompt, or the room for an answer, is to blame."""

LEAST_OF_EITHER = 50
"""Right and wrong answers, each, from which on a trained confidence has something to tell apart."""

WIDE, NARROW, AUROC = 0.1, 0.05, 0.8
"""An interval of an AUROC about 0.8 of more than ±0.1 compares little; ±0.05 is what one would want."""


@dataclass(frozen=True)
class Counts:
    """How many graded answers of a split there are, and how many of them are right."""

    n: int
    right: int

    @property
    def rarer(self) -> int:
        """How many there are of right or wrong answers, whichever are fewer."""
        return min(self.right, self.n - self.right)

    @property
    def rarer_named(self) -> str:
        """Which of the two that is."""
        return "right" if self.right <= self.n - self.right else "wrong"


def counts_of(records: Sequence[Record]) -> dict[str, Counts]:
    """The graded answers by split; rows without a split serve as calibration and as test rows alike."""
    graded: dict[str, list[bool]] = {}
    for record in records:
        if record.correct is not None:
            for split in [record.split] if record.split else ["calibration", "test"]:
                graded.setdefault(split, []).append(record.correct)
    return {split: Counts(len(labels), sum(labels)) for split, labels in graded.items()}


def shortages(records: Sequence[Record], *, training: bool = True) -> list[str]:
    """What there is too little of for training, evaluation and calibration, a sentence each, without its full stop.

    Args:
        records: annotated rows; without a grade there is nothing to say but of cut answers.
        training: whether rows to learn from are wanted, too.
    """
    counts = counts_of(records)
    found = [cut(records)]
    if training and (train := counts.get("train")) is not None:
        found.append(_for_training(train))
    if (test := counts.get("test")) is not None:
        found.append(_for_evaluation(test))
    if (calibration := counts.get("calibration")) is not None:
        found.append(_for_calibration(calibration))
    return [sentence for sentence in found if sentence is not None]


def cut(records: Sequence[Record]) -> str | None:
    """That many answers were cut, and what to do about it (None: few were)."""
    share = sum(record.finish == "length" for record in records) / max(1, len(records))
    if share < MOST_CUT:
        return None
    return (
        f"{share:.0%} of the answers were cut before their end: they have no confidence and escalate. A prompt that "
        "asks for a short answer, or more --max-new-tokens, is needed first"
    )


def auroc_half_width(right: int, wrong: int, auroc: float = AUROC) -> float:
    """Half the width of a 95 % interval of an ``auroc`` on so many right and wrong answers (Hanley and McNeil 1982).

    >>> round(auroc_half_width(10, 90), 2), round(auroc_half_width(200, 100), 2)
    (0.17, 0.05)
    """
    if not right or not wrong:
        return math.inf
    q1, q2 = auroc / (2 - auroc), 2 * auroc**2 / (1 + auroc)
    spread = auroc * (1 - auroc) + (right - 1) * (q1 - auroc**2) + (wrong - 1) * (q2 - auroc**2)
    return 1.96 * math.sqrt(spread / (right * wrong))


def rows_for_width(share_right: float, width: float = NARROW) -> int:
    """About how many rows, of which ``share_right`` are right, give an AUROC to within ``width``."""
    n = MIN_ROWS
    while auroc_half_width(round(n * share_right), n - round(n * share_right)) > width:
        n = math.ceil(n * 1.1)
    return n


def kept_rows_for(risk: float = RISK, level: float = LEVEL) -> tuple[int, int]:
    """Kept answers that show ``risk`` at ``level``: the fewest, none wrong, and if half as many as allowed are wrong.

    >>> kept_rows_for(0.1)[0]
    29
    """
    half = counted_rows_that_decide(risk / 2, risk, level)
    assert half is not None  # half the limit is below it
    return fewest_rows(risk, level), half


def _for_training(train: Counts) -> str | None:
    if train.rarer >= LEAST_OF_EITHER:
        return None
    return (
        f"training: {train.rarer} of the {train.n} train answers are {train.rarer_named}; a confidence learns from at "
        f"least {LEAST_OF_EITHER} right and {LEAST_OF_EITHER} wrong ones"
    )


def _for_evaluation(test: Counts) -> str | None:
    if not test.rarer:
        return f"evaluation: all {test.n} test answers are {'right' if test.right else 'wrong'}: nothing can be ranked"
    wide = auroc_half_width(test.right, test.n - test.right)
    if test.n >= MIN_ROWS and wide <= WIDE:
        return None
    needed = rows_for_width(test.right / test.n)
    return (
        f"evaluation: {test.right} of the {test.n} test answers are right, so an AUROC would be known to about "
        f"±{wide:.2f}; ±{NARROW:.2f} takes about {needed:,} such rows"
        + f" (no verdict below {MIN_ROWS})"
        * (test.n < MIN_ROWS)
    )


def _for_calibration(calibration: Counts) -> str | None:
    fewest, likely = kept_rows_for()
    if calibration.right >= likely:
        return None
    said = (
        f"calibration: {calibration.right} of the {calibration.n} calibration answers are right; a promise of at most "
        f"{RISK:.0%} wrong takes {fewest} kept answers with none wrong, and about {likely} with {RISK / 2:.0%} wrong"
    )
    if calibration.right < fewest:
        said += ", so none can be made of these"
    rate = calibration.right / calibration.n
    if rate:
        return f"{said}. About {math.ceil(likely / rate):,} rows like these have as many right ones"
    return said
