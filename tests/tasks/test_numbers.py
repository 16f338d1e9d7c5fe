from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confide.tasks.graders import Grade, grade
from confide.tasks.numbers import answer_number, parse_number
from confide.tasks.questions import Question


def number(answer: str) -> Question:
    return Question(id="q", kind="number", question="?", answer=answer)


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ("18", "18"),
        ("1,000", "1000"),
        ("$18", "18"),
        ("18.0", "18"),
        ("-$5", "-5"),
        ("$-5", "-5"),
        ("−5", "-5"),
        ("25%", "25"),
        ("= 18", "18"),
        ("3/4", "3/4"),
        ("1 1/2", "3/2"),
        ("1½", "3/2"),
        (".5", "1/2"),
        ("6/8", "3/4"),
        ("16 - 3 - 4 = 9 eggs", "9"),
        ("9 * 2 = $18 a day", "18"),
        ("18 dollars, 2 a day", "18"),
        ("10 -4", "10"),
        ("2 million", "2000000"),
        ("1.5e3", "1500"),
        ("She has 3.\nThen 4 more.\nSo 7 in all", "7"),
        ("First 3 and 4\n#### 7\nas said", "7"),
        ("The answer is 7, not 9.", "7"),
        (r"so \boxed{12}", "12"),
        ("1,234,567.5", "2469135/2"),
        ("no number", None),
        ("", None),
        ("3/0", None),
        ("18.", "18"),
    ],
)
def test_numbers(answer: str, value: str | None) -> None:
    assert answer_number(answer) == (None if value is None else Fraction(value))


@given(st.integers(-(10**12), 10**12))
def test_written_integers_are_read_back(value: int) -> None:
    question = number(str(value))
    for text in (str(value), f"{value:,}", f"{value}.00", f"The answer is {value}."):
        assert grade(question, text) == Grade(True, str(value))


@given(st.text(alphabet="0123456789.,/-−$%eE =#½\n", max_size=40))
def test_number_soup(text: str) -> None:
    parse_number(text)
    question = number("3")
    grade(question, text)


def test_huge_numbers_are_harmless() -> None:
    question = number("3")
    assert grade(question, "9" * 10_000).correct is False
    assert grade(question, "1e999999999").correct is False
