"""The contrasts: a source against a version of itself that should know less, and against what text and tokens know."""

from __future__ import annotations

from typing import Any

import numpy as np

from confide.evaluation.controls import MIN_CLUSTERS, MIN_KIND, control, some
from confide.evaluation.record_columns import Rows
from confide.metrics.bootstrap import Bootstrap, estimate, sampled_auroc, sampled_mean
from confide.metrics.calibration_error import LOG_CLIP
from confide.metrics.metric import FloatArray, IntArray
from confide.sources import AT, NO_RIVALS, OTHER, SWAPPED, family

FOLDS = 5

OVER = ("answer_only", "logprob_sum")
"""What a learned source must add to: a prior over answers, and the probability of the answer.

Where all answers were chosen among options, the probability among these too.
"""

OPTION = "option_probability"


def contrasts(rows: Rows, bootstrap: Bootstrap) -> dict[str, dict[str, Any]]:
    """The controls that compare sources: ``swapped``, ``privileged_access`` and ``improves_log_loss``."""
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
    for name in (s for s in rows.auxiliary if s.endswith(SWAPPED) and AT not in s):
        source = name.removesuffix(SWAPPED)
        before, after = rows.confidence(source), rows.confidence(name)
        both = np.flatnonzero(np.isfinite(before) & np.isfinite(after))
        if len(both):
            fall = before[both] - after[both]
            found[source] = {
                "fall": estimate(sampled_mean(fall, both, bootstrap)).as_dict(),
                "share_falling": estimate(sampled_mean((fall > 0).astype(np.float64), both, bootstrap)).as_dict(),
                "n": len(both),
            }
    if not found:
        return control("not checked", "no source was read with the question exchanged", sources={})
    # What is free shows no more than that the text changed: only the sources that claim to read decide.
    deciding = [s for s in found if family(s) != "free"] or list(found)
    standing = [s for s in deciding if (low := found[s]["fall"]["low"]) is None or low <= 0]
    few = [s for s in standing if found[s]["n"] < MIN_CLUSTERS]
    return control(
        "ok" if not standing else "warning" if few == standing else "failed",
        f"{some(len(standing), 'source')} of {len(deciding)} not shown to fall when the question is exchanged"
        + (f": {', '.join(standing)}" if standing else ""),
        sources=found,
    )


def _privileged(rows: Rows, bootstrap: Bootstrap) -> dict[str, Any]:
    """A source against its twin that reads another model's states over the same text."""
    found: dict[str, dict[str, Any]] = {}
    for other in (s for s in rows.sources if s.startswith(OTHER)):
        source = other.removeprefix(OTHER)
        own, twin = rows.confidence(source), rows.confidence(other)
        both = np.flatnonzero(np.isfinite(own) & np.isfinite(twin))
        if not len(both):
            continue
        difference = estimate(
            sampled_auroc(own[both], rows.correct[both], both, bootstrap)
            - sampled_auroc(twin[both], rows.correct[both], both, bootstrap)
        )
        shown = difference.low is not None and difference.low > 0
        if difference.value is None:
            continue
        gap = f"AUROC difference {difference.value:+.3f}"
        if difference.low is not None:
            gap += f" [{difference.low:+.3f}, {difference.high:+.3f}]"
        sentence = (
            f"{source} ranks better than the same reading of another model's states ({gap}): it has privileged access."
            if shown
            else f"{source} is not shown to rank better than the same reading of another model's states ({gap}): "
            "no privileged access."
        )
        found[source] = {"other": other, **difference.as_dict(), "n": len(both), "sentence": sentence}
    if not found:
        return control("not checked", "no source was read from another model's states", sources={})
    without = [source for source, entry in found.items() if entry["low"] is None or entry["low"] <= 0]
    return control(
        "warning" if without else "ok",
        f"{some(len(without), 'source')} of {len(found)} without privileged access"
        + (f": {', '.join(without)}" if without else ""),
        sources=found,
    )


