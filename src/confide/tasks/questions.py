"""Questions with their references, read from JSON lines, CSV or Parquet."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from confide.arguments import as_path
from confide.errors import ConfideError
from confide.files import read_parquet, read_text
from confide.records import Record, check_unique
from confide.tasks.numbers import number_text, parse_number, read_numbers

Kind = Literal["choice", "short", "number", "prompt"]
FORMATS = (".jsonl", ".csv", ".parquet")


class Question(BaseModel):
    """One question and its reference.

    ``answer`` is the index of the right choice (choice), the accepted strings (short; empty: unanswerable) or
    a number as text (number); a prompt has a ``label`` instead. Unknown keys are kept.
    """

    model_config = ConfigDict(extra="allow")

    id: str
    kind: Kind
    question: str
    choices: list[str] | None = None
    answer: int | list[str] | str | None = None
    domain: str = ""
    entity: str | None = None
    label: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _plain_values(cls, data: Any) -> Any:
        """Accept what files really hold: numeric ids and numbers, one accepted string, an index as text."""
        if not isinstance(data, dict):
            return data
        data = dict(data)
        if isinstance(data.get("id"), int):
            data["id"] = str(data["id"])
        answer, kind = data.get("answer"), data.get("kind")
        if kind == "short" and isinstance(answer, str | int | float) and not isinstance(answer, bool):
            data["answer"] = [str(answer)]
        elif kind == "number" and isinstance(answer, int | float) and not isinstance(answer, bool):
            data["answer"] = str(answer)
        elif kind == "choice" and isinstance(answer, str):
            try:
                data["answer"] = int(answer)
            except ValueError:
                raise ValueError(f"the answer of a choice is an index from 0, not {answer!r}") from None
        return data

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.id.strip():
            raise ValueError("the id is empty")
        if not self.question.strip():
            raise ValueError("the question is empty")
        if self.kind == "choice":
            count = len(self.choices or [])
            if count < 2:
                raise ValueError(f"a choice needs at least 2 choices, not {count}")
            if count > 26:
                raise ValueError(f"a choice has at most 26 choices (one letter each), not {count}")
            if self.answer is not None and not isinstance(self.answer, int):
                raise ValueError("the answer of a choice is the index of the right one")
            if isinstance(self.answer, int) and not 0 <= self.answer < count:
                raise ValueError(f"answer {self.answer} is out of range: {count} choices, counted from 0")
        elif self.kind == "short" and not isinstance(self.answer, list):
            raise ValueError("the answer of a short question is a list of accepted strings")
        elif self.kind == "number" and self.answer is not None:
            number = parse_number(self.answer) if isinstance(self.answer, str) else None
            if number is None:
                raise ValueError(f"the answer of a number question is a number, not {self.answer!r}")
        return self

    @property
    def asked(self) -> str:
        """The name of what is asked about ("" when unknown); a "kind:" in front of the entity is left off."""
        extra = (self.model_extra or {}).get("asked")
        if isinstance(extra, str):
            return extra
        return (self.entity or "").rpartition(":")[2]

    @property
    def accepted(self) -> list[str]:
        """The accepted strings of a short question ([] for the other kinds)."""
        return self.answer if isinstance(self.answer, list) else []


def read_questions(path: Path) -> list[Question]:
    """Read a question file; rows without an id are numbered after the file (``name-1``, ``name-2``, …).

    Raises `ConfideError` that names the file and the line of a bad row, such as one whose number has several readings.
    """
    path = as_path(path)
    readers = {".jsonl": _jsonl_rows, ".csv": _csv_rows, ".parquet": _parquet_rows}
    if path.suffix not in readers:
        raise ConfideError(f"{path}: question files end in {', '.join(readers)}")
    questions = []
    for row, (where, data) in enumerate(readers[path.suffix](path), 1):
        if data.get("id") in (None, ""):
            data["id"] = f"{path.stem}-{row}"
        try:
            questions.append(Question.model_validate(data))
        except ValidationError as error:
            problem = error.errors()[0]
            key = f"{problem['loc'][0]}: " if problem["loc"] else ""
            raise ConfideError(f"{path}, {where}: {key}{problem['msg'].removeprefix('Value error, ')}") from None
        if unclear := _unclear(questions[-1]):
            raise ConfideError(f"{path}, {where}: {unclear}")
    if not questions:
        raise ConfideError(f"{path} has no questions")
    check_unique((question.id for question in questions), str(path))
    return questions


def _unclear(question: Question) -> str | None:
    """What is wrong with a number that has several readings, by the question's id; None for any other reference."""
    if question.kind != "number" or not isinstance(question.answer, str):
        return None
    reading = read_numbers(question.answer)[0]
    if not reading.unclear:
        return None
    known = " or ".join(number_text(value) for value in (reading.value, *sorted(reading.others)))
    problem = f"may be {known}" if reading.others else "is no number that can be read"
    return (
        f"the answer {question.answer!r} of the question {question.id} {problem}: write its digits without separators"
    )


