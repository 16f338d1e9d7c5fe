"""Free sources: what the answer's own tokens say, without another pass."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from confide.methods.method import Column, Method, Scope, or_nan
from confide.records import Record, answer_log_probability

OPTION = "option_probability"
FREE = ("logprob_sum", "logprob_mean", "logprob_min", "entropy", "answer_length")
MEASURED = tuple(name for name in FREE if name != "answer_length")
"""Those that need the log-probabilities of the answer's tokens, and so can be measured anew for any answer."""


def free_confidence(record: Record) -> dict[str, float | None]:
    """The free sources of one record; None where the engine kept no log-probabilities.

    ``logprob_sum`` is the log-probability of the whole answer, in nats (≤ 0): as a probability it would be 0 for every
    long answer. The others are in (0, 1]: ``logprob_mean`` is the geometric mean of the tokens' probabilities,
    ``logprob_min`` the probability of the least likely token, ``entropy`` e to the minus mean entropy;
    ``answer_length`` falls with every token. Where the answer is the likeliest of given options there is
    ``option_probability`` too.
    """
    values = {name: read(record) for name, read in _READ.items()}
    if record.option_logprobs:
        values[OPTION] = option_probability(record)
    return values


def _logprob_sum(record: Record) -> float | None:
    return answer_log_probability(record.logprobs) if record.logprobs else None


def _logprob_mean(record: Record) -> float | None:
    logs = record.logprobs
    return math.exp(sum(logs) / len(logs)) if logs else None


def _logprob_min(record: Record) -> float | None:
    return math.exp(min(record.logprobs)) if record.logprobs else None


def _entropy(record: Record) -> float | None:
    spread = record.entropies
    return math.exp(-sum(spread) / len(spread)) if spread else None


def _answer_length(record: Record) -> float:
    return 1 / (1 + (len(record.answer_ids) or len(record.answer.split())))


_READ: dict[str, Callable[[Record], float | None]] = {
    "logprob_sum": _logprob_sum,
    "logprob_mean": _logprob_mean,
    "logprob_min": _logprob_min,
    "entropy": _entropy,
    "answer_length": _answer_length,
}


def option_probability(record: Record) -> float | None:
    """Softmax over the options' log-probabilities, at the option that was answered (None without them).

    The option is found by its text, by its letter in ``answered``, or else it is the likeliest one.
    """
    if not record.option_logprobs:
        return None
    values = np.asarray(record.option_logprobs, dtype=np.float64)
    shares = np.exp(values - values.max())
    index = int(values.argmax())
    letter = record.answered or ""
    if record.answer in (record.choices or []):
        index = (record.choices or []).index(record.answer)
    elif len(letter) == 1 and 0 <= ord(letter.upper()) - ord("A") < len(values):
        index = ord(letter.upper()) - ord("A")
    return float(shares[index] / shares.sum())


def free_features(records: Sequence[Record]) -> NDArray[np.float64]:
    """[n, 10]: what a stack may use without another pass (log-probabilities in nats, length as log).

    NaN where an engine does not tell the closing token's log-probability; a cut answer has none, and 0 stands there.
    """
    rows = []
    for r in records:
        logs, spread = r.logprobs or [0.0], r.entropies or [0.0]
        rows.append(
            [
                sum(logs),
                sum(logs) / len(logs),
                min(logs),
                logs[0],
                logs[-1],
                (0.0 if r.finish == "length" else math.nan) if r.end_logprob is None else r.end_logprob,
                spread[0],
                sum(spread) / len(spread),
                math.log1p(len(r.answer_ids) or len(r.logprobs)),
                float(r.finish == "length"),
            ]
        )
    return np.asarray(rows, dtype=np.float64).reshape(-1, 10)


class Free(Method):
    """The method of the free sources; it reads any answer whose tokens have log-probabilities."""

    name = "free"
    sources = (OPTION, *FREE)

    def available(self, scope: Scope) -> Sequence[str]:
        """What at least one record has."""
        values = [free_confidence(record) for record in scope.records]
        return [name for name in self.sources if any(v.get(name) is not None for v in values)]

    def read(self, records: Sequence[Record]) -> Mapping[str, Column]:
        """One column [n] per source; it costs nothing."""
        return free_columns(records, self.wanted_)


def free_columns(records: Sequence[Record], sources: Sequence[str]) -> dict[str, Column]:
    """The free sources ``sources`` of records, a column [n] each."""
    read = {**_READ, OPTION: option_probability}
    return {name: Column(or_nan([read[name](record) for record in records])) for name in sources}
