from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confide.tasks.graders import Grade, NameGrader, agrees, grade
from confide.tasks.questions import Question


def make(kind: str, answer: object, **more: object) -> Question:
    return Question.model_validate({"id": "q", "kind": kind, "question": "?", "answer": answer, **more})


_NAMES = {"Niger": [], "Nigeria": [], "Guinea": [], "Equatorial Guinea": [], "India": ["Bharat"]}


@given(
    st.sampled_from(sorted(_NAMES)),
    st.sampled_from(sorted(_NAMES)),
    st.sampled_from(["", "It is ", "(", "«"]),
    st.sampled_from([" or ", ", ", " – not "]),
)
def test_the_first_named_counts(first: str, second: str, before: str, between: str) -> None:
    question = make("short", [second])
    got = NameGrader(_NAMES).grade(question, f"{before}{first}{between}{second}")
    assert got == Grade(first == second, first)


@given(st.text(max_size=60), st.sampled_from(["choice", "short", "number", "prompt"]))
def test_any_text_can_be_graded(text: str, kind: str) -> None:
    answers = {"choice": 1, "short": ["Lima", "Ciudad"], "number": "12", "prompt": None}
    question = make(kind, answers[kind], choices=["x", "Lima"] if kind == "choice" else None)
    got = grade(question, text)
    assert got.answered is not None or not got.correct
    assert agrees(question, text, text)
    assert (got.correct is None) == (kind == "prompt")


@pytest.mark.parametrize(
    ("answer", "correct"),
    [
        ("Michio Sugeno", True),
        ("It was michio sugeno.", True),
        ("Sugeno", False),
        ("Michio", False),
        ("Somebody else. Then Michio Sugeno", False),
        ("Someone\nMichio Sugeno", False),
        ("", False),
        ("M. Sugeno", True),
        ("MICHIO-SUGENO", True),
        ("Michio Sugenos", False),
    ],
)
def test_short(answer: str, correct: bool) -> None:
    question = make("short", ["Michio Sugeno", "M Sugeno"])
    got = grade(question, answer)
    assert got.correct is correct
    if correct:
        assert got.answered == "michio sugeno"


def test_short_own_entity_and_no_answer() -> None:
    question = make("short", ["Paris"], entity="film:Paris Nights")
    assert grade(question, "Paris Nights").correct is False
    assert grade(question, "Paris").correct is True
    assert grade(question, "I don't know.") == Grade(False, None)
    assert grade(make("short", []), "Paris") == Grade(None, "paris")


_CHOICES = ["dry palms", "wet palms", "palms covered with oil", "oil"]


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("B", "B"),
        ("b", "B"),
        ("(B)", "B"),
        ("B.", "B"),
        ("B)", "B"),
        ("B) wet palms", "B"),
        ("**B**", "B"),
        ("The answer is B", "B"),
        ("The answer is (B).", "B"),
        ("Answer: B", "B"),
        ("option B", "B"),
        ("wet palms", "B"),
        ("Wet palms.", "B"),
        ("B wet palms", "B"),
        ("palms covered with oil", "C"),
        ("It is oil", "D"),
        ("wet palms, not dry palms", "B"),
        ("B\nbecause A is dry", "B"),
        ("B) dry palms", "B"),
        ("I think (C) is right", "C"),
        ("A dog", None),
        ("Z", None),
        ("", None),
        ("palms", None),
        ("The answer is a mystery", None),
        ("The correct answer is dry palms (A)", "A"),
    ],
)
def test_choice(answer: str, letter: str | None) -> None:
    question = make("choice", 1, choices=_CHOICES)
    assert grade(question, answer) == Grade(letter == "B", letter)


def test_choice_texts_that_fold_alike() -> None:
    question = make("choice", 1, choices=["x + 1", "x - 1", "-2", "2"])
    assert grade(question, "x - 1").answered == "B"
    assert grade(question, "2").answered == "D"
    assert grade(question, "-2").answered == "C"
    assert grade(question, "it is x - 1").answered is None
    same = make("choice", 1, choices=["four", "four", "five"])
    assert grade(same, "four").correct is True


def test_choice_letters_against_texts() -> None:
    question = make("choice", 0, choices=["answer", "A", "c", "B"])
    assert grade(question, "The answer is A").answered == "A"
    assert grade(question, "A").answered == "A"
    assert grade(question, "c").answered == "C"


def test_short_signs() -> None:
    question = make("short", ["+", "plus"])
    assert grade(question, "+") == Grade(True, "+")
    assert grade(question, "plus") == Grade(True, "+")
    assert grade(question, "-") == Grade(False, None)


@pytest.mark.parametrize(("a", "b"), [("👍", "👎"), ("+", "-"), ("→", "←"), ("?", "")])
@pytest.mark.parametrize("kind", ["short", "prompt"])
def test_signs_agree_with_themselves_alone(kind: str, a: str, b: str) -> None:
    question = make(kind, ["Lima"] if kind == "short" else None)
    assert agrees(question, a, f" {a}\n")
    assert not agrees(question, a, b)


@pytest.mark.parametrize(
    ("accepted", "answer", "correct"),
    [
        ("3.5", "3,5", None),
        ("3", "3,5", None),
        ("3,5", "3,5", True),
        ("3,5", "3.5", True),
        ("4", "3,5", False),
        ("3", "3, 5", True),
        ("km", "3,5 km", True),
        ("1234567", "1.234.567 people", True),
        ("1,234,567", "12,34,567", True),
        ("1234", "1'234", True),
        ("3.5", "٣٫٥", True),
        ("18", "１８", True),
    ],
)
def test_short_numbers_in_other_notations(accepted: str, answer: str, correct: bool | None) -> None:
    assert grade(make("short", [accepted]), answer).correct is correct
