"""Answers as Anthropic's Messages API words them: a message with its blocks, and the events of its stream.

https://docs.anthropic.com/en/docs/build-with-claude/streaming. Reasoning is left out: clients that did not ask for
thinking take the first block for the answer. The arguments of a call are told in one piece once they are whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic_core import from_json, to_json

from confide.engines.openai.reply import ended
from confide.serving.api_errors import ApiError
from confide.serving.http.answer_parts import AnswerParts, Part, Step
from confide.serving.http.error_responses import anthropic_error
from confide.serving.http.messages_api import NAMES


class MessageEvents:
    """The answer to one request of the Messages API, from a chat completion or from its chunks."""

    names: Mapping[str, str] = NAMES

    def __init__(self) -> None:
        self._answer = AnswerParts()
        self._begun = False
        self._at = -1

    def whole(self, completion: dict[str, Any]) -> dict[str, Any]:
        """The message for a chat completion."""
        for _ in self._answer.add_whole(completion):
            pass
        content = [_block(part) for part in self._answer.parts if part.kind != "reasoning"]
        return {**self._message(content), **self._stop(), "usage": self._usage(), "confide": self._answer.confide}

    def feed(self, chunk: dict[str, Any]) -> list[dict[str, Any]]:
        """The events for a chunk of one."""
        steps = list(self._answer.add(chunk))
        events: list[dict[str, Any]] = []
        if not self._begun:
            self._begun = True
            begun = {**self._message([]), "stop_reason": None, "stop_sequence": None, "usage": self._usage()}
            events = [{"type": "message_start", "message": begun}, {"type": "ping"}]
        return events + self._tell(steps)

    def end(self) -> list[dict[str, Any]]:
        """The events that end a stream."""
        events = self._tell(self._answer.end())
        last = {"type": "message_delta", "delta": self._stop(), "usage": self._usage()}
        return [*events, {**last, "confide": self._answer.confide}, {"type": "message_stop"}]

    def fail(self, error: ApiError) -> list[dict[str, Any]]:
        """The event of an answer that broke off."""
        return [anthropic_error(error)]

    def _tell(self, steps: Iterable[Step]) -> list[dict[str, Any]]:
        return [event for step in steps if step.part.kind != "reasoning" for event in self._events_of(step)]

    def _events_of(self, step: Step) -> list[dict[str, Any]]:
        part, is_call = step.part, step.part.kind == "call"
        events: list[dict[str, Any]] = []
        if step.what == ("end" if is_call else "begin"):
            self._at += 1
            empty = {**_block(part), "input": {}} if is_call else {"type": "text", "text": ""}
            events.append({"type": "content_block_start", "index": self._at, "content_block": empty})
        if is_call and step.what == "end":
            delta = {"type": "input_json_delta", "partial_json": to_json(_input(part)).decode()}
            events.append({"type": "content_block_delta", "index": self._at, "delta": delta})
        elif not is_call and step.what == "grow":
            mark = {} if step.mark is None else {"confide": step.mark}
            delta = {"type": "text_delta", "text": step.piece}
            events.append({"type": "content_block_delta", "index": self._at, "delta": delta, **mark})
        if step.what == "end":
            events.append({"type": "content_block_stop", "index": self._at})
        return events

    def _message(self, content: list[dict[str, Any]]) -> dict[str, Any]:
        answer = self._answer
        return {
            "id": f"msg_{answer.id}",
            "type": "message",
            "role": "assistant",
            "model": answer.model,
            "content": content,
        }

    def _stop(self) -> dict[str, Any]:
        """Why the answer ended (null: its server did not say); which stop sequence it was, servers do not tell."""
        finish, kinds = self._answer.finish, {part.kind for part in self._answer.parts}
        reason = {"length": "max_tokens", "content_filter": "refusal"}.get(finish)
        if reason is None and ended(finish):
            reason = "tool_use" if "call" in kinds else "refusal" if "refusal" in kinds else "end_turn"
        return {"stop_reason": reason, "stop_sequence": None}

    def _usage(self) -> dict[str, int]:
        usage = self._answer.usage
        return {"input_tokens": usage.get("prompt_tokens", 0), "output_tokens": usage.get("completion_tokens", 0)}


def _block(part: Part) -> dict[str, Any]:
    if part.kind == "call":
        return {"type": "tool_use", "id": part.call_id, "name": part.name, "input": _input(part)}
    return {"type": "text", "text": part.text}


def _input(part: Part) -> dict[str, Any]:
    """The arguments of a call as an object; what a model wrote that is none stands in ``arguments``."""
    try:
        found = from_json(part.text or "{}", allow_inf_nan=False)
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {"arguments": part.text}
