"""Parts: spans of characters, and the tokens that reach into them."""

from __future__ import annotations

import pytest

from confide.parts.part import Part, token_span

#        {"  name  ":  "  Zoë  ",
STARTS = [0, 2, 6, 8, 9, 12]


@pytest.mark.parametrize(
    ("start", "end", "span"),
    [
        (8, 13, (3, 6)),  # "Zoë": its quotes are tokens' own or shared
        (9, 12, (4, 5)),
        (7, 9, (2, 4)),  # begins inside a token
        (13, 14, (5, 6)),  # inside the last one
        (0, 1, (0, 1)),
    ],
)
def test_tokens_that_reach_into_a_span_belong_to_it(start: int, end: int, span: tuple[int, int]) -> None:
    assert token_span(start, end, STARTS) == span


def test_a_quote_and_the_first_letter_may_be_one_token() -> None:
    assert token_span(4, 9, [0, 3, 6]) == (1, 3)


def test_tokens_that_spell_one_character_belong_together() -> None:
    rocket = [0, 2, 2, 2, 3]
    assert token_span(2, 3, rocket) == (1, 4)
    assert token_span(3, 4, rocket) == (4, 5)
    assert token_span(4, 5, [0, 2, 2, 5]) == (1, 3)  # from inside a character's tokens on


def test_without_tokens_there_is_no_span() -> None:
    assert token_span(0, 3, []) == (0, 0)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("/year", "/year"), ("/items/0/price", "/items/*/price"), ("/2/0", "/*/*"), ("/a/01", "/a/01"),
     ("look/at", "look/at"), ("sentence 2", ""), ("", "")],
)  # fmt: skip
def test_places_of_lists_are_of_one_kind(name: str, kind: str) -> None:
    assert Part(name, 0, 1, "x").kind == kind
