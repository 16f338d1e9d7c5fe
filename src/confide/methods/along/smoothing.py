"""Smoothing: from a reading at each position to the level of a signal there, and to one number for the answer.

An answer's number is the lowest level at any of its positions, so that a threshold on it is the threshold at which an
answer that is being written would have been stopped.
"""

from __future__ import annotations

import re

import numpy as np

from confide.errors import ConfideError
from confide.numeric import Floats

CHOICES = ("none", "average:4", "average:16", "mean")
"""What training chooses from."""

_KNOWN = re.compile(r"none|mean|average:[1-9][0-9]*")


def check_smoothing(smoothing: str) -> str:
    """The ``smoothing``, if it is one; raises `ConfideError` for what is none."""
    if not _KNOWN.fullmatch(smoothing):
        raise ConfideError(f"readings are smoothed by none, mean or average:N (positions), not {smoothing!r}")
    return smoothing


class Level:
    """The level of a signal while an answer is written; it starts at 0, where nothing is known.

    Args:
        smoothing: ``none``, ``mean`` over all positions so far, or ``average:N``, an exponential average in which a
            reading counts half as much N positions later.
    """

    def __init__(self, smoothing: str):
        self._mean = smoothing == "mean"
        self._keep = 0.5 ** (1 / int(smoothing.removeprefix("average:"))) if smoothing.startswith("average:") else 0.0
        self._count, self._value = 0, 0.0

    def add(self, z: float) -> float:
        """The level at the next position, where ``z`` was read."""
        self._count += 1
        keep = (self._count - 1) / self._count if self._mean else self._keep
        self._value = keep * self._value + (1 - keep) * z
        return self._value


def levels(z: Floats, smoothing: str) -> Floats:
    """The level [n] at each of n positions, by the readings ``z`` [n] there."""
    level = Level(smoothing)
    return np.array([level.add(value) for value in z.tolist()])
