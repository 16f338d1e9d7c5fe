"""Are promises kept, and what do they cost? Simulated calibration rows whose true risk is known, 2,000 sets a cell.

Every rule sees the same sets. A promise is broken when the true risk (or loss of accuracy) at the threshold that was
found exceeds the limit; a set without a threshold breaks nothing and keeps nothing. Writes ``results/guarantee.json``
and the tables of ``docs/policies.md``.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from confide.policies.budgets import budget_threshold
from confide.policies.paired import BoundedLoss, match_expert_threshold
from confide.policies.threshold_bound import BoundedRisk, bounded_risk_threshold
from shapes import (
    BUMP,
    CLUSTERS,
    LEVEL,
    LOSS_SHAPES,
    MARGIN,
    RISK,
    RISK_SHAPES,
    Rows,
    Shape,
    allowed,
    naive_match,
    naive_threshold,
    uniform,
)
from table import put

HERE = Path(__file__).parent
SETS = 2000
SIZES = (300, 1000, 3000)

Rule = Callable[[Rows], float | None]


def at_risk(rows: Rows) -> float | None:
    """`confide calibrate --max-risk 0.1`."""
    found = bounded_risk_threshold(rows.confidence, rows.correct, RISK, LEVEL, rows.clusters)
    return found.threshold if isinstance(found, BoundedRisk) else None


def matched(rows: Rows) -> float | None:
    """`confide calibrate --match-expert 0.02`."""
    found = match_expert_threshold(rows.confidence, rows.correct, rows.expert, MARGIN, LEVEL)
    return found.threshold if isinstance(found, BoundedLoss) else None


def within_budget(rows: Rows) -> float | None:
    """`confide calibrate --budget 0.3`."""
    return budget_threshold(rows.confidence, 0.3, LEVEL).threshold


def quantile(rows: Rows) -> float | None:
    return float(np.quantile(rows.confidence, 0.3))


def cell(shape: Shape, n: int, rule: Rule, grid: np.ndarray[Any, np.dtype[np.float64]]) -> dict[str, float]:
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


def measure() -> dict[str, Any]:
    # The share escalated is the threshold itself; that is what is bounded, and to be used up.
    scores = uniform("", "", lambda s: np.zeros(len(s)))
    budget = Shape("budget", "at most 0.3 escalated; the share escalated in place of coverage", scores.draw,
                   lambda t: min(max(t, 0.0), 1.0), lambda t: t, 0.3)  # fmt: skip
    plan: list[tuple[Shape, Rule, Rule]] = [(shape, at_risk, naive_threshold) for shape in RISK_SHAPES]
    plan += [(shape, matched, naive_match) for shape in LOSS_SHAPES]
    plan.append((budget, within_budget, quantile))
    cells = []
    for shape, ours, naive in plan:
        inside = [t for t in np.linspace(-4, 6, 4001) if shape.kept(float(t)) > 0]
        for n in SIZES:
            row: dict[str, Any] = {"shape": shape.name, "about": shape.about, "n": n}
            cells.append(row | {"confide": cell(shape, n, ours, np.array(inside)),
                                "naive": cell(shape, n, naive, np.array(inside))})  # fmt: skip
            print(shape.name, n, cells[-1]["confide"], cells[-1]["naive"]["broken"], flush=True)
    return {"schema": 1, "sets": SETS, "level": LEVEL, "allowed": allowed(SETS), "cells": cells}


def promises_table(result: dict[str, Any]) -> str:
    sizes = sorted({cell["n"] for cell in result["cells"]})
    head = "| shape | " + " | ".join(f"broken, n = {n:,}" for n in sizes) + " | naive rule | "
    lines = [
        head + " | ".join(f"coverage / oracle's, n = {n:,}" for n in sizes) + " |",
        "|---|" + "---:|" * (2 * len(sizes) + 1),
    ]
    for name in dict.fromkeys(cell["shape"] for cell in result["cells"]):
        cells = [cell for cell in result["cells"] if cell["shape"] == name]
        worst = max(cell["naive"]["broken"] for cell in cells)
        oracle = cells[0]["confide"]["oracle"]
        shares = [f"{cell['confide']['coverage']:.2f} / {oracle:.2f}" if oracle > 0 else "–" for cell in cells]
        broken = [f"{cell['confide']['broken']:.1%}" for cell in cells]
        lines.append(f"| **{name}**: {cells[0]['about']} | {' | '.join(broken)} | {worst:.1%} | {' | '.join(shares)} |")
    return "\n".join(lines)


def facts(result: dict[str, Any]) -> str:
    worst = max(result["cells"], key=lambda cell: cell["confide"]["broken"])
    steep = next(c for c in result["cells"] if c["shape"] == "steep" and c["n"] == 1000)["confide"]
    bump = next(c for c in result["cells"] if c["shape"] == BUMP.name and c["n"] == 1000)["confide"]
    clusters = max(c["naive"]["broken"] for c in result["cells"] if c["shape"] == CLUSTERS.name)
    return "\n".join([
        f"- {result['sets']:,} simulated calibration sets a cell, level {result['level']}; allowed: at most "
        f"{result['allowed']:.2%} broken. The largest share of broken promises is {worst['confide']['broken']:.2%} "
        f"({worst['shape']}, n = {worst['n']:,}).",
        f"- Coverage at n = 1,000, accuracy 0.7, AUROC 0.85, risk 0.1: {steep['coverage'] / steep['oracle']:.1%} of "
        f"the oracle's.",
        f"- Too sure at the very top (bump), n = 1,000: a threshold is found in {bump['found']:.0%} of the sets.",
        f"- Rows of a cluster taken for independent: up to {clusters:.0%} of the promises broken.",
    ])  # fmt: skip


def main() -> None:
    result = measure()
    text = json.dumps(result, indent=1) + "\n"
    (HERE / "results" / "guarantee.json").write_text(text, encoding="utf-8")
    put(HERE.parent / "docs" / "policies.md", {"promises": promises_table(result), "facts": facts(result)})


if __name__ == "__main__":
    main()
