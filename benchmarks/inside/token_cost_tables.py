"""Puts the figures of ``results/token_cost.json`` into docs/results/inside.md, between their markers."""

from __future__ import annotations

from benchmarks.common import RESULTS, Json, interval, put, read_json, table

ARMS = {
    "read": "two signals, read at every token",
    "watched": "the same, and a watch that looks at every token",
    "states": "for comparison: the states of these layers kept, as a stack does",
}
GOAL = 1.02


def write(result: Json) -> None:
    """Put the table where its marks are."""
    put("docs/results/inside.md", {"token_cost": cost_table(result)})


def cost_table(result: Json) -> str:
    """CPU time as a multiple of plain generation, by how many answers are written at once."""
    loads = list(result["loads"].values())
    sizes = [f"{load['prompts']} at once" if load["prompts"] > 1 else "one answer" for load in loads]
    rows = [[words, *(interval(load["times"][arm]) for load in loads)] for arm, words in ARMS.items()]
    worst = max(load["times"]["read"]["value"] for load in loads)
    told = "met" if worst <= GOAL else "missed"
    kept = max(load["bytes_a_token"] for load in loads)
    rounds = ", ".join(str(load["rounds"]) for load in loads)
    facts = (
        f"CPU time of {result['tokens']} tokens as a multiple of plain generation in the same {rounds} rounds, "
        "95 % intervals. Every arm wrote the same tokens. "
        f"Goal: at most {GOAL:g} ({told}, {worst:.3f} at worst). What is kept: {kept:.0f} bytes a token."
    )
    return table(f" | {' | '.join(sizes)}", rows) + "\n\n" + facts


if __name__ == "__main__":
    write(read_json(RESULTS / "token_cost.json"))
