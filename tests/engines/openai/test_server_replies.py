"""Replies of servers: what is read, what is refused, and streams put together."""

from __future__ import annotations

from typing import Any

import pytest

from confide.engines.openai.asked import Asked
from confide.engines.openai.model_error import ModelError
from confide.engines.openai.reply import Choice, Reply
from confide.engines.openai.server_replies import StreamReader, read_reply
from confide.serving.routing.server_logprobs import server_sources

ASKED = Asked(chat=True, messages=[{"role": "user", "content": "Where is Kyoto?"}], options={}, deadline=0.0)
ODD_CALLS: list[Any] = ["x", {"a": 1}, ["x"], [{"function": "x"}], [{"index": [0]}]]


@pytest.mark.parametrize(
    "data",
    [None, [], {}, {"choices": []}, {"choices": [None]}, {"choices": [{}]}, {"choices": [{"message": {"content": 5}}]},
     *({"choices": [{"message": {"tool_calls": calls}}]} for calls in ODD_CALLS)],
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
    assert server_sources(ASKED, reply)[0] == {}


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


def chunk(**choice: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, **choice}]}


ODD_CHUNKS: list[list[Any]] = [
    [{"choices": None}, {}, {"choices": []}, None, chunk(delta={"content": "Japan"}), chunk(finish_reason="stop")],
    [{"choices": [None]}, chunk(delta=None), chunk(delta={"content": "Japan"}, finish_reason="stop")],
    [chunk(delta={"content": "Ja"}, finish_reason=""), chunk(delta={"content": "pan"}, finish_reason="stop"),
     chunk(delta={"content": ""}, finish_reason="")],
    [chunk(delta={"content": [{"type": "text", "text": "Ja"}]}), chunk(delta={"content": ["pan"]}),
     chunk(delta={"content": []}, finish_reason="stop")],
    [chunk(delta={"role": None, "content": "Japan", "tool_calls": None, "function_call": None, "refusal": None,
                  "reasoning_content": None}, logprobs=None, finish_reason="stop")],
    [{"choices": [{"delta": {"content": "Japan"}, "index": None, "finish_reason": "stop"}]}],
    [{"object": "chat.completion", **chunk(message={"content": "Japan"}, finish_reason="stop")}],
]  # fmt: skip


@pytest.mark.parametrize("chunks", ODD_CHUNKS)
def test_odd_chunks_are_read(chunks: list[Any]) -> None:
    reader = StreamReader()
    said = [delta.delta for one in chunks for delta in reader.add(one)]
    assert "".join(delta.get("content", "") for delta in said) == "Japan"
    (choice,) = reader.reply().choices
    assert (choice.content, choice.finish, choice.more, choice.reasoning) == ("Japan", "stop", {}, None)


@pytest.mark.parametrize(
    "chunk", [{"choices": 5}, "x", [], {"choices": [5]}, chunk(delta={"content": 5}), chunk(delta={"content": [5]})]
)
def test_what_is_no_chunk_is_refused(chunk: Any) -> None:
    with pytest.raises(ValueError, match=r"choice"):
        StreamReader().add(chunk)


@pytest.mark.parametrize("said", [{"error": {"message": "no"}}, {"object": "error", "message": "no"}])
def test_an_error_in_a_stream_is_the_servers(said: Any) -> None:
    with pytest.raises(ModelError, match="server_error"):
        StreamReader().add(said)


def test_an_end_that_is_not_told_is_unknown_only_in_a_stream_that_is_whole() -> None:
    reader = StreamReader()
    reader.add(chunk(delta={"content": "Japan"}))
    with pytest.raises(ValueError, match="broke off"):
        reader.reply()
    assert reader.finish() == []
    assert (reader.reply().choices[0].text, reader.reply().choices[0].finish) == ("Japan", "unknown")


def test_what_looked_like_the_start_of_a_tag_is_passed_on_at_the_end() -> None:
    reader = StreamReader()
    assert reader.add(chunk(delta={"content": "<th"})) == []
    assert [delta.delta for delta in reader.finish()] == [{"content": "<th"}]
    assert reader.reply().choices[0].text == "<th"


@pytest.mark.parametrize("usages", [[(10, 0), (10, 2)], [(10, 0), (0, 2)], [(10, 1), (10, 2), None], [None, (10, 2)]])
def test_usage_may_come_first_or_often(usages: list[Any]) -> None:
    reader = StreamReader()
    for usage in usages:
        told = usage and {"prompt_tokens": usage[0], "completion_tokens": usage[1]}
        reader.add({"choices": [], "usage": told})
    reader.add(chunk(delta={"content": "Japan"}, finish_reason="stop"))
    assert (reader.reply().prompt_tokens, reader.reply().completion_tokens) == (10, 2)


@pytest.mark.parametrize(
    ("message", "read"),
    [
        ({"content": [{"type": "text", "text": "Ja"}, {"type": "output_text", "text": "pan"}]}, ("Japan", None)),
        ({"content": {"type": "text", "text": "Japan"}, "tool_calls": None, "refusal": None}, ("Japan", None)),
        ({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, "Japan"]}, ("Japan", "hm")),
        ({"content": "Japan", "reasoning": ["hm"], "reasoning_content": None}, ("Japan", None)),
        ({"content": "Write `</think>`."}, ("Write `</think>`.", None)),
    ],
)
@pytest.mark.parametrize("finish", [{"finish_reason": "stop"}, {"finish_reason": None}, {"finish_reason": ""}, {}])
def test_odd_messages_are_read(message: Any, read: tuple[str, str | None], finish: dict[str, Any]) -> None:
    reply = read_reply({"choices": [{"message": message, **finish}], "usage": None})
    (choice,) = reply.choices
    assert (choice.content, choice.reasoning, choice.more) == (*read, {})
    assert choice.finish == (finish.get("finish_reason") or "unknown")
    assert reply.tokens == 0


def test_a_refusal_may_be_a_part() -> None:
    reply = read_reply({"choices": [{"message": {"content": [{"type": "refusal", "refusal": "no"}]}}]})
    assert (reply.choices[0].content, reply.choices[0].kind) == (None, "refusal")


def test_reasoning_told_apart_leaves_tags_in_the_answer() -> None:
    reader = StreamReader()
    for delta in ({"reasoning_content": "hm"}, {"content": "<think> opens"}, {"content": " it.\n</think>\nends it."}):
        reader.add(chunk(delta=delta))
    reader.add(chunk(delta={}, finish_reason="stop"))
    (choice,) = reader.reply().choices
    assert (choice.content, choice.reasoning) == ("<think> opens it.\n</think>\nends it.", "hm")


def test_an_answer_that_mentions_a_tag_behind_reasoning_keeps_its_confidence() -> None:
    tokens = ["<think>", "hm", "</think>", "\n", "Write ", "`</think>`", "."]
    logprobs = {"content": [{"token": token, "logprob": -0.1 * at} for at, token in enumerate(tokens)]}
    said = {"message": {"content": "".join(tokens)}, "finish_reason": "stop", "logprobs": logprobs}
    reply = read_reply({"choices": [said]})
    assert reply.text == "Write `</think>`."
    assert server_sources(ASKED, reply)[0]["logprob_sum"] == pytest.approx(-0.4 - 0.5 - 0.6)


def test_counts_of_tokens_that_cannot_be_are_none() -> None:
    message = {"role": "assistant", "content": "Japan"}
    usage = {"prompt_tokens": 10**400, "completion_tokens": 2}
    reply = read_reply({"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage})
    assert (reply.prompt_tokens, reply.completion_tokens) == (0, 2)
