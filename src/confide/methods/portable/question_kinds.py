"""Kinds of question, recognised by the words that many questions share: how is asked, not what it is asked about.

Words and pairs of words that at least 2 % of the training questions have, weighted by rarity (TF-IDF), are clustered
(k-means). Only hashes of words are kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from confide.numeric import Floats, Ints

COUNT = 8
"""How many kinds there are at most."""

UNKNOWN = -1
"""The kind of a question that shares no common word with the training questions."""

_COMMON = 0.02
_HASHES = 2**18


@dataclass(frozen=True)
class QuestionKinds:
    """Fitted kinds of question; `QuestionKinds.fit` makes them.

    Attributes:
        words: hashes of the common words and pairs, sorted, [w].
        rarity: their inverse document frequencies, [w].
        centres: the kinds, [k, w].
    """

    words: Ints
    rarity: Floats
    centres: Floats

    @classmethod
    def fit(cls, questions: Sequence[str], seed: int = 0) -> QuestionKinds:
        """Find the kinds of training questions."""
        from sklearn.cluster import KMeans

        counts = _counted(questions)
        shared = np.asarray(counts.sum(0)).ravel()
        words = np.flatnonzero(shared >= max(2, _COMMON * len(questions)))
        rarity = np.log((1 + len(questions)) / (1 + shared[words])) + 1
        rows = _weighted(counts[:, words].toarray(), rarity)
        count = min(COUNT, len(np.unique(rows, axis=0)))
        centres = KMeans(count, n_init=4, random_state=seed).fit(rows).cluster_centers_ if len(words) else rows[:1]
        return cls(words.astype(np.int64), rarity, centres)

    def predict(self, questions: Sequence[str]) -> Ints:
        """The kind of each question, [n]; `UNKNOWN` where it has no common word."""
        if not len(questions):
            return np.empty(0, dtype=np.int64)
        rows = _weighted(_counted(questions)[:, self.words].toarray(), self.rarity)
        distance = ((rows[:, None] - self.centres[None]) ** 2).sum(-1)
        return np.where(rows.any(1), distance.argmin(1), UNKNOWN)

    def one_hot(self, kinds: Ints) -> Floats:
        """[n, k]: 1 in the column of a row's kind; all 0 where it is unknown."""
        return (kinds[:, None] == np.arange(len(self.centres))).astype(np.float64)

    def to_json(self) -> dict[str, Any]:
        """The kinds as JSON can hold them."""
        return {name: array.tolist() for name, array in vars(self).items()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> QuestionKinds:
        """The kinds that `to_json` came from; raises ValueError for parts that do not fit each other."""
        words = np.asarray(data["words"], dtype=np.int64)
        rarity, centres = (np.asarray(data[name], dtype=np.float64) for name in ("rarity", "centres"))
        if not words.shape == rarity.shape == centres.shape[1:]:
            raise ValueError("the words and the centres of its kinds of question do not fit each other")
        return cls(words, rarity, centres)


def _counted(questions: Sequence[str]) -> Any:
    """Which hashed words and pairs each question has, sparse [n, hashes]."""
    from sklearn.feature_extraction.text import HashingVectorizer

    counter = HashingVectorizer(
        n_features=_HASHES,
        ngram_range=(1, 2),
        token_pattern=r"(?u)\b\w+\b",
        alternate_sign=False,
        norm=None,
        binary=True,
    )
    return counter.transform(questions).tocsc()


def _weighted(counts: NDArray[Any], rarity: Floats) -> Floats:
    """Rows weighted by rarity, of length 1 (0 where there is nothing)."""
    rows = counts * rarity
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12), dtype=np.float64)
