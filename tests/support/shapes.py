"""Simulated calibration rows whose true risk is known, among them those on which a naive threshold breaks its promise.

A shape draws rows and says what a threshold on their confidence truly does: the share kept and the promised quantity
(risk of kept answers, or accuracy lost to an expert) in the population that the rows were drawn from.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from scipy.stats import beta, norm

from confide.errors import ConfideError
from confide.numeric import Bools, Floats
from confide.policies.goals import Per
from confide.policies.thresholds.escalation_thresholds import match_expert_threshold
from confide.policies.thresholds.fallback_testing import BoundedThreshold, Unmet
from confide.policies.thresholds.risk_threshold import bounded_risk_threshold

RISK = 0.1
MARGIN = 0.02
LEVEL = 0.95


@dataclass(frozen=True)
class Rows:
    """Confidence, labels, labels of an expert (all (n,)) and what dependent rows share."""

    confidence: Floats
    correct: Bools
    expert: Bools = field(default_factory=lambda: np.array([], dtype=bool))
    clusters: list[str] | None = None


@dataclass(frozen=True)
class Shape:
    """``kept`` and ``quantity`` are functions of a threshold; ``oracle`` is the largest share kept within the limit."""

    name: str
    about: str
    draw: Callable[[np.random.Generator, int], Rows]
    kept: Callable[[float], float]
    quantity: Callable[[float], float]
    limit: float = RISK

    def oracle(self, thresholds: Floats) -> float:
        """Largest true share kept among ``thresholds`` whose true quantity is within the limit (0: there is none)."""
        return max((self.kept(t) for t in thresholds.tolist() if self.quantity(t) <= self.limit), default=0.0)


def uniform(
    name: str,
    about: str,
    wrong_at: Callable[[Floats], Floats],
    draw: Callable[[np.random.Generator, int], Rows] | None = None,
) -> Shape:
    """Scores uniform on [0, 1]; an answer of score s is wrong with probability ``wrong_at(s)``."""
    grid = (np.arange(60_000) + 0.5) / 60_000
    total = np.concatenate([np.cumsum(wrong_at(grid)[::-1])[::-1], [0.0]]) / len(grid)

    def rows(rng: np.random.Generator, n: int) -> Rows:
        score = rng.random(n)
        return Rows(score, rng.random(n) >= wrong_at(score))

    def risk(t: float) -> float:
        cut = min(max(t, 0.0), 1 - 1e-9)
        low = int(cut * len(grid))
        wrong = total[low] + (cut * len(grid) - low) * (total[low + 1] - total[low])
        return float(wrong / (1 - cut))

    return Shape(name, about, draw or rows, lambda t: 1 - min(max(t, 0.0), 1.0), risk)


def normals(name: str, accuracy: float, auroc: float) -> Shape:
    """Scores of right and wrong answers are normal, with this accuracy and AUROC."""
    apart = math.sqrt(2) * float(norm.ppf(auroc))

    def rows(rng: np.random.Generator, n: int) -> Rows:
        correct = rng.random(n) < accuracy
        return Rows(rng.normal(size=n) + apart * correct, correct)

    def parts(t: float) -> tuple[float, float]:
        return (1 - accuracy) * float(norm.sf(t)), accuracy * float(norm.sf(t - apart))

    return Shape(
        name, f"accuracy {accuracy:g}, AUROC {auroc:g}", rows, lambda t: sum(parts(t)),
        lambda t: parts(t)[0] / max(sum(parts(t)), 1e-12),
    )  # fmt: skip


ATOMS = np.array([0.9, 0.8, 0.7, 0.6, 0.5])
ATOM_RISK = np.array([0.08, 0.1, 0.125, 0.2, 0.4])


def _atoms() -> Shape:
    def rows(rng: np.random.Generator, n: int) -> Rows:
        drawn = rng.integers(0, len(ATOMS), n)
        return Rows(ATOMS[drawn], rng.random(n) >= ATOM_RISK[drawn])

    return Shape(
        "ties", "five scores; the goal is met by two of them, just missed by three", rows,
        lambda t: float((t <= ATOMS).mean()), lambda t: float(ATOM_RISK[t <= ATOMS].mean()),
    )  # fmt: skip


def _clustered(rng: np.random.Generator, n: int) -> Rows:
    """Clusters of 4 to 10 rows, ``n`` in all or a few less; a row has its cluster's label four times in five."""
    sizes = np.tile(np.arange(4, 11), max(1, n // 49))
    cluster = np.repeat(np.arange(len(sizes)), rng.permutation(sizes))
    shared, own = rng.random(len(sizes)) < 0.103, rng.random(len(cluster)) < 0.103
    wrong = np.where(rng.random(len(cluster)) < 0.8, shared[cluster], own)
    score = 0.9 * rng.random(len(sizes))[cluster] + 0.1 * rng.random(len(cluster))
    return Rows(score, ~wrong, clusters=[str(c) for c in cluster.tolist()])


def uneven(rng: np.random.Generator, n: int, small: float, large: float) -> Rows:
    """About ``n`` rows: nine entities in ten have one, of risk ``small``, the others twenty, of risk ``large``.

    Every other row has the label that its entity's rows share.
    """
    sizes = np.where(rng.random(max(1, round(n / 2.9))) < 0.1, 20, 1)
    entity = np.repeat(np.arange(len(sizes)), sizes)
    risk = np.where(sizes == 20, large, small)
    shared, own = rng.random(len(sizes)) < risk, rng.random(len(entity)) < risk[entity]
    wrong = np.where(rng.random(len(entity)) < 0.5, shared[entity], own)
    score = 0.5 * rng.random(len(sizes))[entity] + 0.5 * rng.random(len(entity))
    return Rows(score, ~wrong, clusters=[str(i) for i in entity.tolist()])


def _uneven(name: str, about: str, small: float, large: float, quantity: float) -> Shape:
    """Uneven clusters, whose risk is the same at every threshold."""
    return replace(
        CLUSTERS, name=name, about=about, draw=partial(uneven, small=small, large=large), quantity=lambda t: quantity
    )


def _steep_clustered(rng: np.random.Generator, n: int) -> Rows:
    """The steep shape in entities of 1 to 7 rows, ``n`` in all or a few less; half of the rows share a label."""
    sizes = rng.permutation(np.tile(np.arange(1, 8), max(1, n // 28)))
    entity = np.repeat(np.arange(len(sizes)), sizes)
    shared, own = rng.random(len(sizes)) < 0.7, rng.random(len(entity)) < 0.7
    correct = np.where(rng.random(len(entity)) < 0.5, shared[entity], own)
    score = rng.normal(size=len(entity)) + math.sqrt(2) * float(norm.ppf(0.85)) * correct
    return Rows(score, correct, clusters=[str(i) for i in entity.tolist()])


FLAT = uniform("flat", "risk 0.102 at every threshold", lambda s: np.full(len(s), 0.102))
TIES = _atoms()
STEEP = normals("steep", 0.7, 0.85)
SMALL = normals("small", 0.31, 0.88)
SAW = uniform(
    "saw", "risk jumps between 0 and 0.21 in 60 bands", lambda s: np.where(np.floor(s * 60) % 2 == 0, 0.0, 0.21)
)
BUMP = uniform(
    "bump", "one answer in four wrong in the surest 5 %, 4 % in the next 65 %, half below",
    lambda s: np.where(s > 0.95, 0.25, np.where(s > 0.3, 0.04, 0.5)),
)  # fmt: skip
CLUSTERS = uniform(
    "clusters", "risk 0.103 everywhere, 4 to 10 rows a cluster", lambda s: np.full(len(s), 0.103), _clustered
)
RISK_SHAPES = (FLAT, TIES, SAW, CLUSTERS, STEEP, SMALL, BUMP)
UNEVEN = _uneven(
    "uneven", "one entity in ten has 20 rows; risk 0.102 a question and 0.03 an entity, everywhere",
    0.018, 0.14, (2 * 0.14 + 0.9 * 0.018) / 2.9,
)  # fmt: skip
UNEVEN_ENTITIES = _uneven(
    "uneven, per entity", "one entity in ten has 20 rows; risk 0.096 a question and 0.102 an entity, everywhere",
    0.103, 0.093, 0.9 * 0.103 + 0.1 * 0.093,
)  # fmt: skip
STEEP_CLUSTERS = replace(STEEP, name="steep clusters", about="steep, 1 to 7 rows an entity", draw=_steep_clustered)
FALLING = uniform(
    "falling", "wrong three times in ten at the very top, falling to one in 25 at three quarters, half below",
    lambda s: np.where(s > 0.3, 0.04 + 0.26 * np.maximum(s - 0.75, 0) / 0.25, 0.5),
)  # fmt: skip


def _flat_loss() -> Shape:
    """A loss of 0.0204 within the surest tenth, then as many gains as losses: just too much from there on."""
    top, rate = 0.1, 0.204

    def rows(rng: np.random.Generator, n: int) -> Rows:
        score, u = rng.random(n), rng.random(n)
        surest = score > 1 - top
        loses = np.where(surest, u < rate, u < 0.1)
        gains = np.where(surest, False, (u >= 0.1) & (u < 0.2))
        both = rng.random(n) < 0.7
        return Rows(score, gains | (~loses & both), loses | (~gains & both))

    return Shape("flat loss", "2.04 points of accuracy lost at nearly every threshold", rows, lambda t: 1 - t,
                 lambda t: rate * min(1 - t, top), MARGIN)  # fmt: skip


def _steep_loss() -> Shape:
    """The steep shape beside an expert that is right 19 times in 20, whatever the small model does."""
    accuracy, apart, right = 0.7, math.sqrt(2) * float(norm.ppf(0.85)), 0.95

    def rows(rng: np.random.Generator, n: int) -> Rows:
        small = STEEP.draw(rng, n)
        return Rows(small.confidence, small.correct, rng.random(n) < right)

    def loss(t: float) -> float:
        return (1 - accuracy) * float(norm.sf(t)) * right - accuracy * float(norm.sf(t - apart)) * (1 - right)

    return Shape("steep loss", "steep, beside an expert of accuracy 0.95", rows, STEEP.kept, loss, MARGIN)


FLAT_LOSS, STEEP_LOSS = _flat_loss(), _steep_loss()
LOSS_SHAPES = (FLAT_LOSS, STEEP_LOSS)


def ours(rows: Rows, per: Per = "question", simultaneous: bool = False) -> float | None:
    """`confide calibrate --max-risk 0.1`, None as well where there are too few rows."""
    with suppress(ConfideError):
        return _threshold(
            bounded_risk_threshold(
                rows.confidence,
                rows.correct,
                RISK,
                LEVEL,
                rows.clusters,
                per=per,
                simultaneous=simultaneous,
                hint=False,  # what else could be met is looked for at length
            )
        )
    return None


def per_entity(rows: Rows) -> float | None:
    """`confide calibrate --max-risk 0.1 --per entity`."""
    return ours(rows, "entity")


def simultaneous(rows: Rows) -> float | None:
    """`confide calibrate --max-risk 0.1 --simultaneous`."""
    return ours(rows, simultaneous=True)


def matched(rows: Rows) -> float | None:
    """`confide calibrate --match-expert 0.02`."""
    return _threshold(match_expert_threshold(rows.confidence, rows.correct, rows.expert, MARGIN, LEVEL, hint=False))


def _threshold(found: BoundedThreshold | Unmet) -> float | None:
    return found.threshold if isinstance(found, BoundedThreshold) else None


def naive_threshold(rows: Rows) -> float | None:
    """The loosest threshold whose own risk bound is within the goal, as if it had not been picked, rows independent."""
    order = np.argsort(-rows.confidence, kind="stable")
    score = rows.confidence[order]
    ends = np.append(score[1:] < score[:-1], True)
    kept, wrong = np.arange(1, len(score) + 1)[ends], np.cumsum(~rows.correct[order])[ends]
    good = np.flatnonzero(beta.ppf(LEVEL, wrong + 1, np.maximum(kept - wrong, 1e-9)) <= RISK)
    return float(score[ends][good[-1]]) if len(good) else None


def naive_match(rows: Rows) -> float | None:
    """The loosest threshold whose own normal bound of the paired loss is within the margin."""
    order = np.argsort(-rows.confidence, kind="stable")
    d = np.cumsum((rows.expert.astype(float) - rows.correct)[order])
    square = np.cumsum((rows.expert != rows.correct)[order])
    n = len(order)
    bound = d / n + norm.ppf(LEVEL) * np.sqrt(np.maximum(square / n - (d / n) ** 2, 0) / n)
    good = np.flatnonzero(bound <= MARGIN)
    return float(rows.confidence[order][good[-1]]) if len(good) else None


def allowed(sets: int) -> float:
    """Largest share of broken promises: 1 − level and three standard errors of ``sets`` simulations."""
    return 1 - LEVEL + 3 * math.sqrt(LEVEL * (1 - LEVEL) / sets)
