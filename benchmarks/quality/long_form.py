"""Long form: which sentence of a paragraph is wrong, by what each step of a confidence reads of that sentence.

    python -m benchmarks.quality.long_form

The bundled model writes paragraphs about cities, and every sentence is graded by the gazetteer (`paragraphs`). A
sentence is read as an answer that follows what was written before it, so the sources are those of `increments`, trained
on the sentences of 500 paragraphs and judged on the same sentences, over three seeds, in two worlds: ``standard``,
where test paragraphs are drawn as training paragraphs were, and ``new countries``, where test paragraphs name countries
and capitals that no paragraph of the other parts names (continents, currencies that countries share, and the form of
the sentences are known there).

Beside them: the rate of right sentences at this place of a paragraph, how often training's sentences with this text
were right, the log-probability of all that was written up to the sentence's end, of the whole paragraph, and of the
sentence that names the country. Pairs of sentences of one paragraph show whether a source finds the weak one. Pairs of
one claim show what is left without knowing that capitals are harder than continents; what is said of the country after
a wrong one was named is left out of them, since the error is not that sentence's own. Intervals are 95 %, from a
bootstrap by city.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from benchmarks.common import RESULTS, Json, Work, annotated, parser, show_progress, write_result
from benchmarks.quality import long_form_tables
from benchmarks.quality.cells import LAYERS, Parts
from benchmarks.quality.increments import RESAMPLES, train
from benchmarks.quality.paragraphs import COUNTRY, named_places, paragraphs_task, places_of, sentence_records
from benchmarks.quality.proper_scores import Readings
from confide.evaluation.record_columns import Rows
from confide.hashing import key_of_text, sha256_of_rows
from confide.methods.method import labels
from confide.methods.stack.states import States, collect_states
from confide.metrics import auroc, within_auroc
from confide.metrics.bootstrap import estimate
from confide.numeric import Floats, Ints
from confide.records import Record
from confide.tasks.splits import assign_splits
from confide.tasks.text import fold

SEEDS = (0, 1, 2)
CITIES = 1500
SIZES = {
    "standard": {"train": 500, "validation": 150, "test": 800},
    "answered-country": {"train": 500, "validation": 150, "test": 400},
}
"""Paragraphs of each part."""

SIMPLE = (
    "place", "answer_only_table", "whole", "so_far", "country", "logprob_mean", "logprob_min", "logprob_sum",
)  # fmt: skip
"""Cheap sources, of which the best on test rows is what the others are compared with."""

SOURCES = (*SIMPLE, "portable", "probe", "stack")
"""What is reported."""


def main() -> None:
    options = parser(__doc__, "long_form")
    options.add_argument("--cities", type=int, default=CITIES, help="how many are written about (default: %(default)s)")
    arguments = options.parse_args()
    work = Work(arguments.work)
    paragraphs, sentences = written(work, arguments.cities)
    states = sentence_states(work, sentences)
    cells = [
        work.stage(f"{split}-{seed}", partial(cell, paragraphs, sentences, states, split, seed))
        for split in SIZES
        for seed in SEEDS
    ]
    made = {
        "machine": work.machine(),
        "resamples": RESAMPLES,
        "paragraphs": len(paragraphs),
        "cut": float(np.mean([paragraph.finish == "length" for paragraph in paragraphs])),
        "renamed": float(np.mean([not names_its_city(paragraph) for paragraph in paragraphs])),
        "claims": claims(sentences),
        "cells": cells,
    }
    result = write_result(arguments.out, "quality/long_form.py", made)
    if arguments.out.parent == RESULTS:
        long_form_tables.write(result)


def written(work: Work, cities: int) -> tuple[list[Record], list[Record]]:
    """Paragraphs about so many cities, and their graded sentences."""
    task, path = paragraphs_task(cities), work.folder / "paragraphs.jsonl"
    paragraphs = annotated(lambda: work.engine, task, path, title="paragraphs", count=cities)[:cities]
    return paragraphs, [sentence for paragraph in paragraphs for sentence in sentence_records(work.engine, paragraph)]


def sentence_states(work: Work, sentences: list[Record]) -> States:
    """Hidden states of the sentences, at the layers that stacks choose from."""
    path = work.folder / f"states-{key_of_text(sha256_of_rows([s.id, s.answer_ids] for s in sentences))}.npy"
    if not path.exists():
        np.save(path, collect_states(work.engine, sentences, LAYERS, progress=show_progress("states")).values)
    return States(tuple(LAYERS), np.load(path, mmap_mode="r"))


def names_its_city(paragraph: Record) -> bool:
    """Whether a paragraph has the name that was asked about; a garbled one counts as the city all the same."""
    return fold(str(paragraph.entity).removeprefix("city:")) in fold(paragraph.answer)


def claims(sentences: Sequence[Record]) -> Json:
    """How many sentences claim what, and how many of them are right."""
    found: dict[str, list[bool]] = defaultdict(list)
    for sentence in sentences:
        found[sentence.domain].append(bool(sentence.correct))
    return {claim: {"n": len(right), "accuracy": float(np.mean(right))} for claim, right in sorted(found.items())}


def cell(paragraphs: list[Record], sentences: list[Record], states: States, split: str, seed: int) -> Json:
    """All sources of one draw, and what each adds."""
    of = {paragraph.entity: part for paragraph, part in split_paragraphs(paragraphs, split, seed, SIZES[split])}
    shuffle = np.random.default_rng(seed)
    parts: Parts = {
        part: shuffle.permutation([at for at, sentence in enumerate(sentences) if of.get(sentence.entity) == part])
        for part in SIZES[split]
    }
    trained = train(sentences, states, parts, seed)
    found = trained.readings(parts["test"])
    more = beside(paragraphs, sentences, parts)
    values = found.values | {name: column[parts["test"]] for name, column in more.items()}
    some = Readings(found.records, {name: values[name] for name in SOURCES})
    sizes = {part: len(rows) for part, rows in parts.items()}
    return {"split": split, "seed": seed, "sizes": sizes, **judged(some, seed)}


def split_paragraphs(
    paragraphs: list[Record], split: str, seed: int, sizes: Mapping[str, int]
) -> list[tuple[Record, str]]:
    """Paragraphs with their parts; what names a country or a capital that test paragraphs are to be new in is out."""
    dealt = assign_splits(paragraphs, split, sizes, seed=seed)
    used = [(paragraph, str(dealt[paragraph.id])) for paragraph in paragraphs if paragraph.id in dealt]
    if split == "standard":
        return used
    new = {name for paragraph, part in used if part == "test" for name in places_of(str(paragraph.answered))}
    return [(paragraph, part) for paragraph, part in used if part == "test" or not named_places(paragraph.answer) & new]


def beside(paragraphs: Sequence[Record], sentences: Sequence[Record], parts: Parts) -> dict[str, Floats]:
    """What only a paragraph has, for all sentences [n]: their place, and the log-probability around them."""
    whole = {paragraph.entity: paragraph for paragraph in paragraphs}
    places = np.array([place(sentence) for sentence in sentences])
    right = labels(sentences)
    rates = {
        at: float(right[parts["train"]][places[parts["train"]] == at].mean()) for at in set(places[parts["train"]])
    }
    ends = [len(sentence.reasoning_ids) + len(sentence.answer_ids) for sentence in sentences]
    told = [whole[sentence.entity].logprobs for sentence in sentences]
    countries = {s.entity: sum(s.logprobs) for s in sentences if s.domain == COUNTRY}
    return {
        "place": np.array([rates.get(at, 0.5) for at in places.tolist()]),
        "so_far": np.array([sum(logprobs[:end]) for logprobs, end in zip(told, ends, strict=True)]),
        "whole": np.array([sum(logprobs) for logprobs in told]),
        "country": np.array([countries.get(sentence.entity, np.nan) for sentence in sentences]),
    }


def place(sentence: Record) -> int:
    """The number of a sentence in its paragraph."""
    return int(sentence.id.rpartition("-")[2])


def judged(some: Readings, seed: int) -> Json:
    """AUROC of each source, over all pairs of a right and a wrong sentence and over those of a group; differences."""
    y, records = labels(some.records), some.records
    groups = {
        "auroc": None,
        "within_paragraph": numbered([record.cluster for record in records]),
        "within_claim": claims_of_their_own(records),
    }
    values = {name: np.nan_to_num(column, nan=-1e9) for name, column in some.values.items()}
    bootstrap = Rows(records, {}, "test").bootstrap(RESAMPLES, seed)

    def statistics(values: Floats, weights: Floats) -> dict[str, Floats]:
        return {
            figure: auroc.resampled(values, y, weights)
            if numbers is None
            else within_auroc.resampled(values, y, weights, groups=numbers)
            for figure, numbers in groups.items()
        }

    everything = np.arange(len(records))
    drawn = {name: bootstrap.sample(partial(statistics, column), everything) for name, column in values.items()}
    best = {figure: max(SIMPLE, key=lambda name: float(drawn[name][figure][0])) for figure in groups}
    return {
        "n": len(records),
        "accuracy": float(y.mean()),
        "best_simple": best,
        "sources": {name: {figure: estimate(one[figure]) for figure in groups} for name, one in drawn.items()},
        "differences": [
            {"figure": figure, "a": a, "b": b, **estimate(drawn[a][figure] - drawn[b][figure])}
            for figure in groups
            for a, b in (("portable", best[figure]), ("stack", "portable"), ("stack", best[figure]))
        ],
    }


def claims_of_their_own(records: Sequence[Record]) -> Ints:
    """The number of each sentence's claim, [n]; −1 for those that a wrong country has made wrong or right by chance.

    What is said of the country after a wrong one is named is not weak by itself.
    """
    right = {record.entity for record in records if record.domain == COUNTRY and record.correct}
    own = np.array([record.domain == COUNTRY or record.entity in right for record in records])
    return np.where(own, numbered([record.domain for record in records]), -1)


def numbered(names: Sequence[str]) -> Ints:
    """The number of each name, [n]."""
    return np.asarray(np.unique(names, return_inverse=True)[1])


if __name__ == "__main__":
    main()
