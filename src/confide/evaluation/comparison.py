"""The comparison: one run minus another on the same questions, source by source, with paired intervals."""

from __future__ import annotations

from shlex import quote
from typing import Any

import numpy as np

from confide.errors import ConfideError
from confide.evaluation.controls import MIN_CLUSTERS
from confide.evaluation.pairs import Pairs
from confide.evaluation.record_columns import Rows, probabilities
from confide.evaluation.verdict import chosen
from confide.evaluation.wording import interval, listed, side, some
from confide.metrics.bootstrap import Bootstrap, estimate
from confide.metrics.calibration_error import brier, ece
from confide.metrics.metric import Weighted, Weights
from confide.metrics.ranking import auroc
from confide.metrics.selective import coverage_at_risk
from confide.numeric import Floats, Ints
from confide.sources import as_probability, family, in_order

LOWER = ("brier", "ece")
"""Compared figures of which less is better."""

EXAMPLES = 10
"""Questions that are shown of each kind of change."""

MIN_ROWS = 100
"""Common rows below which no verdict is given, as for a report."""


def compare(
    pairs: Pairs,
    *,
    names: tuple[str, str] = ("A", "B"),
    max_risk: float = 0.1,
    seed: int = 0,
    resamples: int = 1000,
    min_rows: int = MIN_ROWS,
) -> dict[str, Any]:
    """Compare two runs on the questions that both answered: B minus A, with 95 % intervals.

    Intervals are percentile intervals of a bootstrap by entity that draws the same questions for both. A source is
    compared on the rows where both runs have a value of it.

    Args:
        pairs: The two runs' rows.
        names: What the runs are called.
        max_risk: The share of wrong for which the share kept is given.
        seed: Seed of the bootstrap.
        resamples: Draws of the bootstrap.
        min_rows: Common rows below which the numbers stand but the verdict is refused.

    Returns:
        What compare.json holds: numbers, text and None only.

    Raises:
        ConfideError: ``max_risk`` is no risk.
    """
    if not 0 < max_risk < 1:
        raise ConfideError(f"a risk lies between 0 and 1, not {max_risk:g}")
    bootstrap = pairs.bootstrap(resamples, seed)
    every = np.arange(len(pairs))
    right = [bootstrap.mean(rows.correct.astype(np.float64), every) for rows in (pairs.a, pairs.b)]
    sources = _sources(pairs, bootstrap, max_risk)
    main, _ = chosen({"estimators": {s: {"auroc": entry["auroc"]["b"]} for s, entry in sources.items()}})
    named = set(pairs.a.sources), set(pairs.b.sources)
    results: dict[str, Any] = {
        "schema": 1,
        "names": {"a": names[0], "b": names[1]},
        "models": {which: sorted({r.model for r in rows.records if r.model}) for which, rows in _both(pairs)},
        "tasks": sorted({r.task for r in pairs.a.records if r.task}),
        "n": len(pairs),
        "matched_by": "row" if pairs.by_row else "id",
        "left_out": pairs.left_out(),
        "accuracy": _differing(*right),
        "answers": _answers(pairs),
        "main": main,
        "sources": sources,
        "only_sources": {"a": in_order(named[0] - named[1]), "b": in_order(named[1] - named[0])},
        "max_risk": max_risk,
        "changed": {
            "gained": _examples(pairs, pairs.gained, main),
            "lost": _examples(pairs, pairs.lost, main),
        },
        "bootstrap": bootstrap.settings(),
    }
    return results | {"verdict": _verdict(results, _lacking(pairs), min_rows)}


def better(name: str, difference: dict[str, Any]) -> str:
    """How B stands to A by a figure's difference: "better", "worse", or "level" (cannot be told apart)."""
    where = "level" if difference["value"] is None else side(difference)
    if where == "level":
        return where
    return "better" if (where == "below") == (name in LOWER) else "worse"


def points(difference: dict[str, Any]) -> str:
    """A difference of shares in percentage points, with its interval where it has one."""
    value = f"{100 * difference['value']:+.1f} points"
    if difference["low"] is None:
        return value
    return f"{value} [{100 * difference['low']:+.1f}, {100 * difference['high']:+.1f}]"


