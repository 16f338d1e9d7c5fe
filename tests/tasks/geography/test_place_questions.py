from __future__ import annotations

from collections import Counter

import pytest

from confide.errors import ConfideError
from confide.tasks import geography, load_task
from confide.tasks.geography.data import example_entities, relations
from confide.tasks.questions import Question
from confide.tasks.text import fold


@pytest.fixture(scope="module")
def questions() -> list[Question]:
    return geography.geography_task(8000, seed=3).questions


def test_mix(questions: list[Question]) -> None:
    counts = Counter(question.domain for question in questions)
    assert len(questions) == 8000
    assert set(counts) == set(relations())
    assert counts["city_country"] <= 0.7 * 8000
    for name, relation in relations().items():
        used = {question.id.rsplit("-", 1)[1] for question in questions if question.domain == name}
        assert 3 <= len(relation.phrasings) == len(used) <= 5


@pytest.mark.parametrize("limit", [1, 7, 60, 1500, None])
def test_limits(limit: int | None) -> None:
    drawn = geography.geography_task(limit).questions
    assert len(drawn) == limit or (limit is None and len(drawn) > 20_000)
    share = sum(question.domain == "city_country" for question in drawn) / len(drawn)
    assert share <= 0.75
    assert len({question.question for question in drawn}) == len({question.id for question in drawn}) == len(drawn)


def test_too_many() -> None:
    with pytest.raises(ConfideError, match="geography has 1 to"):
        geography.geography_task(10**6)


def test_same_seed_same_questions(questions: list[Question]) -> None:
    assert geography.geography_task(8000, seed=3).questions == questions
    fewer = geography.geography_task(1000, seed=3).questions
    assert {question.id for question in fewer} <= {question.id for question in questions}
    assert geography.geography_task(1000, seed=4).questions != fewer


def test_no_question_contains_its_answer(questions: list[Question]) -> None:
    for question in questions:
        text = f" {fold(question.question)} "
        for answer in question.accepted:
            if len(fold(answer)) > 3:
                assert fold(answer) not in text, question
            else:
                assert f" {fold(answer)} " not in text, question


def test_a_question_as_answer_names_nothing(questions: list[Question]) -> None:
    for question in questions:
        if question.domain not in (
            "us_city_state",
            "country_capital",
        ):  # "… of the US?" may hold a city's name
            assert not geography.grade(question, question.question).correct, question
        assert not geography.grade(question, question.asked).correct, question


def test_every_reference_is_right(questions: list[Question]) -> None:
    for question in questions:
        for answer in question.accepted:
            assert geography.grade(question, answer).correct is True, question
            assert geography.grade(question, f"{question.asked}: {answer}.").correct is True, question


def test_traps_are_left_out() -> None:
    every = geography.geography_task().questions
    asked = {(question.domain, question.asked) for question in every}
    names = {name for domain, name in asked if domain == "city_country"}
    assert not names & {"Mexico City", "Panama City", "Singapore", "Luxembourg", "Springfield", "Kuwait City"}
    assert {"Lyon", "Mumbai", "Chicago"} <= names
    states = {name for domain, name in asked if domain == "us_city_state"}
    assert not states & {"Oklahoma City", "New York City", "Indianapolis", "Wyoming"}
    capitals = {name for domain, name in asked if domain == "country_capital"}
    assert not capitals & {"Singapore", "Mexico", "Tunisia", "Guinea-Bissau", "Norway"}
    continents = {name for domain, name in asked if domain == "country_continent"}
    assert not continents & {"South Africa", "Australia", "Russia"}
    entities = {question.entity for question in every}
    assert not entities & {"city:Kyoto", "city:Oslo", "country:Norway"}
    # A city and a country of the same name would be one place under two entities.
    bare = Counter(str(entity).split(":", 1)[1] for entity in entities)
    assert max(bare.values()) == 1


def test_prompts_carry_the_relations_examples_in_turning_order(questions: list[Question]) -> None:
    task = load_task("geography", limit=400)
    starts: dict[str, set[str]] = {}
    for question in task.questions:
        messages = task.prompt(question)
        shown = [turn["content"] for turn in messages if turn["role"] == "user"][:-1]
        assert messages[-1] == {"role": "user", "content": question.question}
        assert len(shown) == len(relations()[question.domain].phrasings)
        starts.setdefault(question.domain, set()).add(str(messages[:-1]))
    # As many starts as examples: each comes last sometimes, and each start is shared by many questions.
    assert {domain: len(found) for domain, found in starts.items()} == {
        domain: len(relation.phrasings) for domain, relation in relations().items()
    }


def test_nothing_in_the_examples_is_asked_about(questions: list[Question]) -> None:
    examples = {text for relation in relations().values() for text, _ in relation.examples}
    shown = example_entities()
    for question in questions:
        assert question.question not in examples
        assert question.entity not in shown
