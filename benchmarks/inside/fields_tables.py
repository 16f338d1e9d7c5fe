"""Puts the figures of ``results/fields.json`` into docs/results/inside.md, between their markers."""

from __future__ import annotations

from statistics import fmean

from benchmarks.common import RESULTS, Json, goals_table, interval, put, read_json, table

NAMES = {
    "whole_sum": "whole answer: its log-probability",
    "whole_mean": "whole answer: mean log-probability of its tokens",
    "in_text": "the value stands in the text",
    "field_rate": "how often training's values of this field were right",
    "logprob_sum": "the value: `logprob_sum` (the rival)",
    "logprob_mean": "the value: `logprob_mean`",
    "logprob_min": "the value: `logprob_min`",
    "cheap": "the value: all that is cheap, learned (log-probabilities, field, in the text)",
    "portable": "the value: **`portable`**",
    "field": "the value: **`field`** (`portable` and states)",
}
FIGURES = {"auroc": "AUROC", "within_field": "AUROC within a field", "caught": "wrong fields caught"}
STEPS = ("logprob_sum", "whole_sum", "cheap", "portable")
"""What `field` is compared with by seed; the result has the other ones."""

GOAL = 0.03


def write(result: Json) -> None:
    """Put every table where its marks are."""
    parts = {
        "fields": sources_table(result),
        "fields_steps": steps_table(result),
        "fields_goals": goals(result),
        "fields_facts": facts(result),
    }
    put("docs/results/inside.md", parts)


def sources_table(result: Json) -> str:
    """Every source, means over seeds."""
    cells = result["cells"]
    rows = [
        [
            words,
            *(spelled(figure, fmean(cell["sources"][name][figure]["value"] for cell in cells)) for figure in FIGURES),
        ]
        for name, words in NAMES.items()
    ]
    most = fmean(cell["most_caught"]["value"] for cell in cells)
    rows.append(["a perfect confidence", "1", "1", f"{most:.0%}"])
    return table("confidence of a field | " + " | ".join(f">{name}" for name in FIGURES.values()), rows)


def spelled(figure: str, value: float) -> str:
    """A figure as its column shows it."""
    return f"{value:.0%}" if figure == "caught" else f"{value:.3f}"


def steps_table(result: Json) -> str:
    """What `field` adds to each other source, by seed."""
    rows = [
        [
            FIGURES[figure],
            f"`field` − {NAMES[b]}",
            *(interval(difference(cell, figure, b), "+.3f") for cell in result["cells"]),
        ]
        for figure in ("auroc", "caught")
        for b in STEPS
    ]
    return table("figure | step | seed 0 | seed 1 | seed 2", rows)


def difference(cell: Json, figure: str, b: str) -> Json:
    """A paired difference of one cell."""
    return next(one for one in cell["differences"] if (one["figure"], one["a"], one["b"]) == (figure, "field", b))


def goals(result: Json) -> str:
    """What was to be reached."""
    found = []
    for b, words in (("logprob_sum", "the value's own log-probability"), ("whole_sum", "the whole answer's")):
        steps = [difference(cell, "auroc", b) for cell in result["cells"]]
        value, low = fmean(step["value"] for step in steps), min(step["low"] for step in steps)
        told = f"{value:+.3f}, lowest bound of a seed {low:+.3f}"
        found.append((f"AUROC at least {GOAL:.2f} above {words}", told, value >= GOAL))
    return goals_table("goal | found", found)


def facts(result: Json) -> str:
    """Sizes, and how often each field is right."""
    told = dict(result["by_field"])
    null = told.pop("null")
    fields = ", ".join(
        f"`{name}` {one['accuracy']:.0%}" for name, one in told.items() if one["n"] >= result["answers"] / 10
    )
    cell = result["cells"][0]
    trained = fmean(cell["sizes"]["train"]["fields"] for cell in result["cells"])
    counts = result["summary"]
    right = counts["right"] / counts["graded"]
    return (
        f"{result['answers']:,} answers, {result['right_as_a_whole']:.0%} of them right as a whole; "
        f"{counts['parts']:,} fields, {right:.0%} right ({fields}); of {null['n']:,} that the text does not say "
        f"{null['accuracy']:.0%} are null. {counts['unfinished']:,} answers are cut or broken JSON. {trained:,.0f} "
        f"fields to train on, {cell['n']:,} to test on, means over three seeds; {result['reviewed']:.0%} are sent for "
        "review."
    )


if __name__ == "__main__":
    write(read_json(RESULTS / "fields.json"))
