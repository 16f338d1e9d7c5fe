"""Puts the figures of ``results/estimators.json`` into docs/estimators.md, between their markers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from benchmarks.common import RESULTS, Json, interval, put, read_json, table
from benchmarks.quality.quality_tables import bold_first, mean_of

TASKS = {"geography": "geography", "arc_easy": "ARC-easy", "arithmetic": "arithmetic"}
ORDER = (
    "stack", "probe", "probe_logprobs", "reader", "reader_random", "p_true_trained", "option_probability",
    "logprob_sum", "logprob_mean", "logprob_min", "entropy", "answer_length", "self_consistency", "semantic_entropy",
    "p_true", "verbalized", "verifier", "question_only", "answer_only", "answer_only_table", "constant", "shuffled",
)  # fmt: skip
RANKING = ("auroc", "within_question_auroc", "within_answer_auroc")
CALIBRATION = ("brier", "log_loss", "ece")
AHEAD = ("auroc", "within_answer_auroc", "within_answer_auroc_averaged")
WITHIN = {"averaged": "averaged over questions", "pooled": "pair-weighted"}
KINDS = ("stack", "logprob_sum", "question_only", "answer_only")
KIND = ("confidence", "auroc")
"""Sources in the table of kinds of error, and what it shows of each: mean, and right answers against the kind."""

CONTROLS = ("shuffled_labels", "swapped", "privileged_access", "improves_log_loss")
"""Controls that are always shown; the others where they failed."""


def write(result: Json) -> None:
    """Put every table where its marks are."""
    tasks = {task: [cell for cell in result["cells"] if cell["task"] == task] for task in TASKS}
    parts = {f"quality {task}": quality(cells) if cells else "" for task, cells in tasks.items()}
    first = {task: cells[0] for task, cells in sorted(tasks.items()) if cells}
    parts |= {
        "facts": facts(result, first),
        "ahead": ahead(result["cells"]),
        "within question": within_question(first),
        "controls": controls(first),
        "positions": positions(first),
        "error kinds": error_kinds(result["cells"]),
    }
    put("docs/estimators.md", parts)


def slim(cell: Json) -> Json:
    """What the tables show of a cell; what they show of the first seed alone is left out of the others."""
    results, entries = cell["results"], cell["results"]["estimators"]
    shown = [name for name in ORDER if name in entries]
    kept: Json = {key: cell[key] for key in ("task", "seed")} | {key: results[key] for key in ("n", "accuracy", "cut")}
    kept["sources"] = {
        name: {key: entries[name][key] for key in ("n", "family", "cost")}
        | {metric: value(entries[name][metric]) for metric in RANKING}
        | {metric: value(entries.get(f"{name}_calibrated", entries[name])[metric]) for metric in CALIBRATION}
        for name in shown
    }
    kept["stack_ahead_of"] = {
        name: {key: cell["stack_ahead_of"][name][key] for key in (*AHEAD, "one_generation")}
        for name in shown
        if name in cell["stack_ahead_of"] and name not in ("constant", "shuffled")
    }
    if kinds := results["error_kinds"]:
        kept["error_kinds"] = {
            kind: {"n": entry["n"]}
            | {key: {s: value(entry[key][s]) for s in KINDS if entry.get(key, {}).get(s)} for key in KIND}
            for kind, entry in {"right": kinds["right"], **kinds["kinds"]}.items()
        }
    if cell["seed"]:
        return kept
    within = (results["within_question"] or {"sources": {}})["sources"]
    controls = results["controls"]
    return kept | {
        "within_question": {s: {key: within[s][key] for key in (*WITHIN, "mixed")} for s in ORDER if s in within},
        "within_question_ahead": [
            {key: d[key] for key in ("b", "metric", "value", "low", "high")}
            for metric in ("within_question_auroc", "within_question_auroc_pooled")
            for d in results["differences"]
            if d["a"] == "stack" and d["metric"] == metric and entries[d["b"]]["family"] == "free"
        ],
        "controls": {
            name: {key: controls[name][key] for key in ("verdict", "detail")}
            for name in dict.fromkeys([*CONTROLS, *controls])
            if controls.get(name, {}).get("detail") and (name in CONTROLS or controls[name]["verdict"] == "failed")
        },
        "auroc_by_position": {
            series: {point["position"]: point["value"] for point in points if point["value"] is not None}
            for series, points in (results["auroc_by_position"] or {}).items()
        },
    }


def value(entry: Json | None) -> float | None:
    """The number without its interval."""
    return entry["value"] if entry else None


def quality(cells: Sequence[Json]) -> str:
    rows = []
    for source in ORDER:
        found = [cell["sources"][source] for cell in cells if source in cell["sources"]]
        values = {m: [e[m] for e in found if e[m] is not None] for m in (*RANKING, *CALIBRATION)}
        if values["auroc"]:
            cost = found[0]["cost"] or {"tokens": 0.0, "seconds": 0.0}
            means = (mean_of(v, len(cells)) for v in values.values())
            costs = f"{cost['tokens']:.1f}", f"{1000 * cost['seconds']:.1f}"
            rows.append([bold_first(source), found[0]["n"], *means, *costs])
    return table(
        "source | >n | >AUROC | >within question | >within answer | >Brier | >log loss | >ECE(10) | >tokens | >ms", rows
    )


def ahead(cells: Sequence[Json]) -> str:
    """The stack against its strongest rivals: of one generation, of any cost, and the free ones, seed by seed."""
    rows = []
    for cell in cells:
        rivals = cell["stack_ahead_of"]
        groups = {
            "best free": [name for name in rivals if cell["sources"][name]["family"] == "free"],
            "best of one generation": [name for name in rivals if rivals[name]["one_generation"]],
            "best of any cost": list(rivals),
        }
        reasons: dict[str, list[str]] = defaultdict(list)
        for reason, names in groups.items():
            reasons[min(names, key=lambda name: rivals[name]["auroc"]["value"])].append(reason)
        for name, why in reasons.items():
            gaps = (interval(rivals[name][metric], "+.3f") for metric in AHEAD)
            rows.append([TASKS[cell["task"]], cell["seed"], f"`{name}` ({', '.join(why)})", *gaps])
    return table("task | seed | against | AUROC | within answer (pairs) | within answer (averaged)", rows)


def within_question(first: Mapping[str, Json]) -> str:
    """Sources within questions, and the stack minus the free source that is best there."""
    rows = [
        [TASKS[task], f"`{source}`", *(whole(entry[key]) for key in WITHIN), entry["mixed"]]
        for task, cell in first.items()
        for source, entry in cell["within_question"].items()
    ]
    lines = [
        f"- {TASKS[task]}, {'pair-weighted' if d['metric'].endswith('pooled') else 'averaged'}: `stack` minus "
        f"`{d['b']}` {interval(d, '+.3f')}."
        for task, cell in first.items()
        for d in cell["within_question_ahead"]
    ]
    return "\n".join([table(f"task | source | {' | '.join(WITHIN.values())} | >mixed questions", rows), "", *lines])


def whole(entry: Json | None) -> str:
    """A value with its interval, a dash where either is missing."""
    return interval(entry) if entry and entry["low"] is not None else "–"


def controls(first: Mapping[str, Json]) -> str:
    return "\n".join(
        f"- {TASKS[task]}, {name.replace('_', ' ')}: {block['verdict']}. {block['detail']}"
        for task, cell in first.items()
        for name, block in cell["controls"].items()
    )


def positions(first: Mapping[str, Json]) -> str:
    rows = [
        [TASKS[task], f"`{series}`", ", ".join(f"{position} {value:.3f}" for position, value in points.items())]
        for task, cell in first.items()
        for series, points in cell["auroc_by_position"].items()
    ]
    return table("task | series | AUROC at each position", rows)


def error_kinds(cells: Sequence[Json]) -> str:
    kinds = next((cell["error_kinds"] for cell in cells if "error_kinds" in cell), None)
    if kinds is None:
        return ""
    sources = list(kinds["right"]["confidence"])

    def row(kind: str, entry: Json) -> Iterator[object]:
        yield from (kind, entry["n"])
        for source in sources:
            told = entry["auroc"].get(source)
            yield f"{entry['confidence'][source]:.2f}" + ("" if told is None else f", {told:.3f}")

    head = " | ".join(f"`{source}`: mean, AUROC against right" for source in sources)
    return table(f"answers | >n | {head}", (row(kind, entry) for kind, entry in kinds.items()))


def facts(result: Json, first: Mapping[str, Json]) -> str:
    sizes = result["sizes"]
    lines = [
        f"- At most {sizes['train']:,} rows train, {sizes['validation']} validate, {sizes['calibration']} calibrate "
        f"(the rest of ARC-easy's test questions); {sizes['samples']} samples on up to {sizes['test']:,} "
        f"test rows, sources that ask again on up to {sizes['test']:,}.",
        f"- The model ran on {result['machine'].get('device', 'an unnamed machine')}, beside other work of these "
        "tables: milliseconds compare within a table, not with another machine's.",
    ]
    for task, cell in first.items():
        seeds = sum(other["task"] == task for other in result["cells"])
        lines.append(
            f"- {TASKS[task]}: {cell['n']:,} test rows, the same for each of {seeds} seeds; "
            f"accuracy {cell['accuracy']:.1%}, {cell['cut']:.1%} cut."
        )
    return "\n".join(lines)


if __name__ == "__main__":
    write(read_json(RESULTS / "estimators.json"))
