"""Answers in the Responses API, as OpenAI's own client reads them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import BaseModel, TypeAdapter

from upstreams import Running, Upstream, expert_server, policy_file, router, small_server

EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
TOOL: Any = {"type": "function", "name": "look", "parameters": {"type": "object"}, "strict": False}


def client_of(running: Running) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{running.url}/v1", api_key="none", max_retries=0)


def streamed(running: Running, **more: Any) -> list[dict[str, Any]]:
    """The events of a stream, each of which must be one of OpenAI's."""
    body = {"input": "Where is Kyoto?", "stream": True, **more}
    response = httpx.post(f"{running.url}/v1/responses", json=body, timeout=30, trust_env=False)
    assert response.headers["content-type"].startswith("text/event-stream")
    found = []
    for block in response.text.strip().split("\n\n"):
        name, data = block.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        EVENT.validate_python(event)
        found.append(event)
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    return found


def kinds(events: list[dict[str, Any]]) -> list[str]:
    """The types of events, those that repeat once."""
    names = [event["type"].removeprefix("response.") for event in events]
    return [name for at, name in enumerate(names) if at == 0 or names[at - 1] != name]


ONE_TEXT = [
    "created", "in_progress", "output_item.added", "content_part.added", "output_text.delta", "output_text.done",
    "content_part.done", "output_item.done", "completed",
]  # fmt: skip


def test_a_whole_response(tmp_path: Path, small: Upstream) -> None:
    with router(tmp_path, small=small_server(small)) as running:
        client = client_of(running)
        response = client.responses.create(
            model="any", input="Where is Kyoto?", instructions="Be short.", metadata={"a": "b"}, store=False,
            max_output_tokens=9, temperature=0, tools=[TOOL], tool_choice="auto",
        )  # fmt: skip
        Response.model_validate(response.model_dump())
        assert response.output_text == "Japan"
        assert (response.status, response.model, response.metadata) == ("completed", "small", {"a": "b"})
        assert (response.instructions, response.max_output_tokens) == ("Be short.", 9)
        assert response.usage is not None
        assert (response.usage.input_tokens, response.usage.output_tokens, response.usage.total_tokens) == (10, 2, 12)
        told = (response.model_extra or {})["confide"]
        assert (told["served"], told["unlike"]) == ("small", ["tools"])
        assert response.id == "resp_" + told["decision_id"].removeprefix("dec_")
        raw = client.responses.with_raw_response.create(model="any", input="Where is Kyoto?")
        assert raw.headers["X-Confide-Decision"] == "answer"


@pytest.mark.parametrize("probability", [0.9, 0.2])
@pytest.mark.parametrize("mode", ["hold", "early"])
def test_a_stream_of_text(tmp_path: Path, small: Upstream, big: Upstream, mode: str, probability: float) -> None:
    small.probability = probability
    settings = {"experts": [expert_server(big)], "stream_mode": mode}
    with router(tmp_path, small=small_server(small), **settings) as running:
        events = streamed(running)
        assert kinds(events) == ONE_TEXT
        text = "".join(event["delta"] for event in events if event["type"].endswith("text.delta"))
        last = events[-1]["response"]
        assert last["output"][0]["content"][0]["text"] == text
        assert events[-2]["item"] == last["output"][0]
        assert last["usage"]["total_tokens"] == 12
        assert last["confide"]["served"] == ("small" if probability > 0.5 else "expert")
        assert last["model"] == ("small" if probability > 0.5 else "big")
        marks = [event["confide"] for event in events if "confide" in event]
        if probability > 0.5:
            assert (text, marks) == ("Japan", [])
        elif mode == "hold":
            assert (text, marks) == ("It is Japan", [])
        else:
            assert text == "Japan\n\n[answer by big]\n\nIt is Japan"
            assert [mark["supersedes"] for mark in marks] == [True]
        with client_of(running).responses.stream(model="any", input="Where is Kyoto?") as stream:
            seen = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
            final = stream.get_final_response()
        assert seen == final.output_text == text
        assert len(running.rows()) == 2


def test_calls_of_tools_and_what_they_gave(tmp_path: Path, small: Upstream) -> None:
    """A conversation of two requests, whose second one holds the output of the first."""
    small.behaviour = ["tools", "tools", "ok"]
    with router(tmp_path, small=small_server(small), mode="observe") as running:
        client = client_of(running)
        asked: Any = [{"role": "user", "content": "Where is Kyoto?"}]
        first = client.responses.create(model="any", input=asked, tools=[TOOL])
        with client.responses.stream(model="any", input=asked, tools=[TOOL]) as stream:
            events = list(stream)
            final = stream.get_final_response()
        for response in (first, final):
            [call] = response.output
            assert call.type == "function_call"
            assert (call.name, call.arguments, call.call_id) == ("look", '{"x": 1}', "call_1")
        told = [event.type.removeprefix("response.") for event in events]
        assert told == [
            "created", "in_progress", "output_item.added", "function_call_arguments.delta",
            "function_call_arguments.done", "output_item.done", "completed",
        ]  # fmt: skip
        asked += first.output
        asked.append({"type": "function_call_output", "call_id": "call_1", "output": "Japan"})
        assert client.responses.create(model="any", input=asked, tools=[TOOL]).output_text == "Japan"
    roles = [message["role"] for message in small.requests[-1]["messages"]]
    assert roles == ["user", "assistant", "tool"]


