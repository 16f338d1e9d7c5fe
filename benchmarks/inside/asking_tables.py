"""Puts the figures of ``results/agent.json`` into docs/inside.md, between their markers."""

from __future__ import annotations

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


def write(result: Json) -> None:
    """Put every table where its marks are."""
    put("docs/inside.md", {"agent": agents_table(result), "agent_goals": goals(result)})


def agents_table(result: Json) -> str:
    """Calls and accuracy of each agent; those that learn, once a seed."""
    rows = []
    for name, words in NAMES.items():
        for cell in result["cells"] if name in LEARNED else result["cells"][:1]:
            found = cell["agents"][name]
            seed = cell["seed"] if name in LEARNED else "–"
            if "unmet" in found:
                rows.append([words, seed, "100%", "–", "–", "–"])
                continue
            loss = interval(found["loss"], "+.1%")
            rows.append(
                [words, seed, interval(found["calls"], ".1%"), interval(found["accuracy"], ".1%"), loss,
                 interval(found["of_oracle"], ".0%")]
            )  # fmt: skip
    return table("agent | seed | >calls | >accuracy | >lost against always calling | >of the oracle's savings", rows)


def goals(result: Json) -> str:
    """What was to be reached by the stack, by seed."""
    lines = []
    for cell in result["cells"]:
        found = cell["agents"]["stack"]
        if "unmet" in found:
            lines.append((f"seed {cell['seed']}", "no policy keeps the promise", False))
            continue
        saved, loss = found["of_oracle"], found["loss"]
        told = f"{interval(saved, '.0%')}, loss {interval(loss, '+.1%')}"
        goal = f"seed {cell['seed']}: at least half of the oracle's savings, at most two points lost"
        lines.append((goal, told, saved["value"] >= 0.5 and loss["value"] <= 0.02))
    return goals_table("agent's goal | found", lines)


if __name__ == "__main__":
    write(read_json(RESULTS / "agent.json"))
