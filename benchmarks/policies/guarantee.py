"""Are promises kept, and what do they cost? ``python -m benchmarks.policies.guarantee``, twenty minutes on a core.

Simulated calibration rows whose true risk is known, 2,000 sets a cell.

Every rule sees the same sets. A promise is broken when the true risk (or loss of accuracy) at the threshold that was
found exceeds the limit; a set without a threshold breaks nothing and keeps nothing. Writes ``results/guarantee.json``
and the tables of ``docs/results/policies.md``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

import shapes
from benchmarks.common import RESULTS, Json, put, table, write_result
from confide.errors import ConfideError
from confide.policies.thresholds.cluster_bound import draw
from confide.policies.thresholds.escalation_thresholds import budget_threshold, false_alarm_threshold
from confide.policies.thresholds.fallback_testing import BoundedThreshold
from shapes import Rows, Shape

SETS = 2000
SIZES = (300, 1000, 3000)

Rule = Callable[[Rows], float | None]


def within_budget(rows: Rows) -> float | None:
    """`confide calibrate --budget 0.3`."""
    found = budget_threshold(rows.confidence, 0.3, shapes.LEVEL)
    return found.threshold if isinstance(found, BoundedThreshold) else None


def few_false_alarms(rows: Rows, limit: float) -> float | None:
    """`confide calibrate --max-false-alarms LIMIT`."""
    fine = np.flatnonzero(rows.correct)
    groups = None
    if rows.clusters is not None:
        drawn = draw([rows.clusters[i] for i in fine.tolist()], "question", 0)
        fine, groups = fine[drawn.rows], drawn.clusters
    with suppress(ConfideError):  # too few rows show nothing
        found = false_alarm_threshold(rows.confidence[fine], limit, shapes.LEVEL, groups, hint=False)
        return found.threshold if isinstance(found, BoundedThreshold) else None
    return None


def false_alarm_plan() -> list[tuple[Shape, Rule, Rule]]:
    """Shapes of false alarms: the share of fine answers below the threshold is what is bounded."""
    steep, apart = shapes.STEEP, math.sqrt(2) * float(norm.ppf(0.85))
    alone = Shape("false alarms", "steep; at most 0.05 of the right answers; the share of wrong ones detected in place "
                  "of coverage", steep.draw, lambda t: float(norm.cdf(t)), lambda t: float(norm.cdf(t - apart)),
                  0.05)  # fmt: skip
    # A score is 0.9 of its cluster's and 0.1 of its own, both uniform; labels say nothing of it.
    below = np.sort(0.9 * np.linspace(0, 1, 2001)[:, None] + 0.1 * np.linspace(0, 1, 201), axis=None)

    def share(t: float) -> float:
        return float(np.searchsorted(below, t) / len(below))

    clusters = Shape("false alarms, clusters", "4 to 10 rows a cluster; at most 0.1; the share of false alarms in "
                     "place of coverage", shapes.CLUSTERS.draw, share, share, 0.1)  # fmt: skip
    return [
        (
            alone,
            partial(few_false_alarms, limit=0.05),
            lambda rows: float(np.quantile(rows.confidence[rows.correct], 0.05)),
        ),
        (
            clusters,
            partial(few_false_alarms, limit=0.1),
            lambda rows: few_false_alarms(replace(rows, clusters=None), 0.1),
        ),
    ]


def cell(shape: Shape, n: int, rule: Rule, grid: NDArray[np.float64]) -> dict[str, float]:
    """Share of promises broken, of sets with a threshold, and mean true coverage beside the oracle's."""
    found = [rule(shape.draw(np.random.default_rng(seed), n)) for seed in range(SETS)]
    made = [t for t in found if t is not None]
    kept = sum(shape.kept(t) for t in made) / SETS
    return {
        "broken": sum(shape.quantity(t) > shape.limit for t in made) / SETS,
        "found": len(made) / SETS,
        "coverage": kept,
        "oracle": shape.oracle(grid),
    }


def named(shape: Shape, rule: str) -> Shape:
    """The same shape, for the row of a rule that is not the default."""
    return replace(shape, name=f"{shape.name}, {rule}", about="as above")


