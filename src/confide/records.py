"""The record: a question, the model's answer, its grade, and the confidence that each source gives the answer.

Records are JSON lines (or Parquet, by the file's ending). They are appended as they are produced; a run that
was killed leaves at most one half-written last line, which `RecordWriter` removes before it goes on.
"""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from confide.errors import ConfideError
from confide.files import read_parquet, read_text, write_text
from confide.sources import LOG_SPACE, log_space

Split = Literal["train", "validation", "calibration", "test"]

# Floats below it have fewer digits.
_LEAST_WHOLE = 1e-300


class Message(BaseModel):
    """One turn of a conversation."""

    role: str
    content: str


class Sample(BaseModel):
    """A sampled answer to the same question, beside the greedy one."""

    model_config = ConfigDict(extra="allow")

    answer: str
    answer_ids: list[int] = Field(default_factory=list)
    reasoning_ids: list[int] = Field(default_factory=list)
    finish: Literal["stop", "length"] = "stop"
    correct: bool | None = None
    answered: str | None = None
    logprobs: list[float] = Field(default_factory=list)
    confidence: dict[str, float | None] = Field(default_factory=dict)

    @field_validator("confidence")
    @classmethod
    def _in_nats(cls, value: dict[str, float | None], info: ValidationInfo) -> dict[str, float | None]:
        return _on_today_scale(value, info.data.get("logprobs"))


class RequestShape(BaseModel):
    """How a question was asked, in what can be seen without its words; None is not known.

    ``system`` is a hash of the system prompt ("" for none), ``turns`` counts the other messages, ``length`` the
    characters of all, ``content`` names what is there besides text. ``options`` are those that bear on the answer and
    are not as if left out; ``max_tokens`` is the longest answer allowed (0: no limit).
    """

    system: str | None = None
    turns: int | None = None
    length: int | None = None
    content: str | None = None
    options: dict[str, str] | None = None
    max_tokens: int | None = None


class Cost(BaseModel):
    """What a source cost for one answer, beyond the answer itself."""

    tokens: float = 0.0
    seconds: float = 0.0


class Record(BaseModel):
    """A question with its answer. Only ``id`` is required, so that rows of other systems are records too.

    * ``answered``: the candidate that the grader recognised in the answer (None: it named none).
    * ``chat_template_kwargs``: what the chat template was given besides the messages.
    * ``reasoning``: what the model thought before it answered; ``reasoning_ids``: its tokens, tags included. The answer
      is graded and read without it.
    * ``logprobs``, ``entropies``: of the answer's tokens, in nats; ``end_logprob``: of the closing token.
    * ``option_logprobs``: log p of every choice (nats per token, in the order of ``choices``) where the answer is the
      likeliest of them.
    * ``sampled_with``: the temperature and the seed of ``samples``.
    * ``identity``: which weights answered; ``scored_by``: source to what gave its confidence, where that was trained
      (`confide.policies.identities`).
    * ``request_shape``: how the question was asked, beyond what ``messages`` show.
    * ``confidence``: source to a value in [0, 1], for ``logprob_sum`` in nats (≤ 0), or None (not available, never 0).
      A bare number is the source ``given``. A ``logprob_sum`` above 0 is a probability, as older versions wrote
      it, and becomes its logarithm.

    Unknown keys are kept.

    >>> Record.model_validate({"id": 7, "confidence": 0.8, "correct": True}).confidence
    {'given': 0.8}
    """

    model_config = ConfigDict(extra="allow")

    id: str
    task: str = ""
    kind: str = "short"
    domain: str = ""
    entity: str | None = None
    split: Split | None = None
    messages: list[Message] = Field(default_factory=list)
    chat_template_kwargs: dict[str, Any] = Field(default_factory=dict)
    choices: list[str] | None = None
    option_logprobs: list[float] | None = None
    reasoning: str | None = None
    reasoning_ids: list[int] = Field(default_factory=list)
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
    sampled_with: dict[str, Any] = Field(default_factory=dict)
    model: str = ""
    identity: str = ""
    scored_by: dict[str, str] = Field(default_factory=dict)
    request_shape: RequestShape | None = None
    familiarity: float | None = None
    confidence: dict[str, float | None] = Field(default_factory=dict)
    cost: dict[str, Cost] = Field(default_factory=dict)

    @field_validator("id", mode="before")
    @classmethod
    def _id_is_text(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int) else value

    @field_validator("identity", mode="before")
    @classmethod
    def _identity_is_text(cls, value: Any) -> Any:
        return value if isinstance(value, str) else str(value or "")

    @field_validator("confidence", mode="before")
    @classmethod
    def _bare_number(cls, value: Any) -> Any:
        return {"given": value} if isinstance(value, int | float) and not isinstance(value, bool) else value

    @field_validator("confidence")
    @classmethod
    def _not_available(cls, value: dict[str, float | None], info: ValidationInfo) -> dict[str, float | None]:
        # NaN is how other systems write "not available", and no JSON.
        known = {source: v if v is not None and math.isfinite(v) else None for source, v in value.items()}
        return _on_today_scale(known, info.data.get("logprobs"))

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
        filled = {name for name in ("confidence", "cost", "scored_by") if getattr(self, name)}
        data = self.model_dump(mode="json", include=self.model_fields_set | filled)
        return json.dumps(data, ensure_ascii=False, allow_nan=False)


def answer_log_probability(logprobs: Sequence[float]) -> float:
    """The log-probability (nats, ≤ 0) of an answer from those of its tokens: their sum, without what rounding adds.

    >>> answer_log_probability([-0.5] * 2000)
    -1000.0
    """
    return min(float(sum(logprobs)), 0.0)


