"""Answers in JSON, graded leaf by leaf."""

from __future__ import annotations

import json
from typing import Any

import pytest

from confide.parts.json_values import json_values
from confide.tasks.field_grader import part_grader, same_value
from confide.tasks.graders import agrees, grade
from confide.tasks.questions import Question

WANTED = {"name": "Zoë Ash", "year": 1984, "price": None, "tags": ["a", "b"], "at": {"city": "St. Ives"}}


def question(answer: Any = WANTED) -> Question:
    return Question(id="q", kind="fields", question="Which?", answer=answer)


@pytest.mark.parametrize(
    ("wanted", "given", "same"),
    [
        ("Zoë", "ZOE", True), ("Saint Ives", "St. Ives", True), ("a", "b", False),
        (1984, "1984", True), (1984, 1.984e3, True), (0.1, "0.10", True), (100000, 1e5, True), (7, 8, False),
        ("12 May", "12 June", False), (True, True, True), (True, 1, False), (True, "true", False),
        (None, None, True), (None, "null", False), (None, "", False), ("", "", True), ("", None, False),
        ([], [], True), ([], {}, False), ({}, None, False), (1, float("inf"), False), (1, "1e999999999", False),
        ("👍", "👎", False),
    ],
)  # fmt: skip
def test_values_are_compared_by_what_they_mean(wanted: Any, given: Any, same: bool) -> None:
    assert same_value(wanted, given) is same
    assert same_value(given, wanted) is same


def test_the_whole_is_right_where_every_leaf_is() -> None:
    told = {"tags": ["A", "b"], "at": {"city": "Saint Ives"}, "year": "1984", "name": "zoe ash"}
    assert grade(question(), f"Sure: {json.dumps(told)}").correct is True  # what is null may be left out
    assert grade(question(), json.dumps(told | {"more": 1})).correct is True
    for wrong in ({"year": 1985}, {"tags": ["b", "a"]}, {"at": {}}, {"name": None}, {"price": 3}):
        assert grade(question(), json.dumps(told | wrong)).correct is False


@pytest.mark.parametrize("answer", ["", "Zoë", '{"name": "Zoë Ash", "year": 19'])
def test_what_is_no_whole_answer_is_wrong(answer: str) -> None:
    assert grade(question(), answer).correct is False


def test_all_null_is_right_only_in_json() -> None:
    assert grade(question({"a": None}), '{"a": null}').correct is True
    assert grade(question({"a": None}), "I do not know").correct is False


def test_each_part_is_graded_by_its_leaf() -> None:
    graded = part_grader(WANTED)
    text = '{"name": "zoe ash", "year": 1985, "price": null, "tags": ["a"], "extra": 3}'
    found = {part.name: graded(part) for part in json_values(text).parts}
    assert found == {
        "/name": (True, ["Zoë Ash"]), "/year": (False, ["1984"]), "/price": (True, ["null"]), "/tags/0": (True, ["a"]),
        "/extra": (False, None),
    }  # fmt: skip
    assert part_grader(["Lima"])(json_values(text).parts[0]) == (None, None)


def test_answers_that_say_the_same_agree() -> None:
    assert agrees(question(), '{"a": "X", "b": 1}', '{"b": 1.0, "a": "x"}')
    assert agrees(question(), '{"a": "X", "b": null}', '{"a": "x"}')
    assert not agrees(question(), '{"a": "X"}', '{"a": "Y"}')
