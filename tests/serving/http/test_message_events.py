"""Answers in the Messages API, as Anthropic's own client reads them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anthropic
import httpx
import pytest
from anthropic.types import Message, RawMessageStreamEvent
from pydantic import TypeAdapter

from confide.serving.api_keys import hash_key
from upstreams import Running, Upstream, expert_server, policy_file, router, small_server

EVENT: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
ASKED: Any = [{"role": "user", "content": "Where is Kyoto?"}]
TOOL: Any = {"name": "look", "input_schema": {"type": "object"}}
KEY = "client-key-0123456789abcdef"


def client_of(running: Running, key: str = "none") -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=running.url, api_key=key, max_retries=0)


def streamed(running: Running, **more: Any) -> list[dict[str, Any]]:
    """The events of a stream, each of which must be one of Anthropic's."""
    body = {"messages": ASKED, "max_tokens": 9, "stream": True, **more}
    response = httpx.post(f"{running.url}/v1/messages", json=body, timeout=30, trust_env=False)
    assert response.headers["content-type"].startswith("text/event-stream")
    found = []
    for block in response.text.strip().split("\n\n"):
        name, data = block.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        if event["type"] not in ("ping", "error"):
            EVENT.validate_python(event)
        found.append(event)
    return found


def kinds(events: list[dict[str, Any]]) -> list[str]:
    """The types of events, those that repeat once."""
    names = [event["type"] for event in events]
    return [name for at, name in enumerate(names) if at == 0 or names[at - 1] != name]


BLOCK = ["content_block_start", "content_block_delta", "content_block_stop"]
ENDS = ["message_delta", "message_stop"]


def test_a_whole_message(tmp_path: Path, small: Upstream) -> None:
    with router(tmp_path, small=small_server(small), api_keys=[hash_key(KEY)]) as running:
        client = client_of(running, KEY)
        message = client.messages.create(model="any", max_tokens=9, messages=ASKED, system="Be short.")
        Message.model_validate(message.model_dump())
        assert [block.model_dump(exclude_unset=True) for block in message.content] == [
            {"type": "text", "text": "Japan"}
        ]
        assert (message.stop_reason, message.model, message.role) == ("end_turn", "small", "assistant")
        assert (message.usage.input_tokens, message.usage.output_tokens) == (10, 2)
        told = (message.model_extra or {})["confide"]
        assert message.id == "msg_" + told["decision_id"].removeprefix("dec_")
        raw = client.messages.with_raw_response.create(model="any", max_tokens=9, messages=ASKED)
        assert raw.headers["X-Confide-Decision"] == "answer"
        bearer = anthropic.Anthropic(base_url=running.url, auth_token=KEY, api_key=None, max_retries=0)
        assert bearer.messages.create(model="any", max_tokens=9, messages=ASKED).stop_reason == "end_turn"
        with pytest.raises(anthropic.AuthenticationError, match="a valid API key is needed"):
            client_of(running, "wrong").messages.create(model="any", max_tokens=9, messages=ASKED)
        assert len(running.rows()) == 3


@pytest.mark.parametrize("probability", [0.9, 0.2])
@pytest.mark.parametrize("mode", ["hold", "early"])
def test_a_stream_of_text(tmp_path: Path, small: Upstream, big: Upstream, mode: str, probability: float) -> None:
    small.probability = probability
    settings = {"experts": [expert_server(big)], "stream_mode": mode}
    with router(tmp_path, small=small_server(small), **settings) as running:
        events = streamed(running)
        assert kinds(events) == ["message_start", "ping", *BLOCK, *ENDS]
        text = "".join(event["delta"]["text"] for event in events if event["type"] == "content_block_delta")
        assert events[-2]["usage"] == {"input_tokens": 10, "output_tokens": 2}
        assert events[-2]["confide"]["served"] == ("small" if probability > 0.5 else "expert")
        marks = [event["confide"] for event in events[:-2] if "confide" in event]
        if probability > 0.5:
            assert (text, marks) == ("Japan", [])
        elif mode == "hold":
            assert (text, marks) == ("It is Japan", [])
        else:
            assert text == "Japan\n\n[answer by big]\n\nIt is Japan"
            assert [mark["supersedes"] for mark in marks] == [True]
        with client_of(running).messages.stream(model="any", max_tokens=9, messages=ASKED) as stream:
            seen = "".join(stream.text_stream)
            final = stream.get_final_message()
        assert seen == text
        assert [getattr(block, "text", None) for block in final.content] == [text]
        assert (final.stop_reason, final.usage.input_tokens, final.usage.output_tokens) == ("end_turn", 10, 2)


def test_uses_of_tools_and_their_results(tmp_path: Path, small: Upstream) -> None:
    """A conversation of two requests, whose second one holds the result of the first."""
    small.behaviour = ["tools", "tools", "ok"]
    with router(tmp_path, small=small_server(small), mode="observe") as running:
        client = client_of(running)
        first = client.messages.create(model="any", max_tokens=9, messages=ASKED, tools=[TOOL])
        with client.messages.stream(model="any", max_tokens=9, messages=ASKED, tools=[TOOL]) as stream:
            final = stream.get_final_message()
        for message in (first, final):
            [use] = message.content
            assert use.type == "tool_use"
            assert (use.name, use.input, use.id) == ("look", {"x": 1}, "call_1")
            assert message.stop_reason == "tool_use"
        result: Any = {"type": "tool_result", "tool_use_id": "call_1", "content": "Japan"}
        turns: Any = [*ASKED, {"role": "assistant", "content": first.content}, {"role": "user", "content": [result]}]
        last = client.messages.create(model="any", max_tokens=9, messages=turns, tools=[TOOL])
        assert last.content[0].model_dump()["text"] == "Japan"
    assert [message["role"] for message in small.requests[-1]["messages"]] == ["user", "assistant", "tool"]


