"""Puts the figures of ``results/quality.json`` into README.md and docs/quality.md, between their markers."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SPLITS = {"standard": "standard", "answered-country": "new answers", "relation": "new relation"}
ORDER = (
    "stack", "probe_logprobs", "probe", "reader", "reader:4_words_rank8", "reader:4_words", "reader:4_random",
    "reader:rows", "self_ref", "p_true", "logprob_sum", "logprob_min", "logprob_mean", "entropy", "answer_length",
    "answer_only_table", "answer_only", "question_only", "constant", "shuffled",
)  # fmt: skip
SHORT = (
    "stack", "probe_logprobs", "reader", "self_ref", "p_true", "logprob_sum", "logprob_min", "answer_only_table",
    "answer_only", "question_only",
)  # fmt: skip


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def cells_by_split(result: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for cell in result["cells"]:
        found[cell["split"]].append(cell)
    return found


def over_seeds(cells: list[dict[str, Any]], source: str, metric: str) -> str:
    values = [
        cell["sources"][source][metric]["value"] if isinstance(cell["sources"][source][metric], dict)
        else cell["sources"][source][metric]
        for cell in cells if source in cell["sources"]
    ]  # fmt: skip
    if not values:
        return "–"
    shown = f"{mean(values):.3f}"
    return shown if len(values) == len(cells) else f"{shown} ({len(values)} of {len(cells)})"


def sources_table(result: dict[str, Any], sources: tuple[str, ...]) -> str:
    splits = cells_by_split(result)
    head = "| source | " + " | ".join(f"AUROC, {name}" for name in SPLITS.values())
    lines = [head + " | within answer | Brier | log loss | ECE(10) |", "|---|" + "---:|" * (len(SPLITS) + 4)]
    for source in sources:
        cells = splits["standard"]
        if not any(source in cell["sources"] for cell in cells):
            continue
        columns = [over_seeds(splits[name], source, "auroc") for name in SPLITS]
        columns += [over_seeds(cells, source, m) for m in ("within_answer_auroc", "brier", "log_loss", "ece")]
        name = f"**`{source}`**" if source == "stack" else f"`{source}`"
        lines.append(f"| {name} | " + " | ".join(columns) + " |")
    return "\n".join(lines)


def differences_table(result: dict[str, Any]) -> str:
    lines = ["| split | seed | held out | against | AUROC | log loss | Brier |", "|---|---|---|---|---|---|---|"]
    for split, name in SPLITS.items():
        for cell in cells_by_split(result)[split]:
            found: dict[str, dict[str, str]] = defaultdict(dict)
            for d in cell["differences"]:
                found[d["b"]][d["metric"]] = f"{d['value']:+.3f} [{d['low']:+.3f}, {d['high']:+.3f}]"
            chosen, best = cell["free_chosen_on_validation"], cell["free_best_on_test"]["auroc"]
            wanted = dict.fromkeys(
                [chosen, best, "answer_only_table", "answer_only", "question_only", "probe_logprobs"]
            )
            for other in wanted if split == "standard" else dict.fromkeys([chosen, best, "probe_logprobs"]):
                note = " (chosen on validation)" if other == chosen else " (best on test)" if other == best else ""
                row = [found[other].get(m, "–") for m in ("auroc", "log_loss", "brier")]
                lines.append(
                    f"| {name} | {cell['seed']} | {cell['held_out'] or '–'} | `{other}`{note} | "
                    + " | ".join(row)
                    + " |"
                )
    return "\n".join(lines)


def ladder_table(result: dict[str, Any]) -> str:
    ladder = result["ladder"]
    cell = next(c for c in result["cells"] if c["split"] == "standard" and c["seed"] == 0)
    lines = [
        "| step | AUROC, seed 0 | epochs | seconds an epoch | tokens a reading | served by |",
        "|---|---|---:|---:|---:|---|",
    ]
    for name, about in ladder["readers"].items():
        auroc = cell["sources"][name]["auroc"]
        seconds = [epoch["seconds"] for epoch in about["history"]]
        chosen = " (chosen)" if name == ladder["chosen"] else ""
        lines.append(
            f"| `{name}`{chosen} | {auroc['value']:.3f} [{auroc['low']:.3f}, {auroc['high']:.3f}] | {len(seconds)} | "
            f"{mean(seconds):.0f} | {about['tokens']} | {about['served']} |"
        )
    beside = cell["sources"][ladder["chosen"]]["auroc_on_the_same_rows"]
    lines += [f"| `{name}`, the same test rows | {value:.3f} | – | – | – | – |" for name, value in beside.items()]
    return "\n".join(lines)


def facts(result: dict[str, Any]) -> str:
    data, equality, costs = result["data"], result["equality"], result["costs"]
    grid = result["self-ref-grid"]
    self_ref = [result[name] for name in sorted(result) if re.fullmatch(r"self-ref-\d", name)]
    epochs = result["epochs"]
    share = costs["share_of_answering"]
    return "\n".join([
        f"- Questions: {data['questions']:,}, {data['accuracy']:.1%} answered right, {data['cut']:.1%} cut, "
        f"{data['no_answer']:.1%} name no candidate, {data['answer_tokens']:.1f} tokens an answer.",
        f"- Answers of the exported checkpoint equal the base model's token for token on {equality['equal']:,} "
        f"of {equality['questions']:,} test questions.",
        f"- A reading with 4 ask tokens adds {share['read_4']:.1%} to answering (32 new tokens at most, batch 32, "
        f"median of five), with 8 {share['read_8']:.1%}, at the closing token alone "
        f"{share['read_0']:+.1%} (within the noise of this run); "
        f"`p_true` adds {share['p_true']:.1%}.",
        f"- A reader epoch (4 ask tokens, the second one) takes {epochs['seconds_an_epoch']['reader']:.1f} s on "
        f"{epochs['rows']} rows, a Self-REF epoch {epochs['seconds_an_epoch']['self_ref']:.1f} s: a ratio of "
        f"{epochs['ratio']:.2f}.",
        f"- Self-REF: UN:CN ratio {grid['ratio']:.2f}, chosen among five with {grid['rows']} rows, {grid['epochs']} "
        f"epoch each; final runs with {self_ref[0]['rows'] if self_ref else 0} rows and one epoch.",
        *([masked(result["masking"])] if "masking" in result else []),
        *same_rows(result),
    ])  # fmt: skip


def same_rows(result: dict[str, Any]) -> list[str]:
    """Sources judged on fewer rows, beside the stack and the free signal on those rows (means over seeds)."""
    lines = []
    for source in ("reader", "self_ref", "p_true"):
        found = [c["sources"][source] for c in result["cells"] if c["split"] == "standard" and source in c["sources"]]
        if found:
            beside = {n: mean([f["auroc_on_the_same_rows"][n] for f in found]) for n in ("stack", "logprob_sum")}
            own = mean([f["auroc"]["value"] for f in found])
            lines.append(
                f"- `{source}` on its own test rows ({found[0]['n']:,} a seed, seeds: {len(found)}): AUROC {own:.3f}; "
                f"`stack` {beside['stack']:.3f} and `logprob_sum` {beside['logprob_sum']:.3f} on the same rows."
            )
    return lines


def masked(masking: dict[str, Any]) -> str:
    d = masking["masked_minus_unmasked"]
    return (
        f"- Masking: after training, the mean log-probability of {masking['n']} of the model's own wrong answers to "
        f"test questions is {masking['masked']:.2f} with the mask and {masking['unmasked']:.2f} without "
        f"({masking['base']:.2f} before); paired difference {d['value']:+.2f} [{d['low']:+.2f}, {d['high']:+.2f}]."
    )


def goals(result: dict[str, Any]) -> str:
    """Each goal with what every seed gave; reached only if all seeds reach it."""
    splits = cells_by_split(result)
    lines = ["| goal | seeds 0, 1, 2 | reached |", "|---|---|---|"]

    def row(goal: str, values: list[float], reached: bool, shape: str = "+.3f") -> None:
        lines.append(f"| {goal} | {', '.join(format(v, shape) for v in values)} | {'yes' if reached else '**no**'} |")

    def ahead(split: str, other: str, metric: str) -> list[dict[str, float]]:
        found = []
        for cell in splits[split]:
            name = {"best": cell["free_best_on_test"][metric], "chosen": cell["free_chosen_on_validation"]}.get(
                other, other
            )
            found.append(next(d for d in cell["differences"] if d["b"] == name and d["metric"] == metric))
        return found

    for other, least in (("best", 0.04), ("answer_only", 0.08), ("answer_only_table", 0.08), ("question_only", 0.08),
                         ("probe_logprobs", -0.015)):  # fmt: skip
        values = [d["value"] for d in ahead("standard", other, "auroc")]
        name = "the best free source on test" if other == "best" else f"`{other}`"
        row(f"standard, AUROC above {name} by {least:+.3f}", values, min(values) >= least)
    values = [d["value"] for d in ahead("standard", "best", "brier")]
    row("standard, Brier below the best free source on test by 0.01", values, max(values) <= -0.01)
    values = [cell["sources"]["stack"]["ece"]["value"] for cell in splits["standard"]]
    row("standard, ECE(10) at most 0.04", values, max(values) <= 0.04, ".3f")
    for split in ("answered-country", "relation"):
        for other, name in (
            ("chosen", "the free source chosen on validation"),
            ("best", "the best free source on test"),
        ):
            low = [d["low"] for d in ahead(split, other, "auroc")]
            row(f"{SPLITS[split]}, AUROC against {name}: lower end above −0.01", low, min(low) > -0.01)
            high = [d["high"] for d in ahead(split, other, "log_loss")]
            row(f"{SPLITS[split]}, log loss against {name}: upper end below +0.01", high, max(high) < 0.01)
    equality, costs, epochs = result["equality"], result["costs"]["share_of_answering"], result["epochs"]["ratio"]
    row("exported answers equal, share of test questions", [equality["equal"] / equality["questions"]],
        equality["equal"] == equality["questions"], ".4f")  # fmt: skip
    row("reading, share of answering, at most 0.1", [costs["read_4"]], costs["read_4"] <= 0.1, ".3f")
    row("reader epoch, share of a Self-REF epoch, at most 0.2", [epochs], epochs <= 0.2, ".2f")
    if "masking" in result:
        high = [result["masking"]["masked_minus_unmasked"]["high"]]
        row("masking lowers wrong answers' log-probability: upper end below 0", high, high[0] < 0)
    return "\n".join(lines)


def put(path: Path, parts: dict[str, str]) -> None:
    text = path.read_text(encoding="utf-8")
    for name, body in parts.items():
        marks = f"<!-- {name} -->", f"<!-- /{name} -->"
        pattern = re.escape(marks[0]) + ".*?" + re.escape(marks[1])
        text, count = re.subn(pattern, lambda _, m=marks, b=body: f"{m[0]}\n{b}\n{m[1]}", text, flags=re.DOTALL)  # type: ignore[misc]
        if not count:
            raise SystemExit(f"{path} has no place for {name}")
    path.write_text(text, encoding="utf-8")


def main() -> None:
    result = json.loads((HERE / "results" / "quality.json").read_text(encoding="utf-8"))
    put(HERE.parent / "README.md", {"quality": sources_table(result, SHORT)})
    put(
        HERE.parent / "docs" / "quality.md",
        {
            "sources": sources_table(result, ORDER), "differences": differences_table(result),
            "ladder": ladder_table(result), "facts": facts(result), "goals": goals(result),
        },
    )  # fmt: skip


if __name__ == "__main__":
    main()
