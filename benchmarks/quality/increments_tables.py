"""Puts the figures of ``results/increments.json`` into docs/results/quality.md, between their markers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from statistics import fmean

from benchmarks.common import RESULTS, Json, goals_table, interval, put, read_json, table

LADDER = {
    "answer_only_table": "text: how often training's answers were right",
    "free": "free: the best of log-probabilities, on test",
    "portable": "**`portable`**: both, learned; the model is not opened",
    "stack": "**`stack`**: the model's states too, in process",
    "stack_served": "`stack_served`: the same inside vLLM",
    "probe_logprobs": "`probe_logprobs`: states and log-probabilities, no text, no gate",
    "probe": "`probe`: states alone",
}
"""Source to what it is called in tables, cheapest first; a source that a result does not have gets no line."""

WORLDS = {
    "standard": "standard",
    "answered-country": "new answers",
    "relation": "new relation",
    "arc-easy": "ARC-easy",
}
STEPS = ("portable", None), ("stack", "portable"), ("stack", None)
"""What is compared; None stands for the free source that is best on the test rows."""
SHOWN = 2000
"""The training rows whose figures are shown where one size is enough; the result has all sizes."""


def write(result: Json) -> None:
    """Put every table where its marks are."""
    parts = {
        "increments": ladder_table(result, tuple(LADDER), SHOWN),
        "sizes": sizes_table(result),
        "steps": steps_table(result),
        "scores": scores_section(result),
        "mixed": mixed_table(result),
        "unseen": unseen_table(result),
        "increment_goals": goals_table("goal | reached at worst", goals(result)),
        "increment_facts": facts(result),
    }
    put("docs/results/quality.md", parts)


def sizes(result: Json) -> list[int]:
    """The training sizes that were asked for."""
    return sorted({cell["asked"] for cell in result["cells"]})


def cells_of(result: Json, split: str, size: int) -> list[Json]:
    """A world's cells of one training size, one a seed."""
    return [cell for cell in result["cells"] if cell["split"] == split and cell["asked"] == size]


def of(block: Json, source: str) -> Json:
    """A source's figures in one block; ``free`` is the free source that is best on its rows."""
    found: Json = block["sources"][block["best_free"] if source == "free" else source]
    return found


def there(block: Json, source: str) -> bool:
    """Whether a block has a source."""
    return source == "free" or source in block["sources"]


def mean(blocks: Sequence[Json], source: str, figure: Callable[[Json], float]) -> str:
    """A source's figure, mean over seeds; a dash where a seed does not have the source."""
    if not all(there(block, source) for block in blocks):
        return "–"
    return f"{fmean(figure(of(block, source)) for block in blocks):.3f}"


def mean_auroc(cells: Sequence[Json], source: str, rows: str = "test") -> str:
    """The mean AUROC over seeds; a dash where a seed does not have the source."""
    return mean([cell["sets"][rows] for cell in cells], source, lambda entry: float(entry["auroc"]["value"]))


def difference(block: Json, a: str, b: str | None) -> Json:
    """A paired difference of one block; None stands for the best free source."""
    pair = a, b or block["best_free"]
    found: Json = next(one for one in block["differences"] if (one["a"], one["b"]) == pair)
    return found


def ladder_table(result: Json, sources: Sequence[str], size: int) -> str:
    """AUROC of each step that some world has in each world, and within the same answer."""
    standard = [cell["sets"]["test"] for cell in cells_of(result, "standard", size)]
    rows = []
    for source in sources:
        worlds = [mean_auroc(cells_of(result, split, size), source) for split in WORLDS]
        if set(worlds) != {"–"}:
            rows.append([LADDER[source], *worlds, mean(standard, source, lambda entry: float(entry["within_answer"]))])
    return table("confidence | " + " | ".join(f">{name}" for name in WORLDS.values()) + " | >within answer", rows)


def sizes_table(result: Json) -> str:
    """The ladder's main steps by training size, in the worlds that have one of every size."""
    rows = []
    for size in sizes(result):
        worlds = [cells_of(result, split, size) for split in ("standard", "answered-country", "relation")]
        means = [mean_auroc(cells, source) for cells in worlds for source in ("free", "portable", "stack")]
        asked = f"{size:,}"
        most = [max(cell["train"] for cell in cells) for cells in worlds]
        rows.append([asked if min(most) == size else f"{asked} (at most {', '.join(f'{n:,}' for n in most)})", *means])
    names = [
        f">{world}: {source}"
        for world in ("standard", "new answers", "new relation")
        for source in ("free", "`portable`", "`stack`")
    ]
    return table("training rows | " + " | ".join(names), rows)


def steps_table(result: Json) -> str:
    """What each step adds, by seed."""
    rows = []
    for split, name in WORLDS.items():
        for a, b in STEPS:
            found = [difference(cell["sets"]["test"], a, b) for cell in cells_of(result, split, SHOWN)]
            step = f"`{a}` − " + (f"`{b}`" if b else "best free")
            rows.append([name, step, *(interval(one, "+.3f") for one in found)])
    return table("world | step | seed 0 | seed 1 | seed 2", rows)


