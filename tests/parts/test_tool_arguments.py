"""Arguments of tool calls in what a model wrote."""

from __future__ import annotations

import json

import pytest

from confide.parts.tool_arguments import argument_parts

CALL = '{"name": "look_up", "arguments": {"city": "Zoë", "n": [1, null]}}'
NAMES = ["look_up/city", "look_up/n/0", "look_up/n/1"]


@pytest.mark.parametrize(
    "text",
    [
        f"<tool_call>\n{CALL}\n</tool_call>",
        f"I look it up. {CALL}",
        f"[TOOL_CALLS][{CALL}]",
        CALL.replace("arguments", "parameters"),
        json.dumps({"type": "function", "function": json.loads(CALL)}),
    ],
)
def test_calls_of_every_style_are_found(text: str) -> None:
    parts = argument_parts(text)
    assert [part.name for part in parts] == NAMES
    assert [json.loads(text[part.start : part.end]) for part in parts] == ["Zoë", 1, None]


def test_a_second_call_of_a_tool_has_a_number() -> None:
    text = f"<tool_call>{CALL}</tool_call><tool_call>{CALL}</tool_call>"
    assert [part.name for part in argument_parts(text)] == [*NAMES, *(f"look_up#2{n[7:]}" for n in NAMES)]


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "Ann", "year": 1}',
        '{"name": 7, "arguments": {"a": 1}}',
        '{"name": "Ann", "parameters": {"x": 1}, "age": 3}',
        f'[{CALL}, {{"id": 7, "total": 9}}]',
        f'{{"function": {CALL}, "age": 3}}',
        f'{{"people": {CALL}}}',
        "[]",
        "",
        "x",
    ],
)
def test_what_is_no_call_has_no_arguments(text: str) -> None:
    assert argument_parts(text) == []


def told(name: str, arguments: object) -> dict[str, object]:
    return {"id": "c", "type": "function", "function": {"name": name, "arguments": arguments}}


def test_told_calls_are_found_where_the_model_wrote_them() -> None:
    text = f"<tool_call>{CALL}</tool_call>"
    spaced = told("look_up", '{"n":[1,null],"city":"Zo\\u00eb"}')  # a server may write them anew
    assert [part.name for part in argument_parts(text, [spaced])] == NAMES
    assert argument_parts(text, [told("look_up", '{"city": "other"}')]) == []
    pythonic = 'look_up(**{"city": "x"})'
    assert [part.name for part in argument_parts(pythonic, [told("look_up", '{"city": "x"}')])] == ["look_up/city"]


@pytest.mark.parametrize("arguments", [None, "", "{", "[1]", 7, "{}", "[" * 100_000])
def test_hostile_arguments_are_none(arguments: object) -> None:
    assert argument_parts(CALL, [told("look_up", arguments)]) == []


def test_a_told_call_may_stand_among_other_values() -> None:
    text = json.dumps(json.loads(CALL) | {"id": "c1"})
    assert argument_parts(text) == []
    assert [part.name for part in argument_parts(text, [told("look_up", json.loads(CALL)["arguments"])])] == NAMES


def test_a_call_without_arguments_is_one_in_a_list() -> None:
    text = f'[{{"name": "now", "arguments": {{}}}}, {CALL}]'
    assert [part.name for part in argument_parts(text)] == NAMES
