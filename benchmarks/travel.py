"""Does it travel? What a confidence was trained on against where it is tested, and questions without a right option.

    python benchmarks/travel.py --data-dir DIR    # everything; a killed run continues
    python benchmarks/travel.py --stage judged    # judges what has been scored, and puts the tables together

Four matrices of one kind: rows of a matrix are trained stacks (`train_confidence`, then `score`), columns test rows
that no stack has seen an entity of. `relations`: a stack for each kind of geography question; `answers`: one for each
half of the countries answered; `tasks`: geography and ARC-easy, tested on medicine and law too; `adapted`: geography,
ARC-easy and arithmetic, all answered by the copy of the bundled model that knows some (`arithmetic_model.py`). And
`rejection`: ARC-easy with the right option taken from half of the questions. The model's work is the stages `records`
and `scored` (what is left is `scored-PART-ROW.jsonl`); `--only` shares it out among processes.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from confide.annotation import annotate
from confide.engines.transformers.transformers_engine import TransformersEngine
from confide.evaluation.matrix import matrix
from confide.evaluation.record_columns import extra
from confide.evaluation.rejection import rejection
from confide.files import write_text
from confide.methods.catalogue import available
from confide.methods.free import FREE, OPTION
from confide.methods.reader.reader_training import ReaderConfig
from confide.methods.reader.training_pipeline import ReaderOptions, train_confidence
from confide.methods.scoring import score
from confide.metrics import auroc
from confide.model import load
from confide.records import Record, read_records, write_records
from confide.tasks import Task, load_task
from confide.tasks.unanswerable import without_right_options
from estimators import Study, six_digits, unrepeated
from machine import fitting, noted
from quality import HERE, records_of, shown
from travel_table import write_tables

STAGES = ("records", "scored", "judged")
PARTS = ("relations", "answers", "tasks", "adapted", "rejection")
SIZES = {"train": 1500, "validation": 400, "test": 1000}
MIN_TEST, MIN_TRAIN = 150, 500
"""Rows of a geography relation below which it is no column, and no row."""

QUESTIONS = 5000
"""Of geography and of arithmetic that the adapted copy answers."""

ABROAD = ("medqa", "mmlu_professional_medicine", "mmlu_professional_law")
"""Tasks that nothing is trained on: medicine and law."""

LEARNED = ("stack", "probe", "probe_logprobs")
REJECTING = (*LEARNED, "reader", "p_true", "question_only", "answer_only", OPTION, *FREE)
READER = (ReaderConfig(ask_tokens=4, epochs=2),)
REJECTED = 0.5

Rows = dict[str, list[Record]]
"""Records by split."""


@dataclass(frozen=True)
class Plan:
    """A matrix: what each row trains on (train and validation rows by name), and all test rows."""

    engine: str
    rows: dict[str, Rows]
    test: list[Record] = field(default_factory=list)


class Journey(Study):
    """The work folder; answers of other benchmarks are taken from theirs."""

    def __init__(self, folder: Path, quality: Path, data: Path | None, *, works: bool = True):
        super().__init__(folder, quality, data, works=works)

    def row(self, part: str, name: str) -> Path:
        return self.folder / f"scored-{part}-{name.replace(' ', '_')}.jsonl"

    def who(self, engine: str) -> TransformersEngine:
        return self.arithmetic if engine == "adapted" else self.engine

    def answers(self, engine: str, task: Task, name: str) -> list[Record]:
        """A task's records by the engine of that name, answered once."""
        out = self.of(engine) / f"{name.replace('/', '-')}.jsonl"
        if not out.exists() or len(read_records(out)) < len(task.questions):
            who = self.who(engine)
            # A question with options runs them all, and some are pages long.
            batch = fitting(who.device, 32, 128 if task.questions[0].choices else 512)
            annotate(who, task, out, batch_size=batch, progress=shown(f"{engine} {name}"))
        return read_records(out)


def dealt(records: Sequence[Record], sizes: dict[str, int], seed: int = 0) -> Rows:
    """Rows by split, in the order of ``sizes``: whole entities, in random order, until a split has its size."""
    clusters: dict[str, list[Record]] = defaultdict(list)
    for record in sorted(records, key=lambda r: r.id):
        clusters[record.cluster].append(record)
    names = sorted(clusters)
    pending = [clusters[names[i]] for i in np.random.default_rng(seed).permutation(len(names))]
    out: Rows = {}
    for split, size in sizes.items():
        out[split] = []
        while pending and len(out[split]) < size:
            out[split] += marked(pending.pop(0), split)
        out[split] = out[split][:size]
    return out


