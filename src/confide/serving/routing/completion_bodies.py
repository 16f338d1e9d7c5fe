"""Completions and their chunks as clients get them: OpenAI's shape, with the decision in the field ``confide``."""

from __future__ import annotations

from typing import Any

from confide.engines.openai.reply import Delta, Reply
from confide.serving.routing.turn import Turn


def completion_body(turn: Turn, reply: Reply) -> dict[str, Any]:
    """A completion that is not streamed; reasoning text stands in ``reasoning_content``."""
    choices: list[dict[str, Any]] = []
    for index, choice in enumerate(reply.choices):
        message: dict[str, Any] = {"role": "assistant", "content": choice.content, **choice.more}
        if choice.reasoning:
            message["reasoning_content"] = choice.reasoning
        output = {"message": message} if turn.asked.chat else {"text": choice.text}
        choices.append(_choice(turn, index, output, choice.logprobs, choice.finish))
    body = _body(turn, "chat.completion", choices)
    return {**body, "usage": _usage(reply), "confide": turn.extension()}


def chunk_body(turn: Turn, piece: Delta, finish: str | None = None) -> dict[str, Any]:
    """One chunk of a stream; each carries one choice, since many clients read no further than the first.

    The first chunk of a choice says whose words they are.
    """
    role = {} if piece.index in turn.begun else {"role": "assistant"}
    turn.begun.add(piece.index)
    output = {"delta": role | piece.delta} if turn.asked.chat else {"text": piece.delta.get("content") or ""}
    return _body(turn, "chat.completion.chunk", [_choice(turn, piece.index, output, piece.logprobs, finish)])


def correction_chunk(turn: Turn, text: str) -> dict[str, Any]:
    """A chunk that says that what was streamed so far is not the answer."""
    mark = {"decision_id": turn.id, "decision": turn.decision, "supersedes": True}
    return {**chunk_body(turn, Delta({"content": text})), "confide": mark}


def last_chunks(turn: Turn, reply: Reply) -> list[dict[str, Any]]:
    """The chunks that end a stream: the end of every choice, the decision, and the usage where it is wanted."""
    chunks = [chunk_body(turn, Delta({}, index), choice.finish) for index, choice in enumerate(reply.choices)]
    chunks[-1]["confide"] = turn.extension()
    if turn.asked.include_usage:
        body = _body(turn, "chat.completion.chunk", [])
        chunks.append({**body, "usage": _usage(reply), "confide": turn.extension()})
    return chunks


def _body(turn: Turn, chat_object: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": ("chatcmpl-" if turn.asked.chat else "cmpl-") + turn.id.removeprefix("dec_"),
        "object": chat_object if turn.asked.chat else "text_completion",
        "created": int(turn.created),
        "model": turn.by or "",
        "choices": choices,
    }


def _choice(turn: Turn, index: int, output: dict[str, Any], logprobs: Any, finish: str | None) -> dict[str, Any]:
    return {"index": index, **output, "logprobs": logprobs if turn.asked.logprobs else None, "finish_reason": finish}


def _usage(reply: Reply) -> dict[str, int]:
    return {
        "prompt_tokens": reply.prompt_tokens,
        "completion_tokens": reply.completion_tokens,
        "total_tokens": reply.tokens,
    }
