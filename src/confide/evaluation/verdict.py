"""The verdict: what the numbers say, in words, or why they cannot say it."""

from __future__ import annotations

from typing import Any

import numpy as np

from confide.evaluation.controls import MIN_CLUSTERS
from confide.evaluation.judged import best
from confide.evaluation.record_columns import Rows
from confide.evaluation.wording import interval, side, some
from confide.metrics.calibration_error import wilson
from confide.sources import Source, family

WITHOUT = "The numbers below are shown without one."

MIN_SAYING = 20
"""Rows near 0.8 that are wanted before saying what 0.8 means."""


def verdict(results: dict[str, Any], rows: Rows, *, min_rows: int) -> dict[str, Any]:
    """``{"status", "source", "baseline", "rival", "sentences"}`` from results that are complete but for the verdict.

    The source is ``stack`` where there is one, else the best that competes (neither free nor prior, floor or
    control), else the best of all; the baseline is the free source with the best AUROC, the rival where none is free
    the next best that competes. The status is "ahead", "behind" or "level" against either by the paired interval,
    "alone" without one, "refused" with too few rows.
    """
    source, baseline = chosen(results)
    rival = _rival(results, source) if baseline is None else None
    n, clusters, status = results["n"], results["bootstrap"]["clusters"], "refused"
    if n < min_rows:
        sentences = [f"{n} graded rows are too few for a verdict; it takes {min_rows}.", WITHOUT]
    elif clusters < MIN_CLUSTERS:
        few = f"{some(clusters, 'entity', 'entities')} only, too few for intervals by entity"
        sentences = [f"The rows are about {few}; a verdict takes {MIN_CLUSTERS}.", WITHOUT]
    elif source is None:
        sentences = ["No source can be ranked on these rows."]
    else:
        status, comparison = _comparison(results, source, baseline, rival)
        failed = [control["detail"] for control in results["controls"].values() if control["verdict"] == "failed"]
        sentences = [
            f"{source} ranks right above wrong with AUROC {interval(results['estimators'][source]['auroc'])} "
            f"on {n:,} rows, {results['accuracy']:.0%} of them right.",
            comparison,
            *_priors(results, source),
            *_own_answer(results, source),
            *_elsewhere(results, source),
            _meaning(rows, source),
            *_escalation(results, source),
            *([f"A control failed, so read none of this as proven: {'; '.join(failed)}."] if failed else []),
        ]
    return {"status": status, "source": source, "baseline": baseline, "rival": rival, "sentences": sentences}


def chosen(results: dict[str, Any]) -> tuple[str | None, str | None]:
    """The source that the report is about, and the best free source (None when absent or the same)."""
    estimators = results["estimators"]
    rivals = best((source for source in estimators if Source.parse(source).competes), estimators)
    stack = best([source for source in estimators if source == "stack"], estimators)
    source = stack or rivals or best(estimators, estimators)
    baseline = best((source for source in estimators if family(source) == "free"), estimators)
    return source, None if baseline == source else baseline


def _rival(results: dict[str, Any], source: str | None) -> str | None:
    """The best source that competes besides the ``source``; None where a free one does, or there is no other."""
    estimators = results["estimators"]
    if any(family(name) == "free" for name in estimators):
        return None
    parsed = {name: Source.parse(name) for name in estimators if name != source}
    return best((name for name, one in parsed.items() if one.competes and not one.calibrated), estimators)


def _difference(results: dict[str, Any], a: str, b: str | None) -> dict[str, Any] | None:
    """The paired difference of two sources in AUROC, None where it was not taken."""
    pairs = {(d["a"], d["b"]): d for d in results["differences"] if d["metric"] == "auroc" and d["value"] is not None}
    return pairs.get((a, b))


