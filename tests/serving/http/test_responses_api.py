"""OpenAI's Responses API: which chat request asks the same, and what is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from confide.serving.api_errors import ApiError
from confide.serving.api_keys import hash_key
from confide.serving.http.responses_api import ResponsesRequest, as_chat
from upstreams import FakeModel, Running, Upstream, expert_server, router, small_server

SCHEMA = {"type": "object", "properties": {"x": {"type": "integer"}}}
FUNCTION = {"name": "look", "description": "Looks.", "parameters": SCHEMA}
CALL = {"type": "function_call", "call_id": "c1", "name": "look", "arguments": '{"x": 1}', "status": "completed"}
OUTPUT = {"type": "function_call_output", "call_id": "c1", "output": "Japan"}
CHAT_CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"x": 1}'}}


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def text(text: str, kind: str = "text") -> dict[str, Any]:
    return {"type": kind, "text": text}


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
    "text": ({"input": "Where?"}, {"messages": [user("Where?")]}),
    "instructions": (
        {"input": "Where?", "instructions": "Be short."},
        {"messages": [{"role": "system", "content": "Be short."}, user("Where?")]},
    ),
    "turns": (
        {"input": [
            {"role": "developer", "content": "Be short."}, {"type": "message", **user("Hi")},
            {"id": "rs_1", "type": "reasoning", "summary": []},
            {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "phase": None,
             "content": [{"type": "output_text", "text": "Hello", "annotations": [], "logprobs": []}]},
            user([text("Where?", "input_text")]),
        ]},
        {"messages": [
            {"role": "developer", "content": "Be short."}, user("Hi"), {"role": "assistant", "content": "Hello"},
            user("Where?"),
        ]},
    ),
    "parts": (
        {"input": [user([text("Where", "input_text"), text("is it?", "input_text")])]},
        {"messages": [user([text("Where"), text("is it?")])]},
    ),
    "tools": (
        {"input": "Where?", "tools": [{"type": "function", **FUNCTION, "strict": None}], "tool_choice": "required",
         "parallel_tool_calls": False},
        {"messages": [user("Where?")], "tools": [{"type": "function", "function": FUNCTION}],
         "tool_choice": "required", "parallel_tool_calls": False},
    ),
    "a named tool": (
        {"input": "Where?", "tools": [{"type": "function", **FUNCTION, "strict": True}],
         "tool_choice": {"type": "function", "name": "look"}},
        {"messages": [user("Where?")], "tools": [{"type": "function", "function": {**FUNCTION, "strict": True}}],
         "tool_choice": {"type": "function", "function": {"name": "look"}}},
    ),
    "calls": (
        {"input": [user("Where?"), {"role": "assistant", "content": "One moment."}, CALL,
                   {**CALL, "call_id": "c2", "id": "fc_2"}, OUTPUT,
                   {**OUTPUT, "call_id": "c2", "output": [text("China", "input_text")]}]},
        {"messages": [
            user("Where?"),
            {"role": "assistant", "content": "One moment.", "tool_calls": [CHAT_CALL, {**CHAT_CALL, "id": "c2"}]},
            {"role": "tool", "tool_call_id": "c1", "content": "Japan"},
            {"role": "tool", "tool_call_id": "c2", "content": "China"},
        ]},
    ),
    "a call alone": (
        {"input": [user("Where?"), CALL, OUTPUT]},
        {"messages": [user("Where?"), {"role": "assistant", "content": None, "tool_calls": [CHAT_CALL]},
                      {"role": "tool", "tool_call_id": "c1", "content": "Japan"}]},
    ),
    "a refusal": (
        {"input": [user("How?"), {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}, user("?")]},
        {"messages": [user("How?"), {"role": "assistant", "content": None, "refusal": "No."}, user("?")]},
    ),
    "a schema": (
        {"input": "Where?", "text": {"format": {"type": "json_schema", "name": "place", "schema": SCHEMA,
                                                "strict": True}}},
        {"messages": [user("Where?")], "response_format": {
            "type": "json_schema", "json_schema": {"name": "place", "schema": SCHEMA, "strict": True}}},
    ),
    "json": (
        {"input": "Where?", "text": {"format": {"type": "json_object"}, "verbosity": "low"}},
        {"messages": [user("Where?")], "response_format": {"type": "json_object"}, "verbosity": "low"},
    ),
    "numbers": (
        {"input": "Where?", "temperature": 0.5, "top_p": 0.9, "max_output_tokens": 9, "user": "u",
         "prompt_cache_options": {"ttl": "30m"},
         "reasoning": {"effort": "low"}, "include": ["message.output_text.logprobs"], "top_logprobs": 2},
        {"messages": [user("Where?")], "temperature": 0.5, "top_p": 0.9, "max_tokens": 9, "user": "u",
         "prompt_cache_options": {"ttl": "30m"},
         "reasoning_effort": "low", "logprobs": True, "top_logprobs": 2},
    ),
    "what says nothing": (
        {"input": "Where?", "store": True, "metadata": {"a": "b"}, "truncation": "disabled", "include": [],
         "previous_response_id": None, "background": False, "text": {"format": {"type": "text"}}, "tools": [],
         "conversation": None, "reasoning": {"effort": None, "summary": None}},
        {"messages": [user("Where?")]},
    ),
    "a field of a server's own": (
        {"input": "Where?", "top_p_min": 5}, {"messages": [user("Where?")], "top_p_min": 5},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", SAME)
def test_a_request_is_the_chat_request_that_asks_the_same(observing: Running, server: Upstream, case: str) -> None:
    """The server is asked the same, and the row says so: nothing below the path knows which API it was."""
    response, chat = SAME[case]
    assert observing.post("/v1/responses", response).status_code == 200
    assert observing.post("/v1/chat/completions", chat).status_code == 200
    rows = observing.rows()[-2:]
    assert server.requests[-1] == server.requests[-2]
    same = ("request_shape", "question_hash", "unlike", "raw", "decision", "served")
    assert [rows[0][key] for key in same] == [rows[1][key] for key in same]
    assert json.loads(rows[0]["request_shape"])["turns"] >= 1


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({}, "input", "required"),
    ({"input": ""}, "input", "not empty"),
    ({"input": []}, "input", "not empty"),
    ({"input": 5}, "input", "a text or a list of items"),
    ({"input": {"role": "user"}}, "input", "a text or a list of items"),
    ({"input": ["hi"]}, "input.0.type", "an item is"),
    ({"input": [None]}, "input.0.type", "an item is"),
    ({"input": [{"type": "reasoning", "summary": []}]}, "input", "at least 1"),
    ({"input": [{"type": "item_reference", "id": "x"}]}, "input.0.type", "not item_reference"),
    ({"input": [{"type": {"a": 1}}]}, "input.0.type", "not anything else"),
    ({"input": [{"role": "king", "content": "x"}]}, "input.0.role", "Input should be"),
    ({"input": [{"role": "user"}]}, "input.0.content", "required"),
    ({"input": [{"role": "user", "content": []}]}, "input.0.content", "not empty"),
    (
        {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]},
        "input.0.content.0.type",
        "only text is supported on /v1/responses, not input_image",
    ),
    ({"input": [{"role": "user", "content": [{"type": "refusal", "refusal": "x"}]}]}, "input.0.content.0.type", "only"),
    ({"input": [{"role": "user", "content": [text("x", "input_text") | {"y": 1}]}]}, "input.0.content.0.y", "Extra"),
    ({"input": [{"role": "user", "content": "x", "weight": 2}]}, "input.0.weight", "Extra"),
    ({"input": [OUTPUT]}, "input.0.call_id", "no call before it"),
    ({"input": [CALL, {**OUTPUT, "call_id": "c2"}]}, "input.1.call_id", "no call before it"),
    ({"input": [CALL, {**OUTPUT, "output": 5}]}, "input.1.output", "a text or a list of parts"),
    ({"input": [{**CALL, "arguments": {"x": 1}}]}, "input.0.arguments", "valid string"),
    ({"input": "x", "previous_response_id": "resp_1"}, "previous_response_id", "send the earlier turns in input"),
    ({"input": "x", "conversation": "conv_1"}, "conversation", "send the earlier turns in input"),
    ({"input": "x", "background": True}, "background", "no responses are kept"),
    ({"input": "x", "prompt": {"id": "p"}}, "prompt", "no prompts are kept"),
    ({"input": "x", "max_tool_calls": 3}, "max_tool_calls", "not supported on /v1/responses"),
    ({"input": "x", "truncation": "auto"}, "truncation", "disabled"),
    ({"input": "x", "include": ["reasoning.encrypted_content"]}, "include.0", "can be included"),
    ({"input": "x", "reasoning": {"summary": "auto"}}, "reasoning.summary", "None"),
    ({"input": "x", "tools": [{"type": "web_search"}]}, "tools.0.type", "type function are supported.*not web_search"),
    ({"input": "x", "tools": [{"type": "mcp", "server_url": "http://127.0.0.1:9"}]}, "tools.0.type", "not mcp"),
    ({"input": "x", "tools": [{"type": "function"}]}, "tools.0.name", "required"),
    ({"input": "x", "tools": [{"type": "function", "function": {"name": "f"}}]}, "tools.0.name", "required"),
    ({"input": "x", "tool_choice": {"type": "web_search"}}, "tool_choice", "a function by its name"),
    ({"input": "x", "tool_choice": "maybe"}, "tool_choice", "auto, none, required"),
    ({"input": "x", "text": {"format": {"type": "grammar"}}}, "text.format.type", "not grammar"),
    ({"input": "x", "text": {"format": {"type": "json_schema", "name": "n"}}}, "text.format.schema", "required"),
    ({"input": "x", "metadata": {"a": 5}}, "metadata.a", "valid string"),
    ({"input": "x", "metadata": {str(n): "" for n in range(17)}}, "metadata", "at most 16"),
    ({"input": "x", "metadata": {"a": "x" * 513}}, "metadata.a", "at most 512"),
    ({"input": "x", "max_output_tokens": 5000}, "max_output_tokens", "^max_output_tokens is 5000, at most 4096"),
    ({"input": "x", "temperature": 3}, "temperature", "less than or equal to 2"),
    ({"input": "x", "temperature": "1"}, "temperature", "valid number"),
    ({"input": "x", "stream": "yes"}, "stream", "boolean"),
    ({"input": "x", "n": 2}, "n", "no field of this path"),
    ({"input": "x", "messages": []}, "messages", "no field of this path"),
    ({"input": "x", "top_k": 2}, "top_k", "not known to any model"),
]


@pytest.mark.parametrize(("body", "param", "why"), REFUSED, ids=str)
def test_what_is_not_supported_is_named(observing: Running, server: Upstream, body: Any, param: str, why: str) -> None:
    before = len(server.requests), len(observing.rows())
    response = observing.post("/v1/responses", body)
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert error["param"] == param, error
    assert re.search(why, error["message"]), error
    assert (len(server.requests), len(observing.rows())) == before


@pytest.mark.parametrize(
    "body",
    [
        b'{"input": "\\ud800"}',
        b'{"input": [{"role": "user", "content": "\\ud800"}]}',
        b'{"input": "x", "instructions": "\\ud800"}',
        b'{"input": "x", "metadata": {"a": "\\udfff"}}',
        b'{"input": "x", "metadata": {"\\udfff": "a"}}',
        b'{"input": "x", "tools": [{"type": "function", "name": "f", "parameters": {"a": "\\ud800"}}]}',
        b'{"input": "x", "tools": [{"type": "function", "name": "f", "parameters": {"a": NaN}}], "temperature": NaN}',
        b'{"input": "x", "text": {"format": {"type": "json_schema", "name": "n", "schema": {"\\ud800": 1}}}}',
        b'{"input": ' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"input": "x", "text": {"format": {"type": "json_schema", "name": "n", "schema": {"a": '
        + b"[" * 3000 + b"]" * 3000 + b"}}}}",
        b"[]", b"", b"null", b'"input"', b"\xff",
    ],
)  # fmt: skip
def test_what_cannot_be_passed_on_is_a_clean_400(observing: Running, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    response = httpx.post(f"{observing.url}/v1/responses", content=body, headers=headers, trust_env=False)
    assert response.status_code == 400, response.text
    assert set(response.json()["error"]) == {"message", "type", "param", "code"}


def test_a_body_of_ten_megabytes_is_too_large(observing: Running) -> None:
    assert observing.post("/v1/responses", {"input": "x" * 10_000_000}).status_code == 413


def test_refusals_of_models_name_this_apis_fields(tmp_path: Path) -> None:
    """A small model in this process writes neither JSON nor calls, and there is no expert."""
    settings = {"model": FakeModel(), "small": {"model": "x"}, "mode": "observe"}
    wanted = {"format": {"type": "json_object"}}
    with router(tmp_path, **settings) as running:
        for more, param in (
            ({"text": wanted}, "text.format"),
            ({"include": ["message.output_text.logprobs"]}, "include"),
            ({"reasoning": {"effort": "low"}}, "reasoning.effort"),
            ({"tools": [{"type": "function", "name": "f"}]}, "tools"),
        ):
            error = running.post("/v1/responses", {"input": "Where?", **more}).json()["error"]
            assert error["param"] == param
            if param != "include":
                assert error["message"].startswith(param), error
        assert running.post("/v1/responses", {"input": "Where?", "temperature": 0}).status_code == 200


def test_scopes_domains_ids_and_audits_are_those_of_a_chat(tmp_path: Path, small: Upstream, big: Upstream) -> None:
    keys = [{"name": "app", "hash": hash_key("a" * 30), "domains": ["hard"]}]
    settings = {"experts": [expert_server(big)], "audit_share": 1.0, "api_keys": keys}
    headers = {"Authorization": f"Bearer {'a' * 30}", "X-Request-Id": "r1"}
    with router(tmp_path, small=small_server(small), **settings) as running:
        named = {**headers, "X-Confide-Domain": "hard"}
        response = running.post("/v1/responses", {"input": "Where is Kyoto?"}, named)
        row = running.wait_for(lambda row: row["agreed"] is not None)
        assert (row["domain"], row["request_id"], row["key"], row["agreed"]) == ("hard", "r1", "app", 0)
        assert response.headers["X-Confide-Decision-Id"] == response.json()["confide"]["decision_id"] == row["id"]
        assert response.headers["X-Confide-Served"] == "small"
        assert big.requests[0]["messages"] == small.requests[0]["messages"]
        other = {**headers, "X-Confide-Domain": "easy"}
        assert running.post("/v1/responses", {"input": "x"}, other).status_code == 403


def test_fields_named_in_the_configuration_do_not_hide_chats_own() -> None:
    body = ResponsesRequest.model_validate({"input": "x", "seed": 1})
    with pytest.raises(ApiError, match="seed is no field of this path"):
        as_chat(body, frozenset({"seed"}))