def plan() -> list[tuple[Shape, Rule, Rule]]:
    """Every row of the table: a shape, our rule and a naive one."""
    # The share escalated is the threshold itself; that is what is bounded, and to be used up.
    scores = shapes.uniform("", "", lambda s: np.zeros(len(s)))
    budget = Shape("budget", "at most 0.3 escalated; the share escalated in place of coverage", scores.draw,
                   lambda t: min(max(t, 0.0), 1.0), lambda t: t, 0.3)  # fmt: skip
    return [
        *((shape, shapes.ours, shapes.naive_threshold) for shape in shapes.RISK_SHAPES),
        (shapes.STEEP_CLUSTERS, shapes.ours, shapes.naive_threshold),
        (named(shapes.STEEP_CLUSTERS, "per entity"), shapes.per_entity, shapes.naive_threshold),
        # What is naive here is to promise the other thing.
        (shapes.UNEVEN, shapes.ours, shapes.per_entity),
        (shapes.UNEVEN_ENTITIES, shapes.per_entity, shapes.ours),
        (shapes.FALLING, shapes.ours, shapes.naive_threshold),
        *(
            (named(shape, "simultaneous"), shapes.simultaneous, shapes.naive_threshold)
            for shape in (shapes.FLAT, shapes.SAW, shapes.STEEP, shapes.BUMP, shapes.FALLING)
        ),
        *((shape, shapes.matched, shapes.naive_match) for shape in shapes.LOSS_SHAPES),
        (budget, within_budget, lambda rows: float(np.quantile(rows.confidence, 0.3))),
        *false_alarm_plan(),
    ]


def measure(rows: Sequence[tuple[Shape, Rule, Rule]]) -> Json:
    """Every cell of these ``rows`` of the table."""
    cells = []
    for shape, ours, naive in rows:
        grid = np.array([t for t in np.linspace(-4, 6, 4001) if shape.kept(float(t)) > 0])
        for n in SIZES:
            row: Json = {"shape": shape.name, "about": shape.about, "n": n}
            cells.append(row | {"confide": cell(shape, n, ours, grid), "naive": cell(shape, n, naive, grid)})
            print(shape.name, n, cells[-1]["confide"], cells[-1]["naive"]["broken"], flush=True)
    return {"sets": SETS, "level": shapes.LEVEL, "allowed": shapes.allowed(SETS), "cells": cells}


def promises_table(result: Json) -> str:
    rows = []
    for name in dict.fromkeys(cell["shape"] for cell in result["cells"]):
        cells = [cell for cell in result["cells"] if cell["shape"] == name]
        worst = max(cell["naive"]["broken"] for cell in cells)
        ours = [cell["confide"] for cell in cells]
        shares = [f"{c['coverage']:.2f} / {c['oracle']:.2f}" if c["oracle"] > 0 else "–" for c in ours]
        broken = [f"{c['broken']:.1%}" for c in ours]
        rows.append([f"**{name}**: {cells[0]['about']}", *broken, f"{worst:.1%}", *shares])
    sizes = [f"n = {n:,}" for n in SIZES]
    head = ["shape", *(f">broken, {n}" for n in sizes), ">naive rule", *(f">coverage / oracle's, {n}" for n in sizes)]
    return table(" | ".join(head), rows)


def facts(result: Json) -> str:
    worst = max(result["cells"], key=lambda cell: cell["confide"]["broken"])
    steep = next(c for c in result["cells"] if c["shape"] == "steep" and c["n"] == 1000)["confide"]
    bump = next(c for c in result["cells"] if c["shape"] == shapes.BUMP.name and c["n"] == 1000)["confide"]
    wide = next(c for c in result["cells"] if c["shape"] == "bump, simultaneous" and c["n"] == 1000)["confide"]
    clusters = max(c["naive"]["broken"] for c in result["cells"] if c["shape"] == shapes.CLUSTERS.name)
    uneven = max(c["naive"]["broken"] for c in result["cells"] if c["shape"] == shapes.UNEVEN.name)
    return "\n".join([
        f"- {result['sets']:,} simulated calibration sets a cell, level {result['level']}; allowed: at most "
        f"{result['allowed']:.2%} broken. The largest share of broken promises is {worst['confide']['broken']:.2%} "
        f"({worst['shape']}, n = {worst['n']:,}).",
        f"- Coverage at n = 1,000, accuracy 0.7, AUROC 0.85, risk 0.1: {steep['coverage'] / steep['oracle']:.1%} of "
        f"the oracle's.",
        f"- Too sure at the very top (bump), n = 1,000: a threshold is found in {bump['found']:.0%} of the sets, in "
        f"{wide['found']:.0%} with `--simultaneous`; coverage {bump['coverage']:.2f} and {wide['coverage']:.2f}.",
        f"- Rows of a cluster taken for independent: up to {clusters:.0%} of the promises broken. A promise per entity "
        f"read as one per question (uneven): up to {uneven:.0%}.",
    ])  # fmt: skip


def write(result: Json) -> None:
    """Put table and facts into the page."""
    put("docs/results/policies.md", {"promises": promises_table(result), "facts": facts(result)})


if __name__ == "__main__":
    write(write_result(RESULTS / "guarantee.json", "policies/guarantee.py", measure(plan())))
