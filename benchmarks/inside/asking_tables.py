"""Puts the figures of ``results/agent.json`` into docs/results/inside.md, between their markers."""

from __future__ import annotations

from itertools import product

from benchmarks.common import RESULTS, Json, goals_table, interval, put, read_json, table

NAMES = {
    "never": "never calls",
    "always": "always calls",
    "oracle": "oracle: calls exactly where its own answer is wrong",
    "logprob_sum": "by `logprob_sum` (free)",
    "portable": "by `portable`",
    "stack": "by `stack`",
}
LEARNED = ("portable", "stack")
HELP = {"read": "read by the model", "taken": "taken as the answer"}


def write(result: Json) -> None:
    """Put every table where its marks are."""
    put("docs/results/inside.md", {"agent": agents_table(result), "agent_goals": goals(result)})


def agents_table(result: Json) -> str:
    """Calls and accuracy of each agent; those that learn, once a seed."""
    rows = []
    for (kind, help_), (name, words) in product(HELP.items(), NAMES.items()):
        for cell in result["cells"] if name in LEARNED else result["cells"][:1]:
            found = cell["agents"][kind][name]
            seed = cell["seed"] if name in LEARNED else "–"
            if "unmet" in found:
                rows.append([help_, words, seed, "100%", "–", "–", "–"])
                continue
            figures = {"calls": ".1%", "accuracy": ".1%", "loss": "+.1%", "of_oracle": ".0%"}
            shown = [interval(found[figure], spec) for figure, spec in figures.items()]
            rows.append([help_, words, seed, *shown[:3], shown[3] if name != "never" else "–"])
    heads = "help is | agent | seed | >calls | >accuracy | >lost against always calling | >of the oracle's savings"
    return table(heads, rows)


def goals(result: Json) -> str:
    """What was to be reached by the stack, by seed."""
    lines = []
    for (kind, help_), cell in product(HELP.items(), result["cells"]):
        found, goal = cell["agents"][kind]["stack"], "at least half of the oracle's savings, at most two points lost"
        words = f"help is {help_}, seed {cell['seed']}: {goal}"
        if "unmet" in found:
            lines.append((words, "no policy keeps the promise", False))
            continue
        saved, loss = found["of_oracle"], found["loss"]
        told = f"{interval(saved, '.0%')}, loss {interval(loss, '+.1%')}"
        lines.append((words, told, saved["value"] >= 0.5 and loss["value"] <= 0.02))
    return goals_table("agent's goal | found", lines)


if __name__ == "__main__":
    write(read_json(RESULTS / "agent.json"))