def unpaired(results: dict[str, Any]) -> list[str]:
    """What counts no further, in sentences."""
    words = {"only_a": "is only in A", "only_b": "is only in B", "ungraded": "has no grade in A or B"}
    plural = {"only_a": "are only in A", "only_b": "are only in B", "ungraded": "have no grade in A or B"}
    lines = []
    for name, entry in results["left_out"].items():
        if entry["n"]:
            more = [f"and {entry['n'] - len(entry['ids']):,} more"] if entry["n"] > len(entry["ids"]) else []
            count = some(entry["n"], f"row {words[name]}", f"rows {plural[name]}")
            lines.append(f"{count}{listed([*entry['ids'], *more])}.")
    for which in ("a", "b"):
        if names := results["only_sources"][which]:
            lines.append(
                f"Only {which.upper()} has the {'source' if len(names) == 1 else 'sources'} {', '.join(names)}."
            )
    return lines


def _both(pairs: Pairs) -> tuple[tuple[str, Rows], tuple[str, Rows]]:
    return ("a", pairs.a), ("b", pairs.b)


def _differing(a: Floats, b: Floats) -> dict[str, Any]:
    """Both runs' estimates, and that of B minus A, from draws [1 + resamples]."""
    return {"a": estimate(a), "b": estimate(b), "difference": estimate(b - a)}


def _answers(pairs: Pairs) -> dict[str, int]:
    """How many answers became right or wrong, stayed so, or say something else."""
    kinds = {
        "both_right": pairs.a.correct & pairs.b.correct,
        "both_wrong": ~pairs.a.correct & ~pairs.b.correct,
        "gained": pairs.gained,
        "lost": pairs.lost,
        "reworded": pairs.reworded,
    }
    return {name: int(which.sum()) for name, which in kinds.items()}


def _sources(pairs: Pairs, bootstrap: Bootstrap, max_risk: float) -> dict[str, dict[str, Any]]:
    """The entries of the sources with values in both runs, in table order."""
    common = in_order(set(pairs.a.sources) & set(pairs.b.sources))
    found = {source: _source(pairs, source, bootstrap, max_risk) for source in common}
    return {source: entry for source, entry in found.items() if entry is not None}


def _source(pairs: Pairs, source: str, bootstrap: Bootstrap, max_risk: float) -> dict[str, Any] | None:
    """The entry of a source; None where no row has a value of it in both runs."""
    values = [rows.confidence(source) for _, rows in _both(pairs)]
    kept = np.flatnonzero(np.isfinite(values[0]) & np.isfinite(values[1])).astype(np.int64)
    if not len(kept):
        return None
    calibrated = all(probabilities(as_probability(source, x[kept])) for x in values)
    drawn = [
        _sampled(source, x, rows, kept, bootstrap, max_risk, calibrated)
        for x, (_, rows) in zip(values, _both(pairs), strict=True)
    ]
    entry: dict[str, Any] = {name: _differing(drawn[0][name], drawn[1][name]) for name in drawn[0]}
    return {"family": family(source), "n": len(kept), **dict.fromkeys(LOWER), **entry}


def _sampled(
    source: str, values: Floats, rows: Rows, kept: Ints, bootstrap: Bootstrap, max_risk: float, calibrated: bool
) -> dict[str, Floats]:
    """The compared figures of one run on the rows ``kept``, each [1 + resamples]."""
    # What is sorted once need not be sorted by every resample.
    kept = kept[np.argsort(values[kept], kind="stable")]
    x, y = values[kept], rows.correct[kept].astype(np.float64)
    once = np.ones((1, len(x)), dtype=np.int32)
    whole, chances = Weighted(x, y, once), Weighted(as_probability(source, x), y, once)

    def compute(weights: Weights) -> dict[str, Floats]:
        ranked = whole.under(weights)
        out = {"auroc": auroc.on(ranked), "coverage_at_risk": coverage_at_risk.on(ranked, risk=max_risk)}
        if calibrated:
            stated = chances.under(weights)
            out |= {"brier": brier.on(stated), "ece": ece.on(stated)}
        return out

    return bootstrap.sample(compute, kept)


