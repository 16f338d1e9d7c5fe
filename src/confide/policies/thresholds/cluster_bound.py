"""Bounds of a share over questions that come in clusters: each question counts, and those of a cluster may depend.

Clusters (the questions about one entity) are drawn independently; of a cluster, ``counted`` rows count and ``bad`` of
them are bad. "The share of bad rows, Σ bad / Σ counted over all clusters, is at least m" says that the mean of
X = bad − m · counted is at least 0. It is tested by betting (Waudby-Smith & Ramdas 2024, "Estimating means of bounded
random variables by betting", JRSS B 86, section 4). A capital of 1 is multiplied by 1 − λ X of one cluster after the
other, in random order, with a stake λ that depends on earlier ones alone and never costs everything. It is a
supermartingale and reaches 1/α ever with probability at most α (Ville). The normal approximation will not do: in
simulations of 150 to 2,000 clusters it broke its level in up to 8 % of the sets in place of 5.

X must be bounded: no cluster may have more than ``most`` rows. The largest hundredth of the clusters (at least one)
sets that bound and is left out of the test. Given them, the others are independent draws from the clusters that come
after them, by size and, among equals, by a random number. So the test is exact for clusters up to that size (`_covered`
says how equals are treated), and nothing is said about larger ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import logsumexp
from scipy.stats import norm

from confide.errors import TooFewRowsError
from confide.numeric import Bools, Floats, Ints
from confide.policies.calibration_rows import one_per_cluster
from confide.policies.goals import Per
from confide.policies.thresholds.binomial_bound import POWER

BETTING = 2
"""Betting takes about so many times the rows of a binomial test: 2 ln 20 / 1.645²."""

# Share of the capital at stake at most: with all of it one cluster that is wrong throughout would end the game.
_STAKE = 0.9

# Stakes that share a capital whose bounds hold at all looks: from the highest to a two-thousandth of it.
_STAKES = 12

# The largest of so many entities sets the bound of their size.
_LARGEST_OF = 100
# Thinning smaller entities to less than this share of them costs more than the largest size does.
_ALIKE = 0.5
# With fewer rows than so many times that size, betting keeps less than a draw of independent rows (entities of 1 to 7
# rows, accuracy 0.7, AUROC 0.85: from about 1,700 rows on it keeps more).
_FEW = 250


@dataclass(frozen=True, eq=False)
class ClusterCount:
    """Of ``n`` rows in clusters of at most ``most`` rows ``kept`` are answered; ``bad_each`` and ``counted_each``
    [clusters, in random order] say how many rows of each are bad and how many count; ``signed`` where bad rows are a
    difference, which may be negative. ``anytime`` bounds hold at all looks together, while clusters are added at the
    end.
    """

    n: int
    kept: int
    bad_each: Floats
    counted_each: Floats
    most: int
    signed: bool = False
    anytime: bool = False

    @property
    def clusters(self) -> int:
        """Number of clusters."""
        return len(self.counted_each)

    @property
    def counted(self) -> int:
        """Rows that count, of all clusters."""
        return int(self.counted_each.sum())

    @property
    def observed(self) -> float:
        """The share of bad rows; some row must count."""
        return float(self.bad_each.sum() / self.counted_each.sum())

    def shows(self, limit: float, error: float) -> bool:
        """Whether "the share is at least ``limit``" is rejected at ``error``."""
        return self._gain(self.bad_each - limit * self.counted_each, limit, error) >= -math.log(error)

    def exceeds(self, limit: float, error: float) -> bool:
        """Whether "the share is at most ``limit``" is rejected at ``error``."""
        mirrored = -limit if self.signed else 1 - limit
        return self._gain(limit * self.counted_each - self.bad_each, mirrored, error) >= -math.log(error)

    def interval(self, level: float) -> tuple[float, float]:
        """One-sided bounds of the share, each at ``level``: the limits that are just rejected."""
        least = -1.0 if self.signed else 0.0
        if not self.counted:
            return least, 1.0
        seen = self.observed
        return (
            -_just_rejected(lambda limit: self.exceeds(-limit, 1 - level), -seen, -least),
            _just_rejected(lambda limit: self.shows(limit, 1 - level), seen, 1.0),
        )

    def power(self, expected: float, limit: float, level: float) -> float:
        """Probability that as many clusters show ``limit`` if the true share is ``expected``; normal approximation."""
        if expected >= limit:
            return 0.0
        distance = (limit - expected) * self.counted / math.sqrt(self._squares(limit))
        return float(norm.cdf(distance - math.sqrt(-2 * math.log(1 - level))))

    def rows_needed(self, expected: float, coverage: float, limit: float, level: float) -> int | None:
        """About how many rows in clusters like these would decide (None: no number would, or no row counts)."""
        if not self.counted or self.observed == limit:
            return None
        values, mirrored = self.bad_each - limit * self.counted_each, limit
        if self.observed > limit:
            values, mirrored = -values, -limit if self.signed else 1 - limit
        # Numbers of clusters, a twentieth apart, each with its own stake.
        clusters = 1.05 ** np.arange(400)
        stakes = np.sqrt(-2 * math.log(1 - level) / clusters * self.clusters / self._squares(limit))
        stakes = np.minimum(stakes, _STAKE / ((1 - mirrored) * self.most))
        gains = np.log1p(-stakes[:, None] * values)
        likely = clusters * gains.mean(axis=1) - np.sqrt(clusters) * gains.std(axis=1) * float(norm.ppf(POWER))
        enough = np.flatnonzero(likely >= -math.log(1 - level))
        return math.ceil(clusters[enough[0]] * self.n / self.clusters) if len(enough) else None

    def _squares(self, limit: float) -> float:
        """Sum of X² at ``limit``, with one bad row more, so that it is never 0."""
        return float(((self.bad_each - limit * self.counted_each) ** 2).sum()) + 1.0

    def _gain(self, values: Floats, limit: float, error: float) -> float:
        """Logarithm of the highest capital of bets against "the mean of ``values`` is at least 0".

        No value exceeds (1 − ``limit``) · ``most``. With a last look at n clusters the stake is
        √(2 ln(1/error) / (n σ²)), the best for a known variance (section 3.3 of the source), with σ² from the clusters
        before. Without one, the capital is shared out over stakes that halve, so that none depends on how many clusters
        follow (Robbins 1970).
        """
        highest = _STAKE / ((1 - limit) * self.most)
        if self.anytime:
            stakes = highest / 2.0 ** np.arange(_STAKES)
            paths = np.cumsum(np.log1p(-stakes[:, None] * values), axis=1)
            return float((logsumexp(paths, axis=0) - math.log(_STAKES)).max(initial=0.0))
        n = len(values)
        squares = np.cumsum(values**2) - values**2
        variance = (self.most * max(abs(limit), 1e-3) + squares) / np.arange(1, n + 1)
        stake = np.minimum(np.sqrt(-2 * math.log(error) / (n * variance)), highest)
        return float(np.cumsum(np.log1p(-stake * values)).max(initial=0.0))


@dataclass(frozen=True, eq=False)
class Clusters:
    """Rows in clusters of at most ``most`` rows: ``code`` [n] is the place of a row's cluster in a random order."""

    code: Ints
    most: int

    @property
    def sizes(self) -> Ints:
        """Rows of each cluster."""
        return np.bincount(self.code)

    @property
    def effective(self) -> int:
        """Clusters of equal size that tell as much: (Σ size)² / Σ size² (Kish 1965, "Survey sampling")."""
        return int(len(self.code) ** 2 / max(1, int((self.sizes**2).sum())))

    def sorted(self, order: Ints) -> Clusters:
        """The same clusters of the rows in another order."""
        return Clusters(self.code[order], self.most)

    def rows_needed(self, limit: float, error: float) -> int:
        """About the fewest rows, none of them bad, that show ``limit`` at ``error``."""
        return math.ceil(-math.log(error) / math.log1p(_STAKE * limit / ((1 - limit) * self.most)))

    def check_flawless(self, limit: float, error: float, what: str = "rows") -> None:
        """Raise `ConfideError` when the rows are so few that they could not show ``limit``, were none of them bad.

        ``what`` they are is told there.
        """
        rows = len(self.code)
        if not rows or not self.count(np.zeros(rows), np.ones(rows), rows).shows(limit, error):
            needed = self.rows_needed(limit, error)
            raise TooFewRowsError(
                f"per question, a bound of {limit:g} needs about {needed:,} {what} where an entity has up to "
                f"{self.most}, got {rows}; per entity fewer may do",
                needed,
                rows,
            )

    def count(self, bad: ArrayLike, counted: ArrayLike, kept: int, signed: bool = False) -> ClusterCount:
        """What rows show of which ``bad`` and ``counted`` [n] say how much they weigh; ``kept`` are answered."""
        each = [np.bincount(self.code, np.asarray(x, dtype=float)).astype(float) for x in (bad, counted)]
        return ClusterCount(len(self.code), kept, each[0], each[1], self.most, signed)


