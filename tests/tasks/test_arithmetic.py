"""Arithmetic: what is taught is never asked, and every kind of error by examples worked by hand."""

from __future__ import annotations

from itertools import islice
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confide.errors import ConfideError
from confide.records import Message, Record
from confide.tasks import load_task
from confide.tasks.arithmetic import (
    DOMAINS,
    ErrorKind,
    Expression,
    arithmetic_task,
    error_kind,
    expressions,
    parse_expression,
    with_error_kind,
)

NUMBERS = st.integers(-9999, 9999)
EXPRESSIONS = st.builds(Expression, NUMBERS, st.sampled_from(["add", "subtract", "multiply"]), NUMBERS)


@pytest.mark.parametrize(
    ("text", "answer", "kind"),
    [
        ("27 + 45", "72", None),
        ("27 + 45", "The answer is 72.", None),
        ("27 + 45", "62", "carry"),  # 7 + 5 = 12, the 1 forgotten
        ("27 + 45", "82", "digit"),  # two digits never carry 2
        ("23 + 41", "74", "carry"),  # a carry where there is none
        ("158 + 267", "315", "carry"),  # both carries forgotten
        ("95 + 17", "12", "carry"),  # the last carry forgotten
        ("52 - 27", "35", "carry"),  # the borrow forgotten
        ("58 - 23", "25", "carry"),  # a borrow where there is none
        ("27 - 52", "-35", "carry"),  # the larger magnitude is written above
        ("-27 + 52", "35", "carry"),
        ("27 * 4", "88", "carry"),  # 7 * 4 = 28, the 2 forgotten
        ("27 * 4", "98", "carry"),  # 1 carried in place of 2
        ("12 - 27", "15", "sign"),
        ("12 - 27", "39", "sign"),  # added
        ("12 + (-27)", "-39", "sign"),
        ("-6 * 7", "42", "sign"),
        ("12 - 27", "20", "sign"),  # the wrong sign goes before wrong digits
        ("27 + 45", "720", "magnitude"),
        ("27 + 45", "7", "magnitude"),
        ("345 * 12", "414", "magnitude"),
        ("27 + 45", "79", "digit"),
        ("27 + 45", "92", "digit"),
        ("345 + 123", "486", "digit"),
        ("27 + 45", "I do not know", "no_number"),
        ("27 + 45", "7.2", "no_number"),
    ],
)  # fmt: skip
def test_kinds_of_errors(text: str, answer: str, kind: str | None) -> None:
    expression = parse_expression(f"What is {text}?")
    assert expression is not None
    assert error_kind(expression, answer) == kind


@given(EXPRESSIONS)
def test_the_wording_is_read_back_and_the_right_answer_has_no_error(expression: Expression) -> None:
    assert parse_expression(expression.question) == expression
    assert error_kind(expression, str(expression.value)) is None


@given(EXPRESSIONS, st.integers(-(10**8), 10**8))
def test_every_wrong_number_has_one_kind(expression: Expression, number: int) -> None:
    kind = error_kind(expression, str(number))
    assert (kind is None) == (number == expression.value)
    assert kind is None or kind in get_args(ErrorKind)
    if expression.value * number < 0:
        assert kind == "sign"


@given(EXPRESSIONS)
def test_a_change_of_signs_or_order_stays_on_its_side(expression: Expression) -> None:
    a, operation, b = expression
    assert Expression(-b, operation, a).side == Expression(a, "add", -b).side == expression.side


def test_nothing_taught_is_asked() -> None:
    taught = {tuple(sorted((abs(e.a), abs(e.b)))) for _, e in islice(expressions("taught", 0), 3000)}
    task = {tuple(sorted((abs(e.a), abs(e.b)))) for _, e in islice(expressions("task", 0), 3000)}
    assert not taught & task


def test_questions_are_stable_and_mixed() -> None:
    questions = arithmetic_task(2000, seed=3).questions
    assert [q.id for q in arithmetic_task(100, seed=3).questions] == [q.id for q in questions[:100]]
    assert [q.id for q in arithmetic_task(100, seed=4).questions] != [q.id for q in questions[:100]]
    assert len({q.id for q in questions}) == 2000
    assert {q.domain for q in questions} == set(DOMAINS)
    for question in questions[:200]:
        expression = parse_expression(question.question)
        assert expression is not None
        operation, _, digits = question.domain.rpartition("_")
        assert expression.operation == operation
        assert max(len(str(abs(expression.a))), len(str(abs(expression.b)))) == int(digits)
        assert question.answer == str(expression.value)
    assert arithmetic_task().questions[0].entity is not None


def test_more_questions_than_there_are_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("confide.tasks.arithmetic.DOMAINS", ("add_1",))
    with pytest.raises(ConfideError, match=r"arithmetic has \d+ questions by this seed, not 5000"):
        arithmetic_task(5000)


def test_records_of_any_origin_get_the_kind() -> None:
    task = load_task("arithmetic", limit=5)
    assert task.grade(task.questions[0], str(task.questions[0].answer)).correct
    record = Record(id="1", messages=[Message(role="user", content="Compute 27+45.")], answer="It is 62", correct=False)
    assert with_error_kind(record).model_extra == {"error_kind": "carry"}
    assert '"error_kind":"carry"' in with_error_kind(record).line().replace(" ", "")
    other = Record(id="2", messages=[Message(role="user", content="Who?")], answer="5")
    assert with_error_kind(other) is other
