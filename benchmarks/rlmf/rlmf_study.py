"""The questions of the RLMF benchmark: sizes, the rows of the table, and what each seed trains and tests on."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.common import Json, Work, annotated
from benchmarks.quality.study import of_split
from confide.engines.transformers.loading import default_device
from confide.files import write_text
from confide.methods.rlmf.rlmf_config import FormatConfig
from confide.records import Record
from confide.tasks import Task, load_task

GPU = default_device() == "cuda"
SEEDS = (0, 1, 2)
HELD_OUT = ("city_continent", "us_city_state", "city_country")
"""The relation that each seed holds out."""

POOL = 5000 if GPU else 1600
SAMPLES, SAMPLED = 20, 20 if GPU else 10
"""Samples of the untrained model's answers, and of a trained model's."""

SIZES = (
    {"train": 1200, "validation": 160, "test": 600, "held_out": 600}
    if GPU
    else {"train": 400, "validation": 48, "test": 160, "held_out": 160}
)
SENTENCE_POOL = POOL if GPU else 600
SENTENCE_SIZES = SIZES if GPU else {"train": 240, "validation": 40, "test": 100, "held_out": 80}
SENTENCE_ROWS = ("format", "standard RL", "RLMF")
SENTENCE = "Answer in one full sentence."
STEPS, GROUP, QUESTIONS = 60, *((16, 8) if GPU else (6, 2))
BARE = not GPU
"""Whether trained models are asked without worked examples: on a CPU these are most of a step's time."""

FORMAT = (
    FormatConfig()
    if GPU
    else FormatConfig(answers=3, judged_share=0.3, rollouts=8, rank=16, alpha=32, learning_rate=1e-3,
                      row_learning_rate=5e-3)
)  # fmt: skip
FORMATS = {"format": "consistency", "format constant": "constant", "format shuffled": "shuffled"}
TRAINED: dict[str, Json] = {
    "standard RL": {"feedback": "none"},
    "RLMF": {"feedback": "self"},
    "RLMF, shuffled Z": {"feedback": "shuffled"},
    "RLMF, constant Z": {"feedback": "constant"},
    "RLMF, frozen Z": {"feedback": "frozen"},
    "RLMF, frozen g": {"feedback": "self", "intrinsic": "frozen"},
    "RLCR": {"rewarded": "rlcr"},
}
BASE = "base"
EVERY_SEED = ("format", "standard RL", "RLMF", "RLMF, shuffled Z", BASE)
"""Rows on all seeds; the others on the first."""


class Study(Work):
    """The work folder and its questions; ``sentences`` asks for answers of twenty tokens instead of three."""

    def __init__(self, folder: Path, sentences: bool = False):
        super().__init__(folder)
        self.sentences = sentences
        self.sizes = SENTENCE_SIZES if sentences else SIZES
        self.samples = SAMPLED if sentences else SAMPLES

    @property
    def task(self) -> Task:
        task = load_task("geography", limit=SENTENCE_POOL if self.sentences else POOL, seed=0)
        if not self.sentences:
            return task
        told = {"role": "system", "content": SENTENCE}
        return replace(task, prompt=lambda q: [told, task.prompt(q)[-1]], max_new_tokens=40)

    @property
    def asked(self) -> Task:
        """The task as trained models are asked it."""
        task = self.task
        if self.sentences:
            return task  # no worked examples to leave out
        # Answers take three or four tokens: more than a dozen are rambling, which counts as unfinished.
        return replace(task, prompt=lambda q: bare(task.prompt(q)), max_new_tokens=12) if BARE else task

    def place(self, seed: int, row: str) -> Path:
        return self.folder / f"{seed}-{row.replace(', ', '-').replace(' ', '-')}"

    def answers(self, seed: int, row: str) -> Path:
        return self.place(seed, row).with_suffix(".jsonl")


def bare(messages: list[Any]) -> list[Any]:
    """A system line and a question, without the worked examples between them."""
    return [messages[0], messages[-1]] if BARE else messages


def wanted(rows: Sequence[str], seeds: Sequence[int]) -> list[tuple[int, str]]:
    """(seed, row) of what is made; rows that are not on every seed are on the first."""
    return [(seed, row) for seed in seeds for row in rows if row in EVERY_SEED or seed == SEEDS[0]]


def answers(study: Study) -> list[Record]:
    """The pool: greedy answers and K samples of the untrained model; a stage that was finished is only read."""
    task = study.task
    sizes = study.sizes | {"samples": SAMPLED, "steps": STEPS, "group": GROUP, "questions a step": QUESTIONS}
    write_text(study.folder / "sizes.json", json.dumps(sizes) + "\n")
    study.machine()
    pool = study.folder / "pool.jsonl"
    records = annotated(lambda: study.engine, task, pool, title="answers", samples=study.samples)
    known = {question.id for question in task.questions}
    return [record for record in records if record.id in known]


def trained_on(study: Study, seed: int) -> list[Record]:
    """This seed's rows as trained models are asked them; their answers stay those that the examples brought about."""
    return [r.model_copy(update={"messages": bare(r.messages)}) for r in draw(study, seed)]


def draw(study: Study, seed: int) -> list[Record]:
    """This seed's rows with their split; ``test`` holds unseen entities of taught relations and the held-out relation.

    Whole entities are on one side. Few questions of one relation are left out of training: each taught relation
    gives at most half of the rows, so that none is the whole of the average.
    """
    held, sizes = HELD_OUT[seed % len(HELD_OUT)], study.sizes
    rows = sorted(answers(study), key=lambda record: record.id)
    random.Random(f"rlmf-{seed}").shuffle(rows)
    new = [r for r in rows if r.domain == held][: sizes["held_out"]]
    taken = {r.cluster for r in new}
    found = of_split(new, "test")
    for part in ("test", "validation", "train"):
        counts: dict[str, int] = {}
        chosen: list[Record] = []
        for r in rows:
            fits = r.domain != held and r.cluster not in taken and counts.get(r.domain, 0) < sizes[part] // 2
            if fits and len(chosen) < sizes[part]:
                counts[r.domain] = counts.get(r.domain, 0) + 1
                chosen.append(r)
        taken |= {r.cluster for r in chosen}
        found += of_split(chosen, part)
    return found
