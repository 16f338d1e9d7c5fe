"""The clients that people use, pointed at the router by its address alone."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_openai import ChatOpenAI
from pydantic import BaseModel, SecretStr

from confide.serving.api_keys import hash_key
from upstreams import Running, Upstream, expert_server, policy_file, router, small_server

KEY = "client-key-0123456789abcdef"
MESSAGES: list[openai.types.chat.ChatCompletionUserMessageParam] = [{"role": "user", "content": "Where is Kyoto?"}]


@pytest.fixture
def small() -> Iterator[Upstream]:
    with Upstream().running() as server:
        yield server


@pytest.fixture
def running(tmp_path: Path, small: Upstream) -> Iterator[Running]:
    with Upstream(answer="It is Japan").running() as big:
        settings = {"experts": [expert_server(big)], "api_keys": [hash_key(KEY)]}
        with router(tmp_path, small=small_server(small), **settings) as found:
            yield found


def test_the_official_client(running: Running, small: Upstream) -> None:
    client = openai.OpenAI(base_url=f"{running.url}/v1", api_key=KEY, max_retries=0)
    answer = client.chat.completions.create(model="gpt-4o", messages=MESSAGES, max_tokens=20)
    assert answer.choices[0].message.content == "Japan"
    assert answer.model_extra is not None
    assert answer.model_extra["confide"]["served"] == "small"
    raw = client.chat.completions.with_raw_response.create(model="any", messages=MESSAGES)
    assert raw.headers["X-Confide-Decision"] == "answer"
    small.probability = 0.2
    chunks = list(
        client.chat.completions.create(
            model="any", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
        )
    )
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "It is Japan"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 12
    assert (chunks[-1].model_extra or {})["confide"]["served"] == "expert"
    assert client.completions.create(model="any", prompt="Where?").choices[0].text == "It is Japan"
    assert [model.id for model in client.models.list()] == ["confide"]
    with pytest.raises(openai.BadRequestError, match="max_tokens is 9999"):
        client.chat.completions.create(model="any", messages=MESSAGES, max_tokens=9999)
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=f"{running.url}/v1", api_key="wrong").models.list()


def test_the_official_client_sees_errors_in_streams(tmp_path: Path, small: Upstream) -> None:
    small.probability = 0.2
    with (
        Upstream(behaviour=["break"]).running() as big,
        router(tmp_path, small=small_server(small), experts=[expert_server(big, retries=0)]) as running,
    ):
        client = openai.OpenAI(base_url=f"{running.url}/v1", api_key="none", max_retries=0)
        with pytest.raises(openai.APIError, match="broke off"):
            list(client.chat.completions.create(model="any", messages=MESSAGES, stream=True))


@pytest.mark.parametrize("mode", ["hold", "early"])
def test_the_official_client_takes_no_refusal_for_json(tmp_path: Path, small: Upstream, mode: str) -> None:
    class City(BaseModel):
        name: str

    small.probability = 0.05
    settings = {"policy": policy_file(tmp_path, abstain=0.1), "stream_mode": mode}
    with router(tmp_path, small=small_server(small), **settings) as running:
        client = openai.OpenAI(base_url=f"{running.url}/v1", api_key="none", max_retries=0)
        message = client.chat.completions.parse(model="any", messages=MESSAGES, response_format=City).choices[0].message
        assert message.parsed is None
        assert (message.refusal or "").startswith("I am not sure enough")
        with client.chat.completions.stream(model="any", messages=MESSAGES, response_format=City) as stream:
            assert stream.get_final_completion().choices[0].message.refusal == message.refusal


def test_langchain(running: Running) -> None:
    chat = ChatOpenAI(base_url=f"{running.url}/v1", api_key=SecretStr(KEY), model="any", max_retries=0)
    messages = [SystemMessage("Answer with the name only."), HumanMessage("Where is Kyoto?")]
    answer = chat.invoke(messages)
    assert answer.content == "Japan"
    assert answer.response_metadata["model_name"] == "small"
    assert "".join(str(chunk.content) for chunk in chat.stream(messages)) == "Japan"


def test_langchain_through_the_responses_api(running: Running, small: Upstream) -> None:
    """It sends its own turns back as items, and their output by the call's id."""
    chat = ChatOpenAI(
        base_url=f"{running.url}/v1", api_key=SecretStr(KEY), model="any", max_retries=0, use_responses_api=True
    )
    turns = [SystemMessage("Answer with the name only."), HumanMessage("Where is Kyoto?")]
    first = chat.invoke(turns)
    assert first.text == "Japan"
    assert "".join(chunk.text for chunk in chat.stream(turns)) == "Japan"
    assert chat.invoke([*turns, first, HumanMessage("And Lyon?")]).text == "Japan"
    assert [message["role"] for message in small.requests[-1]["messages"]] == ["system", "user", "assistant", "user"]
    call = {"name": "look", "args": {"x": 1}, "id": "call_1", "type": "tool_call"}
    called = [*turns, AIMessage("", tool_calls=[call]), ToolMessage("Japan", tool_call_id="call_1")]
    assert chat.invoke(called).text == "Japan"
    assert [message["role"] for message in small.requests[-1]["messages"]] == ["system", "user", "assistant", "tool"]


def test_curl(running: Running) -> None:
    done = subprocess.run(
        ["curl", "-s", f"{running.url}/v1/chat/completions", "-H", f"Authorization: Bearer {KEY}",
         "-H", "Content-Type: application/json", "-d", '{"messages": [{"role": "user", "content": "Where?"}]}'],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert '"content":"Japan"' in done.stdout
