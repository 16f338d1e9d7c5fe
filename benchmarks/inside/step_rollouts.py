"""Monte-Carlo value of every step: how often the model ends right when it goes on from there by chance.

    python -m benchmarks.inside.step_rollouts                 # runs/chains/rollouts.jsonl

From the end of each line of a test problem's greedy answer eight answers are sampled at temperature 1. The last line
needs none: its value is whether the answer is right.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import fmean

from benchmarks.common import Json
from benchmarks.inside.chains_model import adapted
from benchmarks.inside.trajectories import read_answers, step_ends, tested
from confide.engines.transformers.transformers_engine import TransformersEngine
from confide.records import Record
from confide.tasks import Task
from confide.tasks.chains import chains_task
from confide.tasks.questions import question_of

PROBLEMS, ROLLOUTS, TEMPERATURE = 300, 8, 1.0
PROBLEMS_AT_ONCE, BATCH = 20, 16
"""Problems that are written together, and of their steps, those that are sampled together."""

MORE = 16
"""Tokens that a continuation may have more than the greedy one: room for digits, not for more lines."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("runs/chains"))
    parser.add_argument("--problems", type=int, default=PROBLEMS)
    arguments = parser.parse_args()
    records = tested(read_answers(arguments.work))
    roll_out(adapted(arguments.work), records[: arguments.problems], arguments.work / "rollouts.jsonl")


def roll_out(engine: TransformersEngine, records: list[Record], path: Path) -> None:
    """Append a line a record to ``path``: its id, and the share of rollouts that end right from each of its steps."""
    known = set(read_rollouts(path))
    left = [record for record in records if record.id not in known]
    task = chains_task(1)
    for start in range(0, len(left), PROBLEMS_AT_ONCE):
        some = left[start : start + PROBLEMS_AT_ONCE]
        made = zip(some, _values(engine, task, some, len(known) + start), strict=True)
        lines = [{"id": record.id, "value": values} for record, values in made]
        with path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)
        print(f"  rollouts {start + len(some)}/{len(left)}", flush=True)


def read_rollouts(path: Path) -> dict[str, list[float]]:
    """The value of every step, by the record's id."""
    if not path.exists():
        return {}
    rows: list[Json] = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return {row["id"]: row["value"] for row in rows}


def _values(engine: TransformersEngine, task: Task, records: list[Record], seed: int) -> list[list[float]]:
    asked = [(i, end) for i, record in enumerate(records) for end in step_ends(record)[:-1]]
    left = [len(records[i].answer_ids) - end for i, end in asked]
    found: dict[tuple[int, int], float] = {}
    by_length = sorted(range(len(asked)), key=left.__getitem__)
    for at in range(0, len(by_length), BATCH):
        together = by_length[at : at + BATCH]
        some = [asked[row] for row in together]
        prompts = [engine.encode(records[i].messages) + records[i].answer_ids[:end] for i, end in some]
        room = max(left[row] for row in together) + MORE
        drawn = engine.sample(prompts, room, ROLLOUTS, temperature=TEMPERATURE, seed=seed * len(by_length) + at)
        for (i, end), samples in zip(some, drawn, strict=True):
            question = question_of(records[i])
            assert question is not None
            found[i, end] = fmean(bool(task.grade(question, sample.text).correct) for sample in samples)
    ends = [float(bool(record.correct)) for record in records]
    return [[*(found[i, end] for end in step_ends(record)[:-1]), ends[i]] for i, record in enumerate(records)]


if __name__ == "__main__":
    main()
