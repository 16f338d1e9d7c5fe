"""The recommendation: the cheapest source that loses next to nothing, or why the rows cannot name one."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from typing import Any

import numpy as np

from confide.errors import ConfideError
from confide.evaluation.controls import MIN_CLUSTERS
from confide.evaluation.record_columns import Rows, answerable, graded
from confide.evaluation.wording import interval, some
from confide.metrics.bootstrap import Estimate, estimate
from confide.numeric import Floats
from confide.policies.identities import check_one_model
from confide.records import Record, RecordTable, ScoreColumns
from confide.sources import FAMILIES, Source, in_order

COST = (
    FAMILIES["free"],
    ("portable",),
    ("stack_served",),
    ("stack", "probe"),
    ("reader", "self_ref", "graded", "tagged", "f_pred"),
    FAMILIES["asked"],
    FAMILIES["sampled"],
    FAMILIES["outside"],
)
"""Sources from cheap to dear: what comes with the answer; what is computed from it; what the server reads while it
answers; the model's states; a trained model or a second request; a question about the answer; more answers; another
model. What any other source costs is not known, so it comes last."""

MAX_LOSS = 0.01
"""AUROC that a cheaper source may lose against the best: the upper end of the 95 % interval stays below it."""

MAX_MISSING = 0.01
"""Share of the rows that a source may lack before it is left out."""

MIN_KIND_CLUSTERS = 2
"""Entities with right answers, and with wrong ones, below which draws of entities have no AUROC."""

RESAMPLES = 500
"""Draws of the bootstrap at most."""


def recommendation(
    records: Sequence[Record],
    *,
    resamples: int,
    seed: int,
    min_rows: int,
    file: str | None = None,
    columns: ScoreColumns | None = None,
) -> dict[str, Any]:
    """Name the cheapest source whose AUROC is shown to be less than `MAX_LOSS` below the best on the validation rows.

    The best has the highest AUROC on these rows. Intervals are of paired draws of entities, on the rows where every
    compared source has a value. Among sources of one cost the better comes first; priors, floors, controls and
    calibrated copies never compete. Where the best alone qualifies, it is named only if the rows settle that: no
    cheaper source may lie within `MAX_LOSS` of it and no other above it by as much, as far as the intervals tell,
    unless they are already as narrow as `MAX_LOSS`.

    Sources are compared on the rows on which the choice is made. Some learned sources chose their penalties on these
    rows too, which favours them a little; the test rows, which nothing chose on, say what the named source is worth.

    Args:
        records: The whole file, all splits; only graded rows of the validation split count.
        resamples: Draws of the bootstrap; at most `RESAMPLES` are made.
        seed: Seed of the draws.
        min_rows: Rows below which nothing is named.
        file: The records' file, as the command names it.
        columns: The columns of that file that the command names.

    Returns:
        ``{"source", "best", "loss": {"value", "low", "high"}, "n", "reason", "next"}``: ``loss`` is the best's AUROC
        minus the named source's, ``n`` the rows compared, ``reason`` and ``next`` (the command to go on with) are in
        words. ``source``, ``loss`` and ``next`` are None where none is named, ``best`` where nothing was compared.
    """
    table = RecordTable.of(records)
    validation = graded(answerable(table.take(table.coded("split").where("validation"))))
    if not validation:
        return _none(0, "no row of the split 'validation' is graded, and a choice on others flatters itself")
    try:
        check_one_model(validation)
    except ConfideError as error:
        return _none(len(validation), f"in the split 'validation' {error}")
    rows = Rows(validation)
    there, lacking = _candidates(table, rows)
    note = f" Left out, missing on more than {MAX_MISSING:.0%} of these rows: {', '.join(lacking)}." if lacking else ""
    if len(there) < 2:
        others = f"there is nothing to compare {there[0]} with" if there else "there is no source to compare"
        return _none(len(validation), f"{others} on the validation rows", note)
    rows = Rows(validation.take(rows.present(*there)))
    if (few := _too_few(rows)) is not None:
        return _none(len(rows.records), few, note)
    bootstrap = rows.bootstrap(min(resamples, RESAMPLES), seed)
    return _named(
        {source: rows.auroc(source, bootstrap) for source in there},
        len(rows.records),
        min_rows,
        note,
        f"{shlex.quote(file or 'scored.jsonl')} {(columns or ScoreColumns()).flags()}",
    )


def _none(n: int, why: str, note: str = "", best: str | None = None) -> dict[str, Any]:
    """The recommendation of nothing, and why."""
    reason = f"No source is recommended: {why}.{note}"
    return {"source": None, "best": best, "loss": None, "n": n, "reason": reason, "next": None}


def _candidates(records: RecordTable, validation: Rows) -> tuple[list[str], list[str]]:
    """The sources that compete with values on nearly all validation rows, and those that lack too many."""
    parsed = {name: Source.parse(name) for name in in_order(records.sources)}
    competing = [name for name, s in parsed.items() if (s.competes or s.family == "free") and not s.calibrated]
    most = (1 - MAX_MISSING) * len(validation.records)
    there = [name for name in competing if len(validation.present(name)) >= most]
    return there, [name for name in competing if name not in there]


def _too_few(rows: Rows) -> str | None:
    """Why intervals by entity cannot be had of these rows, None where they can."""
    clusters = rows.records.clusters()
    for kind, marks in (("right", rows.correct), ("wrong", ~rows.correct)):
        count = len({clusters[i] for i in np.flatnonzero(marks).tolist()})
        if count < MIN_KIND_CLUSTERS:
            found = some(count, "entity", "entities")
            return f"{found} of the validation rows {'has' if count == 1 else 'have'} {kind} answers; it takes two"
    if (entities := len(set(clusters))) < MIN_CLUSTERS:
        about = some(entities, "entity", "entities")
        return f"the validation rows are about {about} only; intervals by entity take {MIN_CLUSTERS}"
    return None


def _named(sampled: dict[str, Floats], n: int, min_rows: int, note: str, file: str) -> dict[str, Any]:
    """The recommendation from every source's AUROC and its draws [1 + resamples] on the same ``n`` rows.

    ``file`` is how a command names it, with a space behind.
    """
    order = sorted(sampled, key=lambda source: (_cost(source), -sampled[source][0]))
    best = max(order, key=lambda source: float(sampled[source][0]))
    losses = {source: estimate(sampled[best] - sampled[source]) for source in order}
    if any(loss["low"] is None for loss in losses.values()):
        return _none(n, f"{some(n, 'validation row')} gave no interval", note, best)
    source = next(s for s in order if s == best or _end(losses[s], "high") < MAX_LOSS)
    cheaper = order[: order.index(best)]
    wanted = {s: _wanted(losses[s], s in cheaper, n) for s in order} if source == best else {}
    if max(wanted.values(), default=0) or n < min_rows:
        unsettled = next((f" ({s} loses {interval(losses[s])} AUROC to {best})" for s in order if wanted.get(s)), "")
        enough = _rounded_up(max([min_rows, *wanted.values()]))
        few = f"{some(n, 'validation row is', 'validation rows are')} too few to tell the sources apart{unsettled}"
        return _none(n, f"{few}; about {enough:,} would do", note, best)
    height = f"the best on {some(n, 'validation row')} (AUROC {sampled[best][0]:.3f})"
    if source != best:
        lost = interval(losses[source])
        said = f"it costs less than {best}, {height}, and loses {lost} to it, less than the {MAX_LOSS} allowed"
    elif not cheaper:
        said = f"it is {height}, and none costs less"
    else:
        nearest = min(cheaper, key=lambda s: _end(losses[s], "high"))
        lost = interval(losses[nearest])
        said = f"it is {height}; of what costs less, {nearest} comes nearest and loses {lost} ({MAX_LOSS} is allowed)"
    command = f"confide calibrate {file}--source {shlex.quote(source)} --max-risk 0.1 --out policy.json"
    told = {"source": source, "best": best, "loss": losses[source], "n": n}
    return told | {"reason": f"Take {source}: {said}.{note}", "next": f"Calibrate it next: {command}"}


def _cost(name: str) -> int:
    """The place of a source's cost in `COST`; its length where the cost is not known."""
    source = Source.parse(name)
    for known in (source.base, source.known):
        for place, names in enumerate(COST):
            if known in names:
                return place
    return len(COST)


def _end(entry: Estimate, name: str) -> float:
    """A number of an estimate that has an interval."""
    number = entry[name]
    assert number is not None
    return number


def _wanted(loss: Estimate, cheaper: bool, n: int) -> float:
    """Rows that would settle whether to take the best instead, 0 where these ``n`` do.

    Settled is a cheaper source that loses `MAX_LOSS` for sure, or whose loss is known as narrowly, and any other one
    that is not above the best by as much. Half an interval falls by 1/√n, and one of `MAX_LOSS` settles either.
    """
    low, high = _end(loss, "low"), _end(loss, "high")
    half = (high - low) / 2
    settled = (low >= MAX_LOSS or half <= MAX_LOSS) if cheaper else low > -MAX_LOSS
    return 0 if settled else max(n + 1, n * (half / MAX_LOSS) ** 2)


def _rounded_up(count: float) -> int:
    """A count to two figures, upwards."""
    step = int(10 ** max(0, math.floor(math.log10(count)) - 1))
    return math.ceil(round(count / step, 9)) * step