def scores_section(result: Json) -> str:
    """Brier score and log loss of each step in each world, under a title; nothing where they were not measured."""
    blocks = {split: [cell["sets"]["test"] for cell in cells_of(result, split, SHOWN)] for split in WORLDS}
    if not all("scores" in block for world in blocks.values() for block in world):
        return ""
    rows = []
    for source, name in LADDER.items():
        if any(there(block, source) for world in blocks.values() for block in world):
            means = (score_mean(world, source, score) for score in ("brier", "log_loss") for world in blocks.values())
            rows.append([name, *means])
    head = " | ".join(f">{score}, {world}" for score in ("Brier", "log loss") for world in WORLDS.values())
    text = (
        f"After the calibrator `auto`, chosen and fitted on validation rows for every source alike; {SHOWN:,} "
        "training rows, means over seeds, lower is better. *Free* is the source with the best AUROC on test."
    )
    return f"## Brier score and log loss\n\n{text}\n\n{table(f'confidence | {head}', rows)}"


def score_mean(blocks: Sequence[Json], source: str, score: str) -> str:
    """A calibrated score, mean over seeds; a dash where a seed does not have the source."""
    names = [block["best_free"] if source == "free" else source for block in blocks]
    if not all(name in block["scores"] for name, block in zip(names, blocks, strict=True)):
        return "–"
    return f"{fmean(block['scores'][name][score]['value'] for name, block in zip(names, blocks, strict=True)):.3f}"


def mixed_table(result: Json) -> str:
    """Test sets of familiar and new answers, shuffled."""
    rows = []
    cells = cells_of(result, "answered-country", SHOWN)
    for name in (name for name in cells[0]["sets"] if name.startswith("mixed")):
        values = [mean_auroc(cells, source, name) for source in ("logprob_sum", "portable", "stack")]
        worst = [
            min((difference(cell["sets"][name], a, "logprob_sum") for cell in cells), key=lambda d: float(d["low"]))
            for a in ("portable", "stack")
        ]
        rows.append([name.removeprefix("mixed "), *values, *(interval(one, "+.3f") for one in worst)])
    head = ">new answers | >`logprob_sum` | >`portable` | >`stack`"
    return table(f"{head} | `portable` − sum, worst seed | `stack` − sum, worst seed", rows)


def unseen_table(result: Json) -> str:
    """Ordinary rows whose answer training never gave to that kind of question."""
    rows = []
    for size in sizes(result):
        cells = cells_of(result, "standard", size)
        count = fmean(cell["sets"]["unseen"]["n"] for cell in cells)
        names = ("logprob_sum", "portable", "stack", "probe_logprobs")
        means = (mean_auroc(cells, source, "unseen") for source in names)
        gaps = (difference(cell["sets"]["unseen"], "stack", "probe_logprobs") for cell in cells)
        rows.append([f"{size:,}", f"{count:.0f}", *means, *(interval(one, "+.3f") for one in gaps)])
    head = ">training rows | >rows | >`logprob_sum` | >`portable` | >`stack` | >`probe_logprobs`"
    return table(f"{head} | `stack` − `probe_logprobs`, seed 0 | seed 1 | seed 2", rows)


def facts(result: Json) -> str:
    """Sizes and the machine."""
    counts = [cell["sets"]["test"]["n"] for cell in result["cells"]]
    short: dict[str, set[int]] = {}
    for cell in result["cells"]:
        if cell["train"] < cell["asked"]:
            short.setdefault(WORLDS[cell["split"]], set()).add(cell["train"])
    fewer = "".join(f" {name} has {max(rows):,} rows to train on." for name, rows in short.items())
    return (
        f"Test rows: {min(counts):,} to {max(counts):,} a cell; {result['resamples']} resamples by entity; means over "
        f"three seeds unless a seed is named.{fewer} confide {result['machine']['versions']['confide']}, scikit-learn "
        f"{result['machine']['versions']['scikit-learn']}."
    )


def goals(result: Json) -> Iterator[tuple[str, str, bool]]:
    """What was to be reached over all seeds, and the worst that was."""

    def all_of(split: str, rows: str, a: str, b: str) -> list[Json]:
        cells = [cell for size in sizes(result) for cell in cells_of(result, split, size)]
        return [difference(cell["sets"][rows], a, b) for cell in cells]

    behind = [-one["value"] for one in all_of("standard", "test", "stack", "portable")]
    yield "`portable` within 0.015 of `stack`, standard", f"{min(behind):+.3f}", min(behind) >= -0.015
    for source in ("portable", "stack"):
        for split, rows in (("answered-country", "test"), ("relation", "test")):
            found = all_of(split, rows, source, "logprob_sum")
            loss = max(-one["low"] for one in found)
            yield (
                f"`{source}`, {WORLDS[split]}: loss against the sum, 95 % upper end below 0.003",
                f"{loss:.4f}",
                loss < 0.003,
            )
        names = [name for name in cells_of(result, "answered-country", sizes(result)[0])[0]["sets"] if "mixed" in name]
        loss = max(-one["low"] for name in names for one in all_of("answered-country", name, source, "logprob_sum"))
        yield f"`{source}`, mixed: loss against the sum, 95 % upper end below 0.003", f"{loss:.4f}", loss < 0.003
    cost = max(-one["value"] for one in all_of("standard", "test", "stack", "probe_logprobs"))
    yield "`stack` against `probe_logprobs`, standard: at most 0.003 behind", f"{cost:.4f}", cost <= 0.003
    unseen = [
        cell["sets"]["unseen"]["sources"]["stack"]["auroc"]["value"] for cell in cells_of(result, "standard", SHOWN)
    ]
    yield (
        f"`stack` on ordinary rows with unseen answers, {SHOWN:,} training rows: at least 0.82",
        f"{min(unseen):.3f}",
        min(unseen) >= 0.82,
    )


if __name__ == "__main__":
    write(read_json(RESULTS / "increments.json"))
