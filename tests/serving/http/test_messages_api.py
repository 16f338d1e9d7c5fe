"""Anthropic's Messages API: which chat request asks the same, and what is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from upstreams import FakeModel, Running, Upstream, router, small_server

SCHEMA = {"type": "object", "properties": {"x": {"type": "integer"}}}
TOOL = {"name": "look", "description": "Looks.", "input_schema": SCHEMA}
CHAT_TOOL = {"type": "function", "function": {"name": "look", "description": "Looks.", "parameters": SCHEMA}}
USE = {"type": "tool_use", "id": "c1", "name": "look", "input": {"x": 1}}
CHAT_CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"x": 1}'}}
RESULT = {"type": "tool_result", "tool_use_id": "c1", "content": "Japan"}
HI = [{"role": "user", "content": "hi"}]


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def text(text: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": text, **more}


@pytest.fixture(scope="module")
def server() -> Iterator[Upstream]:
    with Upstream().running() as found:
        yield found


@pytest.fixture(scope="module")
def observing(server: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A router for many requests, which takes one field of a server's own."""
    small = small_server(server, fields=["top_p_min"])
    with router(tmp_path_factory.mktemp("router"), small=small, mode="observe") as found:
        yield found


SAME: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "text": ({"messages": [user("Where?")]}, {"messages": [user("Where?")]}),
    "a system prompt": (
        {"messages": [user("Where?")], "system": "Be short."},
        {"messages": [{"role": "system", "content": "Be short."}, user("Where?")]},
    ),
    "blocks": (
        {"messages": [user([text("Where?", cache_control={"type": "ephemeral"})])], "cache_control": None,
         "system": [text("Be short."), text("Be kind.", cache_control={"type": "ephemeral"})]},
        {"messages": [{"role": "system", "content": [text("Be short."), text("Be kind.")]}, user("Where?")]},
    ),
    "turns": (
        {"messages": [user("Hi"), {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "hm", "signature": "s"}, text("Hello", citations=None)]}, user("Where?")]},
        {"messages": [user("Hi"), {"role": "assistant", "content": "Hello"}, user("Where?")]},
    ),
    "tools": (
        {"messages": [user("Where?")], "tools": [
            {**TOOL, "eager_input_streaming": True}, {**TOOL, "type": "custom", "name": "see", "strict": True}],
         "tool_choice": {"type": "any", "disable_parallel_tool_use": True}},
        {"messages": [user("Where?")], "tool_choice": "required", "parallel_tool_calls": False,
         "tools": [CHAT_TOOL, {"type": "function", "function": {**CHAT_TOOL["function"], "name": "see",  # type: ignore[dict-item]
                                                                "strict": True}}]},
    ),
    "a named tool": (
        {"messages": [user("Where?")], "tools": [TOOL], "tool_choice": {"type": "tool", "name": "look"}},
        {"messages": [user("Where?")], "tools": [CHAT_TOOL],
         "tool_choice": {"type": "function", "function": {"name": "look"}}},
    ),
    "uses": (
        {"messages": [
            user("Where?"), {"role": "assistant", "content": [text("One moment."), USE, {**USE, "id": "c2"}]},
            user([RESULT, {**RESULT, "tool_use_id": "c2", "content": [text("China")], "is_error": True},
                  text("Well?")]),
        ]},
        {"messages": [
            user("Where?"),
            {"role": "assistant", "content": "One moment.", "tool_calls": [CHAT_CALL, {**CHAT_CALL, "id": "c2"}]},
            {"role": "tool", "tool_call_id": "c1", "content": "Japan"},
            {"role": "tool", "tool_call_id": "c2", "content": "China"},
            user("Well?"),
        ]},
    ),
    "a result without words": (
        {"messages": [user("Where?"), {"role": "assistant", "content": [USE]}, user([{**RESULT, "content": None}])]},
        {"messages": [user("Where?"), {"role": "assistant", "content": None, "tool_calls": [CHAT_CALL]},
                      {"role": "tool", "tool_call_id": "c1", "content": ""}]},
    ),
    "numbers": (
        {"messages": [user("Where?")], "temperature": 0.5, "top_p": 0.9, "stop_sequences": ["\n"],
         "metadata": {"user_id": "u"}, "top_p_min": 5},
        {"messages": [user("Where?")], "temperature": 0.5, "top_p": 0.9, "stop": ["\n"], "user": "u", "top_p_min": 5},
    ),
    "what says nothing": (
        {"messages": [user("Where?")], "thinking": {"type": "disabled"}, "service_tier": "auto", "mcp_servers": [],
         "stop_sequences": [], "tools": [], "system": "", "container": None},
        {"messages": [user("Where?")]},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", SAME)
def test_a_request_is_the_chat_request_that_asks_the_same(observing: Running, server: Upstream, case: str) -> None:
    message, chat = SAME[case]
    assert observing.post("/v1/messages", {**message, "max_tokens": 9}).status_code == 200
    assert observing.post("/v1/chat/completions", {**chat, "max_tokens": 9}).status_code == 200
    rows = observing.rows()[-2:]
    assert server.requests[-1] == server.requests[-2]
    same = ("request_shape", "question_hash", "unlike", "raw", "decision", "served")
    assert [rows[0][key] for key in same] == [rows[1][key] for key in same]
    assert json.loads(rows[0]["request_shape"])["max_tokens"] == 9


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"messages": []}, "messages: List should have at least 1"),
    ({"messages": None}, "messages: Input should be a valid array"),
    ({"messages": HI, "max_tokens": None}, "max_tokens: Input should be a valid integer"),
    ({"messages": HI, "max_tokens": 0}, "max_tokens: Input should be greater"),
    ({"messages": HI, "max_tokens": 5000}, "max_tokens is 5000, at most 4096"),
    ({"messages": [{"role": "system", "content": "x"}]}, r"messages\.0\.role: Input should be 'user' or 'assistant'"),
    ({"messages": [user("")]}, r"messages\.0\.content is a text or a list of blocks, and not empty"),
    ({"messages": [user([])]}, r"messages\.0\.content is a text or a list of blocks, and not empty"),
    ({"messages": [user(5)]}, r"messages\.0\.content is a text or a list of blocks"),
    ({"messages": [user(["x"])]}, r"messages\.0\.content\.0: a block of this type is not supported"),
    ({"messages": [user([text("")])]}, r"messages\.0\.content\.0\.text: String should have at least 1"),
    (
        {"messages": [user([{"type": "image", "source": {"type": "url", "url": "http://127.0.0.1:9"}}])]},
        r"messages\.0\.content\.0: image is not supported here; supported are text, tool_result",
    ),
    ({"messages": [user([{"type": "document"}])]}, "document is not supported here"),
    ({"messages": [user([{"type": "thinking", "thinking": "x"}])]}, "thinking is not supported here"),
    ({"messages": [user([USE])]}, "tool_use is not supported here"),
    ({"messages": [user([RESULT])]}, r"messages\.0\.content\.0: no tool_use before it has this id"),
    (
        {"messages": [user("x"), {"role": "assistant", "content": [USE]}, user([{**RESULT, "tool_use_id": "c2"}])]},
        r"messages\.2\.content\.0: no tool_use before it has this id",
    ),
    (
        {"messages": [user("x"), {"role": "assistant", "content": [USE]}, user([{**RESULT, "content": [USE]}])]},
        r"messages\.2\.content\.0\.content\.0: tool_use is not supported here",
    ),
    (
        {"messages": [user("x"), {"role": "assistant", "content": [{**USE, "input": "x"}]}, user("y")]},
        r"messages\.1\.content\.0\.input: Input should be a valid dictionary|Input should be an object",
    ),
    ({"messages": [user("x"), {"role": "assistant", "content": "It is"}]}, "the last turn is the user's"),
    ({"messages": [{**user("x"), "name": "n"}]}, r"messages\.0\.name: Extra"),
    ({"messages": HI, "system": 5}, "system is a text or a list of blocks"),
    ({"messages": HI, "system": [RESULT]}, r"system\.0: tool_result is not supported here; supported are text"),
    ({"messages": HI, "thinking": {"type": "enabled", "budget_tokens": 1024}}, r"thinking\.type: Input should be 'dis"),
    (
        {"messages": HI, "tools": [{"type": "web_search_20250305", "name": "web_search"}]},
        r"tools\.0: only tools that the client describes .* not web_search_20250305",
    ),
    ({"messages": HI, "tools": [{"name": "f"}]}, r"tools\.0\.input_schema: Field required"),
    ({"messages": HI, "tools": [TOOL], "tool_choice": {"type": "tool"}}, r"tool_choice\.name"),
    ({"messages": HI, "tool_choice": {"type": "maybe"}}, r"tool_choice\.type: Input should be"),
    ({"messages": HI, "tool_choice": "auto"}, "tool_choice: Input should be an object|valid dictionary"),
    ({"messages": HI, "mcp_servers": [{"url": "http://127.0.0.1:9"}]}, "mcp_servers is not supported on /v1/messages"),
    ({"messages": HI, "output_config": {"effort": "low"}}, "output_config is not supported"),
    ({"messages": HI, "speed": "fast"}, "speed is not supported on /v1/messages"),
    ({"messages": HI, "temperature": 1.5}, "temperature: Input should be less than or equal to 1"),
    ({"messages": HI, "metadata": {"user": "x"}}, r"metadata\.user: Extra"),
    ({"messages": HI, "top_k": 3}, "top_k is not known to any model behind this router"),
    ({"messages": HI, "n": 2}, "n is no field of this path"),
    ({"messages": HI, "service_tier": "flex"}, "service_tier: Input should be 'auto' or 'standard_only'"),
]