@dataclass(frozen=True, eq=False)
class Drawn:
    """The ``rows`` of a sample to test, in ``clusters`` (None: they are independent).

    ``per`` says what counts alike (None: the same, each entity has one row), ``entities`` how many of them there are,
    and ``most`` how many rows an entity may have (None: any number). A share ``uncovered`` of the sample's rows are of
    entities with more.
    """

    rows: Ints
    clusters: Clusters | None = None
    per: Per | None = None
    entities: int = 0
    most: int | None = None
    uncovered: float = 0.0


def draw(names: Sequence[str], per: Per, seed: int) -> Drawn:
    """The rows that show a promise ``per`` question or entity; ``names`` [n] is what rows of an entity share.

    Per entity, one row of each is drawn with ``seed``. Per question, the largest hundredth of the entities is left out.
    Of the others either all rows are tested as clusters, or, where these are few for their size, independent questions:
    an entity is drawn with probability size / ``most``, and one row of it.
    """
    _, code, sizes = np.unique(np.asarray(names, dtype=str), return_inverse=True, return_counts=True)
    if len(sizes) == len(code):
        return Drawn(np.arange(len(code)), entities=len(code))
    if per == "entity":
        return Drawn(one_per_cluster(names, seed), per=per, entities=len(sizes))
    rng = np.random.default_rng(seed)
    place = rng.permutation(len(sizes))
    tested, most = _covered(sizes, rng)
    rows, uncovered = np.flatnonzero(tested[code]), float(np.mean(sizes[code] > most))
    if len(rows) < _FEW * most:
        alike = rng.random(len(sizes)) < sizes / most
        first = rows[one_per_cluster([names[i] for i in rows.tolist()], seed)]
        rows = first[alike[code[first]]]
        return Drawn(rows, None, per, len(rows), most, uncovered)
    return Drawn(rows, _in_order(place[code[rows]], most), per, int(tested.sum()), most, uncovered)


