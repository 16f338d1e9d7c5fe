"""Records of parts: the tokens of each part of an answer, and what was written before it."""

from __future__ import annotations

from typing import Any

import pytest

from confide.parts.json_values import json_values
from confide.parts.part_records import PARTS, part_records
from confide.records import Message, Record

PIECES = ['{"', "name", '": "Z', "oë", '", "', "year", '":', " 19", "84", "}"]


def record(**more: Any) -> Record:
    text = "".join(PIECES)
    starts = [sum(map(len, PIECES[:n])) for n in range(len(PIECES))]
    data: dict[str, Any] = {
        "id": "a", "model": "m", "messages": [Message(role="user", content="Who?")], "answer": text,
        "answer_ids": list(range(10)), "logprobs": [-n / 10 for n in range(10)],
        "entropies": [n / 10 for n in range(10)],
        "end_logprob": -0.5, "token_starts": starts, "correct": False, "confidence": {"stack": 0.3}, "split": "test",
        "reasoning": "hm", "reasoning_ids": [77], "consistency": 0.5, "domain": "people",
    }  # fmt: skip
    return Record.model_validate(data | more)


def parts_of(one: Record) -> list[Record]:
    return part_records(one, PARTS["fields"](one.answer), lambda part: (part.name == "/year", [part.text]))


def test_a_part_has_its_own_tokens_and_follows_what_was_written_before() -> None:
    name, year = parts_of(record())
    assert (name.id, name.part, name.answer, name.correct, name.domain, name.entity) == (
        "a#/name", "/name", "Zoë", False, "/name", "a",
    )  # fmt: skip
    assert (name.answer_ids, name.logprobs, name.end_logprob) == ([2, 3, 4], [-0.2, -0.3, -0.4], -0.5)
    assert (name.reasoning_ids, name.reasoning) == ([77, 0, 1], '{"name')
    assert (year.answer_ids, year.entropies, year.end_logprob) == ([7, 8], [0.7, 0.8], -0.9)
    assert year.reasoning_ids == [77, *range(7)]
    assert (year.correct, year.reference, year.split) == (True, ["1984"], "test")
    assert "\n/year" in year.question


def test_what_was_said_of_the_whole_is_none_of_the_parts() -> None:
    name = parts_of(record())[0]
    assert (name.confidence, name.consistency, name.finish) == ({}, None, "stop")
    assert name.model_extra == {"whole": {"stack": 0.3}}
    assert Record.model_validate_json(name.line()).line() == name.line()


def test_the_last_token_is_followed_by_the_closing_one() -> None:
    (line,) = part_records(record(), PARTS["lines"](record().answer))
    assert (line.answer_ids, line.end_logprob, line.domain) == (list(range(10)), -0.5, "people")
    (cut,) = part_records(record(finish="length", end_logprob=None), PARTS["lines"](record().answer))
    assert (cut.end_logprob, cut.correct) == (None, None)


@pytest.mark.parametrize("starts", [[], [0, 2]])
def test_without_starts_a_part_has_no_tokens(starts: list[int]) -> None:
    name, _ = parts_of(record(token_starts=starts))
    assert (name.answer, name.answer_ids, name.logprobs, name.end_logprob, name.reasoning) == (
        "Zoë",
        [],
        [],
        None,
        None,
    )


def test_a_server_tells_starts_without_ids() -> None:
    name, _ = parts_of(record(answer_ids=[], reasoning_ids=[]))
    assert (name.answer_ids, name.logprobs, name.reasoning_ids) == ([], [-0.2, -0.3, -0.4], [])


def test_parts_of_tool_calls_are_their_arguments() -> None:
    text = '{"name": "look", "arguments": {"at": "x"}}'
    assert [part.name for part in PARTS["fields"](text)] == ["look/at"]
    assert [part.name for part in json_values(text).parts] == ["/name", "/arguments/at"]
