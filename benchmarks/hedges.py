"""The tables of ``docs/results/hedging.md``: the phrases and their sources, what words lose, what readers make of them.

``python -m benchmarks.hedges [--answers survey-results.csv]``, seconds. The file is the one that the source
``fagen2015`` names; with it the medians and quartiles of the table are computed again and must agree.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import RESULTS, Json, put, read_json, table, write_result
from confide.hedging.language import Language, Rating, load_language

GRID = np.linspace(0, 1, 1001)


def survey(path: Path) -> dict[str, NDArray[np.float64]]:
    """Phrase → the readers' numbers, in [0, 1]."""
    with path.open(encoding="utf-8", newline="") as file:
        names, *rows = csv.reader(file)
    told = [(i, name.strip('"').lower()) for i, name in enumerate(names) if name.startswith('"')]
    return {name: np.array([float(row[i]) for row in rows]) / 100 for i, name in told}


def checked(language: Language, answers: dict[str, NDArray[np.float64]]) -> None:
    """Stop where the table does not hold what the answers give."""
    for phrase, rating in language.phrases.items():
        if rating.source == "fagen2015" and rating.like is None:
            low, value, high = np.quantile(answers[phrase], [0.25, 0.5, 0.75])
            if not np.allclose([low, value, high], [rating.low, rating.value, rating.high], atol=1e-9):
                raise SystemExit(f"{phrase}: the answers give {low:g} to {high:g}, median {value:g}")


def losses(language: Language) -> dict[str, dict[str, float]]:
    """|confidence − number read back| over all confidences alike, each of the phrases in turn."""
    found = {}
    for name, style in language.styles.items():
        each = [[abs(h.value - c) for h in style.near(c)] for c in GRID.tolist()]
        found[name] = {
            "phrases": len(style.hedges),
            "mean": float(np.mean([np.mean(e) for e in each])),
            "largest": float(max(max(e) for e in each)),
        }
    return found


def readers(language: Language, answers: dict[str, NDArray[np.float64]]) -> dict[str, float]:
    """What the survey's readers would take from the style ``plain``, over the confidences whose phrases they rated."""
    off = []
    for c in GRID.tolist():
        rated = [answers[h.phrase] for h in language.styles["plain"].near(c) if h.phrase in answers]
        if rated:
            off.append(np.abs(np.concatenate(rated) - c))
    every = np.array([[np.mean(o), np.mean(o <= 0.1), np.mean(o <= 0.2)] for o in off]).mean(axis=0)
    return {
        "readers": len(next(iter(answers.values()))),
        "confidences": len(off) / len(GRID),
        "mean": float(every[0]),
        "within_0.1": float(every[1]),
        "within_0.2": float(every[2]),
    }


def phrases_table(language: Language) -> str:
    """Every phrase that is read, in the order of what it stands for."""

    def spread(rating: Rating) -> str:
        return f"{rating.low:g}–{rating.high:g}"

    used = {name: {hedge.phrase for hedge in style.hedges} for name, style in language.styles.items()}
    own = {hedge.phrase: hedge for style in language.styles.values() if style.scale for hedge in style.hedges}
    rows = []
    for phrase, rating in sorted(language.phrases.items(), key=lambda item: (item[1].value, item[0].casefold())):
        source = f"`{rating.source}`" if rating.like is None else f"none: taken like *{rating.like}*"
        writers = [name for name, there in used.items() if phrase in there and not language.styles[name].scale]
        rows.append([phrase, f"{rating.value:g}", spread(rating), source, ", ".join(writers)])
    prescribed = [[phrase, f"{r.value:g}", spread(r), f"`{r.source}`"] for phrase, r in own.items()]
    parts = [
        table("phrase | stands for | spread | source | written by", rows),
        "By its own scale, `formal`:",
        table("phrase | stands for | prescribed range | source", prescribed),
    ]
    return "\n\n".join(parts)


def sources_table(language: Language) -> str:
    """Where the numbers come from."""
    rows = [[f"`{key}`", f"[{s.title}]({s.url})", s.number, s.spread] for key, s in language.sources.items()]
    return table("source |  | its number | its spread", rows)


def losses_table(result: Json) -> str:
    """What the words lose, and what readers make of them."""
    rows = [[f"`{n}`", r["phrases"], f"{r['mean']:.3f}", f"{r['largest']:.3f}"] for n, r in result["losses"].items()]
    r = result["readers"]
    return (
        f"{table('style | phrases | mean distance | largest', rows)}\n\n"
        f"Single readers are another matter. Of the {r['readers']} readers of the survey a mean one is "
        f"{r['mean']:.2f} away from the confidence that `plain` put into words; {r['within_0.1']:.0%} are within "
        f"0.1 of it, {r['within_0.2']:.0%} within 0.2 ({r['confidences']:.0%} of the confidences, those whose "
        "phrases the survey asked about)."
    )


def write(result: Json) -> None:
    """Put the tables into the page."""
    language = load_language("en")
    parts = {"phrases": phrases_table(language), "sources": sources_table(language), "losses": losses_table(result)}
    put("docs/results/hedging.md", parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--answers", type=Path, help="survey-results.csv of the source fagen2015")
    answers = parser.parse_args().answers
    language, path = load_language("en"), RESULTS / "hedges.json"
    result: Json = {"losses": losses(language), "readers": read_json(path)["readers"]}
    if answers is not None:
        told = survey(answers)
        checked(language, told)
        result["readers"] = readers(language, told)
    write(write_result(path, "hedges.py", result))


if __name__ == "__main__":
    main()