def _on_today_scale(confidence: dict[str, float | None], logprobs: Sequence[float] | None) -> dict[str, float | None]:
    """Confidences whose log-probabilities may have been written as probabilities: these become logarithms.

    One too small for its digits, or 0, is read anew from the answer's ``logprobs``; `_refuse_unclear` sees to the rest.
    """
    out = dict(confidence)
    for source, value in confidence.items():
        if value is None or value < 0 or not log_space(source):
            continue
        if value > 1:
            raise ValueError(f"{source} is a log-probability, at most 0, not {value:g}")
        if value < _LEAST_WHOLE and source in LOG_SPACE and logprobs:
            out[source] = answer_log_probability(logprobs)
        elif value > 0:
            out[source] = math.log(value)
    return out


def parse_lines(text: str, name: str, *, repair: bool = False) -> list[Record]:
    """Parse JSON lines into records.

    Args:
        text: the lines.
        name: what errors call the file.
        repair: leave out a half-written last line, which has no line end and is not valid JSON.

    Raises:
        ConfideError: a bad line, with ``name`` and the line's number; a ``logprob_sum`` of 0 whose scale is unclear.
    """
    records, whole = [], []
    lines = text.split("\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            records.append(Record.model_validate_json(line))
            whole.append(line)
        except ValidationError as error:
            if repair and number == len(lines):
                break
            problem = error.errors()[0]
            where = ".".join(str(part) for part in problem["loc"]) or "the line"
            raise ConfideError(f"{name}, line {number}: {where}: {problem['msg']}") from None
    if any(_at_zero(record) or any(map(_at_zero, record.samples or [])) for record in records):
        _refuse_unclear(whole, name)
    return records


def _at_zero(answer: Record | Sample) -> bool:
    return any(value == 0 and log_space(source) for source, value in answer.confidence.items())


def _refuse_unclear(lines: Iterable[str], name: str) -> None:
    """Raise `ConfideError` for a log-probability of 0 in a file that does not tell its scale.

    It means certain, or in an older file a probability too small to be written. Values below 0 and none above tell
    that the file is none of the older ones, and the token log-probabilities of the answer tell its value.
    """
    values, unclear = [], []
    for row in map(json.loads, lines):
        for answer in (row, *(row.get("samples") or [])):
            given = answer.get("confidence")
            for source, value in given.items() if isinstance(given, dict) else ():
                if value is None or not math.isfinite(float(value)) or not log_space(source):
                    continue
                values.append(float(value))
                if values[-1] == 0 and not (source in LOG_SPACE and answer.get("logprobs")):
                    unclear.append(f"{source} of row {row['id']}")
    if unclear and (max(values) > 0 or min(values) == 0):
        raise ConfideError(
            f"{name}: {unclear[0]} is 0, which may be certain or, as older files hold it, a probability too small to "
            "write; no `logprobs` tell, so score the answers again (`confide score`)"
        )


def read_records(path: Path) -> list[Record]:
    """Read records from JSON lines or, for ``*.parquet``, from Parquet.

    Args:
        path: the file; a half-written last line is left out.

    Returns:
        The records in the order of the file, at least one.

    Raises:
        ConfideError: a missing or broken file, a file without rows, or an id that occurs twice.
    """
    if path.suffix == ".parquet":
        rows = read_parquet(path)
        records = parse_lines("\n".join(row.get("record") or json.dumps(row) for row in rows), str(path))
    else:
        records = parse_lines(read_text(path), str(path), repair=True)
    if not records:
        raise ConfideError(f"{path} has no records")
    check_unique((record.id for record in records), str(path))
    return records


def write_records(path: Path, records: Iterable[Record]) -> None:
    """Write all records at once, as JSON lines or Parquet by the file's ending."""
    rows = list(records)
    if path.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        path.parent.mkdir(parents=True, exist_ok=True)
        # Each record is one JSON text, which keeps every nested and unknown key as it is.
        table = pa.table({"id": [r.id for r in rows], "record": [r.line() for r in rows]})
        pq.write_table(table, path)
    else:
        write_text(path, "".join(record.line() + "\n" for record in rows))


def check_unique(ids: Iterable[str], name: str) -> None:
    """Raise `ConfideError` naming the first ids that occur more than once."""
    if twice := [identifier for identifier, count in Counter(ids).items() if count > 1]:
        shown = ", ".join(twice[:3])
        raise ConfideError(f"{name}: {len(twice)} duplicate ids ({shown}{', …' if len(twice) > 3 else ''})")


class RecordWriter:
    """Appends records to a JSON-lines file as they are produced; opening it again continues the file.

    ``done`` holds the records that were already there. A half-written last line is cut off.
    """

    def __init__(self, path: Path):
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.done = _repair(path) if path.exists() else []
        self._handle = open(path, "a", encoding="utf-8")  # noqa: SIM115 (closed in __exit__)

    def write(self, records: Iterable[Record]) -> None:
        """Append records and hand them to the operating system before returning."""
        self._handle.write("".join(record.line() + "\n" for record in records))
        self._handle.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._handle.close()


def _repair(path: Path) -> list[Record]:
    """Cut off a half-written last line, end a whole one, and return the records of the file."""
    data = path.read_bytes()
    end = data.rfind(b"\n") + 1
    try:
        records = parse_lines(data[:end].decode(), str(path))
    except UnicodeDecodeError as error:
        raise ConfideError(f"{path} is not UTF-8 text (byte {error.start})") from None
    if data[end:].strip():
        with open(path, "r+b") as handle:
            # What follows the last line end is whole only if it parses; a kill may have cut it inside a character.
            try:
                records.append(Record.model_validate_json(data[end:]))
                handle.seek(0, os.SEEK_END)
                handle.write(b"\n")
            except ValidationError:
                handle.truncate(end)
    return records
