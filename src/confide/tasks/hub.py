"""Public data sets by name: from the Hugging Face hub, or from question files of the same names in a folder.

``NAME`` is the part that is for testing, ``NAME/PART`` another one (``arc_easy/train``); ``mmlu_SUBJECT`` is one
subject of MMLU, ``mmlu_law`` and ``mmlu_medicine`` those of a domain.

``hub_tasks.yaml`` lists the data sets. The functions at the end turn their rows into the fields of a `Question`, one
function per schema of rows; None means that the row has no reference and is left out.
"""

from __future__ import annotations

import ast
import functools
import json
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ImportString, TypeAdapter

from confide.data_files import ENDINGS
from confide.errors import ConfideError, missing_package
from confide.hub_lookup import hub_or_cache
from confide.tasks.questions import Kind, Question, read_questions
from confide.tasks.selfaware import selfaware_task
from confide.tasks.task import Task, plain_task
from confide.yaml_files import read_yaml_resource

Row = Mapping[str, Any]
Fields = dict[str, Any]

_FILE_ENDINGS = {"test": ("-test", ""), "validation": ("-validation", "-val", "-dev")}


class HubTask(BaseModel):
    """An entry of ``hub_tasks.yaml``, which says what each field is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    what: str
    kind: Kind
    size: int
    licence: str
    repository: str
    config: str | None = None
    parts: dict[str, str]
    rows: ImportString[Callable[[Row], Fields | None]]
    domain: str = ""


@functools.cache
def hub_tasks() -> dict[str, HubTask]:
    """Every data set by its name."""
    return TypeAdapter(dict[str, HubTask]).validate_python(read_yaml_resource("confide.tasks", "hub_tasks.yaml"))


def hub_name(name: str) -> tuple[str, str, str | None] | None:
    """A task's name as (data set, part, subject or domain of MMLU); None when no data set is called so."""
    base, _, part = name.partition("/")
    subject = None
    if base.startswith("mmlu_"):
        base, subject = "mmlu", base.removeprefix("mmlu_")
    return (base, part or "test", subject) if base in hub_tasks() else None


def load_hub_task(name: str, data_dir: Path | None = None) -> Task | None:
    """Load a data set by name, from ``data_dir`` where one is given, else from the hub; None where none is called so.

    In a folder the part ``test`` is ``NAME-test`` or ``NAME``, ``validation`` is ``NAME-validation``, ``-val`` or
    ``-dev``, any other ``NAME-PART``, with the ending of a question file.

    Raises:
        ConfideError: an unknown part or subject, no such file, or a hub that cannot be reached.
    """
    if (parsed := hub_name(name)) is None:
        return None
    base, part, subject = parsed
    left_out = 0
    if data_dir is None:
        questions, left_out = _from_hub(base, part)
    else:
        questions = questions_in_folder(data_dir, f"{base}/{part}")
    if subject is not None:
        subjects = sorted({str((q.model_extra or {}).get("subject")) for q in questions})
        questions = [q for q in questions if subject in ((q.model_extra or {}).get("subject"), q.domain)]
        if not questions:
            raise ConfideError(f"mmlu has no subject {subject!r}: there is law, medicine, {', '.join(subjects)}")
    make = selfaware_task if base == "selfaware" else plain_task
    return replace(make(name.removesuffix("/test"), questions), without_reference=left_out)


def questions_in_folder(data_dir: Path, name: str) -> list[Question]:
    """The questions of a task or of its part, from a file in a folder; raises `ConfideError` when there is no file."""
    base, _, part = name.partition("/")
    endings = _FILE_ENDINGS.get(part or "test", (f"-{part}",))
    paths = (data_dir / f"{base}{ending}{suffix}" for ending in endings for suffix in ENDINGS)
    if path := next((path for path in paths if path.is_file()), None):
        return read_questions(path)
    wanted = " or ".join(f"{base}{ending}.jsonl" for ending in endings)
    raise ConfideError(f"{data_dir} has no {wanted}, so no question file for {name!r}")


def questions_from(rows: Iterable[Row], spec: HubTask, prefix: str) -> list[Question]:
    """Questions from rows of a data set, numbered by row; rows without a reference are left out."""
    questions = []
    for number, row in enumerate(rows):
        fields = spec.rows(row)
        if fields is not None:
            data = {"id": f"{prefix}-{number}", "kind": spec.kind, "domain": spec.domain} | fields
            questions.append(Question.model_validate(data))
    return questions


def _from_hub(base: str, part: str) -> tuple[list[Question], int]:
    """The questions of a part, and how many of its rows are none."""
    spec = hub_tasks()[base]
    if part not in spec.parts:
        raise ConfideError(f"{base} has no part {part!r}: there is {', '.join(spec.parts)}")
    try:
        import datasets
    except ModuleNotFoundError as error:
        raise missing_package(error.name) from None
    try:
        with hub_or_cache(spec.repository, "dataset") as not_reached:
            rows = datasets.load_dataset(spec.repository, spec.config, split=spec.parts[part])
    except ConfideError:
        raise
    except Exception as error:  # what it raises without a network differs from version to version
        reason = not_reached or (str(error).strip().splitlines() or [type(error).__name__])[0]
        arguments = ", ".join(repr(value) for value in (spec.repository, spec.config) if value)
        raise ConfideError(
            f"cannot load {base} from the hub ({reason}); without a network give --data-dir with a folder that has "
            f"{base}-{part}.jsonl, or fill the cache where there is one: "
            f'python -c "import datasets; datasets.load_dataset({arguments})"'
        ) from None
    try:
        questions = questions_from(rows, spec, f"{base}-{part}")
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ConfideError(f"the rows of {spec.repository} have changed on the hub: {error!r}") from None
    return questions, len(rows) - len(questions)


