"""The parts of an answer, from a whole completion and from chunks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from confide.serving.http.answer_parts import AnswerParts, Step

HEAD = {"id": "chatcmpl-" + "a" * 32, "created": 7, "model": "small"}


def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
    return {**HEAD, "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}], **more}


def call(index: int, arguments: Any, **more: Any) -> dict[str, Any]:
    return {"tool_calls": [{"index": index, "function": {"arguments": arguments, **more}}]}


def told(steps: Iterable[Step]) -> list[str]:
    """Steps in short."""
    return [f"{step.what} {step.part.at}{step.part.kind}{step.piece and ' '}{step.piece}" for step in steps]


def test_words_follow_each_other_and_calls_stay_open() -> None:
    answer = AnswerParts()
    assert told(answer.add(chunk({"role": "assistant", "content": ""}))) == []
    assert told(answer.add(chunk({"reasoning_content": "hm"}))) == ["begin 0reasoning", "grow 0reasoning hm"]
    assert told(answer.add(chunk({"content": "Ky"}))) == ["end 0reasoning", "begin 1text", "grow 1text Ky"]
    assert told(answer.add(chunk({"content": "oto"}))) == ["grow 1text oto"]
    assert told(answer.add(chunk(call(0, "", name="look")))) == ["end 1text", "begin 2call"]
    assert told(answer.add(chunk(call(1, "{", name="see")))) == ["begin 3call", "grow 3call {"]
    assert told(answer.add(chunk(call(0, "[1]")))) == ["grow 2call [1]"]
    assert told(answer.add(chunk(call(1, "}"), "tool_calls"))) == ["grow 3call }"]
    assert told(answer.end()) == ["end 2call", "end 3call"]
    assert told(answer.end()) == []
    assert [(part.text, part.name) for part in answer.parts] == [
        ("hm", ""), ("Kyoto", ""), ("[1]", "look"), ("{}", "see"),
    ]  # fmt: skip
    assert (answer.finish, answer.id, answer.created) == ("tool_calls", "a" * 32, 7)


def test_the_whole_has_the_parts_of_its_chunks() -> None:
    calls = [{"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"x": 1}'}}]
    message = {"role": "assistant", "content": "One moment.", "reasoning_content": "hm", "tool_calls": calls}
    logprobs = {"content": [{"token": "One", "logprob": -0.1}]}
    whole, pieces = AnswerParts(), AnswerParts()
    choice = {"index": 0, "message": message, "logprobs": logprobs, "finish_reason": "stop"}
    list(whole.add_whole({**HEAD, "choices": [choice], "usage": {"total_tokens": 3}, "confide": {"served": "small"}}))
    for key, value in message.items():
        delta = {"tool_calls": [{"index": 0, **calls[0]}]} if key == "tool_calls" else {key: value}
        one = chunk(delta)
        one["choices"][0]["logprobs"] = logprobs if key == "content" else None
        list(pieces.add(one))
    seen = [
        [(part.kind, part.text, part.name, part.call_id, part.logprobs) for part in answer.parts]
        for answer in (whole, pieces)
    ]
    assert sorted(seen[0]) == sorted(seen[1])
    assert [part.kind for part in whole.parts] == ["reasoning", "text", "call"]
    assert whole.parts[1].logprobs == logprobs["content"]
    assert (whole.usage, whole.confide) == ({"total_tokens": 3}, {"served": "small"})


def test_what_comes_after_a_correction_is_marked_once() -> None:
    answer = AnswerParts()
    mark = {"supersedes": True}
    steps = [step for delta, more in (("no", {}), ("[by big]", {"confide": mark}), ("yes", {}))
             for step in answer.add(chunk({"content": delta}, **more)) if step.what == "grow"]  # fmt: skip
    assert [step.mark for step in steps] == [None, mark, None]
    list(answer.add(chunk({}, "stop", confide={"served": "expert"})))
    assert answer.confide == {"served": "expert"}


@pytest.mark.parametrize(
    ("delta", "texts"),
    [
        ({"function_call": {"name": "look", "arguments": "{}"}}, ["{}"]),
        ({"function_call": "look"}, [""]),
        ({"tool_calls": [{"function": {"name": "look", "arguments": {"x": 1}}}]}, ['{"x":1}']),
        ({"tool_calls": [{"id": 7, "function": None}]}, [""]),
        ({"refusal": True}, ["true"]),
        ({"content": None, "tool_calls": None}, []),
    ],
)
def test_odd_pieces_of_servers_are_read_as_text(delta: dict[str, Any], texts: list[str]) -> None:
    answer = AnswerParts()
    list(answer.add(chunk(delta)))
    assert [part.text for part in answer.parts] == texts
    assert all(isinstance(part.call_id, str) for part in answer.parts)