def _improves(rows: Rows, bootstrap: Bootstrap) -> dict[str, Any]:
    """Does a source say more than the prior over answers and the answer's probability together?

    Two logistic models are fitted on the evaluated rows, each row predicted by a fit on other entities
    (`FOLDS` folds): one on logit(answer_only) and log(logprob_sum) (log(option_probability) too, see `OVER`), one on
    these and logit(source), standardised, with scikit-learn's default penalty. The value is the first one's mean log
    loss minus the second one's, with the bootstrap's interval over entities; it does not cover the fits' own chance.
    """
    chosen = OPTION in rows.sources and bool(np.isfinite(rows.confidence(OPTION)).all())
    over = [*OVER, *([OPTION] if chosen else [])]
    notes: dict[str, Any] = {"over": over, "folds": FOLDS, "sources": {}}
    if absent := [source for source in OVER if source not in rows.sources]:
        return control("not checked", f"needs {' and '.join(absent)}", **notes)
    prior, *logs = (rows.confidence(source) for source in over)
    base = np.column_stack([_logit(prior), *map(_log, logs)])
    rng = np.random.default_rng(bootstrap.seed)
    fold = (rng.permutation(bootstrap.clusters) % FOLDS)[bootstrap.index]
    found: dict[str, dict[str, Any]] = {}
    losses: dict[bytes, FloatArray] = {}
    for source in (s for s in rows.sources if family(s) not in NO_RIVALS):
        values = _logit(rows.confidence(source))
        kept = np.flatnonzero(np.isfinite(base).all(axis=1) & np.isfinite(values))
        y = rows.correct[kept]
        if min(y.sum(), (~y).sum()) < MIN_KIND * FOLDS or len(np.unique(fold[kept])) < FOLDS:
            continue
        if (key := kept.tobytes()) not in losses:
            losses[key] = _crossfitted(base[kept], y, fold[kept])
        fuller = _crossfitted(np.column_stack([base[kept], values[kept]]), y, fold[kept])
        gain = estimate(sampled_mean(losses[key] - fuller, kept, bootstrap))
        found[source] = {**gain.as_dict(), "n": len(kept)}
    if not found:
        wanted = MIN_KIND * FOLDS
        return control("not checked", f"needs a learned source on {wanted} right and {wanted} wrong rows", **notes)
    better = [source for source, entry in found.items() if entry["low"] is not None and entry["low"] > 0]
    return control(
        "ok" if better else "warning",
        f"{len(better)} of {some(len(found), 'source')} improve log loss over {' + '.join(over)}"
        + (f": {', '.join(better)}" if better else ""),
        **(notes | {"sources": found}),
    )


def _crossfitted(features: FloatArray, correct: Any, fold: IntArray) -> FloatArray:
    """Log loss of every row [n] under a logistic model of ``features`` [n, d] fitted on the other folds."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    p = np.empty(len(features))
    for held_out in np.unique(fold):
        test = fold == held_out
        if len(np.unique(correct[~test])) < 2:
            p[test] = correct[~test].mean()
            continue
        model = make_pipeline(StandardScaler(), LogisticRegression())
        p[test] = model.fit(features[~test], correct[~test]).predict_proba(features[test])[:, 1]
    p = np.clip(p, LOG_CLIP, 1 - LOG_CLIP)
    return np.asarray(-np.log(np.where(correct, p, 1 - p)))


def _logit(values: FloatArray) -> FloatArray:
    """Log-odds of probabilities; numbers that are none stay as they are."""
    present = values[np.isfinite(values)]
    if not len(present) or present.min() < 0 or present.max() > 1:
        return values
    p = np.clip(values, LOG_CLIP, 1 - LOG_CLIP)
    return np.asarray(np.log(p) - np.log1p(-p))


def _log(values: FloatArray) -> FloatArray:
    """Logarithm of probabilities; numbers that are none (log-probabilities themselves) stay as they are."""
    present = values[np.isfinite(values)]
    if not len(present) or present.min() < 0 or present.max() > 1:
        return values
    return np.asarray(np.log(np.clip(values, 1e-12, 1)))