def labelled_choices(row: Row) -> Fields | None:
    """``choices`` holds texts and their labels (A…, or 1…), ``answerKey`` the right one: ARC, OpenBookQA, CSQA."""
    labels = list(row["choices"]["label"])
    if row["answerKey"] not in labels:
        return None
    question = row["question_stem"] if "question_stem" in row else row["question"]
    return _choice(question, row["choices"]["text"], labels.index(row["answerKey"]))


_MEDICINE = (
    "anatomy clinical_knowledge college_biology college_medicine human_aging medical_genetics nutrition "
    "professional_medicine virology"
)
_LAW = "international_law jurisprudence professional_law"
_MMLU_DOMAINS = dict.fromkeys(_MEDICINE.split(), "medicine") | dict.fromkeys(_LAW.split(), "law")


def mmlu(row: Row) -> Fields:
    """``answer`` is the index; the domain marks law and medicine."""
    subject = str(row["subject"])
    more = {"subject": subject, "domain": _MMLU_DOMAINS.get(subject, "general")}
    return _choice(row["question"], row["choices"], int(row["answer"])) | more


def medqa(row: Row) -> Fields:
    """``options`` maps letters to texts, ``answer_idx`` is the right letter."""
    letters = sorted(letter for letter, text in row["options"].items() if text is not None)
    texts = [row["options"][letter] for letter in letters]
    return _choice(row["question"], texts, letters.index(row["answer_idx"]))


def truthfulqa(row: Row) -> Fields:
    """The first of ``mc1_targets`` is always right, so the order is drawn anew, by the question's own text."""
    targets = row["mc1_targets"]
    order = list(range(len(targets["choices"])))
    random.Random(str(row["question"])).shuffle(order)
    right = order.index(list(targets["labels"]).index(1))
    return _choice(row["question"], [targets["choices"][i] for i in order], right)


def casehold(row: Row) -> Fields:
    """A citing passage with a gap, five holdings; ``label`` is the right one's index."""
    text = f"{str(row['context']).strip()}\nWhich holding belongs in the place of <HOLDING>?"
    return _choice(text, row["endings"], int(row["label"]))


def gsm8k(row: Row) -> Fields:
    """``answer`` is reasoning that ends in "#### number"."""
    number = str(row["answer"]).rpartition("####")[2].strip().replace(",", "")
    return {"question": row["question"], "answer": number}


def svamp(row: Row) -> Fields:
    """A story (``Body``) and what is asked about it (``Question``); ``Answer`` is a number as text ("51.0")."""
    body = str(row["Body"]).strip()
    text = f"{body}{'' if body.endswith(('.', '?', '!')) else '.'} {str(row['Question']).strip()}"
    value = float(row["Answer"])
    answer = str(int(value)) if value.is_integer() else str(value)
    return {"question": text, "answer": answer, "operation": row.get("Type")}


def popqa(row: Row) -> Fields:
    """``possible_answers`` is JSON; the relation is the domain, the subject the entity."""
    more = {"domain": str(row["prop"]), "entity": f"subject:{row['subj_id']}"}
    more |= {"asked": row["subj"], "popularity": row["s_pop"]}
    return _short(row["question"], json.loads(row["possible_answers"])) | more


def triviaqa(row: Row) -> Fields | None:
    """``answer`` has a value and its aliases."""
    answer = row["answer"]
    if not answer["value"] or answer["value"] == "<unk>":
        return None
    return _short(row["question"], [answer["value"], *answer["aliases"]])


def simpleqa(row: Row) -> Fields:
    """``metadata`` is a Python dictionary as text, whose topic is the domain."""
    domain = str(ast.literal_eval(row["metadata"])["topic"])
    return _short(row["problem"], [row["answer"]]) | {"domain": domain}


def selfaware(row: Row) -> Fields:
    """``answer`` is null where nobody can know."""
    accepted = (row["answer"] or []) if row["answerable"] else []
    return _short(row["question"], accepted) | {"domain": "answerable" if row["answerable"] else "unanswerable"}


def harmful_prompt(row: Row) -> Fields:
    """``prompt`` asks for something harmful; HarmBench says of what kind in ``category``."""
    return _prompt(row["prompt"], "harmful", row.get("category"))


def harmless_prompt(row: Row) -> Fields:
    """``instruction`` asks for something harmless, ``instances`` hold what it is about."""
    instances = list(row["instances"])
    given = instances[0]["input"] if instances else ""
    return _prompt(f"{row['instruction']}\n\n{given}".strip(), "harmless")


def xstest(row: Row) -> Fields:
    """``label`` is safe or unsafe, ``type`` a kind of prompt."""
    return _prompt(row["prompt"], {"safe": "harmless", "unsafe": "harmful"}[row["label"]], row["type"])


def _prompt(text: str, label: str, domain: Any = None) -> Fields:
    return {"question": text, "label": label} | ({"domain": str(domain)} if domain else {})


def _choice(question: str, choices: Iterable[Any], answer: int) -> Fields:
    return {"question": question, "choices": [str(text) for text in choices], "answer": answer}


def _short(question: str, accepted: Iterable[Any]) -> Fields:
    return {"question": question, "answer": list(dict.fromkeys(map(str, accepted)))}
