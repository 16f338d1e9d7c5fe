"""Kinds of errors and positions in the answer: where and when does a confidence know?"""

from __future__ import annotations

from typing import Any

import numpy as np

from confide.evaluation.controls import MIN_KIND
from confide.evaluation.record_columns import Rows, extra
from confide.metrics.bootstrap import Bootstrap, estimate, sampled_auroc, sampled_mean
from confide.metrics.metric import BoolArray, FloatArray
from confide.sources import AT, SHUFFLED, SWAPPED

TOKENS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
"""Tokens of the answer after which the running log-probability is judged."""

REACHED = 0.1
"""Share of answers that must be longer than a position for it to be listed."""


def error_kinds(rows: Rows, bootstrap: Bootstrap) -> dict[str, Any] | None:
    """Mean confidence by kind of error (the record's ``error_kind``), and AUROC of right answers against each kind.

    None where no wrong answer names its kind. AUROCs take `MIN_KIND` right answers and as many errors of the kind.
    """
    named = np.array([str(kind) if (kind := extra(r, "error_kind")) else "" for r in rows.records])
    named[rows.correct] = ""
    kinds = sorted(set(named) - {""})
    if not kinds:
        return None
    confidence = {source: rows.confidence(source) for source in rows.sources}

    def means(inside: BoolArray) -> dict[str, Any]:
        out = {}
        for source, values in confidence.items():
            kept = np.flatnonzero(inside & np.isfinite(values))
            out[source] = estimate(sampled_mean(values[kept], kept, bootstrap)).as_dict() if len(kept) else None
        return out

    out: dict[str, Any] = {
        "right": {"n": int(rows.correct.sum()), "confidence": means(rows.correct)},
        "unnamed": int((~rows.correct & (named == "")).sum()),
        "kinds": {},
    }
    for kind in kinds:
        inside = named == kind
        aurocs = {s: _auroc(values, rows, rows.correct | inside, bootstrap) for s, values in confidence.items()}
        out["kinds"][kind] = {"n": int(inside.sum()), "confidence": means(inside), "auroc": aurocs}
    return out


def auroc_by_position(rows: Rows, bootstrap: Bootstrap) -> dict[str, list[dict[str, Any]]] | None:
    """AUROC of what can be known so far at positions along the answer; None where the records do not say.

    The series ``logprob_sum`` needs token log-probabilities: at the prompt's end it is minus the entropy of the
    first token, then the summed log-probability of the first k tokens (an answer that has ended keeps its sum).
    Sources named ``<source>@<position>`` make a series each.
    """
    series: dict[str, list[dict[str, Any]]] = {}
    known = [("logprob_sum", position, values) for position, values in _running(rows).items()]
    for name in (s for s in rows.auxiliary if AT in s and not s.endswith(SWAPPED) and SHUFFLED not in s):
        source, position = name.split(AT, 1)
        known.append((source, position, rows.confidence(name)))
    for source, position, values in known:
        kept = np.isfinite(values)
        if (found := _auroc(values, rows, kept, bootstrap)) is not None:
            series.setdefault(source, []).append({"position": position, **found, "n": int(kept.sum())})
    for points in series.values():
        points.sort(key=lambda point: along_answer(point["position"]))
    return series or None


def _running(rows: Rows) -> dict[str, FloatArray]:
    """What log-probabilities say at each position [n], NaN where a record has none."""
    lengths = np.array([len(record.logprobs) for record in rows.records])
    if not lengths.any():
        return {}
    sums = [np.cumsum(record.logprobs) for record in rows.records]
    first = [-record.entropies[0] if record.entropies else np.nan for record in rows.records]
    shown = [k for k in TOKENS if np.mean(lengths > k) >= REACHED]
    after = {str(k): np.array([s[min(k, len(s)) - 1] if len(s) else np.nan for s in sums]) for k in shown}
    return {"prompt end": np.array(first), **after, "end": np.array([s[-1] if len(s) else np.nan for s in sums])}


def along_answer(position: str) -> tuple[int, int, str]:
    """Sorts positions along the answer: the prompt first, then numbered tokens, then named places, then the end."""
    if position.startswith("prompt"):
        return 0, 0, position
    if position.isdigit():
        return 1, int(position), position
    return (3 if position in ("end", "turn_end") else 2), 0, position


def _auroc(values: FloatArray, rows: Rows, inside: BoolArray, bootstrap: Bootstrap) -> dict[str, Any] | None:
    kept = np.flatnonzero(inside & np.isfinite(values))
    y = rows.correct[kept]
    if min(y.sum(), (~y).sum()) < MIN_KIND:
        return None
    return estimate(sampled_auroc(values[kept], y, kept, bootstrap)).as_dict()
