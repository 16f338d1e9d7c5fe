"""Puts the figures of ``results/long_form.json`` into docs/results/quality.md, between their markers."""

from __future__ import annotations

from statistics import fmean

from benchmarks.common import RESULTS, Json, interval, put, read_json, table

NAMES = {
    "place": "place: how often training's sentences at this place were right",
    "answer_only_table": "text: how often training's sentences with this text were right",
    "whole": "free: log-probability of the whole paragraph",
    "so_far": "free: log-probability up to the sentence's end",
    "country": "free: log-probability of the paragraph's sentence about the country",
    "logprob_mean": "free: `logprob_mean` of the sentence",
    "logprob_min": "free: `logprob_min`",
    "logprob_sum": "free: `logprob_sum`",
    "portable": "**`portable`**",
    "probe": "`probe`: states alone",
    "stack": "**`stack`**",
}
WORLDS = {"standard": "standard", "answered-country": "new countries"}
FIGURES = {"auroc": "all pairs", "within_paragraph": "same paragraph", "within_claim": "same claim"}
STEPS = ("portable", None), ("stack", "portable")
"""What is compared; None stands for the simple source that is best by the figure on test rows."""

CLAIMS = {
    "city_country": "country",
    "city_continent": "continent",
    "country_capital": "capital",
    "country_currency": "currency",
}


def write(result: Json) -> None:
    """Put every table where its marks are."""
    parts = {
        "long_form": sources_table(result),
        "long_form_steps": steps_table(result),
        "long_form_facts": facts(result),
    }
    put("docs/results/quality.md", parts)


def cells_of(result: Json, split: str) -> list[Json]:
    """A world's cells, one a seed."""
    return [cell for cell in result["cells"] if cell["split"] == split]


def sources_table(result: Json) -> str:
    """AUROC of each source in both worlds, means over seeds."""
    rows = [
        [
            words,
            *(
                f"{fmean(cell['sources'][name][figure]['value'] for cell in cells_of(result, split)):.3f}"
                for split in WORLDS
                for figure in FIGURES
            ),
        ]
        for name, words in NAMES.items()
    ]
    heads = [f">{world}: {figure}" for world in WORLDS.values() for figure in FIGURES.values()]
    return table("confidence of a sentence | " + " | ".join(heads), rows)


def steps_table(result: Json) -> str:
    """What each step adds, by seed."""
    rows = []
    for split, world in WORLDS.items():
        for figure, pairs in FIGURES.items():
            for a, b in STEPS:
                found = [difference(cell, figure, a, b) for cell in cells_of(result, split)]
                step = f"`{a}` − " + (f"`{b}`" if b else "best simple")
                rows.append([world, pairs, step, *(interval(one, "+.3f") for one in found)])
    return table("world | pairs | step | seed 0 | seed 1 | seed 2", rows)


def difference(cell: Json, figure: str, a: str, b: str | None) -> Json:
    """A paired difference of one cell; None stands for the best simple source."""
    wanted = figure, a, b or cell["best_simple"][figure]
    return next(one for one in cell["differences"] if (one["figure"], one["a"], one["b"]) == wanted)


def facts(result: Json) -> str:
    """Sizes, and how often each claim is right."""
    claims = ", ".join(
        f"{CLAIMS[name]} {one['accuracy']:.0%} of {one['n']:,} right" for name, one in result["claims"].items()
    )
    tested = {split: fmean(cell["n"] for cell in cells_of(result, split)) for split in WORLDS}
    trained = fmean(cell["sizes"]["train"] for cell in result["cells"])
    return (
        f"{result['paragraphs']:,} paragraphs, {result['cut']:.1%} of them cut, {result['renamed']:.0%} without "
        f"the city's name as it was asked (graded all the same); {claims}. {trained:,.0f} sentences to "
        f"train on, {tested['standard']:,.0f} and {tested['answered-country']:,.0f} to test on (means over seeds)."
    )


if __name__ == "__main__":
    write(read_json(RESULTS / "long_form.json"))
