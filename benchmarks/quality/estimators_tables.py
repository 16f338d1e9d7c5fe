"""Puts the figures of ``results/estimators.json`` into docs/results/estimators.md, between their markers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from benchmarks.common import RESULTS, Json, put, read_json, table

TASKS = {"geography": "geography", "arc_easy": "ARC-easy", "arithmetic": "arithmetic"}
ORDER = (
    "option_probability", "logprob_sum", "logprob_mean", "logprob_min", "entropy", "answer_length", "self_consistency",
    "semantic_entropy", "p_true", "verbalized", "verifier", "question_only", "answer_only", "answer_only_table",
    "constant",
)  # fmt: skip
RANKING = ("auroc", "within_answer_auroc")
CALIBRATION = ("brier", "log_loss", "ece")


def write(result: Json) -> None:
    """Put every table where its marks are."""
    tasks = {task: [cell for cell in result["cells"] if cell["task"] == task] for task in TASKS}
    parts = {f"quality {task}": quality(cells) if cells else "" for task, cells in tasks.items()}
    parts["facts"] = facts(result, {task: cells[0] for task, cells in tasks.items() if cells})
    put("docs/results/estimators.md", parts)


def slim(cell: Json) -> Json:
    """What the tables show of a cell."""
    results, entries = cell["results"], cell["results"]["estimators"]
    over = results["controls"].get("improves_log_loss", {}).get("sources", {})
    kept: Json = {key: cell[key] for key in ("task", "seed")} | {key: results[key] for key in ("n", "accuracy", "cut")}
    kept["sources"] = {
        name: {key: entries[name][key] for key in ("n", "cost")}
        | {metric: value(entries[name][metric]) for metric in RANKING}
        | {metric: value(entries.get(f"{name}_calibrated", entries[name])[metric]) for metric in CALIBRATION}
        | ({"adds": (over[name]["low"] or 0) > 0} if name in over else {})
        for name in ORDER
        if name in entries
    }
    return kept


def value(entry: Json | None) -> float | None:
    """The number without its interval."""
    return entry["value"] if entry else None


def quality(cells: Sequence[Json]) -> str:
    """Every source of a task: means over the seeds that have it, and its cost."""
    rows = []
    for source in ORDER:
        found = [cell["sources"][source] for cell in cells if source in cell["sources"]]
        if found:
            values = ([entry[m] for entry in found if entry[m] is not None] for m in (*RANKING, *CALIBRATION))
            means = (f"{fmean(some):.3f}" if some else "–" for some in values)
            adds = {None: "–", True: "yes", False: "no"}[found[0].get("adds")]
            cost = found[0]["cost"] or {"tokens": 0.0, "seconds": 0.0}
            costs = f"{cost['tokens']:.1f}", f"{1000 * cost['seconds']:.1f}"
            rows.append([f"`{source}`", found[0]["n"], *means, adds, *costs])
    return table("source | >n | >AUROC | >within answer | >Brier | >log loss | >ECE(10) | adds | >tokens | >ms", rows)


def facts(result: Json, first: Mapping[str, Json]) -> str:
    """Sizes, the machine and the tasks."""
    sizes = result["sizes"]
    lines = [
        f"- At most {sizes['train']:,} rows to learn a prior from, {sizes['validation']} to choose on, "
        f"{sizes['calibration']} to calibrate (the rest of ARC-easy's test questions); {sizes['samples']} samples.",
        f"- The model ran on {result['machine'].get('device', 'an unnamed machine')}, beside other work: milliseconds "
        "compare within a table, not with another machine's.",
    ]
    for task, cell in first.items():
        lines.append(
            f"- {TASKS[task]}: {cell['n']:,} test rows, accuracy {cell['accuracy']:.1%}, {cell['cut']:.1%} cut."
        )
    return "\n".join(lines)


if __name__ == "__main__":
    write(read_json(RESULTS / "estimators.json"))
