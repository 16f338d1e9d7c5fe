"""Stopping a trajectory that is going wrong, at a bounded share of those that would have ended right.

A complete trajectory has one score, the least of its readings at the scheduled step ends, so the threshold comes from
the scores of calibration trajectories that ended right, and the bound holds for whole trajectories however many steps
they have.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.common import Json
from benchmarks.inside.trajectories import Trajectories
from confide.metrics import Bootstrap, estimate
from confide.numeric import Bools, Floats, Ints
from confide.policies.thresholds.escalation_thresholds import false_alarm_threshold
from confide.policies.thresholds.fallback_testing import Unmet

LEVEL = 0.95
RESAMPLES = 2000


@dataclass(frozen=True)
class Stops:
    """What stopping does to some trajectories.

    Attributes:
        stopped: [n].
        tokens: tokens written until it was stopped or ended, [n].
    """

    stopped: Bools
    tokens: Ints

    def take(self, rows: Ints) -> Stops:
        """Those of some trajectories."""
        return Stops(self.stopped[rows], self.tokens[rows])


def scheduled(found: Trajectories, from_prompt: bool) -> Bools:
    """The positions at which an answer may be stopped: ends of lines but the last, and the prompt's end if wanted."""
    last = np.append(np.diff(found.answer) > 0, True)
    return ~last & (from_prompt | (found.place > 0))


def lowest(found: Trajectories, values: Floats, at: Bools) -> Floats:
    """The least value of each answer over its scheduled positions, [records]."""
    least = np.full(len(found.records), np.inf)
    np.minimum.at(least, found.answer[at], values[at])
    return least


def threshold(scores: Floats, alpha: float) -> float:
    """The highest threshold that stops at most a share ``alpha`` of trajectories like these (−∞: none does).

    Args:
        scores: of calibration trajectories that ended right.
    """
    found = false_alarm_threshold(scores, alpha, LEVEL, hint=False)
    return -np.inf if isinstance(found, Unmet) else found.threshold


def stop(found: Trajectories, values: Floats, at: Bools, below: float) -> Stops:
    """Stop every answer at the first scheduled position whose value is below the threshold."""
    lengths = np.zeros(len(found.records), np.int64)
    np.maximum.at(lengths, found.answer, found.tokens)
    tokens = lengths.copy()
    hit = at & (values < below)
    np.minimum.at(tokens, found.answer[hit], found.tokens[hit])
    stopped = np.zeros(len(found.records), bool)
    stopped[found.answer[hit]] = True
    return Stops(stopped, tokens)


def escalated(end: Floats, share: float, stopped: Bools | None = None) -> Bools:
    """Which answers are escalated so that their share is ``share``: the stopped ones, then the lowest at the end."""
    order = end.copy()
    if stopped is not None:
        order[stopped] = -np.inf
    picked = np.zeros(len(end), bool)
    picked[np.argsort(order, kind="stable")[: round(share * len(end))]] = True
    return picked


def compared(right: Bools, tokens: Ints, stops: Stops, end: Floats, share: float, expert: float, seed: int) -> Json:
    """Stopping early beside deciding at the end alone, at an equal share escalated to an expert of known accuracy.

    The tokens saved are a share of what the small model writes without stopping. Intervals are 95 %, paired by problem.
    """
    early = escalated(end, share, stops.stopped)
    late = escalated(end, share)
    bootstrap, rows = Bootstrap(range(len(right)), resamples=RESAMPLES, seed=seed), np.arange(len(right))
    routed = {
        name: np.where(picked, expert, right.astype(float)) for name, picked in (("early", early), ("late", late))
    }
    spent = bootstrap.mean(stops.tokens.astype(float), rows) / bootstrap.mean(tokens.astype(float), rows)
    wrong = ~right
    return {
        "share": share,
        "expert": expert,
        "stopped": float(stops.stopped.mean()),
        "stopped_of_right": float(stops.stopped[right].mean()),
        "stopped_of_wrong": float(stops.stopped[wrong].mean()),
        "saved": estimate(1 - spent),
        "accuracy": {name: estimate(bootstrap.mean(one, rows)) for name, one in routed.items()},
        "difference": estimate(bootstrap.mean(routed["early"] - routed["late"], rows)),
    }
