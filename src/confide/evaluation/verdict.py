"""The verdict: what the numbers say, in words, or why they cannot say it."""

from __future__ import annotations

from typing import Any

import numpy as np

from confide.evaluation.controls import MIN_CLUSTERS
from confide.evaluation.record_columns import Rows
from confide.metrics.calibration_error import wilson
from confide.sources import NO_RIVALS, family

WITHOUT = "The numbers below are shown without one."

MIN_SAYING = 20
"""Rows near 0.8 that are wanted before saying what 0.8 means."""


def verdict(results: dict[str, Any], rows: Rows, *, min_rows: int) -> dict[str, Any]:
    """``{"status", "source", "baseline", "sentences"}`` from results that are complete but for the verdict.

    The source is ``stack`` where there is one, else the best that competes (neither free nor prior, floor or
    control), else the best of all; the baseline is the free source with the best AUROC. The status is
    "ahead", "behind" or "level" against it by the paired interval, "alone" without a free source, "refused" with
    too few rows.
    """
    source, baseline = chosen(results)
    said: dict[str, Any] = {"source": source, "baseline": baseline}
    clusters = results["bootstrap"]["clusters"]
    if results["n"] < min_rows:
        reason = f"{results['n']} graded rows are too few for a verdict; it takes {min_rows}."
        return {"status": "refused", **said, "sentences": [reason, WITHOUT]}
    if clusters < MIN_CLUSTERS:
        entities = "1 entity" if clusters == 1 else f"{clusters} entities"
        reason = f"The rows are about {entities} only, too few for intervals by entity; a verdict takes {MIN_CLUSTERS}."
        return {"status": "refused", **said, "sentences": [reason, WITHOUT]}
    if source is None:
        return {"status": "refused", **said, "sentences": ["No source can be ranked on these rows."]}
    status, comparison = _comparison(results, source, baseline)
    sentences = [
        f"{source} ranks right above wrong with AUROC {_interval(results['estimators'][source]['auroc'])} "
        f"on {results['n']:,} rows, {results['accuracy']:.0%} of them right.",
        comparison,
        *_priors(results, source),
        *_own_answer(results, source),
        *_elsewhere(results, source),
        *_meaning(rows, source),
        *_escalation(results, source),
        *_failures(results),
    ]
    return {"status": status, **said, "sentences": sentences}


def chosen(results: dict[str, Any]) -> tuple[str | None, str | None]:
    """The source that the report is about, and the best free source (None when absent or the same)."""
    aurocs = {
        source: entry["auroc"]["value"]
        for source, entry in results["estimators"].items()
        if entry["auroc"] is not None and entry["auroc"]["value"] is not None
    }
    free = [source for source in aurocs if family(source) == "free"]
    rivals = [source for source in aurocs if family(source) not in NO_RIVALS]
    source = "stack" if "stack" in aurocs else max(rivals or aurocs, key=aurocs.__getitem__, default=None)
    baseline = max(free, key=aurocs.__getitem__, default=None)
    return source, None if baseline == source else baseline


def difference(results: dict[str, Any], a: str, b: str | None, metric: str = "auroc") -> dict[str, Any] | None:
    """The paired difference of two sources, None where it was not taken."""
    found: list[dict[str, Any]] = [d for d in results["differences"] if (d["a"], d["b"], d["metric"]) == (a, b, metric)]
    return found[0] if found and found[0]["value"] is not None else None


def side(entry: dict[str, Any]) -> str:
    """Where a paired difference lies by its interval: "above", "below" or "level" (cannot be told apart)."""
    if entry["low"] is None or entry["low"] <= 0 <= entry["high"]:
        return "level"
    return "above" if entry["low"] > 0 else "below"


def _comparison(results: dict[str, Any], source: str, baseline: str | None) -> tuple[str, str]:
    paired = difference(results, source, baseline)
    if baseline is None:
        if family(source) == "free":
            return "alone", "Only free sources are here; there is nothing to compare them with."
        return "alone", "There is no free source (such as logprob_sum) to compare it with."
    free = f"The best free source, {baseline}, reaches {_interval(results['estimators'][baseline]['auroc'])}"
    if paired is None:
        return "alone", f"{free}; the two share no rows on which to compare them."
    status = {"above": "ahead", "below": "behind", "level": "level"}[side(paired)]
    words = {
        "ahead": f"{source} is ahead",
        "behind": f"{source} is behind: use the free source",
        "level": "these rows cannot tell them apart",
    }[status]
    return status, f"{free}; {words} (difference {_interval(paired, sign=True)})."


def _priors(results: dict[str, Any], source: str) -> list[str]:
    """Against what text alone knows: without a lead there, a confidence may be a prior over answers."""
    out = []
    for prior in (s for s in results["estimators"] if family(s) == "prior"):
        paired = difference(results, source, prior)
        if paired is not None and side(paired) != "above":
            out.append(
                f"{source} is not above {prior}, which never saw the model (difference {_interval(paired, sign=True)})."
            )
    return out


def _own_answer(results: dict[str, Any], source: str) -> list[str]:
    """Whether it tells answers to the same question apart, and reads more than another model's states give."""
    out = []
    within = results["estimators"][source]["within_question_auroc"]
    if within is not None and within["value"] is not None:
        mixed = within["questions"]
        if mixed < MIN_CLUSTERS:
            out.append(f"Only {mixed} questions have both right and wrong sampled answers: too few to tell them apart.")
        else:
            out.append(
                f"Of a right and a wrong answer to the same question {source} prefers the right one with "
                f"probability {_interval(within)} ({mixed} questions); sensing hard questions alone gives 0.5."
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


def _meaning(rows: Rows, source: str) -> list[str]:
    """What 0.8 means: how often answers with a confidence near it are right."""
    values = rows.confidence(source)
    present = values[np.isfinite(values)]
    if present.min() < 0 or present.max() > 1:
        return [f"{source} leaves [0, 1]: it ranks answers, but its values are not probabilities."]
    near = np.isfinite(values) & (values >= 0.75) & (values < 0.85)
    n, right = int(near.sum()), int(rows.correct[near].sum())
    if n < MIN_SAYING:
        return [f"{source} says about 0.8 only {n} times: too few to tell what it means."]
    low, high = wilson(right, n)
    said = float(values[near].mean())
    fit = "as it says" if low <= said <= high else "less than it says" if high < said else "more than it says"
    return [
        f"0.8 means {right / n:.0%} [{low:.0%}, {high:.0%}]: that share of its {n} answers with a "
        f"confidence of 0.75–0.85 is right, {fit}."
    ]


def _escalation(results: dict[str, Any], source: str, share: float = 0.2) -> list[str]:
    routing = results["routing"]
    curve = routing["sources"].get(source)
    if curve is None:
        return []
    at = float(np.interp(share, curve["share"], curve["accuracy"]))
    who = "an expert who is always right" if routing["expert"] == "perfect" else "the expert"
    return [
        f"Sending the least confident {share:.0%} to {who} moves accuracy from {curve['accuracy'][0]:.0%} to {at:.0%}."
    ]


def _failures(results: dict[str, Any]) -> list[str]:
    failed = [control["detail"] for control in results["controls"].values() if control["verdict"] == "failed"]
    return [f"A control failed, so read none of this as proven: {'; '.join(failed)}."] if failed else []


def _interval(entry: dict[str, Any], *, sign: bool = False) -> str:
    form = "+.3f" if sign else ".3f"
    value = format(entry["value"], form)
    if entry["low"] is None:
        return value
    return f"{value} [{entry['low']:{form}}, {entry['high']:{form}}]"
