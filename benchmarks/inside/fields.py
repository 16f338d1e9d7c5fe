"""Fields: which value of an answer's JSON is wrong, by what each confidence says of that value.

    python -m benchmarks.inside.fields

The bundled model fills in the fields of described events (of the task `extraction`, whose truth is known; `--kinds`
asks about persons and products, too), and every value is graded. The confidence of fields is trained on the fields of
180 answers, its layers and penalty are chosen on those of 60, and it is judged on the fields of the rest, over three
seeds that deal the answers anew. Beside it stands what is cheaper: the log-probability of the value's own tokens (the
rival), that of the whole answer, how often training's values of this field were right, whether the value stands in the
text word for word, and a logistic model of all that is cheap: the log-probabilities of the value's tokens, their
entropies, its length, its field, and whether it stands in the text. Nothing can be learned of whole answers: hardly one
has all fields right.

Pairs of one field show what is left without knowing that some fields are harder than others. The share of wrong fields
that is caught where the least sure fifth is sent for review is shown beside the most that a perfect confidence catches.
Intervals are 95 %, from a bootstrap by answer. Ties are broken at random where fields are sent for review.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import RESULTS, Json, Work, annotated, parser, show_progress, write_result
from benchmarks.inside import fields_tables
from confide.evaluation.record_columns import Rows
from confide.hashing import key_of_text, sha256_of_rows
from confide.methods.free import free_confidence, free_features
from confide.methods.method import labels, or_nan
from confide.methods.parts.part_reading import PartReading
from confide.methods.parts.part_states import collect_part_states
from confide.methods.parts.part_training import fit_on_states, part_layers
from confide.methods.portable.logistic import Logistic
from confide.methods.stack.states import States
from confide.metrics import auroc, within_auroc
from confide.metrics.bootstrap import estimate
from confide.numeric import Bools, Floats, Ints
from confide.parts.part_records import split_records
from confide.records import Record
from confide.tasks import Task, load_task
from confide.tasks.field_grader import part_grader
from confide.tasks.text import fold

SEEDS = (0, 1, 2)
ANSWERS = 400
KINDS = "event"
ALL_KINDS = ("person", "event", "product")
SIZES = {"train": 180, "validation": 60}
"""Answers of each part; the others are tested on."""

RESAMPLES = 500
REVIEWED = 0.2
DEPTH = 30

WHOLE = ("whole_sum", "whole_mean")
FREE = ("logprob_sum", "logprob_mean", "logprob_min")
SOURCES = (*WHOLE, "in_text", "field_rate", *FREE, "cheap", "portable", "field")
STEPS = (("field", "logprob_sum"), ("field", "whole_sum"), ("field", "whole_mean"), ("field", "in_text"),
         ("field", "cheap"), ("field", "portable"), ("portable", "logprob_sum"), ("cheap", "logprob_sum"))  # fmt: skip

Parts = dict[str, Ints]


def main() -> None:
    options = parser(__doc__, "fields")
    options.add_argument("--answers", type=int, default=ANSWERS, help="how many are asked for (default: %(default)s)")
    options.add_argument(
        "--kinds", default=KINDS, help="what is described: person,event,product (default: %(default)s)"
    )
    arguments = options.parse_args()
    work = Work(arguments.work)
    task = asked(arguments.answers, arguments.kinds.split(","))
    path = work.folder / "records.jsonl"
    told = {record.id: record for record in annotated(lambda: work.engine, task, path, title="answers")}
    records = [told[question.id] for question in task.questions]  # as they were drawn, however they came
    fields, summary = split_records(records, "fields", part_grader)
    states = field_states(work, fields)
    cells = [work.stage(f"cell-{seed}", partial(cell, records, fields, states, seed)) for seed in SEEDS]
    made = {
        "machine": work.machine(),
        "resamples": RESAMPLES,
        "reviewed": REVIEWED,
        "answers": len(records),
        "right_as_a_whole": float(np.mean([bool(record.correct) for record in records])),
        "summary": vars(summary),
        "by_field": accuracies(fields),
        "cells": cells,
    }
    result = write_result(arguments.out, "inside/fields.py", made)
    if arguments.out.parent == RESULTS:
        fields_tables.write(result)


def asked(answers: int, kinds: Sequence[str]) -> Task:
    """The task's questions of these kinds, which take turns in it."""
    task = load_task("extraction", limit=answers * len(ALL_KINDS) // len(kinds))
    return replace(task, questions=[question for question in task.questions if question.domain in kinds])


def field_states(work: Work, fields: list[Record]) -> States:
    """Hidden states of the fields, one pass an answer."""
    path = work.folder / f"states-{key_of_text(sha256_of_rows([one.id, one.answer_ids] for one in fields))}.npy"
    if not path.exists():
        layers = part_layers(DEPTH)
        np.save(path, collect_part_states(work.engine, fields, layers, progress=show_progress("states")).values)
    return States(tuple(part_layers(DEPTH)), np.load(path, mmap_mode="r"))


def accuracies(fields: Sequence[Record]) -> Json:
    """How many values there are of each field, how many are right, and how many are right where the text says none."""
    found: dict[str, list[bool]] = defaultdict(list)
    for one in fields:
        found[f"{one.entity.partition('-')[0] if one.entity else ''}{one.domain}"].append(bool(one.correct))
        if one.reference == ["null"]:
            found["null"].append(bool(one.correct))
    return {name: {"n": len(right), "accuracy": float(np.mean(right))} for name, right in sorted(found.items())}


def cell(records: Sequence[Record], fields: Sequence[Record], states: States, seed: int) -> Json:
    """All sources of one draw of answers, on the fields of its test answers."""
    dealt = np.random.default_rng(seed).permutation(len(records))
    ends = np.cumsum(list(SIZES.values()))
    answers: dict[str, Ints] = dict(zip([*SIZES, "test"], np.split(dealt, ends), strict=True))
    part_of = {records[row].cluster: part for part, rows in answers.items() for row in rows}
    parts: Parts = {part: np.flatnonzero([part_of[one.cluster] == part for one in fields]) for part in (*SIZES, "test")}
    rows = {part: [fields[at].model_copy(update={"split": part}) for at in parts[part]] for part in parts}
    served, portable = fit_on_states(
        DEPTH, states.take(parts["train"]), rows["train"], states.take(parts["validation"]), rows["validation"], seed
    )
    test = rows["test"]
    z = served.reading.z(states.take(parts["test"]))
    with_states = PartReading("field", portable, served).confidences(test, z)
    alone = PartReading("field", portable).confidences(test)
    values = {
        "field": or_nan([value for value, _ in with_states]),
        "portable": or_nan([value for value, _ in alone]),
        **beside(records, rows),
    }
    return {
        "seed": seed,
        "sizes": {part: {"answers": len(answers[part]), "fields": len(rows[part])} for part in parts},
        "layers": list(served.reading.layers),
        **judged(test, values, seed),
    }


def beside(records: Sequence[Record], rows: Mapping[str, Sequence[Record]]) -> dict[str, Floats]:
    """The cheap sources of the test fields, [n] each."""
    test = rows["test"]
    free = [free_confidence(one) for one in test]
    right: dict[str, list[bool]] = defaultdict(list)
    for one in rows["train"]:
        right[one.domain].append(bool(one.correct))
    of = {record.cluster: record for record in records}
    whole = {name: sum(record.logprobs) for name, record in of.items()}
    return {
        **{name: or_nan([values[name] for values in free]) for name in FREE},
        "whole_sum": np.array([whole[one.cluster] for one in test]),
        "whole_mean": np.array([whole[one.cluster] / len(of[one.cluster].logprobs) for one in test]),
        "field_rate": np.array([float(np.mean(right.get(one.domain, [False]))) for one in test]),
        "in_text": np.array([float(in_text(one)) for one in test]),
        "cheap": Logistic.fit(cheap(rows["train"], right), labels(rows["train"])).predict(cheap(test, right)),
    }


def cheap(some: Sequence[Record], right: Mapping[str, list[bool]]) -> Floats:
    """What is cheap of fields, [n, d]; ``right`` are training's labels by the field's name."""
    known = np.array([float(in_text(one)) for one in some])
    names = np.array([[float(one.domain == name) for name in sorted(right)] for one in some])
    return np.column_stack([free_features(some), known, names, names * known[:, None]])


def in_text(field: Record) -> bool:
    """Whether a value stands in the text that was asked about, as whole words."""
    text = next(message.content for message in reversed(field.messages) if message.role == "user")
    return f" {fold(field.answer)} " in f" {fold(text.partition('Fields:')[0])} "


def judged(test: list[Record], values: Mapping[str, Floats], seed: int) -> Json:
    """Figures of each source on the test fields, and differences between sources."""
    y = labels(test)
    kinds: Ints = np.asarray(np.unique([one.domain for one in test], return_inverse=True)[1])
    chance = np.random.default_rng(seed).random(len(y))
    bootstrap = Rows(test, {}, "test").bootstrap(RESAMPLES, seed)

    def statistics(column: Floats, weights: NDArray[Any]) -> dict[str, Floats]:
        return {
            "auroc": auroc.resampled(column, y, weights),
            "within_field": within_auroc.resampled(column, y, weights, groups=kinds),
            "caught": caught(column, y, chance, weights),
        }

    filled = {name: np.nan_to_num(column, nan=-1e9) for name, column in values.items()}
    everything = np.arange(len(y))
    drawn = {name: bootstrap.sample(partial(statistics, filled[name]), everything) for name in SOURCES}
    best = bootstrap.sample(lambda weights: {"caught": caught(y.astype(float), y, chance, weights)}, everything)
    return {
        "n": len(y),
        "accuracy": float(y.mean()),
        "most_caught": estimate(best["caught"]),
        "sources": {name: {figure: estimate(one[figure]) for figure in one} for name, one in drawn.items()},
        "differences": [
            {"figure": figure, "a": a, "b": b, **estimate(drawn[a][figure] - drawn[b][figure])}
            for figure in ("auroc", "within_field", "caught")
            for a, b in STEPS
        ],
    }


def caught(column: Floats, right: Bools, chance: Floats, weights: NDArray[Any]) -> Floats:
    """The share of wrong fields among the least sure fifth, [draws]; ``weights`` [draws, n]."""
    order = np.lexsort((chance, column))
    drawn, wrong = weights[:, order].astype(float), ~right[order]
    before = drawn.cumsum(1) - drawn
    sent = np.clip(REVIEWED * drawn.sum(1, keepdims=True) - before, 0, drawn)
    found: Floats = (sent * wrong).sum(1) / np.maximum((drawn * wrong).sum(1), 1e-12)
    return found


if __name__ == "__main__":
    main()
