"""What the studies of this folder share: models, the records and states they start from, training, choosing rows."""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import Work, annotated, load_engine, parser, show_progress
from benchmarks.quality.cells import LAYERS, picked
from confide.engines.transformers.transformers_engine import TransformersEngine
from confide.methods.frozen.frozen_options import FrozenOptions
from confide.methods.frozen.frozen_training import train_confidence
from confide.methods.stack.states import States, collect_states
from confide.records import Record
from confide.tasks import Task, load_task

QUESTIONS = 12000
ARITHMETIC = "smollm2-arithmetic"
"""The bundled model's copy that knows some arithmetic (`arithmetic_model`)."""


class Study(Work):
    """A work folder that starts from geography's records (a folder of their own), and one folder inside it per task."""

    def __init__(self, folder: Path, quality: Path, data: Path | None):
        super().__init__(folder)
        self.quality, self.data = Work(quality), data

    @cached_property
    def adapted(self) -> TransformersEngine:
        """The copy of the bundled model that `arithmetic_model` made."""
        folder = Path("runs/arithmetic/model")
        if not folder.exists():
            raise SystemExit("run benchmarks.quality.arithmetic_model first: it adapts the copy and lets it answer")
        engine = load_engine(str(folder))
        engine.name = ARITHMETIC
        return engine

    def engine_of(self, name: str) -> TransformersEngine:
        """The adapted copy for arithmetic and for ``adapted``, else the bundled model."""
        return self.adapted if name in ("arithmetic", "adapted") else self.engine

    def of(self, name: str) -> Path:
        """A task's own folder: annotating locks it, and tasks run side by side."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        return folder

    def scored(self, *names: object) -> Path:
        """The scored records of a task and seed, or of a part and row."""
        return self.folder / ("-".join(["scored", *(str(n).replace(" ", "_") for n in names)]) + ".jsonl")

    def annotated(self, engine: str, task: Task, path: Path, **options: Any) -> list[Record]:
        """A task's records in ``path``, by the engine of that name."""
        title = f"{engine} {path.stem}"
        return annotated(partial(self.engine_of, engine), task, path, title=title, **options)

    def arc_easy(self, engine: str) -> dict[str, list[Record]]:
        """ARC-easy's test and training questions, answered by the likelihood of their options; none comes twice."""
        found = {}
        for part, name in (("test", "arc_easy"), ("train", "arc_easy/train")):
            task, path = load_task(name, data_dir=self.data), self.of(engine) / f"arc_easy-{part}.jsonl"
            found[part] = [r.model_copy(update={"task": "arc_easy"}) for r in self.annotated(engine, task, path)]
        return found | {"test": unrepeated(found["test"], found["train"])}

    def train(self, engine: str, rows: Mapping[str, Sequence[Record]], out: Path) -> Path:
        """A stack trained on training and validation rows, unless ``out`` holds its checkpoint."""
        if not (out / "confide.json").exists():
            who, progress = self.engine_of(engine), show_progress(f"{engine} {out.name}")
            train_confidence(who, rows["train"], rows["validation"], FrozenOptions(), out, progress=progress)
        return out

    @staticmethod
    def parser(doc: str | None, name: str, stages: Sequence[str]) -> argparse.ArgumentParser:
        """Options of a study whose stages can be run one by one."""
        found = parser(doc, name)
        found.add_argument("--quality", type=Path, default=Path("runs/quality"), help="geography's records and states")
        found.add_argument("--data-dir", type=Path, default=None, help="question files; without it, the hub")
        found.add_argument("--stage", choices=stages, default=None, help="do only this; default: everything")
        return found

    @classmethod
    def open(cls, arguments: argparse.Namespace) -> Study:
        """The study that the options name; notes the machine where its models will run."""
        study = cls(arguments.work, arguments.quality, arguments.data_dir)
        if arguments.stage != "judged":
            study.machine()
        return study


def geography_records(work: Work) -> list[Record]:
    """The bundled model's answers to geography questions."""
    task = load_task("geography", limit=QUESTIONS, seed=0)
    return annotated(lambda: work.engine, task, work.folder / "records.jsonl", title="annotating")


def geography_states(work: Work, records: list[Record]) -> States:
    """Hidden states of these answers, at the layers that stacks choose from."""
    path = work.folder / "states.npy"
    if not path.exists():
        np.save(path, collect_states(work.engine, records, LAYERS, progress=show_progress("states")).values)
    return States(tuple(LAYERS), np.load(path, mmap_mode="r"))


def unrepeated(test: Sequence[Record], train: Sequence[Record]) -> list[Record]:
    """Test records whose prompt no training record has, nor an earlier one: ARC asks some questions twice."""
    seen = {record.messages[-1].content for record in train}
    first = {record.messages[-1].content: record for record in reversed(test)}
    return [record for record in test if first[text := record.messages[-1].content] is record and text not in seen]


def dealt(records: Sequence[Record], sizes: Mapping[str, int], seed: int = 0) -> dict[str, list[Record]]:
    """Rows by split, in the order of ``sizes``: whole entities, in random order, until a split has its size."""
    clusters: dict[str, list[Record]] = defaultdict(list)
    for record in sorted(records, key=lambda r: r.id):
        clusters[record.cluster].append(record)
    names = sorted(clusters)
    pending = [clusters[names[i]] for i in np.random.default_rng(seed).permutation(len(names))]
    out: dict[str, list[Record]] = {}
    for split, size in sizes.items():
        out[split] = []
        while pending and len(out[split]) < size:
            out[split] += of_split(pending.pop(0), split)
        out[split] = out[split][:size]
    return out


def of_split(records: Sequence[Record], split: str, rows: Any = None) -> list[Record]:
    """Copies (of the given rows) that are marked with a split."""
    some = records if rows is None else picked(records, rows)
    return [record.model_copy(update={"split": split}) for record in some]
