"""Annotation on a cluster: the driver makes the prompts and the blocks, workers answer, grade and write.

Blocks are the batches of a run on one machine, whose prompts start with the same tokens there, so that answers are the
same ones to the token. They follow from the questions, and from how many the first run put into one: a later run may
answer them in smaller batches.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from confide.annotation.asked_question import AnswerBy, AskedQuestion
from confide.annotation.question_answers import OPTIONS_PER_QUESTION, choose, generate, question_batches
from confide.annotation.run_checks import check_same_run, check_wanted
from confide.cluster.ray_cluster import Block, Cluster
from confide.cluster.run_folder import RunFolder
from confide.engines.engine import Sampling, check_context
from confide.errors import ConfideError
from confide.files import locked
from confide.hashing import key_of_text, sha256_of_rows
from confide.progress import Progress
from confide.records import Record, read_records, write_records
from confide.tasks.marking import check_marked, mark

if TYPE_CHECKING:
    from confide.engines.transformers.transformers_engine import TransformersEngine
    from confide.tasks import Task

Load = Callable[[str | None], "TransformersEngine"]
"""Loads the model, on a device (None: the best there is)."""


@dataclass(frozen=True)
class QuestionBlock:
    """What a worker is given: the questions of a batch, what they share with others, and the file of their records."""

    number: int
    questions: list[AskedQuestion]
    prefix: list[int]
    file: Path


@dataclass(frozen=True)
class Answering:
    """How blocks are answered; called in a worker, it loads the model and gives what does it.

    Attributes:
        most: questions of a full block; answered in batches of ``batch_size``.
    """

    load: Load
    by: dict[str, str]
    task: Task
    sampling: Sampling
    batch_size: int
    most: int

    def __call__(self) -> Callable[[QuestionBlock], None]:
        """Load the model; raises `ConfideError` where it is another one on this machine."""
        engine = self.load(None)
        if (found := engine.identity) != self.by["identity"]:
            raise ConfideError(f"a Ray worker has another model ({found}) than the driver ({self.by['identity']})")
        return lambda block: self._answer(engine, block)

    def _answer(self, engine: TransformersEngine, block: QuestionBlock) -> None:
        engine.forward.keep_prefixes([block.prefix])
        chosen = bool(block.questions[0].options)
        size = max(1, self.batch_size // OPTIONS_PER_QUESTION) if chosen else self.batch_size
        batches, records = -(-self.most // size), list[Record]()
        for place, start in enumerate(range(0, len(block.questions), size)):
            some = block.questions[start : start + size]
            if chosen:
                records += choose(engine, self.by, self.task, some, {})
            else:
                number = block.number * batches + place
                records += generate(engine, self.by, self.task, some, self.sampling, number)
        write_records(block.file, records)


def annotate_on_ray(
    cluster: Cluster,
    load: Load,
    task: Task,
    out: Path,
    *,
    splits: Mapping[str, str] | None = None,
    answer_by: AnswerBy | None = None,
    samples: int = 0,
    temperature: float = 1.0,
    batch_size: int = 64,
    seed: int = 0,
    progress: Progress | None = None,
) -> int:
    """Answer every question of ``task`` on the workers of ``cluster``, into the folder ``out``.

    Arguments are those of `confide.annotation.annotate`.

    Returns:
        How many records are new.

    Raises:
        ConfideError: what `confide.annotation.annotate` refuses; ``out`` holds other files; workers died.
    """
    engine = load("cpu")
    named = [q for q in task.questions if splits is None or q.id in splits]
    asked = [AskedQuestion.of(engine, task, q, splits, answer_by) for q in named]
    check_wanted(task, asked, answer_by, samples)
    check_context({q.id: len(q.prompt) + q.room for q in asked}, engine.context)
    sampling = Sampling(samples, temperature, seed)
    folder = RunFolder(out.absolute())
    most = int(folder.known().get("block", batch_size))
    with locked(folder.path):
        done = _done(folder, task, {q.id: q for q in asked})
        by = {"model": engine.name, "identity": engine.identity}
        by = check_same_run(done, by, task, {q.id: q for q in asked}, sampling, out)
        questions = sha256_of_rows([q.id, q.prompt] for q in asked)
        folder.begin({"verb": "annotate", "task": task.name, "questions": questions, "block": most})
        blocks = list(_blocks(engine, asked, most, folder.path))
        del engine
        answering = Answering(load, by, replace(task, questions=[]), sampling, min(batch_size, most), most)
        left = [block for block in blocks if not block.file.exists()]
        seen, began, new = len(asked) - sum(block.rows for block in left), time.monotonic(), 0
        for block in cluster.run(answering, left):
            new += block.rows
            if progress:
                rate = new / (time.monotonic() - began)
                progress(seen + new, len(asked), f"{rate:.1f} questions/s, {cluster.workers} workers")
    check_marked([record for record in _records(folder) if record.grade_error], out)
    return new


def _records(folder: RunFolder) -> list[Record]:
    return read_records(folder.path) if folder.records else []


def _done(folder: RunFolder, task: Task, asked: Mapping[str, AskedQuestion]) -> list[Record]:
    """The records that are there; those whose grader failed are graded again."""
    records = _records(folder)
    if any(record.grade_error and record.id in asked for record in records):
        for path in folder.records:
            rows = read_records(path)
            if any(row.grade_error for row in rows):
                write_records(path, [mark(task, asked[r.id].question, r) if r.grade_error else r for r in rows])
        records = _records(folder)
    return records


def _blocks(engine: TransformersEngine, asked: Sequence[AskedQuestion], most: int, folder: Path) -> Iterator[Block]:
    """The blocks of at most ``most`` questions in the order of a run on one machine, each with its file."""
    place = 0
    for chosen, size in ((False, most), (True, max(1, most // OPTIONS_PER_QUESTION))):
        some = [question for question in asked if bool(question.options) == chosen]
        for number, questions in enumerate(question_batches(engine, some, size)):
            prefix = engine.forward.shared_prefix([question.prompt for question in questions])[0]
            key = key_of_text("\n".join(question.id for question in questions))
            file = folder / f"{place:06d}-{key}.parquet"
            yield Block(place, len(questions), QuestionBlock(number, questions, prefix, file), file)
            place += 1
