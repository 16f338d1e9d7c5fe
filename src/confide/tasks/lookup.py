"""What can be asked: tasks by name, and question files."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from pathlib import Path

from confide.errors import ConfideError
from confide.tasks import generated, hub
from confide.tasks.questions import FORMATS, Question, read_questions
from confide.tasks.task import Task, room


@dataclass(frozen=True)
class TaskInfo:
    """What ``confide tasks`` says of a task.

    ``size`` is the number of test questions (None: as many as wanted), ``source`` what it needs: ``offline`` (nothing
    but the package and its extras) or a data set of the hub.
    """

    name: str
    kind: str
    size: int | None
    licence: str
    source: str
    what: str


def available_tasks() -> list[TaskInfo]:
    """Every task that has a name, bundled ones first."""
    bundled = [
        TaskInfo(
            "geography",
            "short",
            None,
            "CC BY 4.0",
            "offline",
            "cities, countries, capitals, currencies, continents",
        ),
        TaskInfo(
            "arithmetic",
            "number",
            None,
            "Apache-2.0",
            "offline",
            "sums, differences, products of signed numbers",
        ),
        TaskInfo(
            f"{generated.PREFIX}NAME",
            "short",
            None,
            "Apache-2.0",
            "offline",
            "problems of a generator, difficulty as domain",
        ),
    ]
    return bundled + [
        TaskInfo(name, task.kind, task.size, task.licence, f"hub: {task.repository}", task.what)
        for name, task in hub.HUB_TASKS.items()
    ]


def load_task(name_or_path: str, *, limit: int | None = None, seed: int = 0, data_dir: Path | None = None) -> Task:
    """Load a task by name, or a question file.

    Args:
        limit: draw that many questions at random (by ``seed``); what has no more is taken whole.
        data_dir: a folder of question files that are named like tasks; it goes before bundled tasks and the hub.

    Raises:
        ConfideError: an unknown name, a bad file, a hub that cannot be reached.
    """
    if limit is not None and limit < 1:
        raise ConfideError(f"limit must be at least 1, not {limit}")
    if data_dir is not None:
        if not data_dir.is_dir():
            raise ConfideError(f"{data_dir} is not a folder")
        return _drawn(_from_folder(name_or_path, data_dir), limit, seed)
    if name_or_path == "geography":
        from confide.tasks.geography import geography, phrasings

        return Task(
            "geography",
            geography.geography_questions(limit, seed),
            geography.grade,
            geography.agrees,
            geography.prompt,
            phrasings.MAX_NEW_TOKENS,
        )
    if name_or_path == "arithmetic":
        from confide.tasks import arithmetic

        return Task(
            "arithmetic",
            arithmetic.arithmetic_questions(limit, seed),
            max_new_tokens=arithmetic.MAX_NEW_TOKENS,
            finish=arithmetic.with_error_kind,
        )
    if name_or_path.startswith(generated.PREFIX):
        return generated.generated_task(name_or_path, limit, seed)
    path = Path(name_or_path)
    if path.suffix in FORMATS or path.exists():
        return _drawn(_from_file(path), limit, seed)
    if hub.hub_name(name_or_path) is None:
        known = ", ".join(task.name for task in available_tasks())
        raise ConfideError(
            f"no task {name_or_path!r}: there is {known}, or give a question file ({', '.join(FORMATS)})"
        )
    return _drawn(hub.load_hub_task(name_or_path), limit, seed)


def _from_folder(name: str, data_dir: Path) -> Task:
    if hub.hub_name(name) is not None:
        return hub.load_hub_task(name, data_dir)
    path = hub.local_file(name, data_dir)
    if path is None:
        raise ConfideError(f"{data_dir} has no question file for {name!r} (such as {name.replace('/', '-')}.jsonl)")
    return replace(_from_file(path), name=name)


def _from_file(path: Path) -> Task:
    questions = read_questions(path)
    return Task(path.stem, questions, max_new_tokens=room(questions))


def _drawn(task: Task, limit: int | None, seed: int) -> Task:
    questions: list[Question] = task.questions
    if limit is None or limit >= len(questions):
        return task
    kept = sorted(random.Random(seed).sample(range(len(questions)), limit))
    return replace(task, questions=[questions[index] for index in kept])
