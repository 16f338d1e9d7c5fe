"""RLMF beside its controls and its cheap rivals: one protocol, paired seeds, relations held out from training.

    python benchmarks/rlmf.py                          # all stages; a killed run continues
    python benchmarks/rlmf.py --stage format --seeds 0 # one stage, some seeds or rows: they may run side by side
    python benchmarks/rlmf.py --stage judge            # only puts the tables together
    python benchmarks/rlmf.py --sentences              # the same with answers in full sentences, few rows on one seed

Stages: ``answers`` (the bundled model answers geography questions, K samples each), ``format`` (the format stage, with
true, constant and shuffled targets), ``train`` (reinforcement learning and its controls), ``answer`` (every final model
answers the test questions K times), ``rivals`` (a reader trained on g), ``judge`` (tables). A seed draws the training
rows and holds out one relation; every row of the table sees the same questions. ``SIZES`` says how many.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from confide.annotation import annotate
from confide.engines.transformers.loading import default_device
from confide.engines.transformers.transformers_engine import TransformersEngine
from confide.files import write_text
from confide.methods.rlmf.format_stage import FormatConfig, train_format
from confide.methods.rlmf.reinforcement import train_rlmf
from confide.methods.rlmf.rlmf_trainer import RLMFConfig
from confide.methods.scoring import score
from confide.model import load
from confide.records import Record, read_records, write_records
from confide.tasks import Task, load_task
from machine import note, noted
from quality import HERE, Work, shown

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
TRAINED: dict[str, dict[str, Any]] = {
    "standard RL": {"feedback": "none"},
    "RLMF": {"feedback": "self"},
    "RLMF, shuffled Z": {"feedback": "shuffled"},
    "RLMF, constant Z": {"feedback": "constant"},
    "RLMF, frozen Z": {"feedback": "frozen"},
    "RLMF, frozen g": {"feedback": "self", "intrinsic": "frozen"},
    "RLCR": {"rewarded": "rlcr"},
}
EVERY_SEED = ("format", "standard RL", "RLMF", "RLMF, shuffled Z")
"""Rows on all seeds; the others on the first."""

BASE = "base"
STAGES = ("answers", "format", "train", "answer", "rivals", "judge")


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
    """(seed, row) of what is trained; rows that are not on every seed are on the first."""
    return [(seed, row) for seed in seeds for row in rows if row in EVERY_SEED or seed == SEEDS[0]]


def answers(study: Study) -> list[Record]:
    """The pool: greedy answers and K samples of the untrained model; a stage that was finished is only read."""
    path = study.folder / "pool.jsonl"
    task = study.task
    sizes = study.sizes | {"samples": SAMPLED, "steps": STEPS, "group": GROUP, "questions a step": QUESTIONS}
    write_text(study.folder / "sizes.json", json.dumps(sizes) + "\n")
    note(study.folder)
    if not path.exists() or len(read_records(path)) < len(task.questions):
        batch = 256 if GPU else 32
        annotate(study.engine, task, path, samples=study.samples, batch_size=batch, progress=shown("answers"))
    known = {question.id for question in task.questions}
    return [record for record in read_records(path) if record.id in known]


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
    found = [r.model_copy(update={"split": "test"}) for r in new]
    for part in ("test", "validation", "train"):
        counts: dict[str, int] = {}
        chosen: list[Record] = []
        for r in rows:
            fits = r.domain != held and r.cluster not in taken and counts.get(r.domain, 0) < sizes[part] // 2
            if fits and len(chosen) < sizes[part]:
                counts[r.domain] = counts.get(r.domain, 0) + 1
                chosen.append(r)
        taken |= {r.cluster for r in chosen}
        found += [r.model_copy(update={"split": part}) for r in chosen]
    return found


def form(study: Study, seed: int, row: str) -> Path:
    """The folder of a format stage."""
    out = study.place(seed, row)
    rows = trained_on(study, seed)
    train, validation = ([r for r in rows if r.split == part] for part in ("train", "validation"))
    config = FormatConfig(**{**vars(FORMAT), "target": FORMATS[row], "seed": seed})
    train_format("smollm2", study.asked, train, validation, config, out, progress=False)
    return out


def train(study: Study, seed: int, row: str) -> Path:
    """The folder of a trained row, from the true format stage of its seed."""
    out = study.place(seed, row)
    if not (out / "confide.json").exists():
        config = RLMFConfig(
            output_dir=str(out / "checkpoints"),
            max_steps=STEPS,
            num_generations=GROUP,
            per_device_train_batch_size=GROUP * QUESTIONS,
            gradient_accumulation_steps=1,
            eval_steps=STEPS // 2,
            save_steps=STEPS // 2,
            accuracy_margin=0.1,
            gradient_checkpointing=GPU,  # several runs share a device
            seed=seed,
            **TRAINED[row],
        )
        rows = trained_on(study, seed)
        start = str(study.place(seed, "format"))
        rank = FORMAT.rank
        train_rlmf(start, study.asked, rows, config, out, rank=rank, samples=SAMPLED, progress=shown(f"{seed} {row}"))
    return out


def answer(study: Study, seed: int, row: str) -> None:
    """Validation and test questions, answered and sampled by a final model, with what it states and how it judges that.

    The untrained model's answers are in the pool; what it *says* when asked for a number stands for its statement.
    """
    out = study.answers(seed, row)
    if out.exists():
        return
    rows = [r for r in draw(study, seed) if r.split != "train"]
    if row == BASE:
        sources = ["logprob_sum", *(["verbalized"] if GPU or seed == SEEDS[0] else [])]
        write_records(out, score(rows, sources, model=load("smollm2"), progress=shown(f"{seed} {row}")))
        return
    folder = study.place(seed, row)
    part = folder / "answers" / "records.jsonl"  # a folder of its own: several rows are answered side by side
    splits = {r.id: str(r.split) for r in rows}
    engine = TransformersEngine.load(str(folder))
    annotate(engine, study.asked, part, splits=splits, samples=SAMPLED, batch_size=128 if GPU else 32, seed=seed)
    found = score(read_records(part), ["graded", "f_pred"], model=load(folder), progress=shown(f"{seed} {row}"))
    write_records(out, found)


def rival(study: Study, seed: int) -> None:
    """A reader of the untrained model trained on g: the answers stay, only ask tokens and a verdict row learn."""
    from confide.methods.reader.closed_rows import make_rows
    from confide.methods.reader.kept_prefixes import PrefixStore
    from confide.methods.reader.reader_training import ReaderConfig, score_rows, train_reader

    out = study.answers(seed, "reader")
    if out.exists():
        return
    began = time.monotonic()
    drawn = draw(study, seed)
    engine = study.engine
    parts = [[r for r in drawn if r.split == part] for part in ("train", "validation", "test")]
    rows = [make_rows(engine, part, "consistency", samples=False) for part in parts]
    store = PrefixStore(engine, [row for part in rows for row in part], budget=8 * 10**9)
    first = len(rows[0])
    reader = train_reader(
        engine, rows[0], rows[1], ReaderConfig(epochs=4 if GPU else 2, seed=seed), store=store, progress=shown("reader")
    )
    z = score_rows(engine, reader, store, range(first, first + len(rows[1]) + len(rows[2])))
    store.close()
    seconds = time.monotonic() - began
    values = (1 / (1 + np.exp(-z))).tolist()
    found = [
        r.model_copy(update={"confidence": {"reader": value}})
        for r, value in zip([*parts[1], *parts[2]], values, strict=True)
    ]
    write_records(out, found)
    write_text(out.with_suffix(".json"), json.dumps({"seconds": seconds}) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sentences", action="store_true", help="ask for full sentences; on the first seed")
    parser.add_argument("--work", type=Path, default=None, help="default: runs/rlmf or runs/rlmf-sentences")
    parser.add_argument("--stage", default=",".join(STAGES), help="stages, separated by commas")
    parser.add_argument("--seeds", default=None, help="default: all; with --sentences the first")
    parser.add_argument("--rows", default=None, help="names of rows, separated by semicolons")
    arguments = parser.parse_args()
    name = "rlmf-sentences" if arguments.sentences else "rlmf"
    study = Study(arguments.work or Path("runs") / name, arguments.sentences)
    seeds = [int(seed) for seed in arguments.seeds.split(",")] if arguments.seeds else [*SEEDS]
    named = arguments.rows.split(";") if arguments.rows else None
    if arguments.sentences:
        seeds = seeds if arguments.seeds else [SEEDS[0]]
        named = named or [*SENTENCE_ROWS, BASE]
    stages = arguments.stage.split(",")
    if "answers" in stages:
        answers(study)
    for seed, row in wanted([r for r in FORMATS if named is None or r in named], seeds):
        if "format" in stages:
            form(study, seed, row)
    for seed, row in wanted([r for r in TRAINED if named is None or r in named], seeds):
        if "train" in stages:
            train(study, seed, row)
    if "rivals" in stages:
        for seed in seeds:
            rival(study, seed)
    if "answer" in stages:
        for seed, row in wanted([r for r in [*FORMATS, *TRAINED] if named is None or r in named], seeds):
            answer(study, seed, row)
        for seed in seeds if named is None or BASE in named else []:
            answer(study, seed, BASE)
    if "judge" in stages:
        from rlmf_table import judged, write_tables

        result = {
            "schema": 1,
            "made_by": "benchmarks/rlmf.py",
            "machine": noted(study.folder) | {"trl": version("trl")},
            "sizes": json.loads((study.folder / "sizes.json").read_text(encoding="utf-8")),
            **judged(study),
        }
        write_text(HERE / "results" / f"{name}.json", json.dumps(result, indent=1) + "\n")
        write_tables(result, "sentences " if arguments.sentences else "")


if __name__ == "__main__":
    main()
