"""The coded column: values that repeat, as a number for every row into a list of values."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from confide.numeric import Bools, Ints


class Coded(NamedTuple):
    """A column of values that repeat: a number for every row [n], and the value of each number."""

    codes: Ints
    values: list[Any]

    @classmethod
    def both(cls, one: Coded, other: Coded) -> Coded:
        """The column of pairs of two columns' values, in the order in which the rows have them."""
        pairs, first, codes = np.unique(
            one.codes * len(other.values) + other.codes, return_index=True, return_inverse=True
        )
        rank = np.argsort(np.argsort(first))
        found = [divmod(pair, len(other.values)) for pair in pairs[np.argsort(first)].tolist()]
        return cls(rank[codes], [(one.values[a], other.values[b]) for a, b in found])

    def where(self, *wanted: Any) -> Bools:
        """Which rows hold one of the ``wanted`` values [n]."""
        kinds = set(wanted)
        return self.mark(lambda value: isinstance(value, Hashable) and value in kinds)

    def mark(self, test: Callable[[Any], bool]) -> Bools:
        """For which rows the value passes a test [n]."""
        return np.array([test(value) for value in self.values], dtype=np.bool_)[self.codes]

    def of(self, marks: Sequence[Any]) -> NDArray[Any]:
        """For every row what ``marks`` says of its value [n]."""
        return np.asarray(marks)[self.codes]

    def present(self) -> list[Any]:
        """The values that occur, in the order in which the file has them."""
        return [self.values[code] for code in np.flatnonzero(np.bincount(self.codes, minlength=1)).tolist()]

    def counts(self) -> dict[Any, int]:
        """How many rows have each value that occurs."""
        found = enumerate(np.bincount(self.codes).tolist())
        return {self.values[code]: count for code, count in found if count}

    def each(self) -> list[Any]:
        """The value of every row [n]."""
        return [self.values[code] for code in self.codes.tolist()]