@pytest.mark.parametrize(("body", "why"), REFUSED, ids=str)
def test_what_is_not_supported_is_named(observing: Running, server: Upstream, body: Any, why: str) -> None:
    before = len(server.requests), len(observing.rows())
    response = observing.post("/v1/messages", {"max_tokens": 9, **body})
    assert response.status_code == 400, response.text
    error = response.json()
    assert (error["type"], error["error"]["type"]) == ("error", "invalid_request_error")
    assert re.match(why, error["error"]["message"]) or re.search(f": {why}", error["error"]["message"]), error
    assert (len(server.requests), len(observing.rows())) == before


TURNS = b'[{"role": "user", "content": "x"}, {"role": "assistant", "content": %s}, {"role": "user", "content": "y"}]'
ODD_USE = b'[{"type": "tool_use", "id": "c", "name": "f", "input": {"a": %s}}]'


@pytest.mark.parametrize(
    "messages",
    [
        *(b'[{"role": "user", "content": %s}]' % content for content in (
            b'"\\ud800"', b'[{"type": "text", "text": "\\ud800"}]', b"[" * 5000 + b"]" * 5000, b"{}", b"1e400",
            b'[{"type": "\\ud800"}]', b'[{"type": ["text"]}]',
        )),
        *(TURNS % (ODD_USE % odd) for odd in (b'"\\ud800"', b"NaN", b"[" * 5000 + b"]" * 5000)),
    ],
)  # fmt: skip
def test_what_cannot_be_passed_on_is_a_clean_400(observing: Running, messages: bytes) -> None:
    body = b'{"max_tokens": 9, "messages": %s}' % messages
    headers = {"Content-Type": "application/json"}
    response = httpx.post(f"{observing.url}/v1/messages", content=body, headers=headers, trust_env=False)
    assert response.status_code == 400, response.text
    assert response.json()["type"] == "error"


def test_a_body_of_ten_megabytes_is_too_large(observing: Running) -> None:
    response = observing.post("/v1/messages", {"max_tokens": 9, "messages": [user("x" * 10_000_000)]})
    assert response.status_code == 413
    assert response.json()["error"]["type"] == "request_too_large"


def test_refusals_of_models_name_this_apis_fields(tmp_path: Path) -> None:
    settings = {"model": FakeModel(), "small": {"model": "x"}, "mode": "observe"}
    with router(tmp_path, **settings) as running:
        for more, why in (
            ({"stop_sequences": ["x"]}, "stop_sequences is not supported by a small model in this process"),
            ({"tools": [TOOL]}, "tools is not supported by a small model in this process"),
            ({"temperature": 0.5}, "answers are greedy"),
        ):
            response = running.post("/v1/messages", {"max_tokens": 9, "messages": HI, **more})
            assert response.status_code == 400
            assert response.json()["error"]["message"].startswith(why)
        assert running.post("/v1/messages", {"max_tokens": 9, "messages": HI}).status_code == 200
