"""The task of fields in a description."""

from __future__ import annotations

import json

from confide.records import Record
from confide.tasks import load_task
from confide.tasks.field_grader import part_grader
from confide.tasks.questions import question_of


def test_the_truth_stands_in_the_text_and_nulls_do_not() -> None:
    task = load_task("extraction", limit=300)
    values = [(question, value) for question in task.questions for value in dict(question.answer).values()]  # type: ignore[arg-type]
    absent = [value for _, value in values if value is None]
    assert 0.1 < len(absent) / len(values) < 0.2
    assert all(str(value) in question.question for question, value in values if value is not None)
    for question in task.questions:
        assert task.grade(question, json.dumps(question.answer)).correct is True
        assert question.entity == question.id


def test_the_same_seed_gives_the_same_questions() -> None:
    first, again, other = (load_task("extraction", limit=9, seed=seed).questions for seed in (0, 0, 1))
    assert first == again
    assert {q.question for q in first}.isdisjoint(q.question for q in other)
    assert load_task("extraction", limit=3).questions == first[:3]


def test_examples_are_of_the_questions_kind_and_never_its_own() -> None:
    task = load_task("extraction", limit=6)
    for question in task.questions:
        *turns, last = task.prompt(question)
        shown = [json.loads(turn["content"]) for turn in turns if turn["role"] == "assistant"]
        assert all(list(one) == list(dict(question.answer)) for one in shown)  # type: ignore[arg-type]
        assert any(None in one.values() for one in shown)
        assert last["content"] == question.question not in [turn["content"] for turn in turns]


def test_a_record_of_it_can_be_graded_again() -> None:
    task = load_task("extraction", limit=1)
    (question,) = task.questions
    record = Record(id=question.id, kind="fields", answer="{}", reference=question.answer)
    found = question_of(Record.model_validate_json(record.line()))
    assert found is not None
    assert found.answer == question.answer
    assert part_grader(record.reference) is not None
