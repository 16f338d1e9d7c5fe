"""Rejection: does a confidence tell questions whose right option was removed, so that every answer is wrong?

As in the Self-REF paper (2410.13284): half of the questions lose their right option, nothing is trained for it,
and the least confident are rejected. Records carry ``has_answer``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from confide.evaluation.controls import MIN_KIND
from confide.evaluation.record_columns import Rows, extra, tested
from confide.metrics.bootstrap import Bootstrap, estimate, sampled_auroc
from confide.metrics.routing import POINTS, Escalated
from confide.records import Record

CAUGHT = 0.8
"""Share of the questions without an answer for which the rejected share is given."""


def rejection(records: list[Record], *, seed: int, resamples: int) -> dict[str, Any] | None:
    """The block ``rejection`` of results.json; None unless records say whether they hold their answer.

    Per source: AUROC of the questions that kept their answer over those that lost it, and along the share
    rejected (least confident first) the share ``caught`` of the latter and ``refused`` of the former.
    """
    known = [record for record in tested(records) if isinstance(extra(record, "has_answer"), bool)]
    answerable = np.array([bool(extra(record, "has_answer")) for record in known], dtype=np.bool_)
    if not len(known) or answerable.all():
        return None
    without = int((~answerable).sum())
    out: dict[str, Any] = {"n": len(known), "without_answer": without, "sources": {}}
    if min(without, len(known) - without) < MIN_KIND:
        return out | {"sentence": f"Rejection takes {MIN_KIND} questions with and without an answer."}
    rows = Rows(known, {}, None)
    bootstrap = Bootstrap([record.cluster for record in known], resamples=resamples, seed=seed)
    for source in rows.sources:
        values = rows.confidence(source)
        kept = np.flatnonzero(np.isfinite(values))
        y = answerable[kept]
        if min(y.sum(), (~y).sum()) < MIN_KIND:
            continue
        kept = kept[np.argsort(values[kept], kind="stable")]
        x, lost = values[kept], (~answerable[kept]).astype(np.float64)
        # Escalating to an expert who is right on the questions that lost their answer counts those caught.
        curve = Escalated.of(x, np.zeros(len(x)), lost, np.ones((1, len(x)), dtype=np.int32))
        caught = curve.accuracy()[0] / lost.mean()
        share = np.linspace(0, 1, POINTS)
        needed = bootstrap.sample(
            lambda w, x=x, lost=lost: {  # type: ignore[misc]
                "share": (found := Escalated.of(x, np.zeros(len(x)), lost, w)).share_reaching(CAUGHT * found.expert)
            },
            kept,
        )["share"]
        out["sources"][source] = {
            "auroc": estimate(sampled_auroc(x, answerable[kept], kept, bootstrap)).as_dict(),
            "share": [round(float(s), 4) for s in share],
            "caught": [float(c) for c in caught],
            "refused": [float(r) for r in (share - caught * lost.mean()) / (1 - lost.mean())],
            "share_to_catch_80": estimate(needed).as_dict(),
            "n": len(kept),
        }
    ranked = {s: e["auroc"]["value"] for s, e in out["sources"].items()}
    if not ranked:
        return out | {"sentence": "No source has a confidence on enough of these questions."}
    best = max(ranked, key=ranked.__getitem__)
    auroc = out["sources"][best]["auroc"]
    bounds = "" if auroc["low"] is None else f" [{auroc['low']:.3f}, {auroc['high']:.3f}]"
    return out | {
        "sentence": f"{best} tells best which of {len(known):,} questions lost their right option "
        f"({without:,} did): AUROC {auroc['value']:.3f}{bounds}."
    }
