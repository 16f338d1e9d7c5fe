"""Puts the figures of ``results/steps.json`` into docs/results/inside.md, between their markers."""

from __future__ import annotations

from statistics import fmean

from benchmarks.common import RESULTS, Json, goals_table, interval, put, read_json, table

NAMES = {
    "place": "how many steps are done",
    "step_sum": "free: log-probability of the step",
    "step_mean": "free: mean over the step's tokens",
    "step_min": "free: its least likely token",
    "sum": "free: log-probability so far",
    "mean": "free: mean over all tokens so far",
    "min": "free: least likely token so far",
    "portable": "`portable`, a step as an answer",
    "free_learned": "all free signals and the place, learned",
    "reading of means": "linear reading of the mean state so far",
    "reading": "**linear reading of the states**",
    "reading minimum": "… its minimum so far",
    "reading product": "… its product so far",
    "reading mean": "… its mean so far",
    "reading learned": "… all of these, learned",
    "exact": "for comparison: which steps so far are right, exactly",
}
FREE = ("step_sum", "step_mean", "step_min", "sum", "mean", "min")
STOPPERS = {"min": "free: least likely token so far"} | {n: NAMES[n] for n in ("portable", "free_learned", "reading")}


def write(result: Json) -> None:
    """Put every table where its marks are."""
    parts = {
        "steps_facts": facts(result),
        "steps_seen": seen_table(result),
        "steps_within": within_table(result),
        "steps_stops": stops_table(result),
        "steps_goals": goals(result),
    }
    put("docs/results/inside.md", parts)


def facts(result: Json) -> str:
    """Sizes, accuracy and what could be saved at most."""
    sizes, told = result["sizes"], result["facts"]
    return (
        f"{sizes['train']:,} problems to train on, {sizes['validation']:,} that choose, {sizes['calibration']:,} to "
        f"calibrate, {sizes['test']:,} to test on. Test answers have {told['tokens']:.0f} tokens on average, and "
        f"{told['accuracy']:.1%} of them end right. Stopping every wrong one right after its first wrong step, and no "
        f"other, would save {told['oracle_saved']:.1%} of the tokens."
    )


def seen_table(result: Json) -> str:
    """AUROC for the end by the share of steps seen, means over seeds."""
    shares = [one["share"] for one in result["cells"][0]["seen"]["reading"]]
    rows = [
        [words, *(_mean(result, name, place) for place in range(len(shares)))]
        for name, words in NAMES.items()
        if name in result["cells"][0]["seen"]
    ]
    return table("source | " + " | ".join(f">{share:.0%} seen" for share in shares), rows)


def _mean(result: Json, name: str, place: int) -> str:
    found = [cell["seen"][name][place]["value"] for cell in result["cells"]]
    return "–" if None in found else f"{fmean(found):.3f}"


def within_table(result: Json) -> str:
    """Correlation with Monte-Carlo value inside a problem, by seed."""
    if not result["rolled"]:
        return "Not measured yet."
    heads = " | ".join(f">seed {cell['seed']}" for cell in result["cells"])
    rows = [
        [words, *(interval(cell["within"]["sources"][name]) for cell in result["cells"])]
        for name, words in NAMES.items()
        if name in result["cells"][0]["within"]["sources"]
    ]
    return table(f"source | {heads}", rows)


def stops_table(result: Json) -> str:
    """What stopping saves and costs, by source and bound; means over seeds, with the widest interval of a seed.

    Only a source that says something of the question alone has lines of its own for being read there too.
    """
    rows = []
    for source, words in STOPPERS.items():
        for from_prompt in (False, True):
            for alpha in sorted({one["alpha"] for one in result["cells"][0]["stops"]}):
                found = [_stop(cell, source, from_prompt, alpha) for cell in result["cells"]]
                steps = [_stop(cell, source, False, alpha) for cell in result["cells"]]
                if from_prompt and [one["saved"] for one in found] == [one["saved"] for one in steps]:
                    continue
                rows.append([
                    words, "question, steps" if from_prompt else "steps", f"{alpha:.0%}",
                    f"{fmean(one['stopped_of_right'] for one in found):.1%}",
                    f"{fmean(one['stopped_of_wrong'] for one in found):.1%}",
                    _over_seeds([one["saved"] for one in found], ".1%"),
                    _over_seeds([one["difference"] for one in found], "+.2%"),
                ])  # fmt: skip
    heads = "read at | >α | >stopped of right | >stopped of wrong | >tokens saved | >accuracy against the end alone"
    return table(f"stops by | {heads}", rows)


def _stop(cell: Json, source: str, from_prompt: bool, alpha: float) -> Json:
    wanted = source, from_prompt, alpha
    return next(one for one in cell["stops"] if (one["source"], one["from_prompt"], one["alpha"]) == wanted)


def _over_seeds(found: list[Json], spec: str) -> str:
    ends = {"low": min(one["low"] for one in found), "high": max(one["high"] for one in found)}
    return interval({"value": fmean(one["value"] for one in found), **ends}, spec)


def goals(result: Json) -> str:
    """What was to be reached, and what was."""
    lines = []
    for cell in result["cells"] if result["rolled"] else []:
        seed, told = cell["seed"], cell["within"]
        reading = told["sources"]["reading"]
        lines.append(
            (f"seed {seed}: correlation inside a problem at least 0.4", interval(reading), reading["value"] >= 0.4)
        )
        rival = max(FREE, key=lambda name: told["sources"][name]["value"])
        ahead = told["differences"][rival]
        words = f"seed {seed}: above the best token log-probability (`{rival}`)"
        lines.append((words, interval(ahead, "+.3f"), ahead["low"] > 0))
    for cell in result["cells"]:
        for alpha in (0.1, 0.2):
            one = _stop(cell, "reading", False, alpha)
            saved, lost = one["saved"], one["difference"]
            words = f"seed {cell['seed']}, α = {alpha:.0%}: at least 25% of the tokens saved, at most one point lost"
            found = f"{interval(saved, '.1%')}, {interval(lost, '+.2%')}"
            lines.append((words, found, saved["value"] >= 0.25 and lost["low"] >= -0.01))
    return goals_table("goal | found", lines)


if __name__ == "__main__":
    write(read_json(RESULTS / "steps.json"))
