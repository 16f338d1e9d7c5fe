"""Testing thresholds in an order fixed before any label is seen, with one error rate over all of them.

Learn then test (Angelopoulos et al. 2021, arXiv 2110.01052) with the fallback procedure (Wiens 2003, "A fixed
sequence Bonferroni procedure"; section 2.1 of Bretz et al. 2009 draws it as a graph). Thresholds are tested from
strict to loose. Some of them are *starts*, each with a share of the error rate 1 − level. A test that rejects hands
its error rate on to the next one. A test that does not loses it, and testing goes on with the shares of later starts
only. Any rejected threshold may then be used, and the loosest is. Whatever the dependence of the tests, the
probability of rejecting even one threshold that breaks the promise is at most 1 − level.

Two starts: nearly all of the error rate at a strict threshold, 3 % of it at one that keeps three fifths of the rows.
The second is for a confidence that is too sure at its very top, where one start alone ends at once. How they were
chosen: ``docs/explanation/decisions.md``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from confide.numeric import Floats, Ints
from confide.policies.goals import BoundedName
from confide.policies.thresholds.binomial_bound import BinomialCount
from confide.policies.thresholds.cluster_bound import ClusterCount
from confide.policies.thresholds.judged_bound import JudgedCount
from confide.policies.thresholds.paired_bound import PairedCount

Count = BinomialCount | PairedCount | ClusterCount | JudgedCount
"""What tested rows show of a promised quantity."""

RESTART_WEIGHT = 0.03
RESTART_SHARE = 0.6

LIMITS = 1000
"""A limit that could be met is found to one part in so many."""


@dataclass(frozen=True)
class BoundedThreshold:
    """A threshold that keeps a promise: keep a row when its raw confidence is at least ``threshold``.

    The goal's quantity is at most ``limit`` with probability ``level``; ``count`` is what the tested rows show of it.
    """

    threshold: float
    limit: float
    level: float
    count: Count

    @property
    def n(self) -> int:
        """Rows tested."""
        return self.count.n

    @property
    def coverage(self) -> float:
        """Share of the tested rows that is kept."""
        return self.count.kept / self.count.n

    @cached_property
    def upper_bound(self) -> float:
        """One-sided upper bound of the quantity at ``level``.

        It is at most ``limit``, and ``limit`` is what is promised: the threshold was picked, and the bound with it.
        """
        return self.count.interval(self.level)[1]


@dataclass(frozen=True)
class Attainable:
    """What rows that miss a goal do show: a looser ``limit``, and what is kept with it.

    It was chosen by looking at the labels, so it is a hint for the next goal, not a promise.
    """

    limit: float
    coverage: float
    observed: float
    upper_bound: float


@dataclass(frozen=True)
class Unmet:
    """The goal cannot be met on these ``n`` rows at any coverage.

    ``attainable`` is what the same procedure grants for the next larger limit for which it grants anything, in
    thousandths (None: it grants nothing that is worth having, see `worth_having`). ``rows_needed`` is about the number
    of rows like these that meet the goal with probability 0.8 (None: no number would do, or it cannot be told). Of a
    judge's rows ``labels`` have a label (None: there is no judge). ``base`` is the quantity where every answer is kept,
    as observed. ``too_few`` says how many rows a flawless run takes, where there are fewer.
    """

    goal: BoundedName
    limit: float
    level: float
    n: int
    attainable: Attainable | None = None
    rows_needed: int | None = None
    labels: int | None = None
    base: float | None = None
    too_few: str | None = None

    def explain(self, source: str) -> str:
        """Why there is no policy, what could be promised instead, and how many rows it would take."""
        return "\n".join(filter(None, (self.why(source), self.next_step(), self.looser())))

    def why(self, source: str) -> str:
        """Why there is no policy."""
        if self.too_few is not None:
            return f"The goal cannot be met: {self.too_few}."
        goal = {
            "max_risk": f"a risk of at most {self.limit:g}",
            "budget": f"at most {self.limit:.1%} escalated",
            "match_expert": f"an accuracy at most {self.limit:g} below the expert's",
            "false_alarms": f"at most {self.limit:.1%} of the fine answers not kept",
        }[self.goal]
        why = f"The goal cannot be met: no threshold on {source} shows {goal} at level {self.level:g}"
        why += f" on these {self.n} {self._rows}"
        if self.base is not None:
            of_all = "wrong" if self.goal == "max_risk" else "lost to the expert's"
            why += f"; with every answer kept {self.base:.1%} are {of_all}"
        return f"{why}."

    def looser(self) -> str | None:
        """What could be promised instead (None: nothing that is worth having)."""
        if (hint := self.attainable) is None:
            return None
        kept = f"; it keeps {hint.coverage:.1%} of the answers, of which {hint.observed:.1%} are "
        kept += "lost to the expert's" if self.goal == "match_expert" else "wrong"
        if self.too_few is not None:
            kept = f"; it keeps {hint.coverage:.1%} of the {self._rows}"
        elif self.goal in ("budget", "false_alarms"):
            kept = f", as {hint.observed:.1%} of the {self._rows} have no confidence and escalate"
        flag = f"--{self.goal.replace('_', '-')}".replace("--false", "--max-false")
        return f"A looser goal: {flag} {hint.limit:g} is the lowest that could be met{kept}. Ask it of fresh rows."

    @property
    def _rows(self) -> str:
        return "fine rows" if self.goal == "false_alarms" else "rows"

    def next_step(self, file: float = 1.0) -> str:
        """How many more rows would do, or what else if that cannot be told.

        Args:
            file: rows of the whole file for each calibration row.
        """
        if self.rows_needed is None:
            better = "a source that tells right from wrong better (`confide evaluate` compares them), or another goal"
            if self.labels is not None:
                better = f"fresh rows with more labels than these {self.labels} (`confide label`), {better}"
            more = f"confidences for the {self._rows} that have none, or a source that more of them have"
            step = {
                "max_risk": f"{better}: --match-expert, --budget or --cost",
                "match_expert": f"{better}: --max-risk or --cost",
                "budget": more,
                "false_alarms": more,
            }[self.goal]
            return f"What would help: {step}; how many more rows would, if any, cannot be told from these."
        if self.too_few is not None:
            return f"More rows: at least {rows_of_file(self.rows_needed, file, self._rows)}, if none speaks against it."
        wanted = rows_of_file(self.rows_needed, file, self._rows)
        if self.rows_needed <= self.n:
            return f"More rows: these come close; {wanted}, fresh ones like these, would show it in four of five draws."
        return f"More rows: about {wanted}, if they are like these, would show it in four of five draws."


def rows_of_file(rows: int, file: float = 1.0, what: str = "rows") -> str:
    """A number of calibration rows in words, with that of the whole file where it has ``file`` rows for each of them.

    >>> rows_of_file(1200), rows_of_file(120, 5.0)
    ('1,200 calibration rows', '120 calibration rows (600 in the whole file, split as it is)')
    """
    called = "fine calibration rows" if what == "fine rows" else "calibration rows"
    whole = f" ({math.ceil(rows * file - 1e-9):,} in the whole file, split as it is)" if file > 1 else ""
    return f"{rows:,} {called}{whole}"


def worth_having(attainable: Attainable | None, limit: float, base: float | None) -> Attainable | None:
    """``attainable`` where it is nearer the ``limit`` that was asked for than ``base``, that of keeping every answer.

    Where keeping every answer is within the limit as observed, rows are all that is missing, and any limit below one
    half says something.
    """
    if attainable is None or base is None:
        return attainable
    most = 0.5 if base <= limit else (limit + base) / 2
    return attainable if attainable.limit <= most else None


@dataclass(frozen=True)
class Plan:
    """Which thresholds are tested: the numbers of rows they keep, ascending, and the error rate added at each."""

    kept: Ints
    added: Floats

    @classmethod
    def with_two_starts(cls, kept: Ints, restart: int, error: float) -> Plan:
        """Test at each of ``kept``; ``error`` is split over the first of them and ``restart``."""
        first = np.where(kept == kept[0], (1 - RESTART_WEIGHT) * error, 0.0)
        return cls(kept, first + np.where(kept == restart, RESTART_WEIGHT * error, 0.0))

    def stretched(self, n: int) -> Plan:
        """The plan at the same shares of ``n`` rows."""
        return Plan(-(-self.kept * n // self.kept[-1]), self.added)

    def starting_from(self, least: int) -> Plan:
        """The plan without tests of fewer than ``least`` rows; the first that is left has their error rate."""
        first = min(int(np.searchsorted(self.kept, least)), len(self.kept) - 1)
        return Plan(self.kept[first:], np.append(self.added[: first + 1].sum(), self.added[first + 1 :]))

    def at_ties(self, confidence: Floats) -> Plan:
        """The plan on ``confidence`` (n,), sorted from high to low: a threshold keeps every row tied with it."""
        cut = confidence[self.kept - 1]
        kept, where = np.unique(np.searchsorted(-confidence, -cut, side="right"), return_inverse=True)
        added = np.zeros(len(kept))
        np.add.at(added, where, self.added)
        return Plan(kept, added)


def loosest_rejected(rejects: Callable[[int, float], bool], added: Floats) -> int | None:
    """Position of the last test that rejects (None: none does).

    ``rejects`` takes a test's position and the error rate that it may spend; ``added`` (tests,) is the error rate that
    starts at each test.
    """
    available, last = 0.0, None
    for position, more in enumerate(added.tolist()):
        available += more
        if available > 0 and rejects(position, available):
            last = position
        else:
            available = 0.0
    return last


def loosest_of_all(rejects: Callable[[int, float], bool], added: Floats) -> int | None:
    """Position of the loosest test that rejects at its own error rate (None: none does); see `loosest_rejected`."""
    return next((at for at in range(len(added) - 1, -1, -1) if rejects(at, float(added[at]))), None)


def threshold_or_hint(
    find: Callable[[float], BoundedThreshold | None],
    goal: BoundedName,
    limit: float,
    level: float,
    n: int,
    least: Callable[[], float],
    hint: bool,
) -> BoundedThreshold | Unmet:
    """The threshold that ``find`` gives for ``limit``, else with ``hint`` the smallest limit for which it gives one.

    Limits are tried in thousandths, from ``least`` up, below which there is none for certain: which tests there are may
    depend on the limit, so that a larger one is not always easier.
    """
    if (found := find(limit)) is not None:
        return found
    if not hint:
        return Unmet(goal, limit, level, n)
    first, end = math.floor(max(limit, least()) * LIMITS + 1e-9), LIMITS // 2 if goal == "match_expert" else LIMITS
    tried = (k for k in range(max(first, 1), end) if k > limit * LIMITS)
    met = next((found for k in tried if (found := find(k / LIMITS)) is not None), None)
    if met is None:
        return Unmet(goal, limit, level, n)
    shown = Attainable(met.limit, met.coverage, met.count.observed, met.upper_bound)
    return Unmet(goal, limit, level, n, shown)
