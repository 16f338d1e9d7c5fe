"""Floors: what a confidence must beat to say anything. They come last: one of them is another source, shuffled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from confide.methods.method import Column, Method, Scope, labels, or_nan
from confide.records import Record
from confide.sources import as_probability

SHUFFLED_OF = ("stack", "reader", "logprob_sum", "given")
"""What is shuffled: the first of these that the records have."""


class Floors(Method):
    """``constant``: the base rate of train rows (of all, without splits); ``shuffled``: the best source, shuffled."""

    name = "floors"
    sources = ("constant", "shuffled")

    def available(self, scope: Scope) -> Sequence[str]:
        """Always."""
        return self.sources

    def read(self, records: Sequence[Record]) -> Mapping[str, Column]:
        """One column [n] per floor, for records that have their other confidences already; they cost nothing."""
        graded = [r for r in self.scope_.records if r.correct is not None]
        train = self.scope_.graded("train") or graded
        base = float(labels(train).mean()) if train else 0.5
        held = records[0].confidence if records else {}
        name = next((name for name in SHUFFLED_OF if name in held), None)
        values: list[float | None] = [base if name is None else r.confidence.get(name) for r in records]
        order = np.random.default_rng(self.scope_.seed).permutation(len(records))
        columns = {
            "constant": Column(np.full(len(records), base)),
            "shuffled": Column(as_probability(name or "constant", or_nan([values[i] for i in order]))),
        }
        return {name: columns[name] for name in self.wanted_}
