"""Puts the figures of ``results/travel.json`` into docs/results/travel.md, between its markers."""

from __future__ import annotations

from benchmarks.common import RESULTS, Json, interval, put, read_json, table

MATRICES = ("relations", "answers", "tasks", "adapted")
SHOWN = {"stack": ("auroc", "against_free", "drop"), "probe_logprobs": ("against_free",)}


def write(result: Json) -> None:
    """Put every table where its marks are."""
    parts, sizes = result["parts"], result["sizes"]
    texts = {name: matrix_table(parts[name]) if name in parts else "" for name in MATRICES}
    texts["rejection"] = rejection_table(parts["rejection"]) if "rejection" in parts else ""
    texts["facts"] = (
        f"A stack trains on at most {sizes['train']:,} rows and chooses on {sizes['validation']}; a column has at most "
        f"{sizes['test']:,} test rows, the same for every row of a matrix. One seed; 95 % intervals by entity. The "
        f"model ran on {result['machine'].get('device', 'an unnamed machine')}."
    )
    put("docs/results/travel.md", texts)


def slim(block: Json) -> Json:
    """A block without what its table does not show."""
    if "cells" not in block:
        sources = {n: {m: s[m] for m in ("auroc", "share_to_catch_80")} for n, s in block["sources"].items()}
        return block | {"sources": sources}
    names = ("trained_on", "tested_on", "in_domain", "n", "measurable", "reason", "free")
    cells = [
        {name: cell[name] for name in names}
        | {"accuracy": cell["accuracy"]["value"]}
        | {"sources": {s: {m: cell["sources"][s][m] for m in ms} for s, ms in SHOWN.items() if s in cell["sources"]}}
        for cell in block["cells"]
    ]
    return {name: block[name] for name in ("rows", "sentences", "familiarity")} | {"cells": cells}


def gap(entry: Json | None) -> str:
    """A difference, bold where it is a loss clear of 0."""
    worse = entry is not None and entry["high"] is not None and entry["high"] < 0
    return f"**{interval(entry, '+.3f')}**" if worse else interval(entry, "+.3f")


def matrix_table(block: Json) -> str:
    """A line per cell that can be measured: long, but an interval needs its room; sentences below name the others."""
    rows = []
    order = {name: place for place, name in enumerate(block["rows"])}
    for cell in sorted(block["cells"], key=lambda c: (order[c["trained_on"]], not c["in_domain"])):
        stack = cell["sources"].get("stack")
        if not cell["measurable"] or stack is None:
            continue
        familiar = block["familiarity"].get(cell["trained_on"], {}).get(cell["tested_on"])
        mark = "*" if cell["in_domain"] else ""
        row = [
            cell["trained_on"],
            f"{mark}{cell['tested_on']}{mark}",
            f"{cell['n']:,}, {cell['accuracy']:.0%}",
            "–" if familiar is None else format(familiar, ".2f"),
        ]
        gaps = [gap(cell["sources"][source]["against_free"]) for source in ("stack", "probe_logprobs")]
        rows.append([*row, interval(stack["auroc"]), f"`{cell['free']}`", *gaps, interval(stack["drop"], "+.3f")])
    head = "trained on | tested on | n, right | >familiarity | `stack` | best free source here | stack minus it"
    lines = [table(f"{head} | `probe_logprobs` minus it | drop", rows), ""]
    return "\n".join(lines + [f"- {sentence}" for sentence in block["sentences"]])


def rejection_table(block: Json) -> str:
    """How well sources tell questions whose right option was removed."""
    if not block["sources"]:
        return str(block["sentence"])
    rows = [
        [f"`{source}`", interval(entry["auroc"]), interval(entry["share_to_catch_80"]),
         f"{block['right_against_wrong'][source]:.3f}"]
        for source, entry in sorted(block["sources"].items(), key=lambda pair: -pair[1]["auroc"]["value"])
    ]  # fmt: skip
    head = "source | AUROC: option there against removed | share rejected to catch 80 % | >AUROC: right against wrong"
    return (
        f"{block['n']:,} questions, {block['without_answer']:,} of them without their right option; "
        f"{block['accuracy_with_answer']:.0%} of the others answered right. {block['sentence']}\n\n{table(head, rows)}"
    )


if __name__ == "__main__":
    write(read_json(RESULTS / "travel.json"))
