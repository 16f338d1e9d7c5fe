"""The agreement: what a confidence should say if it is to state how often the model would answer the same again."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from confide.errors import ConfideError
from confide.metrics.bootstrap import Bootstrap, estimate
from confide.metrics.faithfulness import BINS, Bounds, scores, skill
from confide.metrics.latent import MIN_SAMPLES, LatentRates
from confide.metrics.metric import FloatArray, IntArray, Weights, ratio
from confide.metrics.ranking import spearman

FAITHFUL = ("mfg", "cmfg", "cmfg_star")
"""The metrics of faithfulness."""


@dataclass(frozen=True)
class Faithful:
    """What one source scores against the agreement, by metric, each [1 + resamples].

    ``counted`` are the scores over all rows whose agreement is known, a row without a confidence counting as the
    number that is furthest off.
    """

    scores: dict[str, FloatArray]
    bounds: Bounds
    counted: dict[str, FloatArray]
    counted_bounds: Bounds

    def skill(self, name: str, *, counted: bool = False) -> FloatArray | None:
        """(score − best constant) / (ceiling − best constant); None where the ceiling is unknown."""
        score, bounds = (self.counted, self.counted_bounds) if counted else (self.scores, self.bounds)
        if name not in bounds.ceilings:
            return None
        return skill(score[name], bounds.floors[name], bounds.ceilings[name])

    def beside(self, name: str) -> dict[str, Any]:
        """What stands beside a score in results.json."""
        bounds = self.bounds
        return {
            "floor": _estimated(bounds.floors[name]),
            "constant": float(bounds.constants[name][0]),
            "ceiling": _estimated(bounds.ceilings.get(name)),
            "skill": _estimated(self.skill(name)),
            "counting_missing": _estimated(self.counted[name]),
            "skill_counting_missing": _estimated(self.skill(name, counted=True)),
        }


class Agreement:
    """The consistency g of rows, the share of the model's own samples that agree with the answer, and its noise.

    ``consistency`` and ``samples``, the number K of samples behind each, are [n] and NaN where unknown; the rows
    are those of ``bootstrap``. There is a ceiling where every row has at least `MIN_SAMPLES` samples.
    """

    def __init__(self, consistency: FloatArray, samples: FloatArray, bootstrap: Bootstrap):
        self.consistency, self.samples, self.bootstrap = consistency, samples, bootstrap
        self.rows: IntArray = np.flatnonzero(np.isfinite(consistency)).astype(np.int64)
        known = consistency[self.rows]
        self.shares = bool(len(known)) and bool(known.min() >= 0 and known.max() <= 1)
        """Whether there are consistencies and all lie in [0, 1]."""
        self._bounds: dict[bytes, Bounds] = {}

    def bounds(self, rows: IntArray) -> Bounds:
        """Floors and ceilings of these rows [1 + resamples]; they hold for every source that has the same rows."""
        key = rows.tobytes()
        if key not in self._bounds:
            g, k = self.consistency[rows], self.samples[rows]
            rates = LatentRates(g, k) if np.all(k >= MIN_SAMPLES) else None

            def statistics(w: Weights) -> dict[str, FloatArray]:
                found = Bounds.of(g, w, rates)
                kinds = {"floor": found.floors, "constant": found.constants, "ceiling": found.ceilings}
                return {f"{name}:{kind}": x for kind, values in kinds.items() for name, x in values.items()}

            sampled = self.bootstrap.sample(statistics, rows)
            kinds = [
                {name: sampled[f"{name}:{kind}"] for name in FAITHFUL if f"{name}:{kind}" in sampled}
                for kind in ("floor", "constant", "ceiling")
            ]
            self._bounds[key] = Bounds(*kinds)
        return self._bounds[key]

    def judge(self, confidence: FloatArray) -> Faithful | None:
        """Probabilities [n], NaN where missing, against the agreement; None without a row that has both."""
        present = self.rows[np.isfinite(confidence[self.rows])]
        if not self.shares or not len(present):
            return None
        found, bounds = self._scores(confidence, present), self.bounds(present)
        if len(present) == len(self.rows):
            return Faithful(found, bounds, found, bounds)
        # The worst number against g is the end of [0, 1] that is further away.
        worst = np.where(self.consistency < 0.5, 1.0, 0.0)
        filled = np.where(np.isfinite(confidence), confidence, worst)
        return Faithful(found, bounds, self._scores(filled, self.rows), self.bounds(self.rows))

    def _scores(self, confidence: FloatArray, rows: IntArray) -> dict[str, FloatArray]:
        c, g = confidence[rows], self.consistency[rows]
        return self.bootstrap.sample(lambda w: scores(c, g, w), rows)

    def summary(self) -> dict[str, Any] | None:
        """The block ``agreement`` of results.json: how g is spread, and its floors and ceilings; None without g.

        ``spread`` is its standard deviation. ``entropy`` is that of its shares in bins of equal width over the
        logarithm of their number: 0 where all answers are stood by equally often, 1 where g is spread evenly.
        """
        if not self.shares:
            return None
        g, k = self.consistency[self.rows], self.samples[self.rows]
        member = np.eye(BINS)[np.minimum((g * BINS).astype(np.int64), BINS - 1)]

        def statistics(w: Weights) -> dict[str, FloatArray]:
            total = w.sum(axis=1).astype(np.float64)
            mean = ratio(w @ g, total)
            filled = ratio(w @ member, total[:, None])
            logs = np.log(np.where(filled > 0, filled, 1.0))
            return {
                "mean": mean,
                "spread": np.sqrt(np.maximum(ratio(w @ (g * g), total) - mean**2, 0.0)),
                "entropy": -(filled * logs).sum(axis=1) / np.log(BINS),
            }

        sampled = self.bootstrap.sample(statistics, self.rows)
        bounds = self.bounds(self.rows)
        known = np.isfinite(k).all()
        return {
            "n": len(g),
            "samples": {"low": int(k.min()), "high": int(k.max())} if known else None,
            "distinct": len(np.unique(g)),
            "bins": BINS,
            **{name: _estimated(sampled[name]) for name in ("mean", "spread", "entropy")},
            **{
                name: {
                    "floor": _estimated(bounds.floors[name]),
                    "constant": float(bounds.constants[name][0]),
                    "ceiling": _estimated(bounds.ceilings.get(name)),
                }
                for name in FAITHFUL
            },
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

    ``confidence`` [n] lies in [0, 1], NaN where none could be read. ``agrees`` [n, K] is 1 where sample k agrees
    with the answer, 0 where it does not, ½ where that cannot be told, NaN where there is no such sample; g is its
    mean. ``clusters`` [n] names what rows must share to count as dependent (None: every row is its own).

    Returns ``{"mfg", "cmfg", "cmfg_star", "spearman", "distinct", "n", "missing", "agreement"}``. A score is
    ``{"value", "low", "high", "floor", "constant", "ceiling", "skill", "counting_missing",
    "skill_counting_missing"}``, in which all but ``constant`` have an interval; ``agreement`` is what
    `Agreement.summary` says of g.
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
    ranks = bootstrap.sample(lambda w: {"spearman": spearman.resampled(values, g[both], w)}, both)["spearman"]
    return {
        **{name: {**estimate(found.scores[name]).as_dict(), **found.beside(name)} for name in FAITHFUL},
        "spearman": _estimated(ranks),
        "distinct": len(np.unique(values)),
        "n": len(both),
        "missing": len(agreement.rows) - len(both),
        "agreement": agreement.summary(),
    }


def _estimated(sampled: FloatArray | None) -> dict[str, float | None] | None:
    return None if sampled is None else estimate(sampled).as_dict()
