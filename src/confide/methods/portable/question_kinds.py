"""Kinds of question, recognised by the words that many questions share: how is asked, not what it is asked about.

Words and pairs of words that at least 2 % of the training questions have, weighted by rarity (TF-IDF), are clustered
(k-means); clusters that were given the same answers are one kind, asked in several ways. A question's phrasing is the
order of its common words, with what is between them left open: a phrasing that training never saw is asked about
something new. Where questions hardly ever share a phrasing, that is no news.

Only hashes of words are kept.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from confide.hashing import key_of_text
from confide.methods.portable.text_model import LONGEST
from confide.numeric import Floats, Ints

CLUSTERS = 16
"""How many clusters of words there are at most."""

ALIKE = 0.5
"""Clusters whose answers have at least this cosine are one kind."""

UNKNOWN = -1
"""The kind of a question that shares no common word with the training questions."""

_COMMON = 0.02
_HASHES = 2**18
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class QuestionKinds:
    """Fitted kinds of question; `QuestionKinds.fit` makes them.

    Attributes:
        words: hashes of the common words and pairs, sorted, [w].
        rarity: their inverse document frequencies, [w].
        centres: the clusters, [k, w].
        kind: the kind of each cluster, [k].
        common: hashes of the common words.
    """

    words: Ints
    rarity: Floats
    centres: Floats
    kind: Ints
    common: frozenset[str]

    @classmethod
    def fit(cls, questions: Sequence[str], answers: Sequence[str], seed: int = 0) -> QuestionKinds:
        """Find the kinds of training questions, which were given these answers."""
        from sklearn.cluster import KMeans

        least = max(2, _COMMON * len(questions))
        counts = _counted(questions)
        shared = np.asarray(counts.sum(0)).ravel()
        words = np.flatnonzero(shared >= least)
        rarity = np.log((1 + len(questions)) / (1 + shared[words])) + 1
        rows = _weighted(counts[:, words].toarray(), rarity)
        if count := min(CLUSTERS, len(np.unique(rows, axis=0))) if len(words) else 0:
            clusters = KMeans(count, n_init=4, random_state=seed).fit(rows)
            centres, kind = clusters.cluster_centers_, _merged(clusters.labels_, answers, count)
        else:
            centres, kind = np.empty((0, len(words))), np.empty(0, dtype=np.int64)
        spread = Counter(word for question in questions for word in set(_words(question)))
        common = frozenset(key_of_text(word) for word, n in spread.items() if n >= least)
        return cls(words.astype(np.int64), rarity, centres, kind, common)

    def predict(self, questions: Sequence[str]) -> Ints:
        """The kind of each question, [n]; `UNKNOWN` where it has no common word."""
        if not len(questions) or not len(self.centres):
            return np.full(len(questions), UNKNOWN, dtype=np.int64)
        rows = _weighted(_counted(questions)[:, self.words].toarray(), self.rarity)
        distance = (self.centres**2).sum(1)[None] - 2 * rows @ self.centres.T
        return np.where(rows.any(1), self.kind[distance.argmin(1)], UNKNOWN)

    def phrasings(self, questions: Sequence[str]) -> list[str]:
        """A hash of how each question is phrased."""
        return [self._phrasing(question) for question in questions]

    def _phrasing(self, question: str) -> str:
        kept: list[str] = []
        for word in _words(question):
            shown = name if (name := key_of_text(word)) in self.common else "_"
            if shown != "_" or kept[-1:] != ["_"]:
                kept.append(shown)
        return key_of_text(" ".join(kept))

    def to_json(self) -> dict[str, Any]:
        """The kinds as JSON can hold them."""
        arrays = {name: getattr(self, name).tolist() for name in ("words", "rarity", "centres", "kind")}
        return {**arrays, "common": sorted(self.common)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> QuestionKinds:
        """The kinds that `to_json` came from; raises ValueError for parts that do not fit each other."""
        words, kind = (np.asarray(data[name], dtype=np.int64) for name in ("words", "kind"))
        rarity = np.asarray(data["rarity"], dtype=np.float64)
        if rarity.shape != words.shape:
            raise ValueError("the words of its kinds of question do not fit their rarities")
        centres = np.asarray(data["centres"], dtype=np.float64).reshape(len(kind), len(words))
        return cls(words, rarity, centres, kind, frozenset(data["common"]))


def _words(question: str) -> list[str]:
    return _WORD.findall(question[-LONGEST:].casefold())


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
    return counter.transform([question[-LONGEST:] for question in questions]).tocsr()


def _weighted(counts: NDArray[Any], rarity: Floats) -> Floats:
    """Rows weighted by rarity, of length 1 (0 where there is nothing)."""
    rows = counts * rarity
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12), dtype=np.float64)


def _merged(cluster: NDArray[Any], answers: Sequence[str], count: int) -> Ints:
    """The kind of each of ``count`` clusters: those that were given the same answers are joined (average linkage)."""
    from sklearn.cluster import AgglomerativeClustering

    if count < 2:
        return np.zeros(count, dtype=np.int64)
    names = {answer: place for place, answer in enumerate(dict.fromkeys(answers))}
    given = np.zeros((count, len(names)))
    np.add.at(given, (cluster, np.array([names[answer] for answer in answers])), 1)
    joining = AgglomerativeClustering(None, metric="cosine", linkage="average", distance_threshold=1 - ALIKE)
    return np.asarray(joining.fit(np.sqrt(given) + 1e-12).labels_, dtype=np.int64)
