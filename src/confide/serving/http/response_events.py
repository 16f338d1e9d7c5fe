"""Answers as the Responses API words them: a response with its items, and the events of its stream.

https://platform.openai.com/docs/api-reference/responses-streaming
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from confide.engines.openai.reply import ended
from confide.serving.api_errors import ApiError
from confide.serving.http.answer_parts import AnswerParts, Part, Step
from confide.serving.http.responses_api import NAMES, ResponsesRequest

# By the kind of a part: the events that tell its text, the field that holds it at the end, and the item it stands in.
_EVENTS = {
    "text": ("response.output_text", "text", "msg"),
    "refusal": ("response.refusal", "refusal", "msg"),
    "reasoning": ("response.reasoning_text", "text", "rs"),
    "call": ("response.function_call_arguments", "arguments", "fc"),
}
_REASONS = {"length": "max_output_tokens", "content_filter": "content_filter"}
# Of a request they come back as they were sent.
_ECHOED = (
    "instructions", "max_output_tokens", "temperature", "top_p", "top_logprobs", "user", "safety_identifier",
    "prompt_cache_key", "prompt_cache_retention", "service_tier",
)  # fmt: skip


class ResponseEvents:
    """The answer to one request of the Responses API, from a chat completion or from its chunks.

    Args:
        asked: the request; of it the response repeats some fields.
    """

    names: Mapping[str, str] = NAMES

    def __init__(self, asked: ResponsesRequest):
        self._asked = asked
        self._answer = AnswerParts()
        self._ended: set[Part] = set()
        self._number = 0

    def whole(self, completion: dict[str, Any]) -> dict[str, Any]:
        """The response for a chat completion."""
        for _ in self._answer.add_whole(completion):
            pass
        return self._last()

    def feed(self, chunk: dict[str, Any]) -> list[dict[str, Any]]:
        """The events for a chunk of one."""
        steps = list(self._answer.add(chunk))
        events = []
        if self._number == 0:
            begun = self._response("in_progress", [])
            events = [self._event(f"response.{name}", response=begun) for name in ("created", "in_progress")]
        return events + self._tell(steps)

    def end(self) -> list[dict[str, Any]]:
        """The events that end a stream."""
        events = self._tell(self._answer.end())
        last = self._last()
        return [*events, self._event(f"response.{last['status']}", response=last)]

    def fail(self, error: ApiError) -> list[dict[str, Any]]:
        """The event of an answer that broke off, with what was written of it."""
        broken = {"code": "server_error", "message": error.message}
        items = [self._item(part, "completed" if part in self._ended else "incomplete") for part in self._answer.parts]
        return [self._event("response.failed", response=self._response("failed", items, error=broken))]

    def _last(self) -> dict[str, Any]:
        """The response as it is at the end."""
        answer, whole = self._answer, ended(self._answer.finish)
        status = "completed" if whole else "incomplete"
        items = [
            self._item(part, status if part is answer.parts[-1] or part.kind == "call" else "completed")
            for part in answer.parts
        ]
        why = None if whole else {"reason": _REASONS.get(answer.finish)}
        return self._response(status, items, incomplete_details=why, usage=_usage(answer.usage), confide=answer.confide)

    def _event(self, kind: str, **more: Any) -> dict[str, Any]:
        event = {"type": kind, "sequence_number": self._number, **more}
        self._number += 1
        return event

    def _tell(self, steps: Iterable[Step]) -> list[dict[str, Any]]:
        return [event for step in steps for event in self._events_of(step)]

    def _events_of(self, step: Step) -> list[dict[str, Any]]:
        part = step.part
        name, field, _ = _EVENTS[part.kind]
        at = {"item_id": self._id(part), "output_index": part.at}
        within = at if part.kind == "call" else {**at, "content_index": 0}
        logprobs = {"logprobs": step.logprobs} if part.kind == "text" else {}
        if step.what == "begin":
            begun = self._item(part, "in_progress")
            events = [self._event("response.output_item.added", output_index=part.at, item=begun)]
            if part.kind != "call":
                events.append(self._event("response.content_part.added", **within, part=_content(part, "")))
            return events
        if step.what == "grow":
            mark = {} if step.mark is None else {"confide": step.mark}
            return [self._event(f"{name}.delta", **within, delta=step.piece, **logprobs, **mark)]
        self._ended.add(part)
        all_logprobs = {"logprobs": part.logprobs} if part.kind == "text" else {}
        called = {"name": part.name} if part.kind == "call" else {}
        events = [self._event(f"{name}.done", **within, **{field: part.text}, **all_logprobs, **called)]
        if part.kind != "call":
            events.append(self._event("response.content_part.done", **within, part=_content(part, part.text)))
        done = self._item(part, "completed")
        return [*events, self._event("response.output_item.done", output_index=part.at, item=done)]

    def _id(self, part: Part) -> str:
        return f"{_EVENTS[part.kind][2]}_{self._answer.id}_{part.at}"

    def _item(self, part: Part, status: str) -> dict[str, Any]:
        """A part as an item of the output; one in progress holds nothing yet."""
        begun = status != "in_progress"
        item = {"id": self._id(part), "status": status}
        if part.kind == "call":
            arguments = part.text if begun else ""
            call = {"call_id": part.call_id, "name": part.name, "arguments": arguments}
            return {**item, "type": "function_call", **call}
        content = [_content(part, part.text)] if begun else []
        if part.kind == "reasoning":
            return {**item, "type": "reasoning", "summary": [], "content": content}
        return {**item, "type": "message", "role": "assistant", "content": content}

    def _response(self, status: str, output: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        asked, answer = self._asked, self._answer
        reasoning, text = asked.reasoning, asked.text
        return {
            "id": f"resp_{answer.id}",
            "object": "response",
            "created_at": answer.created,
            "status": status,
            "error": None,
            "incomplete_details": None,
            "model": answer.model,
            "output": output,
            **{name: getattr(asked, name) for name in _ECHOED},
            "tools": asked.tools or [],
            "tool_choice": asked.tool_choice or "auto",
            "parallel_tool_calls": asked.parallel_tool_calls is not False,
            "text": {"format": {"type": "text"}} | (text.model_dump(exclude_none=True) if text else {}),
            "reasoning": {"effort": reasoning.effort if reasoning else None, "summary": None},
            "metadata": asked.metadata or {},
            "truncation": "disabled",
            "background": False,
            "store": False,
            "previous_response_id": None,
            "usage": None,
            **more,
        }


def _content(part: Part, text: str) -> dict[str, Any]:
    """The text of a part, so far, as the content of its item."""
    if part.kind == "text":
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": part.logprobs if text else []}
    if part.kind == "refusal":
        return {"type": "refusal", "refusal": text}
    return {"type": "reasoning_text", "text": text}


def _usage(usage: Mapping[str, int]) -> dict[str, Any]:
    """Counts of tokens; of what was cached or reasoned the router knows nothing."""
    return {
        "input_tokens": usage.get("prompt_tokens", 0),
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": usage.get("completion_tokens", 0),
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.get("total_tokens", 0),
    }
