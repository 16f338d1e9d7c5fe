"""Public data sets by name: from the Hugging Face hub, or from question files of the same names in a folder.

``NAME`` is the part that is for testing, ``NAME/PART`` another one (``arc_easy/train``); ``mmlu_SUBJECT`` is one
subject of MMLU, ``mmlu_law`` and ``mmlu_medicine`` those of a domain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from confide.errors import ConfideError
from confide.tasks import hub_rows, selfaware
from confide.tasks.hub_rows import Convert
from confide.tasks.questions import FORMATS, Question, read_questions
from confide.tasks.task import Task, room


def _as_asked(task: Task) -> Task:
    return task


@dataclass(frozen=True)
class HubTask:
    """A data set on the hub: where it lies, its parts and how a row becomes a question.

    ``parts`` maps confide's names (``test`` first: what there are public references for) to the hub's splits;
    ``asked`` changes how it is asked and graded.
    """

    what: str
    kind: str
    size: int
    licence: str
    repository: str
    convert: Convert
    config: str | None = None
    parts: Mapping[str, str] = field(default_factory=lambda: {"test": "test", "train": "train"})
    asked: Callable[[Task], Task] = _as_asked


_ALL = {"test": "test", "validation": "validation", "train": "train"}
_DEVELOPED = {"test": "validation", "train": "train"}
_SCIENCE = hub_rows.labelled_choices("science")


def _selfaware(task: Task) -> Task:
    return Task(
        task.name,
        task.questions,
        selfaware.grade,
        selfaware.agrees,
        selfaware.prompt,
        selfaware.MAX_NEW_TOKENS,
    )


HUB_TASKS: dict[str, HubTask] = {
    "arc_easy": HubTask(
        "school science, easy", "choice", 2376, "CC BY-SA 4.0", "allenai/ai2_arc", _SCIENCE, "ARC-Easy", _ALL
    ),
    "arc_challenge": HubTask(
        "school science, hard", "choice", 1172, "CC BY-SA 4.0", "allenai/ai2_arc", _SCIENCE, "ARC-Challenge", _ALL
    ),
    "openbookqa": HubTask(
        "elementary science",
        "choice",
        500,
        "Apache-2.0",
        "allenai/openbookqa",
        hub_rows.labelled_choices("science", "question_stem"),
        "main",
        _ALL,
    ),
    "commonsenseqa": HubTask(
        "everyday knowledge",
        "choice",
        1221,
        "MIT",
        "tau/commonsense_qa",
        hub_rows.labelled_choices("commonsense"),
        parts=_DEVELOPED,  # the references of its test split are not public
    ),
    "mmlu": HubTask(
        "57 subjects; domains law, medicine, general",
        "choice",
        14042,
        "MIT",
        "cais/mmlu",
        hub_rows.mmlu,
        "all",
        {"test": "test", "validation": "validation", "dev": "dev"},
    ),
    "medqa": HubTask(
        "medical licensing examination (USMLE)",
        "choice",
        1273,
        "CC BY 4.0",
        "GBaker/MedQA-USMLE-4-options",
        hub_rows.medqa,
    ),
    "casehold": HubTask(
        "holdings of cited cases (law)",
        "choice",
        3600,
        "CC BY 4.0",
        "coastalcph/lex_glue",
        hub_rows.casehold,
        "case_hold",
        _ALL,
    ),
    "truthfulqa": HubTask(
        "common misconceptions",
        "choice",
        817,
        "Apache-2.0",
        "truthfulqa/truthful_qa",
        hub_rows.truthfulqa,
        "multiple_choice",
        {"test": "validation"},
    ),
    "gsm8k": HubTask("school mathematics in words", "number", 1319, "MIT", "openai/gsm8k", hub_rows.gsm8k, "main"),
    "svamp": HubTask("one-step arithmetic in words", "number", 300, "MIT", "ChilleD/SVAMP", hub_rows.svamp),
    "popqa": HubTask(
        "facts about rare and popular entities",
        "short",
        14267,
        "MIT",
        "akariasai/PopQA",
        hub_rows.popqa,
        parts={"test": "test"},
    ),
    "triviaqa": HubTask(
        "trivia, without the passages",
        "short",
        17944,
        "not stated",
        "mandarjoshi/trivia_qa",
        hub_rows.triviaqa,
        "rc.nocontext",
        _DEVELOPED,
    ),
    "simpleqa": HubTask(
        "short facts that are hard to know",
        "short",
        4326,
        "MIT",
        "basicv8vc/SimpleQA",
        hub_rows.simpleqa,
        parts={"test": "test"},
    ),
    "selfaware": HubTask(
        "answerable and unanswerable questions",
        "short",
        3369,
        "CC BY-SA 4.0",
        "JesusCrist/selfAware",
        hub_rows.selfaware,
        parts={"test": "train"},
        asked=_selfaware,
    ),
}

_FILE_PARTS = {"test": ("-test", ""), "validation": ("-validation", "-val", "-dev")}


def hub_name(name: str) -> tuple[str, str, str | None] | None:
    """A task's name as (data set, part, subject or domain of MMLU); None when no data set is called so."""
    base, _, part = name.partition("/")
    subject = None
    if base.startswith("mmlu_"):
        base, subject = "mmlu", base.removeprefix("mmlu_")
    return (base, part or "test", subject) if base in HUB_TASKS else None


