"""Puts the figures of ``results/frozen.json`` into docs/results/frozen-results.md, between their markers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import fmean

from benchmarks.common import RESULTS, Json, interval, put, read_json, table
from benchmarks.quality.increments_tables import LADDER, STEPS, cells_of, of, sizes

TASKS = {"commonsenseqa": "CommonsenseQA", "popqa": "PopQA"}
SOURCES = {
    **{name: text for name, text in LADDER.items() if name != "free"},
    "free": "free: the one that is best on validation rows",
    **{name: f"`{name}`" for name in ("option_probability", "logprob_sum", "logprob_min", "logprob_mean")},
}
METRICS = {"auroc": "AUROC", "within_answer": "within answer", "brier": "Brier", "log_loss": "log loss"}
SEED_COLUMNS = "seed 0 | seed 1 | seed 2"


def write(result: Json) -> None:
    """Put every table where its marks are."""
    parts = {
        "frozen_facts": facts(result),
        "verdicts": verdicts_table(result),
        "counts": counts_table(result),
        "frozen": "\n\n".join(ladders(result)),
        "frozen_steps": steps_table(result),
    }
    put("docs/results/frozen-results.md", parts)


def measured(result: Json, task: str, size: int) -> list[Json]:
    """The blocks of a set's cells in which something was trained, one a seed."""
    return [cell["sets"]["test"] for cell in cells_of(result, task, size) if cell["sets"]]


def mean(blocks: Sequence[Json], source: str, metric: str) -> str:
    """The mean over the seeds that have the figure."""
    values = [value for block in blocks if (value := of(block, source)[metric]["value"]) is not None]
    return f"{fmean(values):.3f}" if values else "–"


def differences(result: Json, task: str, size: int, step: tuple[str, str | None], metric: str) -> list[Json | None]:
    """A step's paired difference in each seed; None where nothing was trained."""
    a, b = step
    found: list[Json | None] = []
    for cell in cells_of(result, task, size):
        block = cell["sets"].get("test", {"best_free": None, "differences": []})
        pair = a, b or block["best_free"], metric
        found.append(next((d for d in block["differences"] if (d["a"], d["b"], d["metric"]) == pair), None))
    return found


def step_name(step: tuple[str, str | None]) -> str:
    """How a step is called; None stands for the best free source."""
    return f"`{step[0]}` − " + (f"`{step[1]}`" if step[1] else "best free")


def verdict(found: Sequence[Json | None], marked: bool) -> str:
    """What the protocol says of a step: intervals of all seeds on one side of 0, and no cell that is marked."""
    if marked:
        return "not measurable"
    ends = [(one["low"], one["high"]) for one in found if one and one["value"] is not None]
    if len(ends) == len(found):
        if min(low for low, _ in ends) > 0:
            return "**helps**"
        if max(high for _, high in ends) < 0:
            return "**harms**"
    return "not shown"


def verdicts_table(result: Json) -> str:
    """The protocol's comparisons and what follows."""
    rows, size = [], sizes(result)[-1]
    for task, name in TASKS.items():
        marked = any(cell["marks"] for cell in cells_of(result, task, size))
        for step in STEPS:
            found = differences(result, task, size, step, "auroc")
            rows.append([name, step_name(step), *(interval(one, "+.3f") for one in found), verdict(found, marked)])
    return table(f"set | step | {SEED_COLUMNS} | verdict", rows)


def counts_table(result: Json) -> str:
    """Right and wrong answers of each cell's parts, the free source that was chosen, and marks."""
    rows = []
    for cell in result["cells"]:
        counts = cell["counts"]
        shown = [f"{counts[part]['right']} / {counts[part]['wrong']}" for part in ("train", "validation", "test")]
        test = counts["test"]
        accuracy = test["right"] / max(1, sum(test.values()))
        best = f"`{cell['sets']['test']['best_free']}`" if cell["sets"] else "–"
        marks = "; ".join(cell["marks"]) or "–"
        rows.append([TASKS[cell["split"]], cell["seed"], cell["asked"], *shown, f"{accuracy:.1%}", best, marks])
    head = "set | >seed | >training rows | >train | >validation | >test | >accuracy, test | best free | not measurable"
    return table(head, rows)


def ladders(result: Json) -> Iterator[str]:
    """Every source's figures, means over seeds, a table for each set and size."""
    for task, name in TASKS.items():
        for size in sizes(result):
            blocks = measured(result, task, size)
            if not blocks:
                yield f"{name}, {size} training rows: nothing was trained."
                continue
            there = [source for source in SOURCES if source == "free" or source in blocks[0]["sources"]]
            rows = [[SOURCES[source], *(mean(blocks, source, metric) for metric in METRICS)] for source in there]
            head = "confidence | " + " | ".join(f">{metric}" for metric in METRICS.values())
            yield f"{name}, {size} training rows ({len(blocks)} of 3 seeds):\n\n{table(head, rows)}"


def steps_table(result: Json) -> str:
    """All differences by seed, also those that decide nothing."""
    rows = []
    for task, name in TASKS.items():
        for size in sizes(result):
            for metric in ("auroc", "brier", "log_loss"):
                for step in STEPS:
                    found = [interval(one, "+.3f") for one in differences(result, task, size, step, metric)]
                    rows.append([name, size, METRICS[metric], step_name(step), *found])
    return table(f"set | >training rows | figure | step | {SEED_COLUMNS}", rows)


def facts(result: Json) -> str:
    """What was run, on what."""
    versions, device = result["machine"]["versions"], result["machine"]["device"]
    parts = (
        f"{TASKS[name]}: {told['cut']['n']:,} of {told['cut']['n'] + told['whole']['n']:,} answers were cut at the "
        f"token limit, {told['cut']['right']} of them right, and {told['whole']['right']} of the others."
        for name, told in result["answers"].items()
        if told["cut"]["n"]
    )
    return (
        f"{result['resamples']} resamples by entity. Protocol: SHA-256 `{result['protocol']}`. {device}; confide "
        f"{versions['confide']}, torch {versions['torch']}, transformers {versions['transformers']}, scikit-learn "
        f"{versions['scikit-learn']}. {' '.join(parts)}"
    )


if __name__ == "__main__":
    write(read_json(RESULTS / "frozen.json"))
