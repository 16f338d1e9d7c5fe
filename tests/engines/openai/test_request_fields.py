"""Which fields of a request are taken, by whom, under which name, and how the others are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_type_hints

import httpx
import pytest
from openai.types import completion_create_params as text_params
from openai.types.chat import completion_create_params as chat_params
from openai.types.chat.chat_completion_stream_options_param import ChatCompletionStreamOptionsParam

from confide.engines.openai.request_fields import CHAT_FIELDS, TEXT_FIELDS, as_sent
from confide.engines.openai.server_config import ServerModel
from confide.serving.http.request_bodies import StreamOptions
from upstreams import FakeModel, Upstream, events, expert_server, router, small_server

SMALL = {"model": "x"}
REFUSED = {"code": None, "type": "invalid_request_error"}


def test_the_list_is_that_of_the_official_client() -> None:
    """Fields that a later client has are added here when the client is brought up to date."""
    assert set(get_type_hints(chat_params.CompletionCreateParamsStreaming)) == CHAT_FIELDS
    assert set(get_type_hints(text_params.CompletionCreateParamsStreaming)) == TEXT_FIELDS
    assert set(get_type_hints(ChatCompletionStreamOptionsParam)) == set(StreamOptions.model_fields)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "more",
    [
        {"made_up": 1},
        {"top_k": 5},
        {"top_k": None},
        {"guided_json": {}},
        {"made_up": False},
        {"chat_template_kwargs": {"enable_thinking": True}},
        {"extra_body": {"top_k": 5}},
        {"prompt": "hi"},
        {"api_key": "sk"},
        {"__proto__": 1},
        {"best-of": 1},
    ],
)
def test_a_field_that_nobody_takes_is_refused_by_name(
    tmp_path: Path, small: Upstream, big: Upstream, more: dict[str, Any], stream: bool
) -> None:
    (name,) = more
    with router(tmp_path, small=small_server(small), experts=[expert_server(big)]) as running:
        response = running.ask(**more, stream=stream)
        assert response.status_code == 400
        error = response.json()["error"]
        assert name in error.pop("message")
        assert error == {**REFUSED, "param": name}
        assert not small.requests
        assert not running.rows()


def test_names_that_are_no_words_are_refused_without_repeating_them(tmp_path: Path, small: Upstream) -> None:
    with router(tmp_path, small=small_server(small)) as running:
        for name in ("x" * 5000, "a b", "é", "\\ud800", "", "\\u0000"):
            body = '{"messages": [{"role": "user", "content": "hi"}], "' + name + '": 1}'
            headers = {"Content-Type": "application/json"}
            response = httpx.post(f"{running.url}/v1/chat/completions", content=body, headers=headers, trust_env=False)
            assert (response.status_code, response.json()["error"]["param"]) == (400, None), name
            assert "x" * 100 not in response.text


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/completions", {"prompt": "hi", "tools": []}, "tools"),
        ("/v1/completions", {"prompt": "hi", "messages": []}, "messages"),
        ("/v1/completions", {"prompt": "hi", "best_of": 3}, "best_of"),
        ("/v1/chat/completions", {"stream": True, "stream_options": {"made_up": 1}}, "stream_options.made_up"),
        ("/v1/chat/completions", {"stream": True, "stream_options": {"continuous_usage_stats": True}},
         "stream_options.continuous_usage_stats"),
    ],
)  # fmt: skip
def test_every_path_has_its_own_fields(
    tmp_path: Path, small: Upstream, path: str, body: dict[str, Any], param: str
) -> None:
    asked = {"messages": [{"role": "user", "content": "hi"}]} if "chat" in path else {}
    with router(tmp_path, small=small_server(small)) as running:
        response = running.post(path, {**asked, **body})
        assert (response.status_code, response.json()["error"]["param"]) == (400, param)
        assert running.post("/v1/completions", {"prompt": "hi", "echo": False, "suffix": ""}).status_code == 200
        assert not small.requests[-1].keys() & {"echo", "suffix"}


@pytest.mark.parametrize(
    "more", [{"max_completion_tokens": 10**6}, {"response_format": "x"}, {"tools": 5}, {"messages": 1}]
)
def test_a_field_that_is_renamed_is_checked_as_before(tmp_path: Path, small: Upstream, more: dict[str, Any]) -> None:
    """Else a text completion could carry what is checked in chats alone, past every limit."""
    rename = {name: f"new_{name}" for name in more if name != "messages"}
    with router(tmp_path, small=small_server(small, fields=["response_format"], rename=rename)) as running:
        response = running.post("/v1/completions", {"prompt": "hi", **more})
        assert (response.status_code, response.json()["error"]["param"]) == (400, *more)
        assert running.ask(**more).status_code == 400


def test_every_field_of_the_api_reaches_a_server(tmp_path: Path, small: Upstream) -> None:
    said = {"verbosity": "low", "reasoning_effort": "low", "user": "u", "metadata": {"a": "b"}, "prediction": {"a": 1},
            "web_search_options": {}, "modalities": ["text"], "service_tier": "flex", "moderation": {}}  # fmt: skip
    with router(tmp_path, small=small_server(small)) as running:
        assert running.ask(**said).status_code == 200
        assert {name: small.requests[0][name] for name in said} == said


def test_a_field_that_both_take_reaches_both(tmp_path: Path, small: Upstream, big: Upstream) -> None:
    small.probability = 0.2
    experts = [expert_server(big, fields=["top_k", "guided_json"])]
    with router(tmp_path, small=small_server(small, fields=["top_k"]), experts=experts) as running:
        for stream in (False, True):
            assert running.ask(top_k=5, stream=stream).status_code == 200
            assert (small.requests[-1]["top_k"], big.requests[-1]["top_k"]) == (5, 5)
        assert running.post("/v1/completions", {"prompt": "hi", "top_k": 5}).status_code == 200
        # The small server does not know it, so an expert that does is asked.
        told = running.ask(guided_json={"a": 1}).json()["confide"]
        assert (told["served"], running.rows()[-1]["error"]) == ("expert", "small: unsupported")


def test_a_field_that_no_expert_takes_is_refused_however_sure_the_small_answer_is(
    tmp_path: Path, small: Upstream, big: Upstream, spare: Upstream
) -> None:
    small_one = small_server(small, fields=["top_k"])
    for probability in (0.9, 0.2):
        small.probability = probability
        with router(tmp_path, small=small_one, experts=[expert_server(big), expert_server(spare, "spare")]) as running:
            refused = running.ask(top_k=5)
            assert (refused.status_code, refused.json()["error"]["param"]) == (400, "top_k")
    with router(tmp_path, small=small_one, experts=[expert_server(big, drop=["top_k"])]) as running:
        assert running.ask(top_k=5).json()["confide"]["served"] == "expert"
        assert "top_k" not in big.requests[-1]
    taken = [expert_server(big), expert_server(spare, "spare", fields=["top_k"])]
    with router(tmp_path, small=small_one, experts=taken) as running:
        assert running.ask(top_k=5).json()["confide"]["answered_by"] == "spare"
        assert running.rows()[-1]["error"] == "big: unsupported"
    with router(tmp_path, small=small_one) as running:  # no expert, nobody to hand it over to
        assert running.ask(top_k=5).status_code == 503
        small.probability = 0.9
        assert running.ask(top_k=5).json()["confide"]["served"] == "small"


def test_observing_asks_the_small_model_alone_and_audits_need_an_expert(
    tmp_path: Path, small: Upstream, big: Upstream
) -> None:
    settings = {"mode": "observe", "experts": [expert_server(big, fields=["top_k"])]}
    with router(tmp_path, small=small_server(small), **settings) as running:
        assert running.ask(top_k=5).status_code == 400
        assert not running.rows()
    with router(tmp_path, small=small_server(small, drop=["top_k"]), **settings) as running:
        assert running.ask(top_k=5).status_code == 200
        assert "top_k" not in small.requests[-1]


def test_tools_take_no_field_but_those_that_may_be_dropped(tmp_path: Path, small: Upstream) -> None:
    small.probability = 0.2
    tool = {"name": "tool", "tool": "callables:always"}
    with router(tmp_path, small=small_server(small, fields=["top_k"]), experts=[tool]) as running:
        assert running.ask(top_k=5).status_code == 400
        assert running.ask(temperature=0.5).json()["confide"]["answered_by"] == "tool"
    experts = [{**tool, "drop": ["top_k"]}]
    with router(tmp_path, small=small_server(small, fields=["top_k"]), experts=experts) as running:
        assert running.ask(top_k=5).json()["confide"]["answered_by"] == "tool"
    again = [{"name": "more", "self": {"samples": 3}}]  # the small model again: its fields are known there
    with router(tmp_path, small=small_server(small, fields=["top_k"]), experts=again) as running:
        assert running.ask(top_k=5).json()["confide"]["answered_by"] == "more"
        assert small.requests[-1]["top_k"] == 5


def test_fields_are_renamed_and_dropped_for_each_server(tmp_path: Path, small: Upstream, big: Upstream) -> None:
    small.probability = 0.2
    bent = {"rename": {"max_tokens": "max_completion_tokens"}, "drop": ["seed", "stream_options", "logprobs"]}
    with router(tmp_path, small=small_server(small), experts=[expert_server(big, **bent)]) as running:
        for stream in (False, True):
            wanted = {"max_tokens": 9, "seed": 5, "logprobs": True, "top_logprobs": 2}
            assert running.ask(**wanted, stream=stream).status_code == 200
            assert (small.requests[-1]["max_tokens"], small.requests[-1]["seed"]) == (9, 5)
            assert big.requests[-1]["max_completion_tokens"] == 9
            assert not big.requests[-1].keys() & {
                "max_tokens", "seed", "stream_options", "logprobs", "top_logprobs",
            }  # fmt: skip
        assert big.checks[-1]["max_completion_tokens"] == 1


def test_two_names_of_one_limit_become_the_smaller() -> None:
    config = ServerModel(
        name="x", base_url="http://x/v1", model="m", rename={"max_tokens": "max_completion_tokens"}, drop=("user",)
    )
    for body in ({"max_tokens": 5, "max_completion_tokens": 9}, {"max_completion_tokens": 9, "max_tokens": 5}):
        assert as_sent(config, {**body, "user": "u", "n": 2}) == {"max_completion_tokens": 5, "n": 2}


def test_a_field_of_another_path_is_told_as_such(tmp_path: Path, small: Upstream) -> None:
    with router(tmp_path, small=small_server(small)) as running:
        turns = [{"role": "user", "content": "hi"}]
        for path, body, name in (
            ("/v1/completions", {"prompt": "hi", "messages": turns}, "messages"),
            ("/v1/chat/completions", {"messages": turns, "prompt": "hi"}, "prompt"),
        ):
            error = running.post(path, body).json()["error"]
            assert (error["message"], error["param"]) == (f"{name} is no field of this path", name)
        assert "made_up is not known to any model" in running.ask(made_up=1).json()["error"]["message"]


# -- the small model in this process ---------------------------------------------------------------------------------

NO_EFFECT: dict[str, Any] = {
    "user": "u", "metadata": {"a": "b"}, "store": True, "seed": 5, "service_tier": "flex", "safety_identifier": "s",
    "prompt_cache_key": "k", "prompt_cache_retention": "24h", "prediction": {"type": "content", "content": "x"},
    "top_p": 0.3, "temperature": 0, "n": 1, "stop": [], "logit_bias": {}, "tools": [], "tool_choice": "none",
    "parallel_tool_calls": True, "presence_penalty": 0, "frequency_penalty": 0.0, "modalities": ["text"],
    "response_format": {"type": "text"}, "logprobs": False, "top_logprobs": 0,
    "stream_options": {"include_usage": True}, "reasoning_effort": None, "max_completion_tokens": 9, "model": "any",
}  # fmt: skip


def test_fields_that_change_no_greedy_answer_pass(tmp_path: Path) -> None:
    with router(tmp_path, model=FakeModel(), small=SMALL) as running:
        for name, value in NO_EFFECT.items():
            assert running.ask(**{name: value}).status_code == 200, name
        assert running.ask(**NO_EFFECT).status_code == 200


@pytest.mark.parametrize(
    "more",
    [
        {"made_up": 1},
        {"chat_template_kwargs": {"enable_thinking": False}},
        {"top_k": 1},
        {"reasoning_effort": "high"},
        {"verbosity": "low"},
        {"web_search_options": {"a": 1}},
        {"modalities": ["text", "audio"]},
        {"audio": {"voice": "x"}},
        {"moderation": {"a": 1}},
        {"presence_penalty": 0.5},
        {"frequency_penalty": -1},
        {"logit_bias": {"5": 1}},
        {"functions": [{"name": "f"}]},
        {"function_call": {"name": "f"}},
        {"tool_choice": "required"},
        {"top_logprobs": 3},
        {"response_format": {"type": "json_schema"}},
    ],
)
def test_what_a_model_in_this_process_cannot_honour_is_refused_by_name(tmp_path: Path, more: dict[str, Any]) -> None:
    (name,) = more
    model = FakeModel()
    with router(tmp_path, model=model, small=SMALL, experts=[{"name": "t", "tool": "callables:always"}]) as running:
        for stream in (False, True):
            response = running.ask(**more, stream=stream)
            assert (response.status_code, response.json()["error"]["param"]) == (400, name)
    assert model.seen in ([], ["Hello"])


def test_what_it_cannot_honour_goes_to_a_server_that_takes_it(tmp_path: Path, big: Upstream) -> None:
    settings = {"model": FakeModel(), "small": SMALL}
    with router(tmp_path, **settings, experts=[expert_server(big, fields=["chat_template_kwargs"])]) as running:
        for more in ({"chat_template_kwargs": {"a": 1}}, {"reasoning_effort": "high"}):
            assert running.ask(**more).json()["confide"]["answered_by"] == "big"
            assert more.items() <= big.requests[-1].items()
            assert running.rows()[-1]["error"] == "small: unsupported"
        big.behaviour = ["400"]  # nobody is left who could be asked with it
        refused = running.ask(reasoning_effort="high")
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "reasoning_effort")
        assert "reasoning_effort" in refused.json()["error"]["message"]


def test_streams_name_the_field_too(tmp_path: Path, big: Upstream) -> None:
    settings = {"model": FakeModel(), "small": SMALL, "stream_mode": "early"}
    with router(tmp_path, **settings, experts=[expert_server(big)]) as running:
        big.behaviour = ["400"]
        response = running.ask(verbosity="low", stream=True)
        assert (response.status_code, response.json()["error"]["param"]) == (400, "verbosity")
        big.behaviour = ["ok"]
        assert events(running.ask(verbosity="low", stream=True))[-2]["confide"]["served"] == "expert"
        assert json.dumps(big.requests[-1]["verbosity"]) == '"low"'
