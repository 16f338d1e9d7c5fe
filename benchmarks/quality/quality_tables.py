"""Puts the figures of ``results/quality.json`` into docs/quality.md, between their markers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import fmean

from benchmarks.common import RESULTS, Json, goals_table, interval, put, read_json, table

SPLITS = {"standard": "standard", "answered-country": "new answers", "relation": "new relation"}
ORDER = (
    "stack", "probe_logprobs", "probe", "reader", "reader:4_words_rank8", "reader:4_words", "reader:4_random",
    "reader:rows", "self_ref", "p_true", "logprob_sum", "logprob_min", "logprob_mean", "entropy", "answer_length",
    "answer_only_table", "answer_only", "question_only", "constant", "shuffled",
)  # fmt: skip


def write(result: Json) -> None:
    """Put every table where its marks are."""
    parts = {
        "sources": sources_table(result, ORDER),
        "differences": differences_table(result),
        "ladder": ladder_table(result),
        "facts": facts(result),
        "goals": goals_table("goal | seeds 0, 1, 2", goals(result)),
    }
    put("docs/quality.md", parts)


def cells_of(result: Json, split: str) -> list[Json]:
    return [cell for cell in result["cells"] if cell["split"] == split]


def bold_first(source: str) -> str:
    return f"**`{source}`**" if source == "stack" else f"`{source}`"


def over_seeds(cells: Sequence[Json], source: str, metric: str) -> str:
    """The mean over seeds, with their number where some are missing."""
    found = [cell["sources"][source][metric] for cell in cells if source in cell["sources"]]
    values = [entry["value"] if isinstance(entry, dict) else entry for entry in found]
    return mean_of(values, len(cells))


def mean_of(values: Sequence[float], wanted: int) -> str:
    if not values:
        return "–"
    return f"{fmean(values):.3f}" + ("" if len(values) == wanted else f" ({len(values)} of {wanted})")


def sources_table(result: Json, sources: Sequence[str]) -> str:
    standard = cells_of(result, "standard")
    head = "source | " + " | ".join(f">AUROC, {name}" for name in SPLITS.values())
    rows = [
        [
            bold_first(source),
            *(over_seeds(cells_of(result, split), source, "auroc") for split in SPLITS),
            *(over_seeds(standard, source, m) for m in ("within_answer_auroc", "brier", "log_loss", "ece")),
        ]
        for source in sources
        if any(source in cell["sources"] for cell in standard)
    ]
    return table(f"{head} | >within answer | >Brier | >log loss | >ECE(10)", rows)


def differences_table(result: Json) -> str:
    rows = []
    for split, name in SPLITS.items():
        for cell in cells_of(result, split):
            chosen, best = cell["free_chosen_on_validation"], cell["free_best_on_test"]["auroc"]
            priors = ["answer_only_table", "answer_only", "question_only"] if split == "standard" else []
            for other in dict.fromkeys([chosen, best, *priors, "probe_logprobs"]):
                note = " (chosen on validation)" if other == chosen else " (best on test)" if other == best else ""
                found = {d["metric"]: interval(d, "+.3f") for d in cell["differences"] if d["b"] == other}
                columns = [found.get(metric, "–") for metric in ("auroc", "log_loss", "brier")]
                rows.append([name, cell["seed"], cell["held_out"] or "–", f"`{other}`{note}", *columns])
    return table("split | seed | held out | against | AUROC | log loss | Brier", rows)


def ladder_table(result: Json) -> str:
    ladder = result["ladder"]
    sources = next(c["sources"] for c in cells_of(result, "standard") if c["seed"] == 0)
    rows = []
    for name, about in ladder["readers"].items():
        seconds = [epoch["seconds"] for epoch in about["history"]]
        step = f"`{name}`" + (" (chosen)" if name == ladder["chosen"] else "")
        auroc = interval(sources[name]["auroc"])
        rows.append([step, auroc, len(seconds), f"{fmean(seconds):.0f}", about["tokens"], about["served"]])
    beside = sources[ladder["chosen"]]["auroc_on_the_same_rows"]
    rows += [[f"`{name}`, the same test rows", f"{value:.3f}", *"––––"] for name, value in beside.items()]
    return table("step | AUROC, seed 0 | >epochs | >seconds an epoch | >tokens a reading | served by", rows)


def facts(result: Json) -> str:
    data, equality, grid, epochs = (result[name] for name in ("data", "equality", "self-ref-grid", "epochs"))
    seconds, share = epochs["seconds_an_epoch"], result["costs"]["share_of_answering"]
    lines = [
        f"- Questions: {data['questions']:,}, {data['accuracy']:.1%} answered right, {data['cut']:.1%} cut, "
        f"{data['no_answer']:.1%} name no candidate, {data['answer_tokens']:.1f} tokens an answer.",
        f"- Answers of the exported checkpoint equal the base model's token for token on {equality['equal']:,} "
        f"of {equality['questions']:,} test questions.",
        f"- A reading with 4 ask tokens adds {share['read_4']:.1%} to answering (32 new tokens at most, batch 32, "
        f"median of five), with 8 {share['read_8']:.1%}, at the closing token alone "
        f"{share['read_0']:+.1%} (within the noise of this run); `p_true` adds {share['p_true']:.1%}.",
        f"- A reader epoch (4 ask tokens, the second one) takes {seconds['reader']:.1f} s on {epochs['rows']} rows, "
        f"a Self-REF epoch {seconds['self_ref']:.1f} s: a ratio of {epochs['ratio']:.2f}.",
        f"- Self-REF: UN:CN ratio {grid['ratio']:.2f}, chosen among five with {grid['rows']} rows, {grid['epochs']} "
        f"epoch each; final runs with {result['self-ref-0']['rows']} rows and one epoch.",
    ]
    if "masking" in result:
        masking = result["masking"]
        lines.append(
            f"- Masking: after training, the mean log-probability of {masking['n']} of the model's own wrong answers "
            f"to test questions is {masking['masked']:.2f} with the mask and {masking['unmasked']:.2f} without "
            f"({masking['base']:.2f} before); paired difference {interval(masking['masked_minus_unmasked'], '+.2f')}."
        )
    return "\n".join(lines + same_rows(result))


def same_rows(result: Json) -> list[str]:
    """Sources judged on fewer rows, beside the stack and the free signal on those rows (means over seeds)."""
    lines = []
    for source in ("reader", "self_ref", "p_true"):
        found = [cell["sources"][source] for cell in cells_of(result, "standard") if source in cell["sources"]]
        if found:
            beside = {n: fmean(f["auroc_on_the_same_rows"][n] for f in found) for n in ("stack", "logprob_sum")}
            lines.append(
                f"- `{source}` on its own test rows ({found[0]['n']:,} a seed, seeds: {len(found)}): AUROC "
                f"{fmean(f['auroc']['value'] for f in found):.3f}; `stack` {beside['stack']:.3f} and `logprob_sum` "
                f"{beside['logprob_sum']:.3f} on the same rows."
            )
    return lines


def goals(result: Json) -> Iterator[tuple[str, str, bool]]:
    """Each goal with what every seed gave; reached only if all seeds reach it."""

    def shown(values: Sequence[float], spec: str = "+.3f") -> str:
        return ", ".join(format(value, spec) for value in values)

    def ahead(split: str, other: str, metric: str, number: str) -> list[float]:
        found = []
        for cell in cells_of(result, split):
            name = {"best": cell["free_best_on_test"][metric], "chosen": cell["free_chosen_on_validation"]}.get(other)
            entry = next(d for d in cell["differences"] if d["b"] == (name or other) and d["metric"] == metric)
            found.append(entry[number])
        return found

    for other, least in (("best", 0.04), ("answer_only", 0.08), ("answer_only_table", 0.08), ("question_only", 0.08),
                         ("probe_logprobs", -0.015)):  # fmt: skip
        values = ahead("standard", other, "auroc", "value")
        name = "the best free source on test" if other == "best" else f"`{other}`"
        yield f"standard, AUROC above {name} by {least:+.3f}", shown(values), min(values) >= least
    values = ahead("standard", "best", "brier", "value")
    yield "standard, Brier below the best free source on test by 0.01", shown(values), max(values) <= -0.01
    values = [cell["sources"]["stack"]["ece"] for cell in cells_of(result, "standard")]
    yield "standard, ECE(10) at most 0.04", shown(values, ".3f"), max(values) <= 0.04
    for split in ("answered-country", "relation"):
        for other, name in (("chosen", "free source chosen on validation"), ("best", "best free source on test")):
            low, high = ahead(split, other, "auroc", "low"), ahead(split, other, "log_loss", "high")
            against = f"against the {name}"
            yield f"{SPLITS[split]}, AUROC {against}: lower end above −0.01", shown(low), min(low) > -0.01
            yield f"{SPLITS[split]}, log loss {against}: upper end below +0.01", shown(high), max(high) < 0.01
    share = result["equality"]["equal"] / result["equality"]["questions"]
    yield "exported answers equal, share of test questions", f"{share:.4f}", share == 1
    reading, ratio = result["costs"]["share_of_answering"]["read_4"], result["epochs"]["ratio"]
    yield "reading, share of answering, at most 0.1", f"{reading:.3f}", reading <= 0.1
    yield "reader epoch, share of a Self-REF epoch, at most 0.2", f"{ratio:.2f}", ratio <= 0.2
    if "masking" in result:
        upper = result["masking"]["masked_minus_unmasked"]["high"]
        yield "masking lowers wrong answers' log-probability: upper end below 0", f"{upper:+.3f}", upper < 0


if __name__ == "__main__":
    write(read_json(RESULTS / "quality.json"))
