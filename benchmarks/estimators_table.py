"""Puts the figures of ``results/estimators.json`` into docs/estimators.md, between its markers."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

from table import HERE, mean, put

Cells = list[dict[str, Any]]
TASKS = {"geography": "geography", "arc_easy": "ARC-easy", "arithmetic": "arithmetic"}
ORDER = (
    "stack", "probe", "probe_logprobs", "reader", "reader_random", "p_true_trained", "option_probability",
    "logprob_sum", "logprob_mean", "logprob_min", "entropy", "answer_length", "self_consistency", "semantic_entropy",
    "p_true", "verbalized", "verifier", "question_only", "answer_only", "answer_only_table", "constant", "shuffled",
)  # fmt: skip


def by_task(result: dict[str, Any]) -> dict[str, Cells]:
    found: dict[str, Cells] = defaultdict(list)
    for cell in result["cells"]:
        found[cell["task"]].append(cell)
    return found


def values(cells: Cells, source: str, metric: str) -> list[float]:
    entries = [c["results"]["estimators"].get(source, {}).get(metric) for c in cells]
    return [e["value"] for e in entries if e and e["value"] is not None]


def shown(found: list[float], cells: Cells, digits: int = 3) -> str:
    if not found:
        return "–"
    return f"{mean(found):.{digits}f}" + ("" if len(found) == len(cells) else f" ({len(found)} of {len(cells)})")


def quality(cells: Cells) -> str:
    lines = [
        "| source | n | AUROC | within question | within answer | Brier | log loss | ECE(10) | tokens | ms |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for source in ORDER:
        auroc = values(cells, source, "auroc")
        if not auroc:
            continue
        calibrated = source if source in ("constant", "shuffled") else f"{source}_calibrated"
        entry = next(e for c in cells if (e := c["results"]["estimators"].get(source)))
        cost = entry["cost"] or {"tokens": 0.0, "seconds": 0.0}
        columns = [
            str(entry["n"]),
            shown(auroc, cells),
            *(shown(values(cells, source, m), cells) for m in ("within_question_auroc", "within_answer_auroc")),
            *(shown(values(cells, calibrated, m), cells) for m in ("brier", "log_loss", "ece")),
            f"{cost['tokens']:.1f}",
            f"{1000 * cost['seconds']:.1f}",
        ]
        name = f"**`{source}`**" if source == "stack" else f"`{source}`"
        lines.append(f"| {name} | " + " | ".join(columns) + " |")
    return "\n".join(lines)


def interval(entry: dict[str, Any]) -> str:
    if entry["low"] is None:
        return f"{entry['value']:+.3f}"
    return f"{entry['value']:+.3f} [{entry['low']:+.3f}, {entry['high']:+.3f}]"


def ahead(result: dict[str, Any]) -> str:
    """The stack against its strongest rivals: of one generation, of any cost, and the free ones, seed by seed."""
    lines = [
        "| task | seed | against | AUROC | within answer (pairs) | within answer (averaged) |",
        "|---|---|---|---|---|---|",
    ]
    for task, cells in by_task(result).items():
        for cell in cells:
            found = {n: e for n, e in cell["stack_ahead_of"].items() if n not in ("constant", "shuffled")}
            found = {n: e for n, e in found.items() if not n.startswith("other_") and "_shuffled_labels" not in n}
            free = [n for n in found if cell["results"]["estimators"][n]["family"] == "free"]
            one = [n for n in found if found[n]["one_generation"]]
            least = {
                "best free": min(free, key=lambda n: found[n]["auroc"]["value"]),
                "best of one generation": min(one, key=lambda n: found[n]["auroc"]["value"]),
                "best of any cost": min(found, key=lambda n: found[n]["auroc"]["value"]),
            }
            named: dict[str, list[str]] = defaultdict(list)
            for why, name in least.items():
                named[name].append(why)
            for label, reasons in named.items():
                entry = found[label]
                columns = [
                    interval(entry[m]) if entry[m]["value"] is not None and entry[m]["low"] is not None else "–"
                    for m in ("auroc", "within_answer_auroc", "within_answer_auroc_averaged")
                ]
                lines.append(
                    f"| {TASKS[task]} | {cell['seed']} | `{label}` ({', '.join(reasons)}) | "
                    + " | ".join(columns)
                    + " |"
                )
    return "\n".join(lines)


def within_question(result: dict[str, Any]) -> str:
    lines = ["| task | source | averaged over questions | pair-weighted | mixed questions |", "|---|---|---|---|---:|"]
    for task, cells in by_task(result).items():
        block = cells[0]["results"].get("within_question")
        if not block:
            continue
        for source in (s for s in ORDER if s in block["sources"]):
            entry = block["sources"][source]
            two = [
                f"{entry[m]['value']:.3f} [{entry[m]['low']:.3f}, {entry[m]['high']:.3f}]"
                if entry[m] and entry[m]["low"] is not None
                else "–"
                for m in ("averaged", "pooled")
            ]
            lines.append(f"| {TASKS[task]} | `{source}` | {two[0]} | {two[1]} | {entry['mixed']} |")
    return "\n".join([*lines, "", *within_question_ahead(result)])


def within_question_ahead(result: dict[str, Any]) -> list[str]:
    """The stack minus the free source that is best within questions, on the questions that both can rank."""
    lines = []
    for task, cells in by_task(result).items():
        entries = cells[0]["results"]["estimators"]
        for metric, words in (
            ("within_question_auroc", "averaged"), ("within_question_auroc_pooled", "pair-weighted"),
        ):  # fmt: skip
            for d in cells[0]["results"]["differences"]:
                if d["a"] == "stack" and d["metric"] == metric and entries[d["b"]]["family"] == "free":
                    lines.append(f"- {TASKS[task]}, {words}: `stack` minus `{d['b']}` {interval(d)}.")
    return lines


def controls(result: dict[str, Any]) -> str:
    lines = []
    for task, cells in by_task(result).items():
        found = cells[0]["results"]["controls"]
        shown_always = ("shuffled_labels", "swapped", "privileged_access", "improves_log_loss")
        for name in [*shown_always, *(n for n in found if n not in shown_always and found[n]["verdict"] == "failed")]:
            if (block := found.get(name)) and block.get("detail"):
                lines.append(f"- {TASKS[task]}, {name.replace('_', ' ')}: {block['verdict']}. {block['detail']}")
    return "\n".join(lines)


def positions(result: dict[str, Any]) -> str:
    lines = ["| task | series | AUROC at each position |", "|---|---|---|"]
    for task, cells in by_task(result).items():
        for series, points in (cells[0]["results"].get("auroc_by_position") or {}).items():
            text = ", ".join(f"{p['position']} {p['value']:.3f}" for p in points if p["value"] is not None)
            lines.append(f"| {TASKS[task]} | `{series}` | {text} |")
    return "\n".join(lines)


def error_kinds(result: dict[str, Any]) -> str:
    block = next((c["results"]["error_kinds"] for c in result["cells"] if c["results"].get("error_kinds")), None)
    if not block:
        return ""
    sources = [s for s in ("stack", "logprob_sum", "question_only", "answer_only") if s in block["right"]["confidence"]]
    lines = [
        "| answers | n | " + " | ".join(f"`{s}`: mean, AUROC against right" for s in sources) + " |",
        "|---|---:|" + "---|" * len(sources),
        f"| right | {block['right']['n']} | "
        + " | ".join(f"{block['right']['confidence'][s]['value']:.2f}" for s in sources)
        + " |",
    ]
    for kind, entry in block["kinds"].items():
        columns = []
        for s in sources:
            auroc = entry["auroc"].get(s)
            columns.append(
                f"{entry['confidence'][s]['value']:.2f}"
                + (f", {auroc['value']:.3f}" if auroc and auroc["value"] is not None else "")
            )
        lines.append(f"| {kind} | {entry['n']} | " + " | ".join(columns) + " |")
    return "\n".join(lines)


def facts(result: dict[str, Any]) -> str:
    sizes, machine = result["sizes"], result["machine"]
    again, sampled = sizes["asked again"], sizes["sampled"]
    lines = [
        f"- At most {sizes['train']:,} rows train, {sizes['validation']} validate, {sizes['calibration']} calibrate "
        f"(the rest of ARC-easy's test questions); {sizes['samples']} samples on up to {sampled['test']:,} test rows, "
        f"sources that ask again on up to {again['test']:,}.",
        f"- The model ran on {machine.get('device', 'an unnamed machine')}, beside other work of these tables: "
        "milliseconds compare within a table, not with another machine's.",
    ]
    for task, cells in by_task(result).items():
        first = cells[0]["results"]
        lines.append(
            f"- {TASKS[task]}: {first['n']:,} test rows, the same for each of {len(cells)} seeds; "
            f"accuracy {first['accuracy']:.1%}, {first['cut']:.1%} cut."
        )
    return "\n".join(lines)


def write_tables(result: dict[str, Any]) -> None:
    tasks = by_task(result)
    parts = {f"quality {task}": quality(tasks[task]) if task in tasks else "" for task in TASKS}
    parts |= {
        "facts": facts(result), "ahead": ahead(result), "within question": within_question(result),
        "controls": controls(result), "positions": positions(result), "error kinds": error_kinds(result),
    }  # fmt: skip
    put(HERE.parent / "docs" / "estimators.md", parts)


if __name__ == "__main__":
    write_tables(json.loads((HERE / "results" / "estimators.json").read_text(encoding="utf-8")))
