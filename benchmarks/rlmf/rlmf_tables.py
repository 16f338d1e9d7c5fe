"""Puts the figures of ``results/rlmf.json`` and ``results/rlmf-sentences.json`` into docs/results/rlmf.md."""

from __future__ import annotations

from benchmarks.common import RESULTS, Json, interval, put, read_json, table

PLACES = ("in domain", "held-out relation")
METRICS = ("cmfg_star", "skill", "spearman", "auroc", "accuracy")
"""That are compared."""


def write(result: Json, sentences: bool) -> None:
    """Put the tables where their marks are."""
    sizes = result["sizes"]
    facts = (
        f"{result['machine'].get('device', 'unknown device')}; {sizes['train']} training and {sizes['validation']} "
        f"validation questions a seed, {sizes['test']} test questions on taught relations and {sizes['held_out']} on "
        f"the held-out one, {sizes['samples']} samples each; {sizes['steps']} steps of {sizes['questions a step']} "
        f"questions × {sizes['group']} completions."
    )
    parts = {"facts": facts, "differences": difference_table(result), "more": more_table(result)}
    parts |= {place: main_table(result, place) for place in PLACES}
    put("docs/results/rlmf.md", {("sentences " if sentences else "") + name: text for name, text in parts.items()})


def number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def main_table(result: Json, place: str) -> str:
    rows = []
    for name, row in result["rows"].items():
        if place in row:
            x = row[place]
            metrics = (interval(x[metric]) for metric in ("spearman", "auroc", "brier", "accuracy"))
            bounds, skill = f"{x['floor']:.3f} – {number(x['ceiling'], 3)}", interval(x["skill"], ".2f")
            rest = f"{x['unreadable']:.1%}", x["distinct"], f"{row['seconds']:.0f}"
            rows.append([name, len(row["seeds"]), interval(x["cmfg_star"]), bounds, skill, *metrics, *rest])
    head = "row | >seeds | cMFG* | floor – ceiling | skill | rank correlation | AUROC | Brier | accuracy"
    return table(f"{head} | >unreadable | >grades used | >train s", rows)


def more_table(result: Json) -> str:
    rows = [
        [
            name,
            place,
            f"{x['g_mean']:.2f}, {x['g_sd']:.2f}, {x['g_entropy']:.2f}",
            *(number(x[metric], 3) for metric in ("ece", "answer_probability_spearman")),
            x["moved"],
            *(number(x[metric], 2) for metric in ("coupling", "f_spearman")),
            ", ".join(str(run["best_step"]) for run in row["runs"]) or "–",
        ]
        for name, row in result["rows"].items()
        for place in PLACES
        if (x := row.get(place))
    ]
    head = "row | place | g: mean, sd, entropy | >ECE(10) | >own answer probability with g"
    return table(f"{head} | >questions that moved | >coupling | >F_pred with F_gold | kept step", rows)


def difference_table(result: Json) -> str:
    """Paired differences; a row that gave its start back differs from it in nothing, and is left out."""
    rows = [
        [f"{d['a']} − {d['b']}", d["place"], len(d["seeds"])] + [interval(d[metric], "+.3f") for metric in METRICS]
        for d in result["differences"]
        if any(d[metric]["value"] for metric in METRICS)
    ]
    return table(" | place | >seeds | cMFG* | skill | rank correlation | AUROC | accuracy", rows)


if __name__ == "__main__":
    write(read_json(RESULTS / "rlmf.json"), sentences=False)
    write(read_json(RESULTS / "rlmf-sentences.json"), sentences=True)
