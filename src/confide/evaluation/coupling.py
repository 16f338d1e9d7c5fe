"""Coupling: after more training, does the confidence follow the current model or the one it was trained on?

Inspired by Introspective Coupling (Guo et al. 2026, 2606.32038), which compares how well self-reports explain the
current and the original model's behaviour.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from confide.errors import ConfideError
from confide.evaluation.record_columns import Rows
from confide.metrics.bootstrap import Bootstrap, estimate, sampled_auroc, sampled_mean
from confide.metrics.metric import FloatArray
from confide.records import Record
from confide.sources import family

MIN_DIFFER = 20
"""Questions on which the two models must differ before their agreement is compared."""


def coupling(rows: Rows, original: list[Record], bootstrap: Bootstrap) -> dict[str, Any]:
    """Agreement with the current model's correctness minus agreement with the original's, where the two differ.

    ``original`` holds the graded answers of the model before the change, matched by id. Agreement is AUROC, and
    1 − Brier for probabilities. Where correctness differs one is the mirror image of the other, so agreement with
    the current model above one half means that the confidence moved with it. Raises `ConfideError` when no id is
    shared.
    """
    marks = {record.id: record.correct for record in original}
    known = np.array([marks.get(record.id) is not None for record in rows.records], dtype=np.bool_)
    if not known.any():
        raise ConfideError("no graded record of the original model has the id of an evaluated record")
    before = np.array([bool(marks.get(record.id)) for record in rows.records], dtype=np.bool_)
    differ = known & (before != rows.correct)
    out: dict[str, Any] = {"n": int(known.sum()), "differ": int(differ.sum()), "sources": {}}
    if not differ.any():
        return out | {"sentence": "Both models are right and wrong on the same questions: nothing can be compared."}
    if out["differ"] < MIN_DIFFER:
        return out | {"sentence": f"The models differ on {out['differ']} questions; a comparison takes {MIN_DIFFER}."}
    for source in (s for s in rows.sources if family(s) != "floor"):
        values = rows.confidence(source)
        kept = np.flatnonzero(differ & np.isfinite(values))
        if len(kept) < MIN_DIFFER:
            continue
        x, y = values[kept], rows.correct[kept]
        current = sampled_auroc(x, y, kept, bootstrap)
        entry: dict[str, Any] = {"auroc": _agreement(current, 1 - current), "brier": None, "n": len(kept)}
        if x.min() >= 0 and x.max() <= 1:
            agreement = [1 - sampled_mean((x - mark) ** 2, kept, bootstrap) for mark in (y, ~y)]
            entry["brier"] = _agreement(*agreement)
        out["sources"][source] = entry
    return out | {"sentence": _sentence(out)}


def _agreement(current: FloatArray, original: FloatArray) -> dict[str, dict[str, float | None]]:
    return {
        "current": estimate(current).as_dict(),
        "original": estimate(original).as_dict(),
        "difference": estimate(current - original).as_dict(),
    }


def _sentence(out: dict[str, Any]) -> str:
    sides: dict[str, list[str]] = {"the current model": [], "the original one": [], "neither": []}
    for source, entry in out["sources"].items():
        gap = entry["auroc"]["difference"]
        if gap["low"] is not None:
            follows = "the current model" if gap["low"] > 0 else "the original one" if gap["high"] < 0 else "neither"
            sides[follows].append(source)
    if not any(sides.values()):
        return f"No source has values on {MIN_DIFFER} of the {out['differ']:,} questions where the models differ."
    told = "; ".join(f"{who}: {', '.join(names)}" for who, names in sides.items() if names)
    return f"Where the models differ ({out['differ']:,} of {out['n']:,} questions), confidence follows {told}."
