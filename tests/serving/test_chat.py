"""Replies: reasoning apart, log-probabilities matched to the answer, streams put together."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confide.serving.chat import (
    Choice,
    Gathered,
    ReasoningSplitter,
    Reply,
    answer_logprobs,
    pieces_of,
    read_reply,
    server_sources,
    split_reasoning,
)
from confide.serving.errors import ModelError


def tokens(*pairs: tuple[str, float]) -> dict[str, Any]:
    return {"content": [{"token": text, "logprob": value} for text, value in pairs]}


def test_only_the_answers_tokens_count() -> None:
    logprobs = tokens(
        ("<think>", -3), ("hm", -2), ("</think>", -1), ("\n", -5), ("Ja", -0.1), ("pan", -0.2), ("<e>", -4)
    )
    assert answer_logprobs(Choice("Japan", "hm", logprobs=logprobs)) == [-0.1, -0.2]
    assert answer_logprobs(Choice("Japan", logprobs=tokens(("Ja", -0.1), ("pan", -0.2), ("<end>", -4)))) == [-0.1, -0.2]


def test_characters_that_are_split_over_tokens_are_matched_by_their_bytes() -> None:
    raw = "Çorum".encode()
    halves = [{"token": "\ufffd", "logprob": -0.5, "bytes": list(part)} for part in (raw[:1], raw[1:])]
    assert answer_logprobs(Choice("Çorum", "hm", logprobs={"content": halves})) == [-0.5, -0.5]


def test_tokens_that_cannot_be_matched_count_only_without_reasoning() -> None:
    strange = tokens(("▁Ja", -0.1), ("pan", -0.2))
    assert answer_logprobs(Choice("Japan ", logprobs=strange)) == [-0.1, -0.2]
    assert answer_logprobs(Choice("Japan ", "hm", logprobs=strange)) is None


@pytest.mark.parametrize(
    "logprobs",
    [None, {}, {"content": None}, {"content": []}, {"content": [{}]}, {"content": ["a"]}, tokens(("Japan", 2.0)),
     {"content": [{"token": "Japan", "logprob": "x"}]}, tokens(("Japan", float("nan")))],
)  # fmt: skip
def test_odd_log_probabilities_are_none(logprobs: Any) -> None:
    assert answer_logprobs(Choice("Japan", logprobs=logprobs)) is None
    assert server_sources(Reply([Choice("Japan", logprobs=logprobs)])) == {}


def test_sources_are_the_free_ones_and_the_weakest_choice_counts() -> None:
    sure, unsure = Choice("Japan", logprobs=tokens(("Japan", -0.1))), Choice("Chad", logprobs=tokens(("Chad", -1.0)))
    found = server_sources(Reply([sure, unsure]))
    assert found["logprob_sum"] == pytest.approx(math.exp(-1.0))
    assert found["entropy"] is None
    assert server_sources(Reply([sure, Choice("", more={"tool_calls": [{}]})])) == {}


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
     {"error": {"message": "x"}}],
)  # fmt: skip
def test_what_is_no_completion_is_refused(data: Any) -> None:
    with pytest.raises(ValueError, match="choice"):
        read_reply(data)


def test_an_empty_answer_is_a_failure_that_is_not_the_servers() -> None:
    with pytest.raises(ModelError, match="empty") as error:
        read_reply({"choices": [{"message": {"content": ""}}]})
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