def load_hub_task(name: str, data_dir: Path | None = None) -> Task:
    """Load a data set by name, from ``data_dir`` where one is given, else from the hub.

    In a folder the part ``test`` is ``NAME-test`` or ``NAME``, ``validation`` is ``NAME-validation``, ``-val`` or
    ``-dev``, any other ``NAME-PART``, with the ending of a question file.

    Raises:
        ConfideError: an unknown part or subject, no such file, or a hub that cannot be reached.
    """
    found = hub_name(name)
    assert found is not None
    base, part, subject = found
    known = HUB_TASKS[base]
    questions = _from_hub(base, part, known) if data_dir is None else _from_folder(base, part, data_dir)
    if subject is not None:
        subjects = sorted({str((q.model_extra or {}).get("subject")) for q in questions})
        questions = [q for q in questions if subject in ((q.model_extra or {}).get("subject"), q.domain)]
        if not questions:
            raise ConfideError(f"mmlu has no subject {subject!r}: there is law, medicine, {', '.join(subjects)}")
    return known.asked(Task(name.removesuffix("/test"), questions, max_new_tokens=room(questions)))


def converted(rows: Iterable[Mapping[str, Any]], convert: Convert, prefix: str) -> list[Question]:
    """Questions from rows of a data set, numbered by row; rows without a reference are left out."""
    questions = []
    for number, row in enumerate(rows):
        fields = convert(row)
        if fields is not None:
            questions.append(Question(id=f"{prefix}-{number}", **fields))
    return questions


def local_file(name: str, data_dir: Path) -> Path | None:
    """The question file of a task or of its part in a folder; None when there is none."""
    base, _, part = name.partition("/")
    endings = _FILE_PARTS.get(part or "test", (f"-{part}",))
    paths = (data_dir / f"{base}{ending}{suffix}" for ending in endings for suffix in FORMATS)
    return next((path for path in paths if path.is_file()), None)


def _from_folder(base: str, part: str, data_dir: Path) -> list[Question]:
    path = local_file(f"{base}/{part}", data_dir)
    if path is None:
        wanted = " or ".join(f"{base}{ending}.jsonl" for ending in _FILE_PARTS.get(part, (f"-{part}",)))
        raise ConfideError(f"{data_dir} has no {wanted}")
    return read_questions(path)


def _from_hub(base: str, part: str, known: HubTask) -> list[Question]:
    if part not in known.parts:
        raise ConfideError(f"{base} has no part {part!r}: there is {', '.join(known.parts)}")
    try:
        import datasets
    except ImportError:
        raise ConfideError("data sets of the hub need the package datasets: pip install 'confide[model]'") from None
    arguments = ", ".join(repr(value) for value in (known.repository, known.config) if value)
    try:
        rows = datasets.load_dataset(known.repository, known.config, split=known.parts[part])
    except Exception as error:  # what it raises without a network differs from version to version
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ConfideError(
            f"cannot load {base} from the hub ({reason}); without a network give --data-dir with a folder that has "
            f"{base}-{part}.jsonl, or fill the cache where there is one: "
            f'python -c "import datasets; datasets.load_dataset({arguments})"'
        ) from None
    try:
        return converted(rows, known.convert, f"{base}-{part}")
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ConfideError(f"the rows of {known.repository} have changed on the hub: {error!r}") from None
