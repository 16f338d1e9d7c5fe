"""The contrasts: a source against versions of itself, against text and tokens, and against the original model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from confide.errors import ConfideError
from confide.evaluation.controls import MIN_CLUSTERS, MIN_KIND, control, warning_if
from confide.evaluation.record_columns import Rows, marks_of, probabilities
from confide.evaluation.wording import interval, listed, side, some
from confide.metrics.bootstrap import Bootstrap, estimate
from confide.metrics.calibration_error import LOG_CLIP
from confide.metrics.ranking import auroc
from confide.numeric import Bools, Floats, Ints, logit
from confide.records import Record
from confide.sources import Source, as_probability, family, log_space

FOLDS = 5

OVER = ("answer_only", "logprob_sum")
"""What a learned source must add to: a prior over answers, and the probability of the answer.

Where all answers were chosen among options, the probability among these too.
"""

OPTION = "option_probability"

MIN_DIFFER = 20
"""Questions on which two models must differ before the confidence's agreement with them is compared."""


def contrasts(rows: Rows, bootstrap: Bootstrap) -> dict[str, dict[str, Any]]:
    """The controls that compare sources."""
    return {
        "swapped": _swapped(rows, bootstrap),
        "privileged_access": _privileged(rows, bootstrap),
        "improves_log_loss": _improves(rows, bootstrap),
    }


def _swapped(rows: Rows, bootstrap: Bootstrap) -> dict[str, Any]:
    """The same answer under another row's question: a confidence that reads both must fall.

    What is read before the answer (a source at the prompt's end) sees another question and nothing amiss.
    """
    found: dict[str, dict[str, Any]] = {}
    for swapped in (s for s in rows.auxiliary if s.swapped and s.position is None):
        source = str(replace(swapped, swapped=False))
        both = rows.present(source, str(swapped))
        if len(both):
            fall = rows.confidence(source)[both] - rows.confidence(str(swapped))[both]
            found[source] = {
                "fall": estimate(bootstrap.mean(fall, both)),
                "share_falling": estimate(bootstrap.mean((fall > 0).astype(np.float64), both)),
                "n": len(both),
            }
    if not found:
        return control("not checked", "no source was read with the question exchanged", sources={})
    # What is free shows no more than that the text changed: only the sources that claim to read decide.
    deciding = [s for s in found if family(s) != "free"] or list(found)
    standing = [s for s in deciding if side(found[s]["fall"]) != "above"]
    few = [s for s in standing if found[s]["n"] < MIN_CLUSTERS]
    return control(
        "ok" if not standing else "warning" if few == standing else "failed",
        f"{some(len(standing), 'source')} of {len(deciding)} not shown to fall when the question is exchanged"
        + listed(standing),
        sources=found,
    )


def _privileged(rows: Rows, bootstrap: Bootstrap) -> dict[str, Any]:
    """A source against its twin that reads another model's states over the same text."""
    found: dict[str, dict[str, Any]] = {}
    for other in (name for name in rows.sources if Source.parse(name).other):
        source = str(replace(Source.parse(other), other=False))
        both = rows.present(source, other)
        difference = rows.auroc_difference(source, other, bootstrap)
        if difference["value"] is None:
            continue
        gap = f"AUROC difference {interval(difference, sign=True)}"
        better = side(difference) == "above"
        sentence = (
            f"{source} {'ranks better' if better else 'is not shown to rank better'} than the same reading of another "
            f"model's states ({gap}): {'it has' if better else 'no'} privileged access."
        )
        found[source] = {"other": other, **difference, "n": len(both), "sentence": sentence}
    if not found:
        return control("not checked", "no source was read from another model's states", sources={})
    without = [source for source, entry in found.items() if side(entry) != "above"]
    detail = f"{some(len(without), 'source')} of {len(found)} without privileged access" + listed(without)
    return warning_if(without, detail, sources=found)


def _improves(rows: Rows, bootstrap: Bootstrap) -> dict[str, Any]:
    """Does a source say more than the prior over answers and the answer's probability together?

    Two logistic models are fitted on the evaluated rows, each row predicted by a fit on other entities
    (`FOLDS` folds): one on logit(answer_only) and logprob_sum (log(option_probability) too, see `OVER`), one on
    these and logit(source), standardised, with scikit-learn's default penalty. The value is the first one's mean log
    loss minus the second one's, with the bootstrap's interval over entities; it does not cover the fits' own chance.
    """
    chosen = OPTION in rows.sources and bool(np.isfinite(rows.confidence(OPTION)).all())
    over = [*OVER, *([OPTION] if chosen else [])]
    notes: dict[str, Any] = {"over": over, "folds": FOLDS, "sources": {}}
    if absent := [source for source in OVER if source not in rows.sources]:
        return control("not checked", f"needs {' and '.join(absent)}", **notes)
    prior, *chances = over
    base = np.column_stack(
        [_logit(rows.confidence(prior)), *(_log(source, rows.confidence(source)) for source in chances)]
    )
    rng = np.random.default_rng(bootstrap.seed)
    fold = (rng.permutation(bootstrap.clusters) % FOLDS)[bootstrap.index]
    found: dict[str, dict[str, Any]] = {}
    losses: dict[bytes, Floats] = {}
    for source in rows.competing:
        values = _logit(rows.confidence(source))
        kept = np.flatnonzero(np.isfinite(base).all(axis=1) & np.isfinite(values))
        y = rows.correct[kept]
        mixed = all(len(np.unique(y[fold[kept] != held_out])) == 2 for held_out in range(FOLDS))
        if not mixed or min(y.sum(), (~y).sum()) < MIN_KIND * FOLDS or len(np.unique(fold[kept])) < FOLDS:
            continue
        if (key := kept.tobytes()) not in losses:
            losses[key] = _crossfitted(base[kept], y, fold[kept])
        fuller = _crossfitted(np.column_stack([base[kept], values[kept]]), y, fold[kept])
        found[source] = {**estimate(bootstrap.mean(losses[key] - fuller, kept)), "n": len(kept)}
    if not found:
        wanted = MIN_KIND * FOLDS
        return control("not checked", f"needs a learned source on {wanted} right and {wanted} wrong rows", **notes)
    better = [source for source, entry in found.items() if side(entry) == "above"]
    detail = f"{len(better)} of {some(len(found), 'source')} improve log loss over {' + '.join(over)}" + listed(better)
    return warning_if(not better, detail, **(notes | {"sources": found}))


