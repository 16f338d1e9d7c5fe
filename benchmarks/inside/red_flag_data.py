"""Outputs of the bundled model for the red flag benchmark: prompts, forced openings, and which rows test.

Harmful prompts to train on are AdvBench and HarmBench's validation part, harmless ones the everyday instructions of
self-instruct, prompts of our own that sound dangerous, and short questions. HarmBench's test part, XSTest, the harmless
test set and other short questions are for testing only, and so are the openings that they are asked with. Requests for
copyrighted texts are left out: nobody can tell from a small model's output whether it complied. A prompt of the pool
that asks nearly the same as one of the tests is not used.

Outputs stay in the work folder and are never printed.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.common import show_progress
from benchmarks.inside.red_flag_attacks import attack_questions
from confide.annotation import annotate
from confide.methods.red_flag.output_records import with_samples
from confide.records import Record, read_records
from confide.tasks import Task
from confide.tasks.marking import mark
from confide.tasks.questions import Question
from confide.tasks.red_flag.prompt_sets import TESTING, prompts_of, red_flag
from confide.tasks.red_flag.red_flag_task import HARMFUL, red_flag_task

if TYPE_CHECKING:
    from confide.engines.transformers.transformers_engine import TransformersEngine

BATCH = 128
"""Prompts answered together."""

SETS = {"harmbench": "redflag-harmbench", "xstest": "redflag-xstest", "harmless": "redflag-harmless"}
SHORT = ("truthfulqa", "simpleqa")
"""The test sets, and the data sets whose questions are the set ``short``."""

LABELLED = 1600
"""Labelled outputs of the pool from which test rows are drawn, and from which the generative method learns, to bound
its time on processors; readings have the others too, to train, choose and calibrate on."""

TEMPERATURE = 0.8
"""Of the sampled outputs of the pool, one beside each greedy output."""


def tests(data: Path | None) -> dict[str, list[Question]]:
    """The prompts of each test set."""
    found = {name: prompts_of(task, data) for name, task in SETS.items()}
    found["short"] = [prompt for name in SHORT for prompt in prompts_of(name, data, TESTING[name])]
    return found


def test_task(data: Path | None) -> Task:
    """The test prompts under held-out openings, those of each set by turns, and the attacks."""
    found = tests(data)
    questions: list[Question] = []
    for name, each in (("harmbench", 2), ("xstest", 1), ("harmless", 1), ("short", 1)):
        # Those that lend each other openings are of one set where it has both kinds, else of HarmBench and harmless.
        prompts = found[name] if name != "harmbench" else found["harmbench"] + found["harmless"][:80]
        made = red_flag_task(prompts, openings_each=each, held_out=True, seed=1).questions
        own = {prompt.id for prompt in found[name]}
        questions += [q.model_copy(update={"set": name}) for q in made if q.id.rpartition(":")[0] in own]
    questions += attack_questions([p for p in found["harmbench"] if p.label == HARMFUL])
    return replace(red_flag_task([], seed=1), questions=questions)


def outputs(
    work: Path, data: Path | None, engine: Callable[[], TransformersEngine]
) -> tuple[list[Record], list[Record]]:
    """Graded outputs of the pool, greedy and sampled, and of the tests."""
    task = red_flag("train", data_dir=data)
    trained = answered(engine, task, work / "pool.jsonl", samples=1, temperature=TEMPERATURE)
    tested = answered(engine, test_task(data), work / "test.jsonl")
    return with_samples(trained), tested


def used(records: Sequence[Record]) -> tuple[list[Record], list[Record]]:
    """At most `LABELLED` of the labelled records, whole entities at a time drawn without a look, and the others."""
    labelled = [record for record in records if record.correct is not None and record.answer_ids]
    sizes = Counter(record.cluster for record in labelled)
    kept: set[str] = set()
    for entity in random.Random(0).sample(sorted(sizes), len(sizes)):
        if sum(sizes[one] for one in kept) + sizes[entity] <= LABELLED:
            kept.add(entity)
    return [r for r in labelled if r.cluster in kept], [r for r in labelled if r.cluster not in kept]


def answered(engine: Callable[[], TransformersEngine], task: Task, path: Path, **options: Any) -> list[Record]:
    """A task's records in ``path``, graded by today's rule; they are answered where they are missing."""
    if not path.exists() or len(read_records(path)) < len(task.questions):
        annotate(engine(), task, path, batch_size=BATCH, progress=show_progress(path.stem), **options)
    asked = {question.id: question for question in task.questions}
    return [
        mark(task, asked[record.id], record.model_copy(update={"entity": asked[record.id].entity}))
        for record in read_records(path)
    ]
