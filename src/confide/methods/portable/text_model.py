"""What question and answer look like where answers are right: character n-grams, hashed, in a logistic model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from confide.numeric import Bools, Floats, Ints
from confide.records import Record

PENALTIES = (0.03, 0.3, 3.0)
"""What the inverse strength of the L2 penalty is chosen from."""

LONGEST = 2000
"""Characters of a text that are read."""

_HASHES = 2**15


@dataclass(frozen=True)
class TextModel:
    """A fitted logistic model of n-grams; `TextModel.fit` makes one.

    Attributes:
        grams: hashes of the n-grams that at least two training rows have, [g].
        rarity: their inverse document frequencies, [g].
        weight: their weights, [g].
        bias: what is added.
    """

    grams: Ints
    rarity: Floats
    weight: Floats
    bias: float

    @classmethod
    def fit(cls, counts: Any, right: Bools, C: float = PENALTIES[-1]) -> TextModel:
        """Fit on the `counted` n-grams of graded rows, [n, hashes]; ``C`` is the inverse strength of the penalty."""
        from sklearn.linear_model import LogisticRegression

        shared = np.asarray((counts > 0).sum(0)).ravel()
        grams = np.flatnonzero(shared >= min(2, shared.max(initial=0)))
        rarity = np.log((1 + counts.shape[0]) / (1 + shared[grams])) + 1
        model = LogisticRegression(C=C, max_iter=500).fit(_weighted(counts, grams, rarity), right)
        return cls(grams.astype(np.int64), rarity, model.coef_[0], float(model.intercept_[0]))

    def z(self, counts: Any) -> Floats:
        """Logit [n] that an answer is right, of `counted` n-grams [n, hashes]."""
        towards, squares = self._spread
        lengths = np.sqrt(counts.power(2) @ squares)
        return np.asarray(counts @ towards / np.maximum(lengths, 1e-12) + self.bias, dtype=np.float64)

    @cached_property
    def _spread(self) -> tuple[Floats, Floats]:
        """Weight times rarity, and rarity squared, of every hash (0 of those that are not kept), [hashes] each."""
        towards, squares = np.zeros(_HASHES), np.zeros(_HASHES)
        towards[self.grams], squares[self.grams] = self.weight * self.rarity, self.rarity**2
        return towards, squares

    def to_json(self) -> dict[str, Any]:
        """The model as JSON can hold it."""
        arrays = {name: getattr(self, name).tolist() for name in ("grams", "rarity", "weight")}
        return {**arrays, "bias": self.bias}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TextModel:
        """The model that `to_json` came from; raises ValueError for parts that do not fit each other."""
        rarity, weight = (np.asarray(data[name], dtype=np.float64) for name in ("rarity", "weight"))
        grams = np.asarray(data["grams"], dtype=np.int64)
        if not grams.shape == rarity.shape == weight.shape or not ((grams >= 0) & (grams < _HASHES)).all():
            raise ValueError("the n-grams and the weights of its text model do not fit each other")
        return cls(grams, rarity, weight, float(data["bias"]))


def counted(records: Sequence[Record]) -> Any:
    """How often each hashed n-gram of 1 to 4 characters comes in question and answer: 1 + ln n, sparse [n, hashes].

    Of a long question the last `LONGEST` characters count, of a long answer the first ones.
    """
    from sklearn.feature_extraction.text import HashingVectorizer

    counter = HashingVectorizer(
        analyzer="char_wb", ngram_range=(1, 4), n_features=_HASHES, alternate_sign=False, norm=None
    )
    texts = [f"{record.question[-LONGEST:]} # {record.answer[:LONGEST]}" for record in records]
    counts = counter.transform(texts).tocsr()
    counts.data = 1 + np.log(counts.data)
    return counts


def _weighted(counts: Any, grams: Ints, rarity: Floats) -> Any:
    """Rows weighted by rarity, of length 1."""
    from sklearn.preprocessing import normalize

    return normalize(counts[:, grams].multiply(rarity[None]).tocsr())
