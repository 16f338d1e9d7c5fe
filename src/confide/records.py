"""The record: one question's life, from the prompt to the confidences that each source gives its answer.

Records are JSON lines (or Parquet, by the file's ending). They are appended as they are produced; a run that
was killed leaves at most one half-written last line, which `RecordWriter` removes before it goes on.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from confide.errors import ConfideError
from confide.files import read_text, write_text

Split = Literal["train", "validation", "calibration", "test"]


class Message(BaseModel):
    """One turn of a conversation."""

    role: str
    content: str


class Sample(BaseModel):
    """A sampled answer to the same question, beside the greedy one."""

    model_config = ConfigDict(extra="allow")

    answer: str
    answer_ids: list[int] = Field(default_factory=list)
    finish: Literal["stop", "length"] = "stop"
    correct: bool | None = None
    answered: str | None = None
    logprobs: list[float] = Field(default_factory=list)
    confidence: dict[str, float | None] = Field(default_factory=dict)


class Cost(BaseModel):
    """What a source cost for one answer, beyond the answer itself."""

    tokens: float = 0.0
    seconds: float = 0.0


class Record(BaseModel):
    """One question's life. Only ``id`` is required, so that foreign records are records too.

    ``answered`` is the candidate that the grader recognised in the answer (None: it named none);
    ``logprobs`` and ``entropies`` (nats) are those of the answer-span tokens, ``end_logprob`` that of the closing
    token; ``confidence`` maps a source to a value or None
    (not available, never 0). A bare number as ``confidence`` is the source ``given``. ``option_logprobs`` holds log p
    of every choice (nats a token, in the order of ``choices``) where the answer is the likeliest of them.
    """

    model_config = ConfigDict(extra="allow")

    id: str
    task: str = ""
    kind: str = "short"
    domain: str = ""
    entity: str | None = None
    split: Split | None = None
    messages: list[Message] = Field(default_factory=list)
    choices: list[str] | None = None
    option_logprobs: list[float] | None = None
    answer: str = ""
    answer_ids: list[int] = Field(default_factory=list)
    logprobs: list[float] = Field(default_factory=list)
    entropies: list[float] = Field(default_factory=list)
    end_logprob: float | None = None
    finish: Literal["stop", "length"] = "stop"
    reference: Any = None
    correct: bool | None = None
    answered: str | None = None
    consistency: float | None = None
    samples: list[Sample] | None = None
    model: str = ""
    familiarity: float | None = None
    confidence: dict[str, float | None] = Field(default_factory=dict)
    cost: dict[str, Cost] = Field(default_factory=dict)

    @field_validator("id", mode="before")
    @classmethod
    def _id_is_text(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int) else value

    @field_validator("confidence", mode="before")
    @classmethod
    def _bare_number(cls, value: Any) -> Any:
        return {"given": value} if isinstance(value, int | float) and not isinstance(value, bool) else value

    @field_validator("confidence")
    @classmethod
    def _not_available(cls, value: dict[str, float | None]) -> dict[str, float | None]:
        # NaN is how other systems write "not available", and no JSON.
        return {source: v if v is not None and math.isfinite(v) else None for source, v in value.items()}

    @property
    def question(self) -> str:
        """The text of the last user turn ("" when the record carries no messages)."""
        return next((m.content for m in reversed(self.messages) if m.role == "user"), "")

    @property
    def cluster(self) -> str:
        """What rows must share to count as dependent: the entity, or the row itself."""
        return self.entity if self.entity is not None else self.id

    def line(self) -> str:
        """The record as one line of JSON, without what is unset."""
        # Dictionaries that were filled in place count as set.
        filled = {name for name in ("confidence", "cost") if getattr(self, name)}
        data = self.model_dump(mode="json", include=self.model_fields_set | filled)
        return json.dumps(data, ensure_ascii=False, allow_nan=False)


def parse_lines(text: str, name: str, *, repair: bool = False) -> list[Record]:
    """Parse JSON lines into records.

    ``repair`` drops a half-written last line (one without a line end that is not valid JSON); otherwise any
    bad line raises `ConfideError` naming ``name`` and the line's number.
    """
    records = []
    lines = text.split("\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            records.append(Record.model_validate_json(line))
        except ValidationError as error:
            half_written = repair and number == len(lines)
            if half_written:
                break
            problem = error.errors()[0]
            where = ".".join(str(part) for part in problem["loc"]) or "the line"
            raise ConfideError(f"{name}, line {number}: {where}: {problem['msg']}") from None
    return records


def read_records(path: Path) -> list[Record]:
    """Read records from JSON lines or, for ``*.parquet``, from Parquet.

    Raises `ConfideError` for a missing or broken file, a file without rows, or an id that occurs twice.
    """
    records = _read_parquet(path) if path.suffix == ".parquet" else parse_lines(read_text(path), str(path), repair=True)
    if not records:
        raise ConfideError(f"{path} has no records")
    check_unique((record.id for record in records), str(path))
    return records


def write_records(path: Path, records: Iterable[Record]) -> None:
    """Write records whole, as JSON lines or Parquet by the file's ending."""
    rows = list(records)
    if path.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        path.parent.mkdir(parents=True, exist_ok=True)
        # One column of JSON a record keeps every nested and unknown key as it is.
        table = pa.table({"id": [r.id for r in rows], "record": [r.line() for r in rows]})
        pq.write_table(table, path)
    else:
        write_text(path, "".join(record.line() + "\n" for record in rows))


def check_unique(ids: Iterable[str], name: str) -> None:
    """Raise `ConfideError` naming the first ids that occur more than once."""
    seen: set[str] = set()
    twice: dict[str, None] = {}
    for identifier in ids:
        if identifier in seen:
            twice[identifier] = None
        seen.add(identifier)
    if twice:
        shown = ", ".join(list(twice)[:3])
        raise ConfideError(f"{name}: {len(twice)} duplicate ids ({shown}{', …' if len(twice) > 3 else ''})")


class RecordWriter:
    """Appends records to a JSON-lines file as they are produced; opening it again continues the file.

    ``done`` holds the records that were already there. A half-written last line is cut off.
    """

    def __init__(self, path: Path):
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.done: list[Record] = []
        if path.exists():
            data = path.read_bytes()
            # What follows the last line end is whole only if it parses; a kill may have cut it inside a character.
            body, last = data[: data.rfind(b"\n") + 1], data[data.rfind(b"\n") + 1 :]
            try:
                self.done = parse_lines(body.decode(), str(path))
            except UnicodeDecodeError as error:
                raise ConfideError(f"{path} is not UTF-8 text (byte {error.start})") from None
            try:
                self.done += [Record.model_validate_json(last)] if last.strip() else []
                ending = b"\n" if last.strip() else b""
            except ValidationError:
                last, ending = b"", b""
            if body + last + ending != data:
                with open(path, "r+b") as handle:
                    handle.truncate(len(body) + len(last))
                    handle.seek(0, os.SEEK_END)
                    handle.write(ending)
        self._handle = open(path, "a", encoding="utf-8")  # noqa: SIM115 (closed in __exit__)

    def write(self, records: Iterable[Record]) -> None:
        """Append records and hand them to the operating system before returning."""
        self._handle.write("".join(record.line() + "\n" for record in records))
        self._handle.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._handle.close()


def _read_parquet(path: Path) -> list[Record]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.exists():
        raise ConfideError(f"{path} does not exist")
    try:
        rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    except pa.ArrowInvalid:
        raise ConfideError(f"{path} is not a Parquet file") from None
    texts = [row["record"] if "record" in row else json.dumps(row) for row in rows]
    return parse_lines("\n".join(texts), str(path))
