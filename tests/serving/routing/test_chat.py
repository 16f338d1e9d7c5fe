"""Replies: reasoning apart, streams put together."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confide.serving.http.api_errors import ModelError
from confide.serving.routing.chat import (
    Choice,
    Gathered,
    ReasoningSplitter,
    Reply,
    pieces_of,
    read_reply,
    split_reasoning,
)
from confide.serving.routing.server_logprobs import server_sources

ODD_CALLS: list[Any] = ["x", {"a": 1}, ["x"], [{"function": "x"}], [{"index": [0]}]]


@pytest.mark.parametrize(
    ("content", "reasoning", "answer"),
    [
        ("Japan", None, "Japan"),
        ("<think>\nhm\n</think>\n\nJapan", "hm", "Japan"),
        ("  <think></think>Japan", "", "Japan"),
        ("<think>cut off", "cut off", ""),
        ("hm</think>Japan", "hm", "Japan"),
        ("a <think> inside", None, "a <think> inside"),
    ],
)
def test_reasoning_is_split_off(content: str, reasoning: str | None, answer: str) -> None:
    assert split_reasoning(content) == (reasoning, answer)


@given(
    st.text("a< /think>\n", max_size=30),
    st.text("b< think>", max_size=30),
    st.booleans(),
    st.lists(st.integers(1, 9), max_size=30),
)
def test_a_stream_is_split_like_the_whole(thought: str, answer: str, thinks: bool, sizes: list[int]) -> None:
    content = f"<think>{thought}</think>{answer}" if thinks else f"x{answer}"
    splitter, at, found = ReasoningSplitter(), 0, []
    for size in [*sizes, len(content)]:
        found += splitter.feed(content[at : at + size])
        at += size
    found += splitter.finish()
    whole = split_reasoning(content)
    assert "".join(piece for reasoning, piece in found if not reasoning) == whole[1]
    assert "".join(piece for reasoning, piece in found if reasoning).strip() == (whole[0] or "")


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
    gathered = Gathered()
    for piece in pieces_of(reply):
        gathered.add({"choices": [{"index": piece.index, "delta": piece.delta}]})
    for index, choice in enumerate(reply.choices):
        gathered.add({"choices": [{"index": index, "delta": {}, "finish_reason": choice.finish}]})
    gathered.add({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}})
    assert gathered.reply() == reply


@pytest.mark.parametrize("calls", ODD_CALLS)
def test_odd_tool_calls_in_a_stream_are_refused(calls: Any) -> None:
    with pytest.raises(ValueError, match="tool call"):
        Gathered().add({"choices": [{"index": 0, "delta": {"tool_calls": calls}}]})


def test_pieces_of_another_kind_take_the_place_of_what_was_there() -> None:
    gathered = Gathered()
    for arguments in ({"x": 1}, None, '{"y": 2}', "!"):
        call = {"index": 0, "function": {"name": None, "arguments": arguments}}
        gathered.add({"choices": [{"index": 0, "delta": {"tool_calls": [call], "refusal": [1]}}]})
    gathered.add({"choices": [{"index": 0, "delta": {"refusal": "no"}, "finish_reason": "stop"}]})
    more = gathered.reply().choices[0].more
    assert (more["tool_calls"][0]["function"], more["refusal"]) == ({"name": "", "arguments": '{"y": 2}!'}, "no")


def test_reasoning_that_only_ends_in_a_stream_is_not_graded() -> None:
    gathered = Gathered()
    for content in ("Kyoto, so", "...</think>\n\nJapan"):
        gathered.add({"choices": [{"index": 0, "delta": {"content": content}}]})
    gathered.add({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    (choice,) = gathered.reply().choices
    assert (choice.reasoning, choice.content) == ("Kyoto, so...", "Japan")


def test_tool_calls_are_joined_from_their_pieces() -> None:
    gathered = Gathered()
    for part in (
        {"id": "c", "function": {"name": "look"}},
        {"function": {"arguments": '{"x"'}},
        {"function": {"arguments": ": 1}"}},
    ):
        gathered.add({"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, **part}]}}]})
    gathered.add({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]})
    (call,) = gathered.reply().choices[0].more["tool_calls"]
    assert call == {"type": "function", "id": "c", "function": {"name": "look", "arguments": '{"x": 1}'}}


def test_agreement_is_folded_and_unknown_for_what_is_no_text() -> None:
    japan = Reply([Choice("Japan")])
    assert japan.agrees(Reply([Choice(" japan.")])) is True
    assert japan.agrees(Reply([Choice("China")])) is False
    assert japan.agrees(Reply([Choice(None, more={"tool_calls": [{}]})])) is None
