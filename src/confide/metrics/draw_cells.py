"""The cells: rows that draws of the bootstrap need not tell apart, so that a draw of a million rows costs thousands.

The value of a metric is always computed on the rows themselves. Of very many rows the draws see cells instead: rows
that are next to each other in confidence, with the same outcome. A cell stands at the mean confidence of its rows, and
its weight is theirs. What this changes in a metric is taken off again as one constant, so only the spread of the draws
is approximate, by the little that rows of one cell differ.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from confide.numeric import Floats, Ints, logit

MERGED = 20_000
"""Rows above which draws see cells."""

CELLS = 4096
"""Cells of confidence, about; equal confidences are always in one."""

_BINS = 10
"""Bins of equal width that no cell crosses, since metrics use as many."""

_FARTHEST = 30


@dataclass(frozen=True)
class Cells:
    """The place in order of confidence [n] and the cell [n] of every row, and one row of each cell [cells].

    Cells are numbered in order of confidence. Those in one place are tied, whatever their marks.
    """

    place: Ints
    of_row: Ints
    example: Ints

    @classmethod
    def of(cls, confidence: Floats, *marks: NDArray[np.generic] | None, cells: int = CELLS) -> Cells:
        """Cells of rows that share a place in order of ``confidence`` [n] and every one of the ``marks`` [n]."""
        place = codes = places(confidence, cells)
        for mark in marks:
            if mark is not None:
                kinds, of = np.unique(mark, return_inverse=True)
                codes = np.unique(codes * len(kinds) + of, return_inverse=True)[1]
        _, example, of_row = np.unique(codes, return_index=True, return_inverse=True)
        return cls(place, of_row.astype(np.int64), example.astype(np.int64))

    def __len__(self) -> int:
        return len(self.example)

    def means(self, values: Floats) -> Floats:
        """Mean of ``values`` [n] over all rows in the place of a cell [cells]."""
        means = np.bincount(self.place, values) / np.bincount(self.place)
        return np.asarray(means[self.place[self.example]])


def places(confidence: Floats, cells: int = CELLS) -> Ints:
    """The place [n] of every confidence [n] among at most about ``cells`` in order of confidence.

    Places hold about as many rows each, and fewer at both ends of the order, which some metrics look at alone.
    Probabilities in one place are in one bin of equal width, and in one interval of half a logit, so that a place at
    the end of [0, 1] does not hold log losses that differ much.
    """
    order = np.argsort(confidence, kind="stable")
    values = confidence[order]
    first = np.flatnonzero(np.append(True, values[1:] != values[:-1]))
    tie = np.repeat(first, np.diff(np.append(first, len(values))))
    rulers = [tie * cells // len(values), _half_logits((tie + 0.5) / len(values))]
    if values[0] >= 0 and values[-1] <= 1:
        rulers += [np.minimum((values * _BINS).astype(np.int64), _BINS - 1), _half_logits(values)]
    new = np.any([ruler[1:] != ruler[:-1] for ruler in rulers], axis=0)
    out = np.empty(len(values), dtype=np.int64)
    out[order] = np.cumsum(np.append(False, new))
    return out


def _half_logits(share: Floats) -> Ints:
    """In which interval of half a logit each of the shares [n] in [0, 1] lies."""
    return np.floor(2 * np.clip(logit(share), -_FARTHEST, _FARTHEST)).astype(np.int64)