def _comparison(results: dict[str, Any], source: str, baseline: str | None, rival: str | None) -> tuple[str, str]:
    other = baseline or rival
    paired = _difference(results, source, other)
    if baseline is None and family(source) == "free":
        return "alone", "Only free sources are here; there is nothing to compare them with."
    if other is None:
        return "alone", "There is no free source (such as logprob_sum) to compare it with."
    named = f"The best free source, {other}," if baseline else f"No source is free; the next best, {other},"
    reached = f"{named} reaches {interval(results['estimators'][other]['auroc'])}"
    if paired is None:
        return "alone", f"{reached}; the two share no rows on which to compare them."
    status, words = {
        "above": ("ahead", f"{source} is ahead"),
        "below": ("behind", f"{source} is behind" + (": use the free source" if baseline else "")),
        "level": ("level", "these rows cannot tell them apart"),
    }[side(paired)]
    return status, f"{reached}; {words} (difference {interval(paired, sign=True)})."


def _priors(results: dict[str, Any], source: str) -> list[str]:
    """Against what text alone knows: without a lead there, a confidence may be a prior over answers."""
    gaps = {p: _difference(results, source, p) for p in results["estimators"] if family(p) == "prior"}
    return [
        f"{source} is not above {prior}, which never saw the model (difference {interval(gap, sign=True)})."
        for prior, gap in gaps.items()
        if gap is not None and side(gap) != "above"
    ]


def _own_answer(results: dict[str, Any], source: str) -> list[str]:
    """Whether it tells answers to the same question apart, and reads more than another model's states give."""
    out = []
    within = results["estimators"][source]["within_question_auroc"]
    if within is not None and within["value"] is not None:
        mixed = within["questions"]
        out.append(
            f"Right and wrong sampled answers to the same question are there of {some(mixed, 'question')} only: "
            "too few to tell them apart."
            if mixed < MIN_CLUSTERS
            else f"Of a right and a wrong answer to the same question {source} prefers the right one with "
            f"probability {interval(within)} ({mixed} questions); sensing hard questions alone gives 0.5."
        )
    privileged = results["controls"]["privileged_access"]["sources"].get(source)
    return out + ([privileged["sentence"]] if privileged is not None else [])


def _elsewhere(results: dict[str, Any], source: str) -> list[str]:
    """Whether it travels, and follows the model."""
    matrix, coupling = results["matrix"], results["coupling"]
    shifted = matrix is not None and not all(cell["in_domain"] for cell in matrix["cells"])
    return [
        *(matrix["sentences"] if shifted and matrix["source"] == source else []),
        *([coupling["sentence"]] if coupling is not None else []),
    ]


def _meaning(rows: Rows, source: str) -> str:
    """What 0.8 means: how often answers with a confidence near it are right."""
    values = rows.probability(source)
    if values is None:
        ranks = f"{source} leaves [0, 1]: it ranks answers, but its values are not probabilities"
        return f"{ranks}, which calibration figures need."
    near = (values >= 0.75) & (values < 0.85)
    n, right = int(near.sum()), int(rows.correct[near].sum())
    if n < MIN_SAYING:
        return f"{source} says about 0.8 only {some(n, 'time')}: too few to tell what it means."
    low, high = wilson(right, n)
    said = float(values[near].mean())
    fit = "as it says" if low <= said <= high else "less than it says" if high < said else "more than it says"
    return (
        f"0.8 means {right / n:.0%} [{low:.0%}, {high:.0%}]: that share of its {n} answers with a "
        f"confidence of 0.75–0.85 is right, {fit}."
    )


def _escalation(results: dict[str, Any], source: str) -> list[str]:
    routing = results["routing"]
    curve = routing["sources"].get(source)
    if curve is None:
        return []
    at = float(np.interp(0.2, curve["share"], curve["accuracy"]))
    who = "an expert who is always right" if routing["expert"] == "perfect" else "the expert"
    return [f"Sending the least confident 20% to {who} moves accuracy from {curve['accuracy'][0]:.0%} to {at:.0%}."]
