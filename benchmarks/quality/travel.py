"""Does a confidence hold where it was not trained? Matrices of training against test, and questions without an answer.

    python -m benchmarks.quality.travel --data-dir DIR    # everything; a killed run continues
    python -m benchmarks.quality.travel --stage judged    # judges what has been scored, writes the tables

Four matrices of one kind: rows of a matrix are trained stacks (`train_confidence`, then `score`), columns test rows
that no stack has seen an entity of. `relations`: a stack for each kind of geography question; `answers`: one for each
half of the countries answered; `tasks`: geography and ARC-easy, tested on medicine and law too; `adapted`: geography,
ARC-easy and arithmetic, all answered by the copy of the bundled model that knows some (`arithmetic_model.py`). And
`rejection`: ARC-easy with the right option taken from half of the questions. The model's work is the stages `records`
and `scored` (what is left is `scored-PART-ROW.jsonl`); `--only` shares it out among processes.
"""

from __future__ import annotations

import shutil
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from benchmarks.common import Json, show_progress, write_result
from benchmarks.quality import travel_tables
from benchmarks.quality.study import Study, dealt, geography_records, of_split, unrepeated
from confide.evaluation.breakdowns import rejection
from confide.evaluation.matrix import matrix
from confide.evaluation.record_columns import Rows, extra
from confide.methods.catalogue import available
from confide.methods.free import FREE, OPTION
from confide.methods.method import Scope
from confide.methods.scoring import score
from confide.metrics import auroc
from confide.model import load
from confide.records import Record, read_records, write_records
from confide.tasks import Task, load_task
from confide.tasks.task import without_right_options

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
REJECTING = (*LEARNED, "p_true", "question_only", "answer_only", OPTION, *FREE)
REJECTED = 0.5

BySplit = dict[str, list[Record]]


@dataclass(frozen=True)
class Plan:
    """A matrix: what each row trains on (train and validation rows by name), and all test rows."""

    engine: str
    rows: dict[str, BySplit]
    test: list[Record] = field(default_factory=list)


def answered(study: Study, engine: str, task: Task) -> list[Record]:
    """A task's records by the base model or its adapted copy."""
    return study.annotated(engine, task, study.of(engine) / f"{task.name.replace('/', '-')}.jsonl")