@pytest.mark.parametrize(
    ("arguments", "read"),
    [('{"x": 1}', {"x": 1}), ("", {}), ('{"x": ', {"arguments": '{"x": '}), ("[1]", {"arguments": "[1]"}),
     ('{"x": NaN}', {"arguments": '{"x": NaN}'})],
)  # fmt: skip
def test_arguments_are_an_object_whatever_a_model_wrote(
    tmp_path: Path, small: Upstream, big: Upstream, arguments: str, read: dict[str, Any]
) -> None:
    pieces: list[dict[str, Any]] = [
        {"content": "One moment."},
        {"tool_calls": [{"index": 0, "id": "c1", "function": {"name": "look", "arguments": arguments[:3]}}]},
        {"tool_calls": [{"index": 1, "id": "c2", "function": {"name": "see", "arguments": "{}"}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": arguments[3:]}}]},
    ]
    choices = [{"index": 0, "delta": piece} for piece in pieces] + [{"index": 0, "finish_reason": "tool_calls"}]
    big.raw = [f"data: {json.dumps({'choices': [choice]})}\n\n".encode() for choice in choices] + [b"data: [DONE]\n\n"]
    small.probability = 0.2
    with router(tmp_path, small=small_server(small), experts=[expert_server(big)]) as running:
        events = streamed(running, tools=[TOOL])
        assert [event["index"] for event in events if "index" in event] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
        with client_of(running).messages.stream(model="a", max_tokens=9, messages=ASKED, tools=[TOOL]) as stream:
            final = stream.get_final_message()
    assert [block.model_dump(include={"name", "input"}) for block in final.content[1:]] == [
        {"name": "look", "input": read}, {"name": "see", "input": {}},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("word", "reason"),
    [("ok", "end_turn"), ("eos", "end_turn"), ("length", "max_tokens"), ("content_filter", "refusal"),
     ("refuse", "refusal"), ("tools", "tool_use"), ("odd", None)],
)  # fmt: skip
def test_why_an_answer_ended(tmp_path: Path, small: Upstream, word: str, reason: str | None) -> None:
    small.behaviour = [word]
    with router(tmp_path, small=small_server(small), mode="observe") as running:
        whole = running.post("/v1/messages", {"messages": ASKED, "max_tokens": 9}).json()
        assert whole["stop_reason"] == streamed(running)[-2]["delta"]["stop_reason"] == reason
        if word == "refuse":
            assert whole["content"] == [{"type": "text", "text": "I cannot help with that."}]


def test_reasoning_is_left_out(tmp_path: Path, small: Upstream) -> None:
    """Clients that did not ask for it take the first block for the answer."""
    small.behaviour = ["think"]
    with router(tmp_path, small=small_server(small), mode="observe") as running:
        message = client_of(running).messages.create(model="any", max_tokens=9, messages=ASKED)
        assert [block.model_dump(exclude_unset=True) for block in message.content] == [
            {"type": "text", "text": "Japan"}
        ]
        events = streamed(running)
        assert kinds(events) == ["message_start", "ping", *BLOCK, *ENDS]
        assert {event["index"] for event in events if "index" in event} == {0}


def test_abstaining_is_said_in_words(tmp_path: Path, small: Upstream) -> None:
    small.probability = 0.05
    with router(tmp_path, small=small_server(small), policy=policy_file(tmp_path, abstain=0.1)) as running:
        message = client_of(running).messages.create(model="any", max_tokens=9, messages=ASKED)
        assert message.content[0].model_dump()["text"].startswith("I am not sure enough")
        assert (message.model_extra or {})["confide"]["served"] == "abstained"


def test_an_answer_that_breaks_off_is_an_error(tmp_path: Path, small: Upstream, big: Upstream) -> None:
    small.probability, big.behaviour = 0.2, ["break"]
    with router(tmp_path, small=small_server(small), experts=[expert_server(big, retries=0)]) as running:
        events = streamed(running)
        assert events[-1] == {
            "type": "error",
            "error": {"type": "api_error", "message": "the expert's answer broke off"},
        }
        with (
            pytest.raises(anthropic.APIStatusError, match="broke off"),
            client_of(running).messages.stream(model="any", max_tokens=9, messages=ASKED) as stream,
        ):
            stream.get_final_message()


def test_errors_before_a_stream_are_statuses(tmp_path: Path, small: Upstream) -> None:
    small.behaviour = ["500"]
    with router(tmp_path, small=small_server(small, retries=0)) as running:
        client = client_of(running)
        for stream in (False, True):
            with pytest.raises(anthropic.InternalServerError, match="no model could answer"):
                client.messages.create(model="any", max_tokens=9, messages=ASKED, stream=stream)
        with pytest.raises(anthropic.BadRequestError, match="at most 4096"):
            client.messages.create(model="any", max_tokens=5000, messages=ASKED)
        with pytest.raises(anthropic.NotFoundError):
            client.messages.count_tokens(model="any", messages=ASKED)
