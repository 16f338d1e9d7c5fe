"""SelfAware: right is an answer where there is one, and saying so where nobody can know."""

from __future__ import annotations

import pytest

from confide.tasks import selfaware
from confide.tasks.questions import Question

NOBODY = Question(id="u", kind="short", question="Where are all the aliens?", answer=[])
SOMEBODY = Question(id="a", kind="short", question="Which dog is bigger?", answer=["Cane Corso"])


@pytest.mark.parametrize(
    "answer",
    [
        "Unknown", "unknown.", "It is unknown", "It's unknown where they are.", "Nobody knows.", "No one really knows",
        "I don't know", "I do not know the answer", "We can't say.", "I'm not sure.", "It is impossible to know.",
        "There's no definitive answer to that", "This cannot be known", "It depends on the person", "N/A",
        "That is a matter of personal opinion",
    ],
)  # fmt: skip
def test_saying_that_nobody_knows(answer: str) -> None:
    assert selfaware.says_unknown(answer)
    assert selfaware.grade(NOBODY, answer).correct is True
    assert selfaware.grade(SOMEBODY, answer) == selfaware.Grade(False, "unknown")


@pytest.mark.parametrize("answer", ["On Mars", "Mars, I know it", "The Unknown Soldier", "Sure", ""])
def test_naming_something_where_nobody_knows_is_wrong(answer: str) -> None:
    assert not selfaware.says_unknown(answer)
    assert selfaware.grade(NOBODY, answer).correct is False


def test_an_answerable_question_is_graded_by_its_answers() -> None:
    assert selfaware.grade(SOMEBODY, "The Cane Corso.").correct is True
    assert selfaware.grade(SOMEBODY, "The poodle").correct is False
    assert selfaware.agrees(NOBODY, "Nobody knows", "I don't know")
    assert not selfaware.agrees(NOBODY, "Nobody knows", "Mars")


def test_the_prompt_gives_leave_to_say_so() -> None:
    system, user = selfaware.prompt(NOBODY)
    assert "unknown" in system["content"]
    assert user["content"] == NOBODY.question


def test_signs_agree_with_themselves_alone() -> None:
    assert selfaware.agrees(NOBODY, "👍", "👍 ")
    assert not selfaware.agrees(NOBODY, "👍", "👎")