def _covered(sizes: Ints, rng: np.random.Generator) -> tuple[Bools, int]:
    """Which entities of these ``sizes`` are tested, and the largest size that is covered.

    The largest hundredth ends at an entity of size m and random number u. The others are draws from all smaller ones
    and, of those of size m, a share u. Where u is high, smaller ones are thinned to that share as well: what is left
    are draws from all entities of up to m rows. Otherwise those of m rows are left out, and m − 1 is covered.
    """
    chance = rng.random(len(sizes))
    last = np.lexsort((chance, sizes))[-max(1, len(sizes) // _LARGEST_OF)]
    size, share = int(sizes[last]), float(chance[last])
    smaller = sizes < size
    if size > 1 and share < _ALIKE:
        return smaller, size - 1
    equal = (sizes == size) & (chance < share)
    return equal | (smaller & (rng.random(len(sizes)) < share)), size


def within(names: Sequence[str], counted: Bools, most: int) -> Drawn:
    """The rows of entities of which at most ``most`` rows are ``counted`` [n], for a promise per question about these.

    ``names`` [n] is what rows of an entity share; rows that share none are independent. Entities stand in the order of
    their first rows, so that rows of new ones can be added.
    """
    _, first, code = np.unique(np.asarray(names, dtype=str), return_index=True, return_inverse=True)
    sizes = np.bincount(code, counted)
    place = first.argsort().argsort()
    rows = np.flatnonzero(sizes[code] <= most)
    left = len(np.unique(code[rows]))
    return Drawn(rows, None if left == len(rows) else _in_order(place[code[rows]], most), "question", left, most)


def _in_order(place: Ints, most: int) -> Clusters | None:
    """Clusters of rows by the ``place`` [n] of each in a random order (None: no cluster has more than a row)."""
    return Clusters(np.unique(place, return_inverse=True)[1].astype(np.int64), most) if most > 1 else None


def _just_rejected(rejected: Callable[[float], bool], low: float, high: float) -> float:
    """The limit between ``low`` and ``high`` from which on all are rejected (``high`` when none is)."""
    while high - low > 1e-5:
        middle = (low + high) / 2
        low, high = (low, middle) if rejected(middle) else (middle, high)
    return high
