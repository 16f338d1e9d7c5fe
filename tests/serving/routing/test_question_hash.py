"""Requests that ask the same have one hash; what is another question has another."""

from typing import Any

import pytest

from confide.serving.routing.question_hash import question_hash


def user(content: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": content}]


def image(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


TEXT = {"type": "text", "text": "What is this?"}
CALL = {"id": "1", "type": "function", "function": {"name": "look", "arguments": "{}"}}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Where is Kyoto?", "where  is\tkyoto?\n"),
        ("Straße", "STRASSE"),
        ("Café", "Cafe\u0301"),
        ("Ｋｙｏｔｏ １２", "kyoto 12"),
        ("", []),
        ([TEXT, image("a")], [image("a"), TEXT]),
    ],
)
def test_the_same_question(one: Any, other: Any) -> None:
    assert question_hash(user(one)) == question_hash(user(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (user("3-2"), user("3+2")),
        (user("10%"), user("10")),
        (user("👍"), user("👎")),
        (user("a b"), user("ab")),
        (user([TEXT, image("a")]), user([TEXT, image("b")])),
        (user([TEXT]), user([TEXT, image("a")])),
        (user("q"), [{"role": "system", "content": "q"}]),
        (user("q"), [{"role": "system", "content": "s"}, *user("q")]),
        (user("a") + user("b"), user("a b")),
        (user("q"), [*user("q"), {"role": "assistant", "content": None, "tool_calls": [CALL]}]),
    ],
)
def test_another_question(one: Any, other: Any) -> None:
    assert question_hash(one) != question_hash(other)


def test_what_json_may_carry_and_utf8_cannot() -> None:
    assert len(question_hash(user("\ud800"))) == 32
