"""The registry of tasks: every task that has a name, and question files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from confide.arguments import as_path, shown, whole_number
from confide.data_files import ENDINGS
from confide.errors import ConfideError
from confide.tasks import hub
from confide.tasks.arithmetic import arithmetic_task
from confide.tasks.extraction import extraction_task
from confide.tasks.generated import PREFIX, generated_task
from confide.tasks.geography import geography_task
from confide.tasks.questions import read_questions
from confide.tasks.red_flag.prompt_sets import red_flag
from confide.tasks.red_flag.red_flag_task import NAME as RED_FLAG
from confide.tasks.task import Task, drawn, plain_task


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


_BUNDLED = [
    TaskInfo("geography", "short", None, "CC BY 4.0", "offline", "cities, countries, capitals, currencies, continents"),
    TaskInfo("arithmetic", "number", None, "Apache-2.0", "offline", "sums, differences, products of signed numbers"),
    TaskInfo("extraction", "fields", None, "Apache-2.0", "offline", "fields of a described person, event or product"),
    TaskInfo(f"{PREFIX}NAME", "short", None, "Apache-2.0", "offline", "problems of a generator, difficulty as domain"),
    TaskInfo(RED_FLAG, "prompt", None, "MIT and others", "hub: several", "for red flags: prompts, forced openings"),
]


def available_tasks() -> list[TaskInfo]:
    """Every task that has a name, bundled ones first."""
    return _BUNDLED + [
        TaskInfo(name, task.kind, task.size, task.licence, f"hub: {task.repository}", task.what)
        for name, task in hub.hub_tasks().items()
    ]


def load_task(
    name_or_path: str | Path, *, limit: int | None = None, seed: int = 0, data_dir: Path | None = None
) -> Task:
    """Load a task by name, or a question file.

    Args:
        name_or_path: a name that `available_tasks` lists (``NAME/train``: another part), or the path of a file.
        limit: draw that many questions at random (by ``seed``); what has no more is taken whole.
        seed: of the draw, and of questions that are made by a generator.
        data_dir: a folder of question files that are named like tasks; it goes before bundled tasks and the hub.

    Returns:
        The task with its questions.

    Raises:
        ConfideError: an unknown name, a bad file, a hub that cannot be reached.

    >>> load_task("arithmetic", limit=1).questions[0].kind
    'number'
    """
    if not isinstance(name_or_path, str | Path):
        raise ConfideError(f"a task is a name or the path of a question file, not {shown(name_or_path)}")
    name_or_path = str(name_or_path)
    if limit is not None:
        limit = whole_number("limit", limit)
    if data_dir is not None:
        data_dir = as_path(data_dir)
        if not data_dir.is_dir():
            raise ConfideError(f"{data_dir} is not a folder")
    base, _, part = name_or_path.partition("/")
    if base == RED_FLAG:
        return drawn(red_flag(part or "train", data_dir=data_dir, seed=seed), limit, seed)
    if data_dir is not None:
        loaded = hub.load_hub_task(name_or_path, data_dir)
        task = loaded or plain_task(name_or_path, hub.questions_in_folder(data_dir, name_or_path))
        return drawn(task, limit, seed)
    if name_or_path == "geography":
        return geography_task(limit, seed)
    if name_or_path == "arithmetic":
        return arithmetic_task(limit, seed)
    if name_or_path == "extraction":
        return extraction_task(limit, seed)
    if name_or_path.startswith(PREFIX):
        return generated_task(name_or_path, limit, seed)
    path = Path(name_or_path)
    if path.suffix in ENDINGS or path.exists():
        return drawn(plain_task(path.stem, read_questions(path)), limit, seed)
    if loaded := hub.load_hub_task(name_or_path):
        return drawn(loaded, limit, seed)
    known = ", ".join(info.name for info in available_tasks())
    raise ConfideError(f"no task {name_or_path!r}: there is {known}, or give a question file ({', '.join(ENDINGS)})")
