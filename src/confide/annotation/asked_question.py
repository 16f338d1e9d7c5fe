"""A question as it is asked, and the settings that its answer depends on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from confide.engines.engine import Engine, encode_at_once
from confide.errors import ConfideError
from confide.policies.requests import request_options
from confide.records import Record
from confide.tasks.task import cloze_prompt

if TYPE_CHECKING:
    from confide.tasks import Task
    from confide.tasks.questions import Question

BY_OPTIONS = request_options({"temperature": 0, "answer_by": "options"})
"""How a request that chooses among given options looks to a policy: nobody who asks a router gets an answer so."""

AnswerBy = Literal["options", "generation"]
"""How a choice is answered: the likeliest option's text, or a letter that the model writes."""


SPLIT = "split (--seed, --by, --limit)"
"""What an error calls the split, which these flags decide."""


@dataclass(frozen=True)
class AskedQuestion:
    """A question as it is asked here.

    ``options`` are the texts to choose from ([]: the answer is generated), ``room`` the tokens an answer may take.
    ``template`` is what the chat template was given besides the messages: an option is read right behind them, so a
    model that thinks first is not let to. ``prompt`` ends with ``opening``, the tokens that the answer is made to start
    with.
    """

    question: Question
    split: str | None
    messages: list[dict[str, Any]]
    options: list[str]
    prompt: list[int]
    room: int
    template: dict[str, Any]
    opening: list[int]

    @classmethod
    def of(
        cls,
        engine: Engine,
        task: Task,
        question: Question,
        splits: Mapping[str, str] | None,
        answer_by: AnswerBy | None,
    ) -> AskedQuestion:
        """The question as ``engine`` is asked it; ``splits`` maps question ids to splits."""
        split = None if splits is None else splits[question.id]
        chosen = question.kind == "choice" and answer_by != "generation" and "given_answers" in engine.capabilities
        messages = cloze_prompt(question) if chosen else task.prompt(question)
        options = list(question.choices or []) if chosen else []
        longest = max((len(engine.encode_answer(text)) for text in options), default=0)
        room = longest + 1 if longest else task.max_new_tokens
        try:
            template, prompt = engine.chat_template_kwargs, engine.encode(messages)
        except ConfideError as error:
            raise ConfideError(f"question {question.id}: {error}") from None
        if options and (at_once := encode_at_once(engine, messages)) != prompt:
            template, prompt = template | {"enable_thinking": False}, at_once
        opening = _opening(engine, question)
        return cls(question, split, messages, options, prompt + opening, room, template, opening)

    @property
    def id(self) -> str:
        """The question's id."""
        return self.question.id

    @property
    def settings(self) -> dict[str, Any]:
        """What an answer and its grade depend on besides the model and how samples are drawn."""
        return {
            SPLIT: self.split,
            "answer-by": "options" if self.options else "generation",
            "choices": self.question.choices or None,
            "prompt": written(self.messages),
            "chat template": self.template,
            "opening": self.question.opening,
            "max-new-tokens": self.room,
            "reference": self.question.answer,
            "kind": self.question.kind,
            "domain": self.question.domain,
            "entity": self.question.entity,
        }


def _opening(engine: Engine, question: Question) -> list[int]:
    """The tokens that the answer is made to start with; raises `ConfideError` where this engine cannot do that."""
    if question.opening and "given_answers" not in engine.capabilities:
        raise ConfideError(f"question {question.id} has an opening, which this engine cannot make an answer start with")
    return engine.encode_answer(question.opening) if question.opening else []


def settings_of(record: Record) -> dict[str, Any]:
    """How a record was asked, in the words of `AskedQuestion.settings`, as far as it says."""
    known: dict[str, Any] = {
        SPLIT: record.split,
        "answer-by": _how_answered(record),
        "choices": record.choices,
        "prompt": written([message.model_dump() for message in record.messages]),
        "chat template": record.chat_template_kwargs,
        "opening": (record.model_extra or {}).get("opening", ""),
        "reference": record.reference,
        "kind": record.kind,
        "domain": record.domain,
        "entity": record.entity,
        "samples": len(record.samples or []),
        **record.sampled_with,
    }
    if record.request_shape is not None and record.request_shape.max_tokens is not None:
        known["max-new-tokens"] = record.request_shape.max_tokens
    return known


def written(messages: Sequence[Mapping[str, Any]]) -> str:
    """A conversation as one text, for comparisons."""
    return "\n".join(json.dumps(message, ensure_ascii=False, sort_keys=True) for message in messages)


def _how_answered(record: Record) -> AnswerBy:
    shape = record.request_shape
    chosen = record.option_logprobs is not None and (shape is None or shape.options in (None, BY_OPTIONS))
    return "options" if chosen else "generation"
