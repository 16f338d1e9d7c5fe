"""Breakdowns: by kind of error, by position in the answer, and on questions whose right option was removed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from confide.evaluation.controls import MIN_KIND
from confide.evaluation.record_columns import Rows, tested
from confide.evaluation.wording import interval
from confide.metrics.bootstrap import Bootstrap, estimate
from confide.metrics.metric import Weighted, Weights
from confide.metrics.ranking import auroc
from confide.metrics.routing import POINTS, Escalated
from confide.numeric import Bools, Floats
from confide.records import Record
from confide.sources import as_probability

TOKENS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
"""Tokens of the answer after which the running log-probability is judged."""

REACHED = 0.1
"""Share of answers that must be longer than a position for it to be listed."""

CAUGHT = 0.8
"""Share of the questions without an answer for which the rejected share is given."""


def error_kinds(rows: Rows, bootstrap: Bootstrap) -> dict[str, Any] | None:
    """Mean confidence by kind of error (the record's ``error_kind``), and AUROC of right answers against each kind.

    None where no wrong answer names its kind. AUROCs take `MIN_KIND` right answers and as many errors of the kind.
    """
    kinds_of = rows.records.extra("error_kind")
    named = np.array([str(kind or "") for kind in kinds_of.values])[kinds_of.codes]
    named[rows.correct] = ""
    kinds = sorted(set(named) - {""})
    if not kinds:
        return None
    confidence = {source: rows.confidence(source) for source in rows.sources}

    def means(inside: Bools) -> dict[str, Any]:
        out = {}
        for source, values in confidence.items():
            kept = np.flatnonzero(inside & np.isfinite(values))
            shown = as_probability(source, values[kept])
            out[source] = estimate(bootstrap.mean(shown, kept)) if len(kept) else None
        return out

    out: dict[str, Any] = {
        "right": {"n": int(rows.correct.sum()), "confidence": means(rows.correct)},
        "unnamed": int((~rows.correct & (named == "")).sum()),
        "kinds": {},
    }
    for kind in kinds:
        inside = named == kind
        against = rows.correct | inside
        aurocs = {s: _auroc(np.where(against, x, np.nan), rows.correct, bootstrap) for s, x in confidence.items()}
        out["kinds"][kind] = {"n": int(inside.sum()), "confidence": means(inside), "auroc": aurocs}
    return out


def auroc_by_position(rows: Rows, bootstrap: Bootstrap) -> dict[str, list[dict[str, Any]]] | None:
    """AUROC of what can be known so far at positions along the answer; None where the records do not say.

    The series ``logprob_sum`` needs token log-probabilities: at the prompt's end it is minus the entropy of the
    first token, then the summed log-probability of the first k tokens (an answer that has ended keeps its sum).
    Sources named ``<source>@<position>`` make one series per source.
    """
    series: dict[str, list[dict[str, Any]]] = {}
    known = [("logprob_sum", position, values) for position, values in _running(rows).items()]
    for source in rows.auxiliary:
        if source.position is not None and not source.swapped and not source.shuffled:
            known.append((str(replace(source, position=None)), source.position, rows.confidence(str(source))))
    for name, position, values in known:
        if (found := _auroc(values, rows.correct, bootstrap)) is not None:
            point = {"position": position, **found, "n": int(np.isfinite(values).sum())}
            series.setdefault(name, []).append(point)
    for points in series.values():
        points.sort(key=lambda point: along_answer(point["position"]))
    return series or None


def _running(rows: Rows) -> dict[str, Floats]:
    """What log-probabilities say at each position [n], NaN where a record has none."""
    if not any("logprobs" in given for given in rows.records.coded("given").present() if given):
        return {}
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


def rejection(records: Sequence[Record], *, seed: int, resamples: int) -> dict[str, Any] | None:
    """Does a confidence tell questions whose right option was removed, so that every answer is wrong?

    As in the Self-REF paper (2410.13284): half of the questions lose their right option (``has_answer`` is false),
    nothing is trained for it, and the least confident answers are rejected. Per source: AUROC of the questions that
    kept their answer over those that lost it, and along the share rejected the share ``caught`` of the latter and
    ``refused`` of the former. None unless records say whether they hold their answer.
    """
    held_out = tested(records)
    known = held_out.take(held_out.extra("has_answer").mark(lambda value: isinstance(value, bool)))
    answerable = known.extra("has_answer").mark(bool)
    if not len(known) or answerable.all():
        return None
    without = int((~answerable).sum())
    out: dict[str, Any] = {"n": len(known), "without_answer": without, "sources": {}}
    if min(without, len(known) - without) < MIN_KIND:
        return out | {"sentence": f"Rejection takes {MIN_KIND} questions with and without an answer."}
    rows = Rows(known)
    bootstrap = rows.bootstrap(resamples, seed)
    for source in rows.sources:
        values = rows.confidence(source)
        if (found := _auroc(values, answerable, bootstrap)) is not None:
            out["sources"][source] = {"auroc": found, **_rejected(values, answerable, bootstrap)}
    ranked = {s: e["auroc"]["value"] for s, e in out["sources"].items()}
    if not ranked:
        return out | {"sentence": "No source has a confidence on enough of these questions."}
    best = max(ranked, key=ranked.__getitem__)
    return out | {
        "sentence": f"{best} tells best which of {len(known):,} questions lost their right option "
        f"({without:,} did): AUROC {interval(out['sources'][best]['auroc'])}."
    }


def _rejected(values: Floats, answerable: Bools, bootstrap: Bootstrap) -> dict[str, Any]:
    """What rejecting the least confident catches and refuses, and the share that must be rejected to catch 80 %."""
    kept = np.flatnonzero(np.isfinite(values))
    kept = kept[np.argsort(values[kept], kind="stable")]
    lost = (~answerable[kept]).astype(np.float64)

    whole = Weighted(values[kept], np.zeros(len(kept)), np.ones((1, len(kept)), dtype=np.int32))

    def statistics(w: Weights) -> dict[str, Floats]:
        # Escalating to an expert who is right on the questions that lost their answer counts those caught.
        curve = Escalated.of(whole.under(w), lost)
        return {"caught": curve.accuracy(), "needed": curve.share_reaching(CAUGHT * curve.expert)}

    sampled = bootstrap.sample(statistics, kept)
    share, caught = np.linspace(0, 1, POINTS), sampled["caught"][0] / lost.mean()
    refused = (share - caught * lost.mean()) / (1 - lost.mean())
    return {
        "share": share.round(4).tolist(),
        "caught": caught.tolist(),
        "refused": refused.tolist(),
        "share_to_catch_80": estimate(sampled["needed"]),
        "n": len(kept),
    }


def _auroc(values: Floats, right: Bools, bootstrap: Bootstrap) -> dict[str, float | None] | None:
    """AUROC where there are ``values`` [n]; None below `MIN_KIND` right or wrong rows."""
    kept = np.flatnonzero(np.isfinite(values))
    y = right[kept]
    if min(y.sum(), (~y).sum()) < MIN_KIND:
        return None
    return estimate(bootstrap.metric(auroc, values[kept], y, kept))
