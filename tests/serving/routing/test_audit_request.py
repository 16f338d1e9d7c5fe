"""An audit asks the expert for the answer alone, so that no client can make the expert refuse it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from confide.engines.openai.asked import Asked
from confide.serving.routing.audit_request import audit_request
from upstreams import Upstream, expert_server, router, small_server

# What a strict server of OpenAI's takes.
OPTIONS = {"model", "messages", "temperature", "top_p", "stop", "max_tokens", "max_completion_tokens", "tools",
           "tool_choice", "parallel_tool_calls", "logit_bias", "n", "response_format"}  # fmt: skip
EXTRA = ["cache_salt", "priority", "made_up", "other", "third", "repetition_penalty", "top_k", "min_p", "best_of"]


@dataclass
class Strict(Upstream):
    """A server that refuses what it does not know."""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        odd = set(body) - OPTIONS
        odd |= {key for message in body["messages"] for key in set(message) - {"role", "content", "tool_call_id"}}
        odd |= {
            key
            for message in body["messages"]
            if isinstance(message["content"], list)
            for part in message["content"]
            for key in set(part) - {"type", "text", "image_url"}
        }
        if not body.get("tools"):
            odd |= body.keys() & {"tools", "tool_choice", "parallel_tool_calls"}
        if odd or {"max_tokens", "max_completion_tokens"} <= set(body):
            return web.json_response({"error": {"message": "unrecognized argument"}}, status=400)
        return await super().handle(request)


@pytest.mark.parametrize(
    "more",
    [
        {"cache_salt": "x"},
        {"priority": 1},
        {"service_tier": "flex"},
        {"user": "u", "seed": 5, "metadata": {"a": "b"}, "store": True, "safety_identifier": "s"},
        {"made_up": False},
        {"made_up": [], "other": "", "third": {}},
        {"repetition_penalty": 1, "top_k": -1, "min_p": 0, "best_of": 1},
        {"tool_choice": "auto", "parallel_tool_calls": True},
        {"tools": []},
        {"max_tokens": 20, "max_completion_tokens": 30},
        {"messages": [{"role": "user", "content": "Where is Kyoto?", "made_up": 1}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Where?", "made_up": 1}]}]},
    ],
)
def test_no_inert_option_leaves_an_audit_without_a_label(tmp_path: Path, small: Upstream, more: dict[str, Any]) -> None:
    with (
        Strict(answer="China").running() as big,
        router(
            tmp_path,
            small=small_server(small, fields=EXTRA),
            experts=[expert_server(big, drop=EXTRA)],
            audit_share=1.0,
        ) as running,
    ):
        told = running.ask(**more).json()["confide"]
        assert (told["served"], told["unlike"]) == ("small", [])
        row = running.wait_for(lambda row: row["agreed"] is not None or row["error"] is not None)
        assert (row["agreed"], row["error"]) == (0, None)
        assert {key: small.requests[0][key] for key in more} == more  # the small server is asked as the client asked


def test_what_bears_on_the_answer_is_asked_too(tmp_path: Path, small: Upstream, big: Upstream) -> None:
    telling = {"temperature": 0.3, "stop": ["x"], "max_tokens": 20, "logit_bias": {"5": 1.0}, "made_up": 7}
    servers = {"small": small_server(small, fields=EXTRA), "experts": [expert_server(big, fields=EXTRA)]}
    with router(tmp_path, **servers, audit_share=1.0) as running:
        running.ask(**telling, seed=1, priority=3)
        running.wait_for(lambda row: row["agreed"] is not None)
        sent = big.requests[0]
        assert {key: value for key, value in sent.items() if key not in ("model", "messages")} == telling
        assert sent["messages"] == [{"role": "user", "content": "Where is Kyoto?"}]


def test_conversations_with_calls_and_images_are_whole() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    image = {"type": "image_url", "image_url": {"url": "x"}}
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "What is this?"}, image], "name": "Ann"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "5", "tool_call_id": "1"},
    ]
    asked = Asked(chat=True, messages=messages, options={"tools": [{"type": "function"}], "n": 2}, deadline=1.0, n=2)
    aside = audit_request(asked, 5.0)
    assert (aside.messages, aside.options, aside.n, aside.deadline) == (messages, asked.options, 2, 5.0)
    assert audit_request(Asked(chat=True, messages=[], options={}, deadline=1.0), 2.0).options == {}
