"""Questions with their references, read from JSON lines, a JSON array, CSV or Parquet."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal, Self, TypeGuard

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from confide.arguments import as_path
from confide.data_files import bar_list, check_unique, json_value, no_name, plain_number, read_table
from confide.errors import ConfideError
from confide.records import Message, Record
from confide.tasks.conversations import check_conversation, problem_of
from confide.tasks.numbers import number_text, parse_number, read_numbers

Kind = Literal["choice", "short", "number", "fields", "prompt"]


class Question(BaseModel):
    """One question and its reference.

    ``answer`` is the index of the right choice (choice), the accepted strings (short; empty: unanswerable), a number
    as text (number) or an object of the right values (fields); a prompt has a ``label`` instead. Unknown keys are kept.

    A conversation has ``messages`` in place of ``question``, which is then the text of its last turn, the user's.

    ``opening`` holds words that the answer is made to start with; what the model writes behind them is the answer.
    """

    model_config = ConfigDict(extra="allow")

    id: str
    kind: Kind
    question: str = ""
    messages: list[Message] | None = None
    choices: list[str] | None = None
    answer: int | list[str] | str | dict[str, Any] | None = None
    domain: str = ""
    entity: str | None = None
    label: str | None = None
    opening: str = ""

    @model_validator(mode="before")
    @classmethod
    def _plain_values(cls, data: Any) -> Any:
        """Accept what files really hold: numeric ids and numbers, one accepted string, a choice by letter."""
        if not isinstance(data, dict):
            return data
        data = _asked_once(data)
        if data.get("domain", "") is None:
            del data["domain"]
        if _is_number(identifier := data.get("id")):
            data["id"] = plain_number(identifier)
        answer, kind = data.get("answer"), data.get("kind")
        if isinstance(choices := data.get("choices"), list):
            data["choices"] = [plain_number(choice) if _is_number(choice) else choice for choice in choices]
        if kind == "short" and (isinstance(answer, str | list) or _is_number(answer)):
            several = answer if isinstance(answer, list) else [answer]
            data["answer"] = [plain_number(text) if _is_number(text) else text for text in several]
            if not all(isinstance(text, str) for text in data["answer"]):
                raise ValueError("the answer of a short question is a list of accepted strings")
        elif kind == "number" and _is_number(answer):
            data["answer"] = str(answer)
        elif kind == "choice" and answer is not None:
            data["answer"] = _index(answer, data.get("choices"))
        return data

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.id.strip():
            raise ValueError("the id is empty")
        if self.messages is not None:
            check_conversation(self.messages)
            self.question = self.messages[-1].content
        if not self.question.strip():
            raise ValueError("the question is empty")
        if self.kind == "choice":
            count = len(self.choices or [])
            if count < 2:
                raise ValueError(f"a choice needs at least 2 choices, not {count}")
            if count > 26:
                raise ValueError(f"a choice has at most 26 choices (one letter each), not {count}")
            if isinstance(self.answer, int) and not 0 <= self.answer < count:
                raise ValueError(f"answer {self.answer} is out of range: {count} choices, counted from 0")
        elif self.kind == "short" and not isinstance(self.answer, list):
            raise ValueError("the answer of a short question is a list of accepted strings")
        elif self.kind == "fields" and not (isinstance(self.answer, dict) and self.answer):
            raise ValueError("the answer of a question for fields is an object of the right values")
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
    table = read_table(path)
    questions = []
    for row, (where, data) in enumerate(table.rows, 1):
        try:
            fields = data if table.columns is None else _of_cells(data)
            if fields.get("id") in (None, ""):
                fields["id"] = f"{path.stem}-{row}"
            questions.append(Question.model_validate(fields))
        except ValidationError as error:
            raise ConfideError(f"{path}, {where}: {problem_of(error)}") from None
        except ValueError as error:
            raise ConfideError(f"{path}, {where}: {error}") from None
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


def _of_cells(row: dict[str, Any]) -> dict[str, Any]:
    """The fields of a question from the cells of a table: texts without blanks around them, lists from ``a|b``.

    An empty cell of a short question's answer is a question that nobody can answer.
    """
    data = {key: value.strip() if isinstance(value, str) else value for key, value in row.items()}
    data = {key: value for key, value in data.items() if not (key in ("domain", "entity") and no_name(value))}
    lists = ("choices", "answer") if data.get("kind") == "short" else ("choices",)
    for key in lists:
        if isinstance(data.get(key), str):
            data[key] = bar_list(data[key])
    for key in ("messages", "answer") if data.get("kind") == "fields" else ("messages",):
        if isinstance(text := data.get(key), str):
            try:
                data[key] = json_value(text)
            except ValueError as error:
                raise ValueError(f"{key}: not valid JSON ({error})") from None
    if isinstance(data.get("choices"), list) and "" in data["choices"]:
        raise ValueError("choices: one of them is empty")
    if data.get("kind") == "short":
        answer = data.setdefault("answer", [])
        if isinstance(answer, list):
            data["answer"] = [text for text in answer if text]
            if answer and not data["answer"]:
                raise ValueError(
                    "answer: all of its accepted texts are empty; leave the cell empty if nobody can answer"
                )
    for key in ("domain", "entity", "label"):
        if _is_number(value := data.get(key)):
            data[key] = plain_number(value)
    return data


def _asked_once(data: dict[str, Any]) -> dict[str, Any]:
    """The fields with one of ``question`` and ``messages``; raises `ValueError` where there are both or neither."""
    given = [name for name in ("question", "messages") if data.get(name) not in (None, "", [])]
    if len(given) > 1:
        raise ValueError("there are both question and messages: give one of them")
    if not given and data.get("question") is None:
        raise ValueError("messages: there are no turns" if "messages" in data else "question or messages is missing")
    left_out = {"question", "messages"} - {given[0] if given else "question"}
    return {key: value for key, value in data.items() if key not in left_out}


def _is_number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _index(answer: Any, choices: Any) -> int:
    """The index of the right choice, given as a number from 0 or as a letter from A.

    >>> _index("1.0", ["red", "green"]), _index("B", ["red", "green"])
    (1, 1)
    """
    text = str(answer).strip()
    texts = [str(choice).strip().upper() for choice in choices] if isinstance(choices, list) else []
    if re.fullmatch(r"-?\d+(\.0*)?", text):
        index = int(text.partition(".")[0])
        if isinstance(answer, str) and str(index) in texts and texts.index(str(index)) != index:
            raise ValueError(f"the answer {answer} may be an index or the text of a choice: give its letter from A")
        return index
    if not re.fullmatch("[A-Za-z]", text):
        raise ValueError(f"the answer of a choice is an index from 0 or a letter from A, not {answer!r}")
    index = ord(text.upper()) - ord("A")
    if text.upper() in texts and texts.index(text.upper()) != index:
        raise ValueError(f"the answer {text} may be a letter or the text of a choice: give its index from 0")
    return index


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