def marked(records: Sequence[Record], split: str) -> list[Record]:
    return [record.model_copy(update={"split": split, "samples": None}) for record in records]


def training(rows: Sequence[Record]) -> Rows:
    return dealt(rows, {"validation": min(SIZES["validation"], len(rows) // 5), "train": SIZES["train"]}, seed=1)


def relations(journey: Journey) -> Plan:
    """One stack a kind of geography question; test entities are nobody's training entities."""
    records = records_of(journey.quality)
    sides = dealt(records, {"test": round(0.4 * len(records)), "rest": len(records)})
    by: dict[str, dict[str, list[Record]]] = {"test": defaultdict(list), "rest": defaultdict(list)}
    for side, rows in sides.items():
        for record in rows:
            by[side][record.domain].append(record)
    held = {domain: marked(rows[: SIZES["test"]], "test") for domain, rows in by["test"].items()}
    test = [record for rows in held.values() if len(rows) >= MIN_TEST for record in rows]
    made = {d: training(rows) for d, rows in sorted(by["rest"].items()) if len(rows) >= MIN_TRAIN}
    return Plan("base", made, test)


def answers(journey: Journey) -> Plan:
    """City → country, one stack for each half of the countries that were answered."""
    records = [r for r in records_of(journey.quality) if r.domain == "city_country" and r.answered is not None]
    counts = Counter(str(r.answered) for r in records)
    halves: dict[str, list[Record]] = {"these": [], "those": []}
    side: dict[str, str] = {}
    names = sorted(counts)
    shuffled = [names[i] for i in np.random.default_rng(0).permutation(len(names))]
    sizes = dict.fromkeys(halves, 0)
    for name in sorted(shuffled, key=lambda n: -counts[n]):  # the commonest first, each to the half that has fewer rows
        side[name] = min(sizes, key=lambda half: sizes[half])
        sizes[side[name]] += counts[name]
    for record in records:
        halves[side[str(record.answered)]].append(record)
    made: dict[str, Rows] = {}
    test: list[Record] = []
    for half, rows in halves.items():
        name = f"answers {half}"
        parts = dealt(rows, {"test": min(SIZES["test"], round(0.4 * len(rows))), "rest": len(rows)})
        made[name] = training(parts["rest"])
        test += [r.model_copy(update={"tested_on": name}) for r in parts["test"]]
    return Plan("base", made, test)


def arc_easy(journey: Journey, engine: str) -> Rows:
    """ARC-easy by the likelihood of the options: its training questions train, its test questions test."""
    found = {}
    for part, name in (("rest", "arc_easy/train"), ("test", "arc_easy")):
        task = load_task(name, data_dir=journey.data)
        found[part] = [r.model_copy(update={"task": "arc_easy"}) for r in journey.answers(engine, task, name)]
    return training(found["rest"]) | dealt(unrepeated(found["test"], found["rest"]), {"test": SIZES["test"]})


def own_task(journey: Journey, engine: str, name: str) -> Rows:
    if name == "geography" and engine == "base":
        records = records_of(journey.quality)
    else:
        records = journey.answers(engine, load_task(name, limit=QUESTIONS, seed=0), name)
    return dealt(records, {"test": SIZES["test"], "validation": SIZES["validation"], "train": SIZES["train"]})


def tasks(journey: Journey) -> Plan:
    made = {"geography": own_task(journey, "base", "geography"), "arc_easy": arc_easy(journey, "base")}
    test = [record for rows in made.values() for record in rows["test"]]
    for name in ABROAD:
        records = journey.answers("base", load_task(name, data_dir=journey.data), name)
        test += dealt(records, {"test": SIZES["test"]})["test"]
    return Plan("base", made, test)


def adapted(journey: Journey) -> Plan:
    made = {name: own_task(journey, "adapted", name) for name in ("geography", "arithmetic")}
    made["arc_easy"] = arc_easy(journey, "adapted")
    return Plan("adapted", made, [record for rows in made.values() for record in rows["test"]])


def rejecting(journey: Journey) -> Plan:
    """ARC-easy, the right option removed from half of the test questions; all of them are judged."""
    task = without_right_options(load_task("arc_easy", data_dir=journey.data), REJECTED)
    learned = arc_easy(journey, "base")
    known = [*learned["train"], *learned["validation"]]
    records = unrepeated(journey.answers("base", task, task.name), known)
    return Plan("base", {"arc_easy": learned}, marked(records, "test"))


PLANS = {"relations": relations, "answers": answers, "tasks": tasks, "adapted": adapted, "rejection": rejecting}


def score_rows(journey: Journey, part: str) -> None:
    """Train what each row of a matrix trains on, and read all its test rows; only the scored records are left."""
    plan = PLANS[part](journey)
    for name, rows in plan.rows.items():
        out = journey.row(part, name)
        if out.exists():
            continue
        folder = journey.of(part) / f"model-{name.replace(' ', '_')}"
        if not (folder / "confide.json").exists():
            options = ReaderOptions(READER if part == "rejection" else (), "correctness", 6 * 10**9, 0)
            progress = shown(f"{part} {name}")
            train_confidence(
                journey.who(plan.engine), rows["train"], rows["validation"], options, folder, progress=progress
            )
        model = load(folder)
        records = [*rows["train"], *rows["validation"], *plan.test]
        wanted = REJECTING if part == "rejection" else (*LEARNED, OPTION, *FREE)
        sources = [source for source in available(records, model) if source in wanted]
        found = score(records, sources, model=model, progress=shown(f"scoring {part} {name}"))
        write_records(out, [short(record) for record in found if record.split != "train"])
        shutil.rmtree(folder)


def short(record: Record) -> Record:
    """What judging needs of a scored record."""
    marks = {name: value for name in ("tested_on", "has_answer") if (value := extra(record, name)) is not None}
    kept = ("id", "task", "kind", "domain", "entity", "split", "choices", "reference", "correct", "answered",
            "finish", "model", "familiarity")  # fmt: skip
    data = {name: getattr(record, name) for name in kept} | marks
    return Record.model_validate(data | {"confidence": six_digits(record.confidence)})


def judged(journey: Journey, part: str) -> dict[str, Any] | None:
    """The block of a part, from the rows that are there."""
    prefix = f"scored-{part}-"
    paths = sorted(journey.folder.glob(f"{prefix}*.jsonl"))
    names = [path.stem.removeprefix(prefix) for path in paths]
    names = [name.replace("_", " ") if part == "answers" else name for name in names]
    trained = {name: read_records(path) for name, path in zip(names, paths, strict=True)}
    if not trained:
        return None
    if part != "rejection":
        first = next(iter(trained.values()))
        block = matrix(first, trained, seed=0, resamples=1000, min_rows=100)
        return None if block is None else block | {"familiarity": familiarity(trained)}
    records = next(iter(trained.values()))
    found = rejection(records, seed=0, resamples=1000)
    whole = [r for r in records if r.split == "test" and extra(r, "has_answer") is not False and r.correct is not None]
    y = np.array([bool(r.correct) for r in whole])
    right = {}
    for source in found["sources"] if found else ():
        values = np.array([np.nan if (v := r.confidence.get(source)) is None else v for r in whole], dtype=float)
        kept = np.isfinite(values)
        right[source] = float(auroc(values[kept], y[kept]))
    return None if found is None else found | {"right_against_wrong": right, "accuracy_with_answer": float(y.mean())}


def familiarity(trained: dict[str, list[Record]]) -> dict[str, dict[str, float]]:
    """Mean familiarity of each column's test rows to each row's stack."""
    out: dict[str, dict[str, float]] = {}
    several = len({r.task for rows in trained.values() for r in rows}) > 1
    for name, records in trained.items():
        found: dict[str, list[float]] = defaultdict(list)
        for r in records:
            if r.split == "test" and r.familiarity is not None:
                found[str(extra(r, "tested_on") or (r.task if several else r.domain))].append(r.familiarity)
        out[name] = {column: float(np.mean(values)) for column, values in found.items()}
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("runs/travel"))
    parser.add_argument("--quality", type=Path, default=Path("runs/quality"), help="work folder of quality.py")
    parser.add_argument("--data-dir", type=Path, default=None, help="question files; without it, the hub")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, separated by commas")
    parser.add_argument("--stage", choices=STAGES, default=None, help="do only this; default: everything")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "travel.json")
    arguments = parser.parse_args()
    stages = STAGES if arguments.stage is None else (arguments.stage,)
    parts = arguments.only.split(",")
    journey = Journey(arguments.work, arguments.quality, arguments.data_dir, works=stages != ("judged",))
    for part in parts:
        if "scored" in stages:
            score_rows(journey, part)
        elif "records" in stages:
            PLANS[part](journey)
    if "judged" in stages:
        result = {
            "schema": 1,
            "made_by": "benchmarks/travel.py",
            "machine": noted(journey.folder),
            "sizes": SIZES | {"adapted": QUESTIONS, "rejected": REJECTED},
            "parts": {part: block for part in PARTS if (block := judged(journey, part))},
        }
        write_text(arguments.out, json.dumps(result, indent=1) + "\n")
        write_tables(result)


if __name__ == "__main__":
    main()
