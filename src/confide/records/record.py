"""The record: a question, the model's answer, its grade, and the confidence that each source gives the answer."""

from __future__ import annotations

import json
import math
import reprlib
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from confide.sources import LOG_SPACE, log_space

Split = Literal["train", "validation", "calibration", "test"]

# Floats below it have fewer digits.
_LEAST_WHOLE = 1e-300


class Message(BaseModel):
    """One turn of a conversation, in OpenAI's shape; what else it holds, such as ``tool_calls``, is kept.

    Content in parts is their text, joined by line ends; a turn that only calls tools needs none.
    """

    model_config = ConfigDict(extra="allow")

    role: str
    content: str

    @model_validator(mode="before")
    @classmethod
    def _content_is_text(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        data = {key: value for key, value in data.items() if value is not None}  # a table fills gaps with null
        if isinstance(parts := data.get("content"), list):
            data["content"] = "\n".join(map(_text, parts))
        elif data.get("tool_calls") or data.get("function_call"):
            data.setdefault("content", "")
        return data


def _text(part: Any) -> str:
    """The text of one part of a turn's content."""
    known = part if isinstance(part, dict) else {}
    if known.get("type") != "text" or not isinstance(known.get("text"), str):
        raise ValueError(f"content: only text can be asked, not {reprlib.repr(known.get('type', part))}")
    return str(known["text"])


class Sample(BaseModel):
    """A sampled answer to the same question, beside the greedy one."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)

    answer: str
    answer_ids: list[int] = Field(default_factory=list)
    reasoning_ids: list[int] = Field(default_factory=list)
    finish: Literal["stop", "length"] = "stop"
    correct: bool | None = None
    answered: str | None = None
    logprobs: list[float] = Field(default_factory=list)
    confidence: dict[str, float | None] = Field(default_factory=dict)

    @field_validator("confidence", mode="before")
    @classmethod
    def _not_available(cls, value: Any) -> Any:
        return without_nan(value)

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
    * ``own_turns``: how many of the last ``messages`` are the question's own, where it is a conversation; those in
      front are the task's.
    * ``judged``: whether a judge model calls the answer right, and ``judged_by`` which one; ``correct`` is the truth.
    * ``graded_by``: the function that graded, where it is not the task's own; ``grade_error``: why it could not.
    * ``chat_template_kwargs``: what the chat template was given besides the messages.
    * ``opening_ids``: tokens that the model was made to start with: the answer is what it wrote behind them.
    * ``reasoning``: what the model thought before it answered; ``reasoning_ids``: its tokens, tags included. The answer
      is graded and read without it.
    * ``logprobs``, ``entropies``: of the answer's tokens, in nats; ``end_logprob``: of the closing token.
    * ``token_starts``: the character of ``answer`` at which each of them starts.
    * ``part``: which part of an answer ``answer`` is ("": all of it), such as ``/year`` or ``sentence 2``.
    * ``option_logprobs``: log p of every choice (nats per token, in the order of ``choices``) where the answer is the
      likeliest of them.
    * ``reading``: z that the engine read of its own states while it answered, where it has a learned reading, and
      ``read_by`` the fingerprint of what read it.
    * ``signals``: the lowest value of each signal that the engine read along the answer, by ``read_by``, too.
    * ``sampled_with``: the temperature and the seed of ``samples``.
    * ``identity``: which weights answered; ``scored_by``: source to what gave its confidence, where that was trained
      (`confide.policies.identities`).
    * ``signal``: what ``correct`` is about, where that is not whether the answer is right (`confide.signals`).
    * ``request_shape``: how the question was asked, beyond what ``messages`` show.
    * ``confidence``: source to a value in [0, 1], for ``logprob_sum`` in nats (≤ 0), or None (not available, never 0).
      A bare number is the source ``given``. A ``logprob_sum`` above 0 is a probability, as older versions wrote
      it, and becomes its logarithm.

    Unknown keys are kept.

    >>> Record.model_validate({"id": 7, "confidence": 0.8, "correct": True}).confidence
    {'given': 0.8}
    """

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)

    id: str
    task: str = ""
    kind: str = "short"
    domain: str = ""
    entity: str | None = None
    split: Split | None = None
    messages: list[Message] = Field(default_factory=list)
    own_turns: int | None = Field(default=None, ge=1)
    chat_template_kwargs: dict[str, Any] = Field(default_factory=dict)
    choices: list[str] | None = None
    option_logprobs: list[float] | None = None
    opening_ids: list[int] = Field(default_factory=list)
    reasoning: str | None = None
    reasoning_ids: list[int] = Field(default_factory=list)
    answer: str = ""
    answer_ids: list[int] = Field(default_factory=list)
    logprobs: list[float] = Field(default_factory=list)
    entropies: list[float] = Field(default_factory=list)
    token_starts: list[int] = Field(default_factory=list)
    end_logprob: float | None = None
    part: str = ""
    reading: float | None = None
    read_by: str = ""
    signals: dict[str, float | None] = Field(default_factory=dict)
    finish: Literal["stop", "length"] = "stop"
    reference: Any = None
    correct: bool | None = None
    signal: str = ""
    answered: str | None = None
    judged: bool | None = None
    judged_by: str = ""
    graded_by: str = ""
    grade_error: str | None = None
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

    @model_validator(mode="before")
    @classmethod
    def _null_is_not_available(cls, data: Any) -> Any:
        """Leave out keys that are null, as many systems write what they do not have, where a value is wanted."""
        if not isinstance(data, dict) or None not in data.values():
            return data
        return {key: value for key, value in data.items() if value is not None or key not in _WANT_A_VALUE}

    @field_validator("id", mode="before")
    @classmethod
    def _id_is_text(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value

    @field_validator("identity", mode="before")
    @classmethod
    def _identity_is_text(cls, value: Any) -> Any:
        return value if isinstance(value, str) else str(value or "")

    @field_validator("confidence", mode="before")
    @classmethod
    def _bare_number(cls, value: Any) -> Any:
        number = value is None or (isinstance(value, int | float) and not isinstance(value, bool))
        if not number and not isinstance(value, dict):
            raise ValueError(f"a number is wanted, or one for each source, not {reprlib.repr(value)}")
        return without_nan({"given": value} if number else value)

    @field_validator("confidence")
    @classmethod
    def _in_nats(cls, value: dict[str, float | None], info: ValidationInfo) -> dict[str, float | None]:
        return _on_today_scale(value, info.data.get("logprobs"))

    @property
    def question(self) -> str:
        """The text of the last user turn ("" when the record carries no messages), and the part that is asked about."""
        asked = next((m.content for m in reversed(self.messages) if m.role == "user"), "")
        return f"{asked}\n{self.part}" if self.part else asked

    @property
    def earlier(self) -> list[Message]:
        """What was said around the question: its own turns (all, for a record of no task) without the user's last one.

        A task's system line and worked examples are none of these.
        """
        if self.own_turns is None and self.task:
            return []
        turns = self.messages[-(self.own_turns or len(self.messages)) :]
        last = max((place for place, turn in enumerate(turns) if turn.role == "user"), default=None)
        return [turn for place, turn in enumerate(turns) if place != last]

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


_WANT_A_VALUE = {
    name
    for name, field in Record.model_fields.items()
    if not field.is_required() and name != "confidence" and field.get_default(call_default_factory=True) is not None
}
"""Keys that have a value even where nothing is known."""


def without_nan(confidence: Any) -> Any:
    """Confidences with None for NaN, which is how other systems write "not available", and no JSON."""
    if not isinstance(confidence, dict) or all(type(v) is float and v == v for v in confidence.values()):
        return confidence
    if truth := [source for source, value in confidence.items() if isinstance(value, bool)]:
        raise ValueError(f"{truth[0]} is true or false, a number is wanted")
    return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in confidence.items()}


def answer_log_probability(logprobs: Sequence[float]) -> float:
    """The log-probability (nats, ≤ 0) of an answer from those of its tokens: their sum, without what rounding adds.

    >>> answer_log_probability([-0.5] * 2000)
    -1000.0
    """
    return min(float(sum(logprobs)), 0.0)


def _on_today_scale(confidence: dict[str, float | None], logprobs: Sequence[float] | None) -> dict[str, float | None]:
    """Confidences whose log-probabilities may have been written as probabilities: these become logarithms.

    One too small for its digits, or 0, is read anew from the answer's ``logprobs``; `record_files` sees to the rest.
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
