"""Puts the figures of ``results/travel.json`` into docs/travel.md, between its markers."""

from __future__ import annotations

import json
from typing import Any

from table import HERE, put

MATRICES = ("relations", "answers", "tasks", "adapted")


def bounds(entry: dict[str, Any] | None, sign: str = "+") -> str:
    if entry is None or entry["value"] is None:
        return "–"
    text = f"{entry['value']:{sign}.3f}"
    return text if entry["low"] is None else f"{text} [{entry['low']:{sign}.3f}, {entry['high']:{sign}.3f}]"


def gap(entry: dict[str, Any] | None) -> str:
    """A difference, bold where it is a loss clear of 0."""
    worse = entry is not None and entry["high"] is not None and entry["high"] < 0
    return f"**{bounds(entry)}**" if worse else bounds(entry)


def cells(block: dict[str, Any]) -> str:
    """A line a cell: long, but an interval needs its room."""
    lines = [
        "| trained on | tested on | n, right | familiarity | `stack` | best free source here | stack minus it "
        "| `probe_logprobs` minus it | drop |",
        "|---|---|---|---:|---|---|---|---|---|",
    ]
    order = {name: place for place, name in enumerate(block["rows"])}
    for cell in sorted(block["cells"], key=lambda c: (order[c["trained_on"]], not c["in_domain"])):
        familiar = block["familiarity"].get(cell["trained_on"], {}).get(cell["tested_on"])
        start = f"| {cell['trained_on']} | {'*' if cell['in_domain'] else ''}{cell['tested_on']}"
        start += f"{'*' if cell['in_domain'] else ''} | {cell['n']:,}, {cell['accuracy']['value']:.0%} "
        start += f"| {'–' if familiar is None else format(familiar, '.2f')} "
        entry = cell["sources"].get("stack")
        if not cell["measurable"] or entry is None:
            lines.append(f"{start}| *not measurable*: {cell['reason']} | – | – | – | – |")
            continue
        gaps = " | ".join(gap(cell["sources"][source]["against_free"]) for source in ("stack", "probe_logprobs"))
        lines.append(f"{start}| {bounds(entry['auroc'], '')} | `{cell['free']}` | {gaps} | {bounds(entry['drop'])} |")
    return "\n".join([*lines, "", *(f"- {sentence}" for sentence in block["sentences"])])


def rejected(block: dict[str, Any]) -> str:
    if not block["sources"]:
        return str(block["sentence"])
    lines = [
        f"{block['n']:,} questions, {block['without_answer']:,} of them without their right option; "
        f"{block['accuracy_with_answer']:.0%} of the others answered right. {block['sentence']}",
        "",
        "| source | AUROC: option there against removed | share rejected to catch 80 % | AUROC: right against wrong |",
        "|---|---|---|---:|",
    ]
    ranked = sorted(block["sources"].items(), key=lambda pair: -pair[1]["auroc"]["value"])
    for source, entry in ranked:
        lines.append(
            f"| `{source}` | {bounds(entry['auroc'], '')} | {bounds(entry['share_to_catch_80'], '')} "
            f"| {block['right_against_wrong'][source]:.3f} |"
        )
    return "\n".join(lines)


def facts(result: dict[str, Any]) -> str:
    sizes = result["sizes"]
    return (
        f"A stack trains on at most {sizes['train']:,} rows and chooses on {sizes['validation']}; a column has at most "
        f"{sizes['test']:,} test rows, the same for every row of a matrix. One seed; 95 % intervals by entity. The "
        f"model ran on {result['machine'].get('device', 'an unnamed machine')}."
    )


def write_tables(result: dict[str, Any]) -> None:
    parts = result["parts"]
    written = {name: cells(parts[name]) if name in parts else "" for name in MATRICES}
    written["rejection"] = rejected(parts["rejection"]) if "rejection" in parts else ""
    put(HERE.parent / "docs" / "travel.md", written | {"facts": facts(result)})


if __name__ == "__main__":
    write_tables(json.loads((HERE / "results" / "travel.json").read_text(encoding="utf-8")))