def _examples(pairs: Pairs, wanted: Any, main: str | None) -> list[dict[str, Any]]:
    """The first questions of a kind of change, with both answers and confidences."""
    out = []
    for i in np.flatnonzero(wanted)[:EXAMPLES]:
        a, b = pairs.a.records[i], pairs.b.records[i]
        asked = next((r.messages[-1].content for r in (b, a) if r.messages), "")
        stated = [None if main is None else r.confidence.get(main) for r in (a, b)]
        shown = [None if x is None else float(as_probability(main or "", x)) for x in stated]
        out.append(
            {
                "id": a.id,
                "question": asked if isinstance(asked, str) else str(asked),
                "a": {"answer": a.answer, "confidence": shown[0]},
                "b": {"answer": b.answer, "confidence": shown[1]},
            }
        )
    return out


def _lacking(pairs: Pairs) -> str:
    """Why no source can be compared, and what to do."""
    a, b = pairs.a.sources, pairs.b.sources
    has = f"A has {', '.join(a) or 'none'}, B has {', '.join(b) or 'none'}"
    if set(a) & set(b):
        todo = "no common row has a value of one source in both"
    elif a and b:
        todo = f"to compare one of each, name both, as in --source {quote(f'{a[0]},{b[0]}')}"
    else:
        todo = "`confide score` adds sources, and --confidence-column names a column of confidences"
    return f"No source has values in both, so only the answers can be compared: {has}; {todo}."


def _verdict(results: dict[str, Any], lacking: str, min_rows: int) -> dict[str, Any]:
    """How B stands to A, and sentences: ``answers`` by the accuracy, ``confidence`` by the main source's AUROC.

    ``lacking`` is said where there is no main source.
    Both are "better", "worse" or "level", or None where too few rows, or no source, refuse it.
    """
    n, clusters, main = results["n"], results["bootstrap"]["clusters"], results["main"]
    accuracy, answers = results["accuracy"], results["answers"]
    sentences = [
        f"B is right on {accuracy['b']['value']:.1%} of {some(n, 'common question')}, A on "
        f"{accuracy['a']['value']:.1%}: {_words('accuracy', accuracy['difference'])}.",
        f"B put {some(answers['gained'], 'wrong answer')} of A right and lost {some(answers['lost'], 'right one')}; "
        f"it says something else on {some(answers['reworded'], 'question')}.",
    ]
    entry = results["sources"].get(main)
    if entry is None:
        sentences.append(lacking)
    else:
        for name, words in (("auroc", "AUROC"), ("brier", "Brier score")):
            if entry[name] is not None and entry[name]["difference"]["value"] is not None:
                a, b = (interval(entry[name][which]) for which in ("a", "b"))
                sentences.append(f"{words} of {main}: {b} in B, {a} in A: {_words(name, entry[name]['difference'])}.")
    if results["matched_by"] == "row":
        sentences.append(
            "The rows have no ids: each row of A is compared with the row of the same number in B, so both files must "
            "hold the same questions in the same order."
        )
    if n < min_rows or clusters < MIN_CLUSTERS:
        few = f"{some(n, 'common row')} about {some(clusters, 'entity', 'entities')}"
        wanted = f"{min_rows} rows and {MIN_CLUSTERS} entities"
        told = [f"{few} are too few for a verdict; it takes {wanted}.", *sentences]
        return {"answers": None, "confidence": None, "sentences": told}
    return {
        "answers": better("accuracy", accuracy["difference"]),
        "confidence": None if entry is None else better("auroc", entry["auroc"]["difference"]),
        "sentences": sentences,
    }


def _words(name: str, difference: dict[str, Any]) -> str:
    """A difference with its interval and what it means."""
    means = {"better": "B is better", "worse": "B is worse", "level": "these rows cannot tell them apart"}
    shown = points(difference) if name == "accuracy" else interval(difference, sign=True)
    return f"{means[better(name, difference)]} (difference {shown})"
