"""What any server tells of an answer beside its text, as columns of numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from confide.methods.free import free_features, option_probability
from confide.numeric import Floats, logit, logit_of_exp
from confide.records import Record, answer_log_probability

_CLIP = 1e-6

_NOT_TOLD = (6, 7)
"""Columns of `free_features` that no server tells: entropies."""


def free_matrix(records: Sequence[Record], options: bool = False, entropies: bool = False) -> Floats:
    """[n, 11]: log-probabilities (sum, mean, least, first, last, closing token), length, whether it was cut, the whole
    answer's probability and its logit, the probability of its least likely token.

    With ``entropies`` two columns more: that of the first token and the mean.
    With ``options`` two columns more: the probability among the options and its logit too, NaN where there were none.
    """
    whole = _with_logit([np.exp(sum(r.logprobs)) for r in records])
    least = np.exp([min(r.logprobs, default=0.0) for r in records])
    told = free_features(records)
    columns = [told if entropies else np.delete(told, _NOT_TOLD, axis=1), whole, least]
    if options:
        columns.append(_with_logit([np.nan if (o := option_probability(r)) is None else o for r in records]))
    return np.column_stack(columns)


def probability_matrix(records: Sequence[Record]) -> Floats:
    """[n, 2]: the answer's probability and its logit, which falls on below one in a million: long answers never tie.

    The probability is that of the answer's tokens, or among the options where the answer is the likeliest of them.
    """
    chosen = [option_probability(record) for record in records]
    whole = np.array([answer_log_probability(record.logprobs) for record in records], dtype=np.float64)
    logs = np.minimum(
        [c if o is None else np.log(max(o, _CLIP)) for c, o in zip(whole, chosen, strict=True)], np.log1p(-_CLIP)
    )
    return np.column_stack([np.maximum(np.exp(logs), _CLIP), logit_of_exp(logs)])


def _with_logit(probability: Sequence[float]) -> Floats:
    p = np.clip(np.asarray(probability, dtype=np.float64), _CLIP, 1 - _CLIP)
    return np.column_stack([p, logit(p)])
