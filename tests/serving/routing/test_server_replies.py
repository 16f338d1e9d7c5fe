"""Replies of servers: what is read, what is refused, and streams put together."""

from __future__ import annotations

from typing import Any

import pytest

from confide.serving.api_errors import ModelError
from confide.serving.routing.reply import Choice, Reply
from confide.serving.routing.server_logprobs import server_sources
from confide.serving.routing.server_replies import StreamReader, read_reply

ODD_CALLS: list[Any] = ["x", {"a": 1}, ["x"], [{"function": "x"}], [{"index": [0]}]]


@pytest.mark.parametrize(
    "data",
    [None, [], {}, {"choices": []}, {"choices": [None]}, {"choices": [{}]}, {"choices": [{"message": {"content": 5}}]},
     {"error": {"message": "x"}}, *({"choices": [{"message": {"tool_calls": calls}}]} for calls in ODD_CALLS)],
)  # fmt: skip
def test_what_is_no_completion_is_refused(data: Any) -> None:
    with pytest.raises(ValueError, match="choice"):
        read_reply(data)


def test_an_empty_answer_is_a_failure_that_is_not_the_servers() -> None:
    for content in ("", "<think>hm</think>"):
        with pytest.raises(ModelError, match="empty") as error:
            read_reply({"choices": [{"message": {"content": content}}]})
        assert not error.value.counts
        assert not error.value.again


def test_an_answer_cut_before_it_began_is_a_reply_without_a_confidence() -> None:
    reply = read_reply({"choices": [{"message": {"content": "<think>so"}, "finish_reason": "length"}]})
    assert (reply.choices[0].content, reply.choices[0].finish) == ("", "length")
    assert server_sources(reply) == {}


def test_a_reply_survives_being_cut_into_pieces() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    reply = Reply([Choice("Ja" * 100, "hm"), Choice(None, finish="tool_calls", more={"tool_calls": [call]})], 3, 4)
    reader = StreamReader()
    for piece in reply.pieces():
        reader.add({"choices": [{"index": piece.index, "delta": piece.delta}]})
    for index, choice in enumerate(reply.choices):
        reader.add({"choices": [{"index": index, "delta": {}, "finish_reason": choice.finish}]})
    reader.add({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}})
    assert reader.reply() == reply


@pytest.mark.parametrize("calls", ODD_CALLS)
def test_odd_tool_calls_in_a_stream_are_refused(calls: Any) -> None:
    with pytest.raises(ValueError, match="tool call"):
        StreamReader().add({"choices": [{"index": 0, "delta": {"tool_calls": calls}}]})


def test_pieces_of_another_kind_take_the_place_of_what_was_there() -> None:
    reader = StreamReader()
    for arguments in ({"x": 1}, None, '{"y": 2}', "!"):
        call = {"index": 0, "function": {"name": None, "arguments": arguments}}
        reader.add({"choices": [{"index": 0, "delta": {"tool_calls": [call], "refusal": [1]}}]})
    reader.add({"choices": [{"index": 0, "delta": {"refusal": "no"}, "finish_reason": "stop"}]})
    more = reader.reply().choices[0].more
    assert (more["tool_calls"][0]["function"], more["refusal"]) == ({"name": "", "arguments": '{"y": 2}!'}, "no")


def test_reasoning_that_only_ends_in_a_stream_is_not_graded() -> None:
    reader = StreamReader()
    for content in ("Kyoto, so", "...</think>\n\nJapan"):
        reader.add({"choices": [{"index": 0, "delta": {"content": content}}]})
    reader.add({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    (choice,) = reader.reply().choices
    assert (choice.reasoning, choice.content) == ("Kyoto, so...", "Japan")


def test_tool_calls_are_joined_from_their_pieces() -> None:
    reader = StreamReader()
    for part in (
        {"id": "c", "function": {"name": "look"}},
        {"function": {"arguments": '{"x"'}},
        {"function": {"arguments": ": 1}"}},
    ):
        reader.add({"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, **part}]}}]})
    reader.add({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]})
    (call,) = reader.reply().choices[0].more["tool_calls"]
    assert call == {"type": "function", "id": "c", "function": {"name": "look", "arguments": '{"x": 1}'}}
