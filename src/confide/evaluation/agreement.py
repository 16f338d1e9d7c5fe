"""The agreement: what a confidence should say if it is to state how often the model would answer the same again."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import entr

from confide.errors import ConfideError
from confide.metrics.bootstrap import Bootstrap, estimate
from confide.metrics.faithfulness import BINS, MIN_SAMPLES, LatentRates, bounds, scores, skill
from confide.metrics.metric import Weights
from confide.metrics.ranking import spearman
from confide.metrics.running_sums import ratio, weighted_mean
from confide.numeric import Floats, Ints

FAITHFUL = ("mfg", "cmfg", "cmfg_star")
"""The metrics of faithfulness."""


Sampled = dict[str, Floats]
"""Named numbers, each [1 + resamples]."""


@dataclass(frozen=True)
class Faithful:
    """What one source scores against the agreement, by metric, and the bounds of these scores.

    ``counting_missing`` is the same over all rows whose agreement is known, where a row without a confidence counts
    as the number that is furthest off; None where no confidence is missing.
    """

    scores: Sampled
    bounds: Sampled
    counting_missing: Faithful | None = None

    def skill(self, name: str) -> Floats | None:
        """(score − best constant) / (ceiling − best constant); None where the ceiling is unknown."""
        ceiling = self.bounds.get(f"{name}_ceiling")
        return None if ceiling is None else skill(self.scores[name], self.bounds[f"{name}_floor"], ceiling)

    def beside(self, name: str) -> dict[str, Any]:
        """What stands beside a score in results.json."""
        whole = self.counting_missing or self
        return {
            **_bounds(self.bounds, name),
            "skill": _estimated(self.skill(name)),
            "counting_missing": estimate(whole.scores[name]),
            "skill_counting_missing": _estimated(whole.skill(name)),
        }


class Agreement:
    """The consistency g of rows, the share of the model's own samples that agree with the answer, and its noise.

    ``consistency`` and ``samples``, the number K of samples behind each, are [n] and NaN where unknown; the rows
    are those of ``bootstrap``. There is a ceiling where every row has at least `MIN_SAMPLES` samples.
    """

    def __init__(self, consistency: Floats, samples: Floats, bootstrap: Bootstrap):
        self.consistency, self.samples, self.bootstrap = consistency, samples, bootstrap
        self.rows: Ints = np.flatnonzero(np.isfinite(consistency)).astype(np.int64)
        known = consistency[self.rows]
        self.shares = bool(len(known)) and bool(known.min() >= 0 and known.max() <= 1)
        """Whether there are consistencies and all lie in [0, 1]."""
        self._bounds: dict[bytes, Sampled] = {}

    def bounds(self, rows: Ints) -> Sampled:
        """Floors and ceilings of these rows; they hold for every source that has the same rows."""
        key = rows.tobytes()
        if key not in self._bounds:
            g, k = self.consistency[rows], self.samples[rows]
            rates = LatentRates(g, k) if np.all(k >= MIN_SAMPLES) else None
            self._bounds[key] = self.bootstrap.sample(lambda w: bounds(g, w, rates), rows)
        return self._bounds[key]

    def judge(self, confidence: Floats) -> Faithful | None:
        """Probabilities [n], NaN where missing, against the agreement; None without a row that has both."""
        present = self.rows[np.isfinite(confidence[self.rows])]
        if not self.shares or not len(present):
            return None
        found = self._scored(confidence, present)
        if len(present) == len(self.rows):
            return found
        # The worst number against g is the end of [0, 1] that is further away.
        worst = np.where(self.consistency < 0.5, 1.0, 0.0)
        filled = np.where(np.isfinite(confidence), confidence, worst)
        return replace(found, counting_missing=self._scored(filled, self.rows))

    def _scored(self, confidence: Floats, rows: Ints) -> Faithful:
        c, g = confidence[rows], self.consistency[rows]
        return Faithful(self.bootstrap.sample(lambda w: scores(c, g, w), rows), self.bounds(rows))

    def summary(self) -> dict[str, Any] | None:
        """The block ``agreement`` of results.json: how g is spread, and its floors and ceilings; None without g.

        ``spread`` is its standard deviation. ``entropy`` is that of its shares in bins of equal width over the
        logarithm of their number: 0 where all answers are stood by equally often, 1 where g is spread evenly.
        """
        if not self.shares:
            return None
        g, k = self.consistency[self.rows], self.samples[self.rows]
        member = np.eye(BINS)[np.minimum((g * BINS).astype(np.int64), BINS - 1)]

        def statistics(w: Weights) -> dict[str, Floats]:
            mean = weighted_mean(w, g)
            filled = np.stack([weighted_mean(w, inside) for inside in member.T], axis=1)
            return {
                "mean": mean,
                "spread": np.sqrt(np.maximum(weighted_mean(w, g * g) - mean**2, 0.0)),
                "entropy": entr(filled).sum(axis=1) / np.log(BINS),
            }

        sampled = self.bootstrap.sample(statistics, self.rows)
        return {
            "n": len(g),
            "samples": {"low": int(k.min()), "high": int(k.max())} if np.isfinite(k).all() else None,
            "distinct": len(np.unique(g)),
            "bins": BINS,
            **{name: estimate(x) for name, x in sampled.items()},
            **{name: _bounds(self.bounds(self.rows), name) for name in FAITHFUL},
        }


def judge_faithfulness(
    confidence: ArrayLike,
    agrees: ArrayLike,
    clusters: Sequence[Hashable] | None = None,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """MFG, cMFG and cMFG* of confidences between their floors and ceilings, with intervals by cluster.

    Args:
        confidence: In [0, 1], NaN where none could be read, shape [n].
        agrees: 1 where sample k agrees with the answer, 0 where it does not, ½ where that cannot be told, NaN
            where there is no such sample, shape [n, K]; the agreement g is its mean over samples.
        clusters: What rows must share to count as dependent, shape [n]; None: every row is its own.
        resamples: Draws of the bootstrap.
        seed: Seed of the bootstrap.

    Returns:
        ``{"mfg", "cmfg", "cmfg_star", "spearman", "distinct", "n", "missing", "agreement"}``. A score is ``{"value",
        "low", "high", "floor", "constant", "ceiling", "skill", "counting_missing", "skill_counting_missing"}``, in
        which all but ``constant`` have an interval; ``agreement`` is what `Agreement.summary` says of g.

    Raises:
        ConfideError: Shapes that do not fit, values outside [0, 1], or no row with both.

    Example:
        >>> judge_faithfulness([0.9, 0.2], [[1, 1, 1, 1, 1], [0, 0, 1, 0, 0]], resamples=0)["mfg"]["value"]
        0.95
    """
    c, indicators = np.asarray(confidence, dtype=np.float64), np.asarray(agrees, dtype=np.float64)
    if c.ndim != 1 or indicators.ndim != 2 or len(indicators) != len(c):
        raise ConfideError(f"confidences of shape {c.shape}, agreements of shape {indicators.shape}")
    if clusters is not None and len(clusters) != len(c):
        raise ConfideError(f"{len(c)} confidences, but {len(clusters)} clusters")
    seen = np.isfinite(indicators)
    samples = seen.sum(axis=1).astype(np.float64)
    g = ratio(np.where(seen, indicators, 0).sum(axis=1), samples)
    bootstrap = Bootstrap(range(len(c)) if clusters is None else clusters, resamples=resamples, seed=seed)
    both = np.flatnonzero(np.isfinite(c) & np.isfinite(g)).astype(np.int64)
    values = c[both]
    if not len(both):
        raise ConfideError("no row has both a confidence and a sample")
    if values.min() < 0 or values.max() > 1:
        raise ConfideError(f"confidences must lie in [0, 1], not between {values.min():g} and {values.max():g}")
    agreement = Agreement(g, np.where(samples > 0, samples, np.nan), bootstrap)
    found = agreement.judge(c)
    if found is None:
        raise ConfideError("agreements must lie in [0, 1]")
    return {
        **{name: {**estimate(found.scores[name]), **found.beside(name)} for name in FAITHFUL},
        "spearman": estimate(bootstrap.metric(spearman, values, g[both], both)),
        "distinct": len(np.unique(values)),
        "n": len(both),
        "missing": len(agreement.rows) - len(both),
        "agreement": agreement.summary(),
    }


def _estimated(sampled: Floats | None) -> dict[str, float | None] | None:
    return None if sampled is None else estimate(sampled)


def _bounds(sampled: Sampled, name: str) -> dict[str, Any]:
    """The floor of a metric, the constant that reaches it, and the ceiling."""
    return {
        "floor": estimate(sampled[f"{name}_floor"]),
        "constant": float(sampled[f"{name}_constant"][0]),
        "ceiling": _estimated(sampled.get(f"{name}_ceiling")),
    }