def _crossfitted(features: Floats, correct: Bools, fold: Ints) -> Floats:
    """Log loss of every row [n] under a logistic model of ``features`` [n, d] fitted on the other folds."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import PredefinedSplit, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression())
    fitted = cross_val_predict(model, features, correct, cv=PredefinedSplit(fold), method="predict_proba")
    p = np.clip(fitted[:, 1], LOG_CLIP, 1 - LOG_CLIP)
    return np.asarray(-np.log(np.where(correct, p, 1 - p)))


def _logit(values: Floats) -> Floats:
    """Log-odds of probabilities; numbers that are none stay as they are."""
    return np.asarray(logit(np.clip(values, LOG_CLIP, 1 - LOG_CLIP))) if probabilities(values) else values


def _log(source: str, values: Floats) -> Floats:
    """Logarithm of probabilities; log-probabilities and numbers that are neither stay as they are."""
    if log_space(source) or not probabilities(values):
        return values
    return np.asarray(np.log(np.clip(values, 1e-12, 1)))


def coupling(rows: Rows, original: Sequence[Record], bootstrap: Bootstrap) -> dict[str, Any]:
    """After more training, does the confidence follow the current model or the one it was trained on?

    Agreement with the current model's correctness minus agreement with the original's, where the two differ.
    ``original`` holds the graded answers of the model before the change, matched by id. Agreement is AUROC, and
    1 − Brier for probabilities. Where correctness differs one is the mirror image of the other, so agreement with
    the current model above one half means that the confidence moved with it. Inspired by Introspective Coupling
    (Guo et al. 2026, 2606.32038), which compares how well self-reports explain the two models' behaviour. Raises
    `ConfideError` when no id is shared.
    """
    before = marks_of(original, rows.records)
    known = np.isfinite(before)
    if not known.any():
        raise ConfideError("no graded record of the original model has the id of an evaluated record")
    differ = known & (before != rows.correct)
    out: dict[str, Any] = {"n": int(known.sum()), "differ": int(differ.sum()), "sources": {}}
    if not differ.any():
        return out | {"sentence": "Both models are right and wrong on the same questions: nothing can be compared."}
    if out["differ"] < MIN_DIFFER:
        return out | {
            "sentence": f"The models differ on {some(out['differ'], 'question')}; a comparison takes {MIN_DIFFER}."
        }
    for source in (s for s in rows.sources if family(s) != "floor"):
        values = rows.confidence(source)
        kept = np.flatnonzero(differ & np.isfinite(values))
        if len(kept) < MIN_DIFFER:
            continue
        x, y = values[kept], rows.correct[kept]
        current = bootstrap.metric(auroc, x, y, kept)
        entry: dict[str, Any] = {"auroc": _agreement(current, 1 - current), "brier": None, "n": len(kept)}
        p = as_probability(source, x)
        if probabilities(p):
            entry["brier"] = _agreement(*(1 - bootstrap.mean((p - mark) ** 2, kept) for mark in (y, ~y)))
        out["sources"][source] = entry
    return out | {"sentence": _followed(out)}


def _agreement(current: Floats, original: Floats) -> dict[str, dict[str, float | None]]:
    return {
        "current": estimate(current),
        "original": estimate(original),
        "difference": estimate(current - original),
    }


def _followed(out: dict[str, Any]) -> str:
    """Which sources follow which model, in a sentence."""
    sides: dict[str, list[str]] = {"the current model": [], "the original one": [], "neither": []}
    for source, entry in out["sources"].items():
        gap = entry["auroc"]["difference"]
        if gap["low"] is not None:
            follows = {"above": "the current model", "below": "the original one", "level": "neither"}[side(gap)]
            sides[follows].append(source)
    if not any(sides.values()):
        return f"No source has values on {MIN_DIFFER} of {some(out['differ'], 'question')} where the models differ."
    groups = "; ".join(f"{who}: {', '.join(names)}" for who, names in sides.items() if names)
    return f"Where the models differ ({out['differ']:,} of {out['n']:,} questions), confidence follows {groups}."