def training(rows: Sequence[Record]) -> BySplit:
    """Validation and training rows."""
    return dealt(rows, {"validation": min(SIZES["validation"], len(rows) // 5), "train": SIZES["train"]}, seed=1)


def relations(study: Study) -> Plan:
    """One stack per kind of geography question; no stack has trained on a test entity."""
    records = geography_records(study.quality)
    sides = dealt(records, {"test": round(0.4 * len(records)), "rest": len(records)})
    by: dict[str, dict[str, list[Record]]] = {side: defaultdict(list) for side in sides}
    for side, rows in sides.items():
        for record in rows:
            by[side][record.domain].append(record)
    held = [rows[: SIZES["test"]] for rows in by["test"].values() if len(rows) >= MIN_TEST]
    made = {d: training(rows) for d, rows in sorted(by["rest"].items()) if len(rows) >= MIN_TRAIN}
    return Plan("base", made, [record for rows in held for record in rows])


def answers(study: Study) -> Plan:
    """City → country, one stack for each half of the countries that were answered."""
    records = [r for r in geography_records(study.quality) if r.domain == "city_country" and r.answered is not None]
    counts = Counter(str(r.answered) for r in records)
    halves: dict[str, list[Record]] = {"these": [], "those": []}
    for name, _ in counts.most_common():  # the commonest first, each to the half that has fewer rows
        min(halves.values(), key=len).extend(r for r in records if r.answered == name)
    made: dict[str, BySplit] = {}
    test: list[Record] = []
    for half, rows in halves.items():
        name = f"answers {half}"
        parts = dealt(rows, {"test": min(SIZES["test"], round(0.4 * len(rows))), "rest": len(rows)})
        made[name] = training(parts["rest"])
        test += [r.model_copy(update={"tested_on": name}) for r in parts["test"]]
    return Plan("base", made, test)


def arc_easy(study: Study, engine: str) -> BySplit:
    """ARC-easy by the likelihood of the options: its training questions train, its test questions test."""
    found = study.arc_easy(engine)
    return training(found["train"]) | dealt(found["test"], {"test": SIZES["test"]})


def own_task(study: Study, engine: str, name: str) -> BySplit:
    if name == "geography" and engine == "base":
        records = geography_records(study.quality)
    else:
        records = answered(study, engine, load_task(name, limit=QUESTIONS, seed=0))
    return dealt(records, {part: SIZES[part] for part in ("test", "validation", "train")})


def tasks(study: Study) -> Plan:
    made = {"geography": own_task(study, "base", "geography"), "arc_easy": arc_easy(study, "base")}
    test = [record for rows in made.values() for record in rows["test"]]
    for name in ABROAD:
        test += dealt(answered(study, "base", load_task(name, data_dir=study.data)), {"test": SIZES["test"]})["test"]
    return Plan("base", made, test)


def adapted(study: Study) -> Plan:
    made = {name: own_task(study, "adapted", name) for name in ("geography", "arithmetic")}
    made["arc_easy"] = arc_easy(study, "adapted")
    return Plan("adapted", made, [record for rows in made.values() for record in rows["test"]])


def rejecting(study: Study) -> Plan:
    """ARC-easy, the right option removed from half of the test questions; all of them are judged."""
    task = without_right_options(load_task("arc_easy", data_dir=study.data), REJECTED)
    learned = arc_easy(study, "base")
    records = unrepeated(answered(study, "base", task), [*learned["train"], *learned["validation"]])
    return Plan("base", {"arc_easy": learned}, of_split(records, "test"))


PLANS = {"relations": relations, "answers": answers, "tasks": tasks, "adapted": adapted, "rejection": rejecting}


def score_rows(study: Study, part: str) -> None:
    """Train what each row of a matrix trains on, and read all its test rows; only the scored records are left."""
    plan = PLANS[part](study)
    rejects = part == "rejection"
    for name, rows in plan.rows.items():
        out = study.scored(part, name)
        if out.exists():
            continue
        folder = study.of(part) / f"model-{name.replace(' ', '_')}"
        model = load(study.train(plan.engine, rows, folder))
        records = [*rows["train"], *rows["validation"], *plan.test]
        wanted = REJECTING if rejects else (*LEARNED, OPTION, *FREE)
        sources = [source for source in available(Scope(records, model)) if source in wanted]
        found = score(records, sources, model=model, progress=show_progress(f"scoring {part} {name}"))
        write_records(out, [record for record in found if record.split != "train"])
        shutil.rmtree(folder)


def judged(study: Study, part: str) -> Json | None:
    """The block of a part, from the rows that are there."""
    prefix = f"scored-{part}-"
    paths = sorted(study.folder.glob(f"{prefix}*.jsonl"))
    names = [path.stem.removeprefix(prefix) for path in paths]
    names = [name.replace("_", " ") if part == "answers" else name for name in names]
    trained = {name: read_records(path) for name, path in zip(names, paths, strict=True)}
    if not trained:
        return None
    records = next(iter(trained.values()))
    if part != "rejection":
        block = matrix(records, trained, seed=0, resamples=1000, min_rows=100)
        return block and block | {"familiarity": familiarity(trained)}
    found = rejection(records, seed=0, resamples=1000)
    if found is None:
        return None
    whole = [r for r in records if r.split == "test" and extra(r, "has_answer") is not False and r.correct is not None]
    rows, right = Rows(whole, {}, "test"), {}
    for source in found["sources"]:
        kept = rows.present(source)
        right[source] = auroc(rows.confidence(source)[kept], rows.correct[kept])
    return found | {"right_against_wrong": right, "accuracy_with_answer": float(rows.correct.mean())}


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
    options = Study.parser(__doc__, "travel", STAGES)
    options.add_argument("--only", default=",".join(PARTS), help="parts, separated by commas")
    arguments = options.parse_args()
    stages = STAGES if arguments.stage is None else (arguments.stage,)
    study = Study.open(arguments)
    for part in arguments.only.split(","):
        if "scored" in stages:
            score_rows(study, part)
        elif "records" in stages:
            PLANS[part](study)
    if "judged" in stages:
        blocks = {part: block for part in PARTS if (block := judged(study, part))}
        result = {
            "machine": study.machine(),
            "sizes": SIZES | {"adapted": QUESTIONS, "rejected": REJECTED},
            "parts": {part: travel_tables.slim(block) for part, block in blocks.items()},
        }
        travel_tables.write(write_result(arguments.out, "quality/travel.py", result))


if __name__ == "__main__":
    main()
