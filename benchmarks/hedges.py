"""The tables of ``docs/hedging.md``: the phrases with their sources, what the words lose, what readers make of them.

``python benchmarks/hedges.py [--answers survey-results.csv]``, seconds. The file is the one that the source
``fagen2015`` names; with it the medians and quartiles of the table are computed again and must agree.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from confide.hedging.language import Language, Rating, load_language
from table import put

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "hedges.json"
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
        each = [[abs(h.rating.value - c) for h in style.near(c)] for c in GRID.tolist()]
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
    own = {hedge.phrase: hedge.rating for style in language.styles.values() if style.scale for hedge in style.hedges}
    lines = ["| phrase | stands for | spread | source | written by |", "|---|---|---|---|---|"]
    for phrase, rating in sorted(language.phrases.items(), key=lambda item: (item[1].value, item[0].casefold())):
        source = f"`{rating.source}`" if rating.like is None else f"none: taken like *{rating.like}*"
        writers = [name for name, there in used.items() if phrase in there and not language.styles[name].scale]
        lines.append(f"| {phrase} | {rating.value:g} | {spread(rating)} | {source} | {', '.join(writers)} |")
    lines += [
        "",
        "By its own scale, `formal`:",
        "",
        "| phrase | stands for | prescribed range | source |",
        "|---|---|---|---|",
    ]
    lines += [f"| {p} | {r.value:g} | {spread(r)} | `{r.source}` |" for p, r in own.items()]
    return "\n".join(lines)


def sources_table(language: Language) -> str:
    """Where the numbers come from."""
    lines = ["| source | | its number | its spread |", "|---|---|---|---|"]
    lines += [f"| `{key}` | [{s.title}]({s.url}) | {s.number} | {s.spread} |" for key, s in language.sources.items()]
    return "\n".join(lines)


def losses_table(result: dict[str, Any]) -> str:
    """What the words lose, and what readers make of them."""
    lines = ["| style | phrases | mean distance | largest |", "|---|---|---|---|"]
    for name, row in result["losses"].items():
        lines.append(f"| `{name}` | {row['phrases']} | {row['mean']:.3f} | {row['largest']:.3f} |")
    r = result["readers"]
    return "\n".join(
        [
            *lines,
            "",
            f"Single readers are another matter. Of the {r['readers']} readers of the survey a mean one is "
            f"{r['mean']:.2f} away from the confidence that `plain` put into words; {r['within_0.1']:.0%} are within "
            f"0.1 of it, {r['within_0.2']:.0%} within 0.2 ({r['confidences']:.0%} of the confidences, those whose "
            "phrases the survey asked about).",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--answers", type=Path, help="survey-results.csv of the source fagen2015")
    answers = parser.parse_args().answers
    language = load_language("en")
    result = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    result["losses"] = losses(language)
    if answers is not None:
        told = survey(answers)
        checked(language, told)
        result["readers"] = readers(language, told)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    put(
        HERE.parent / "docs" / "hedging.md",
        {"phrases": phrases_table(language), "sources": sources_table(language), "losses": losses_table(result)},
    )


if __name__ == "__main__":
    main()
