"""Puts the figures of ``results/red_flag_token.json`` into docs/results/inside.md, between their markers."""

from __future__ import annotations

from benchmarks.common import RESULTS, Json, interval, put, read_json, table

SHARES = {
    "harmful": "detection, all harmful outputs",
    "harmful: pool": "detection, held-out prompts of AdvBench",
    "harmful: harmbench": "detection, HarmBench's test part",
    "harmless: xstest": "alarms, XSTest's harmless half",
    "harmless: pool": "alarms, held-out harmless prompts",
}


def write(result: Json) -> None:
    """Put the table where its marks are."""
    put("docs/results/inside.md", {"red_flag_token": figures(result)})


def figures(result: Json) -> str:
    """A line a figure, a column a seed."""
    cells = result["cells"]
    rows = [["weight on harmless answers, chosen", *(f"{cell['harmless_weight']:g}" for cell in cells)]]
    rows += [[f"{words} at 5 %", *(interval(cell["source"]["5"].get(group), ".0%") for cell in cells)]
             for group, words in SHARES.items()]  # fmt: skip
    rows += [["AUROC", *(interval(cell["source"]["auroc: all"]) for cell in cells)]]
    rows += [["KL on harmless outputs, nats a token", *(f"{cell['drift']['kl']:.4f}" for cell in cells)]]
    rows += [
        [words, *(interval(cell["drift"][name], spec) for cell in cells)]
        for name, words, spec in (
            ("accuracy", "accuracy on geography, after − before", "+.3f"),
            ("log_likelihood", "log-likelihood of harmful outputs, after − before, nats a token", "+.3f"),
        )
    ]
    return table(" | " + " | ".join(f">seed {cell['seed']}" for cell in cells), rows)


if __name__ == "__main__":
    write(read_json(RESULTS / "red_flag_token.json"))
