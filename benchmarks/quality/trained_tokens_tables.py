"""Puts the figures of ``results/trained_tokens.json`` into docs/results/quality.md, between their markers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean

from benchmarks.common import RESULTS, Json, interval, put, read_json, table

NAMES = {
    "self_ref": "`self_ref`: a verdict after its own answer",
    "reader": "`reader`: an adapter reads the base model's answer again",
}
TAUGHT = {
    "labels": "Self-REF",
    "reader": "The reader",
}
"""How runs are taught, in words."""

RIVALS = ("logprob_sum", "portable", "stack")
"""What a trained verdict is compared with, on the same rows."""

WORLDS = (("standard", "test"), ("answered-country", "test"), ("answered-country", "familiar"))
"""Which rows of which draws: test rows; test rows with new answers, and rows like the training rows of these draws."""

ROUTING = {"apgr": ">APGR", "kept_at_risk_0.2": ">kept at risk 0.2"}
"""Of the standard world."""

SEEDS = 3


def write(result: Json) -> None:
    """Put every table where its marks are."""
    parts = {
        "trained_tokens": sources_table(result),
        "trained_steps": steps_table(result),
        "trained_facts": facts(result),
    }
    put("docs/results/quality.md", parts)


def values(
    result: Json, source: str, split: str, rows: str, figure: str = "auroc", part: str = "sources"
) -> list[float]:
    """A source's figure, one a draw that has it."""
    found = [cell["sets"][rows][part] for cell in result["cells"] if cell["split"] == split]
    some = [one[source][figure] for one in found if source in one]
    return [one["value"] if isinstance(one, dict) else one for one in some if one is not None]


def mean_of(some: Sequence[float]) -> str:
    """The mean, with the number of draws where there are not three."""
    if not some:
        return "–"
    number = "" if len(some) == SEEDS else f" ({len(some)} draw{'s' * (len(some) > 1)})"
    return f"{fmean(some):.3f}{number}"


def lines_of(result: Json) -> list[tuple[str, str]]:
    """The trained verdicts that there are and what they are called, alone and mixed."""
    trained = [(name, words) for name, words in NAMES.items() if values(result, name, *WORLDS[0])]
    return [*trained, *((f"{name}+portable", f"`{name}` mixed with `portable`") for name, _ in trained)]


def sources_table(result: Json) -> str:
    """Trained verdicts alone and mixed: AUROC in all worlds and within the same answer, and how they route.

    The rivals' figures are means over all draws, of whatever verdict.
    """
    rows = [
        [
            words,
            *(mean_of(values(result, name, *world)) for world in WORLDS),
            mean_of(values(result, name, *WORLDS[0], "within_answer")),
            *(mean_of(values(result, name, *WORLDS[0], figure, "routing")) for figure in ROUTING),
        ]
        for name, words in [*lines_of(result), *((name, f"`{name}`") for name in RIVALS)]
    ]
    head = ">standard | >new answers | >rows like training's | >within answer | " + " | ".join(ROUTING.values())
    return table(f"confidence | {head}", rows)


def steps_table(result: Json) -> str:
    """What each is ahead of its rivals by, seed by seed; on new answers the rivals are one."""
    rows = []
    for split, some in WORLDS[:2]:
        for source in NAMES:
            for name in (source, f"{source}+portable"):
                for rival in RIVALS if split == "standard" else RIVALS[:1]:
                    found = {
                        cell["seed"]: one
                        for cell in result["cells"]
                        if cell["split"] == split
                        for one in cell["sets"][some]["differences"]
                        if (one["a"], one["b"]) == (name, rival)
                    }
                    if found:
                        told = (interval(found.get(seed), "+.3f") for seed in range(SEEDS))
                        world = "standard" if split == "standard" else "new answers"
                        rows.append([world, f"`{name}` − `{rival}`", *told])
    return table("world | step | seed 0 | seed 1 | seed 2", rows)


def spread(values: Iterable[int]) -> str:
    """The lowest and the highest of some numbers."""
    low, high = min(some := list(values)), max(some)
    return f"{low}" if low == high else f"{low} to {high}"


def facts(result: Json) -> str:
    """What training took, and the answers of the models that it changed."""
    runs = [(cell, taught, run) for cell in result["cells"] for taught, run in cell["runs"].items()]
    lines = [f"- {len(runs)} runs on {runs[0][2]['rows']:,} rows; {result['machine']['device']}."]
    for taught, words in TAUGHT.items():
        losses = [run["validation_losses"] for _, told, run in runs if told == taught]
        if losses:
            best = ", ".join(str(one.index(min(one)) + 1) for one in losses)
            lines.append(f"- {words}: {spread(map(len, losses))} epochs, the best one number {best}.")
    lines += [
        f"- Learning rate {one['learning_rate']:g}: validation log loss {min(one['validation_losses']):.3f} at best."
        for one in result["candidates"]
    ]
    for split, world in (("standard", "standard"), ("answered-country", "new answers")):
        if own := [run["own"] for cell, _, run in runs if cell["split"] == split and "own" in run]:
            before, after, same = (
                fmean(one[key] for one in own) for key in ("accuracy_before", "accuracy", "same_answer")
            )
            lines.append(
                f"- Self-REF changes the answers. {world.capitalize()}, means of {len(own)} draws: {before:.1%} right "
                f"before and {after:.1%} after, {same:.0%} unchanged."
            )
    return "\n".join(lines)


if __name__ == "__main__":
    write(read_json(RESULTS / "trained_tokens.json"))
