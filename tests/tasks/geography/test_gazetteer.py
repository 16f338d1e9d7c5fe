from __future__ import annotations

import pytest

from confide.tasks import geography, load_task
from confide.tasks.geography.data import relations
from confide.tasks.geography.gazetteer import look_up, passage
from confide.tasks.questions import Question


@pytest.fixture(scope="module")
def questions() -> list[Question]:
    return geography.geography_task(3000, seed=7).questions


def test_every_question_of_the_task_is_answered_exactly(questions: list[Question]) -> None:
    wrong = []
    for question in questions:
        answer = look_up(geography.prompt(question))
        if answer is None or not geography.grade(question, answer).correct:
            wrong.append((question.question, answer, question.accepted))
    assert not wrong
    assert {question.domain for question in questions} == set(relations())


def test_passages_hold_the_answer_and_name_what_was_asked(questions: list[Question]) -> None:
    for question in questions:
        text = passage([{"role": "user", "content": question.question}])
        assert text is not None
        assert any(answer in text for answer in question.accepted), (question.question, text)
        assert len(text) < 300


@pytest.mark.parametrize(
    "content",
    [
        "In which country is the city of Rlyeh?",
        "How tall is Mont Blanc?",
        "In which country is the city of Springfield?",  # several
        "On which continent is Russia?",
        "",
        None,
        [{"type": "image_url", "image_url": {"url": "x"}}],
    ],
)
def test_what_it_cannot_answer_is_none(content: object) -> None:
    assert look_up([{"role": "user", "content": content}]) is None


@pytest.mark.parametrize(
    ("content", "answer"),
    [
        ("Lagos", "Nigeria"),  # another one, in Portugal, is much smaller
        ("In which country is the city of Lima?", "Peru"),
        ("Which country is Bergen in?", "Norway"),
        ("where is Lyon", "France"),
        ("Could you tell me in which country Kyoto lies, please?", "Japan"),
        ("what's the capital of peru?", "Lima"),
        ("Peru's capital?", "Lima"),
        ("What currency does Japan use?", "Japanese yen"),
        ("What is the currency code of Japan?", "JPY"),
        ("continent of Lima", "South America"),
        ("Which state is Seattle in", "Washington"),
    ],
)
def test_the_same_question_in_other_words(content: str, answer: str) -> None:
    assert look_up([{"role": "user", "content": content}]) == answer


@pytest.mark.parametrize(
    "content",
    [
        "hello",
        "Which country is Lyon not in?",
        "Is Lyon in France?",
        "Which country has Lyon as its capital?",
        "What is the capital of the continent of Peru?",
        "In what country is Córdoba?",  # three of about a size
        "Peru",
        "where is it?",
        "Lima " * 500,
    ],
)
def test_what_it_does_not_understand_is_none(content: str) -> None:
    assert look_up([{"role": "user", "content": content}]) is None


def test_the_text_of_parts_is_read() -> None:
    parts = [{"type": "text", "text": "In which country is the city of Lyon?"}]
    assert look_up([{"role": "user", "content": parts}]) == "France"


def test_the_last_user_turn_is_read() -> None:
    task = load_task("geography", limit=1)
    messages = [*task.prompt(task.questions[0]), {"role": "assistant", "content": "?"}]
    assert look_up([*messages, {"role": "user", "content": "What is the capital of France?"}]) == "Paris"
    assert look_up([{"role": "user", "content": "What is the ISO code of the currency of Japan?"}]) == "JPY"
    assert look_up([{"role": "user", "content": "which country is lyon in?"}]) == "France"
    assert look_up([]) is None