def test_calls_that_an_expert_streams_in_pieces(tmp_path: Path, small: Upstream, big: Upstream) -> None:
    pieces: list[dict[str, Any]] = [
        {"content": "One moment."},
        {"tool_calls": [{"index": 0, "id": "c1", "function": {"name": "look", "arguments": ""}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"x"'}}]},
        {"tool_calls": [{"index": 1, "id": "c2", "function": {"name": "see", "arguments": "{}"}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": ": 1}"}}]},
    ]
    choices = [{"index": 0, "delta": piece} for piece in pieces] + [{"index": 0, "finish_reason": "tool_calls"}]
    big.raw = [f"data: {json.dumps({'choices': [choice]})}\n\n".encode() for choice in choices] + [b"data: [DONE]\n\n"]
    small.probability = 0.2
    with router(tmp_path, small=small_server(small), experts=[expert_server(big)]) as running:
        output = streamed(running, tools=[TOOL])[-1]["response"]["output"]
        assert [item["type"] for item in output] == ["message", "function_call", "function_call"]
        assert [(item["name"], item["arguments"]) for item in output[1:]] == [("look", '{"x": 1}'), ("see", "{}")]


def test_reasoning_is_an_item_of_its_own(tmp_path: Path, small: Upstream) -> None:
    small.behaviour = ["think"]
    with router(tmp_path, small=small_server(small), mode="observe") as running:
        response = client_of(running).responses.create(model="any", input="Where is Kyoto?")
        assert [item.type for item in response.output] == ["reasoning", "message"]
        assert response.output_text == "Japan"
        events = streamed(running)
        assert [kind for kind in kinds(events) if kind.startswith("reasoning")] == [
            "reasoning_text.delta", "reasoning_text.done",
        ]  # fmt: skip
        whole = [item.model_dump(exclude={"id"}, exclude_unset=True) for item in response.output]
        assert [{**item, "id": None} for item in events[-1]["response"]["output"]] == [
            {**item, "id": None} for item in whole
        ]


@pytest.mark.parametrize(
    ("word", "status", "why"),
    [("ok", "completed", None), ("eos", "completed", None), ("length", "incomplete", {"reason": "max_output_tokens"}),
     ("content_filter", "incomplete", {"reason": "content_filter"}), ("odd", "incomplete", {"reason": None})],
)  # fmt: skip
def test_why_an_answer_ended(tmp_path: Path, small: Upstream, word: str, status: str, why: Any) -> None:
    small.behaviour = [word]
    with router(tmp_path, small=small_server(small), mode="observe") as running:
        for last in (
            running.post("/v1/responses", {"input": "Where?"}).json(),
            streamed(running)[-1]["response"],
        ):
            assert (last["status"], last["incomplete_details"]) == (status, why)
            assert last["output"][-1]["status"] == status


def test_a_refusal_is_no_text(tmp_path: Path, small: Upstream) -> None:
    """Where JSON is wanted, clients must not read the router's sentence as such."""

    class City(BaseModel):
        name: str

    small.probability = 0.05
    with router(tmp_path, small=small_server(small), policy=policy_file(tmp_path, abstain=0.1)) as running:
        client = client_of(running)
        parsed = client.responses.parse(model="any", input="Where is Kyoto?", text_format=City)
        assert parsed.output_parsed is None
        [part] = parsed.output[0].content  # type: ignore[union-attr]
        assert part.type == "refusal"
        assert part.refusal.startswith("I am not sure enough")
        with client.responses.stream(model="any", input="Where is Kyoto?", text_format=City) as stream:
            assert "response.refusal.done" in [event.type for event in stream]
        assert client.responses.create(model="any", input="Where?").output_text.startswith("I am not sure enough")


def test_log_probabilities(tmp_path: Path, small: Upstream) -> None:
    with router(tmp_path, small=small_server(small)) as running:
        wanted: Any = ["message.output_text.logprobs"]
        response = client_of(running).responses.create(model="any", input="Where?", include=wanted)
        [part] = response.output[0].content  # type: ignore[union-attr]
        assert [token.token for token in part.logprobs] == ["Jap", "an"]
        events = streamed(running, include=wanted)
        deltas = [token for event in events if event["type"].endswith("text.delta") for token in event["logprobs"]]
        assert deltas == events[-1]["response"]["output"][0]["content"][0]["logprobs"] != []
        assert streamed(running)[-1]["response"]["output"][0]["content"][0]["logprobs"] == []


def test_an_answer_that_breaks_off_has_failed(tmp_path: Path, small: Upstream, big: Upstream) -> None:
    small.probability, big.behaviour = 0.2, ["break"]
    with router(tmp_path, small=small_server(small), experts=[expert_server(big, retries=0)]) as running:
        events = list(client_of(running).responses.create(model="any", input="Where is Kyoto?", stream=True))
        last = events[-1]
        assert last.type == "response.failed"
        assert (last.response.status, last.response.error and last.response.error.code) == ("failed", "server_error")
        assert "broke off" in (last.response.error.message if last.response.error else "")
        assert last.response.output[0].status == "incomplete"  # type: ignore[union-attr]
        assert last.response.output_text == "It "
        assert running.rows()[0]["served"] == "error"


def test_errors_before_a_stream_are_statuses(tmp_path: Path, small: Upstream) -> None:
    small.behaviour = ["500"]
    with router(tmp_path, small=small_server(small, retries=0)) as running:
        client = client_of(running)
        for stream in (False, True):
            with pytest.raises(openai.InternalServerError, match="no model could answer"):
                client.responses.create(model="any", input="Where is Kyoto?", stream=stream)
        with pytest.raises(openai.BadRequestError, match="send the earlier turns in input") as caught:
            client.responses.create(model="any", input="x", previous_response_id="resp_1")
        assert caught.value.param == "previous_response_id"
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve("resp_1")