def _jsonl_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    # split("\n"), not splitlines(): a text may hold U+2028, which JSON allows inside a line.
    for number, line in enumerate(read_text(path).removeprefix("\ufeff").split("\n"), 1):
        if not line.strip():
            continue
        try:
            data = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deeply"
            raise ConfideError(f"{path}, line {number}: not valid JSON ({reason})") from None
        if not isinstance(data, dict):
            raise ConfideError(f"{path}, line {number}: a JSON object is wanted")
        yield f"line {number}", data


def _csv_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    reader = csv.DictReader(io.StringIO(read_text(path).removeprefix("\ufeff"), newline=""), strict=True)
    try:
        for row in reader:
            where = f"line {reader.line_num}"
            # DictReader's None: values beyond the last column, or columns that this row lacks.
            extra = None in row
            if extra or None in row.values():
                raise ConfideError(f"{path}, {where}: {'more' if extra else 'fewer'} values than columns")
            data: dict[str, Any] = {key: value for key, value in row.items() if value != ""}
            if data.get("kind") == "short":
                data.setdefault("answer", [])
            yield where, _with_lists(data)
    except csv.Error as error:
        raise ConfideError(f"{path}, line {reader.line_num}: not valid CSV ({error})") from None


def _parquet_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, row in enumerate(read_parquet(path), 1):
        # A column exists for every row, so an absent key arrives as None.
        yield f"row {number}", _with_lists({key: value for key, value in row.items() if value is not None})


def _with_lists(data: dict[str, Any]) -> dict[str, Any]:
    """A row of a table whose choices and accepted strings are lists, where its cells hold them as text."""
    if isinstance(data.get("choices"), str):
        data["choices"] = _listed(data["choices"], [part.strip() for part in data["choices"].split("|")])
    if data.get("kind") == "short" and isinstance(data.get("answer"), str):
        data["answer"] = _listed(data["answer"], [data["answer"]])
    return data


def _listed(text: str, otherwise: list[str]) -> list[str]:
    """The strings of a JSON list; ``otherwise`` where the text is none."""
    try:
        values = json.loads(text) if text.lstrip().startswith("[") else None
    except json.JSONDecodeError:
        return otherwise
    return [str(value) for value in values] if isinstance(values, list) else otherwise


def question_of(record: Record) -> Question | None:
    """The question that a record answers; None when it does not tell enough of it."""
    data = {
        **(record.model_extra or {}),
        "id": record.id,
        "kind": record.kind,
        "question": asked_of(record) or record.id,
        "choices": record.choices,
        "answer": record.reference,
        "domain": record.domain,
        "entity": record.entity,
    }
    try:
        return Question.model_validate(data)
    except ValidationError:
        return None


def asked_of(record: Record) -> str:
    """The question's text ("" when the record does not tell it)."""
    other = (record.model_extra or {}).get("question")
    return record.question or (other if isinstance(other, str) else "")
