"""Chains: what is taught is never asked, and where an answer first goes wrong, by examples worked by hand."""

from __future__ import annotations

from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confide.records import Message, Record
from confide.tasks import load_task
from confide.tasks.chains import GREATEST, LENGTHS, Chain, chains, chains_task, first_error, parse_chain
from confide.tasks.graders import Grade

CHAIN = Chain(47, (("add", 28), ("subtract", 19), ("multiply", 3)))
STEPS = st.tuples(st.sampled_from(["add", "subtract", "multiply"]), st.integers(0, 99))
CHAINS = st.builds(Chain, st.integers(0, 99), st.lists(STEPS, min_size=1, max_size=8).map(tuple))


def test_a_chain_is_asked_and_worked_out() -> None:
    assert CHAIN.question == "47 +28 -19 *3"
    assert CHAIN.worked == "47+28=75\n75-19=56\n56*3=168"


@pytest.mark.parametrize(
    ("answer", "place"),
    [
        ("47+28=75\n75-19=56\n56*3=168", None),
        (" 47 + 28 = 75\n75 - 19 = 56\n56 * 3 = 168. ", None),
        ("47+28=65\n65-19=46\n46*3=138", 0),
        ("47+28=75\n75-19=66\n66*3=198", 1),
        ("47+28=75\n75-19=56\n56*3=158", 2),
        ("47+28=75\n75-19=66\n56*3=168", 1),  # made good by another slip: the step is wrong all the same
        ("47+28=75\n75-19=56", 2),  # one line short
        ("47+28=75\n75-19=56\n56*3=168\n168+1=169", 3),  # one too many
        ("47+28=75\nno idea", 1),
        ("", 0),
    ],
)
def test_where_an_answer_first_goes_wrong(answer: str, place: int | None) -> None:
    assert first_error(CHAIN, answer) == place


@given(CHAINS)
def test_the_wording_is_read_back_and_the_worked_answer_is_right(chain: Chain) -> None:
    assert parse_chain(chain.question) == chain
    assert first_error(chain, chain.worked) is None


@pytest.mark.parametrize("text", ["", "47", "47 28", "a +3", "47 +28 /3", "What is 3 + 4?"])
def test_other_texts_are_no_chains(text: str) -> None:
    assert parse_chain(text) is None


def test_nothing_taught_is_asked() -> None:
    def pairs(side: str) -> set[tuple[int, ...]]:
        drawn = islice(chains(side, 0), 1000)  # type: ignore[arg-type]
        return {tuple(sorted((step.a, step.b))) for chain in drawn for step in chain.steps}

    assert not pairs("taught") & pairs("task")


def test_questions_are_stable_mixed_and_in_range() -> None:
    questions = load_task("chains", limit=500, seed=3).questions
    assert [q.id for q in chains_task(50, seed=3).questions] == [q.id for q in questions[:50]]
    assert [q.id for q in chains_task(50, seed=4).questions] != [q.id for q in questions[:50]]
    assert len({q.id for q in questions}) == 500
    for question in questions:
        chain = parse_chain(question.question)
        assert chain is not None
        assert question.domain == f"steps_{len(chain.operations)}"
        assert all(0 < step.value <= GREATEST for step in chain.steps)
    assert {question.domain for question in questions} == {f"steps_{length}" for length in LENGTHS}


def test_the_last_number_is_graded() -> None:
    task = chains_task(1)
    question = task.questions[0]
    chain = parse_chain(question.question)
    assert chain is not None
    assert task.grade(question, chain.worked) == Grade(True, question.answer)
    assert not task.grade(question, chain.worked + "0").correct
    assert task.grade(question, "no idea") == Grade(False, None)
    assert task.agrees(question, chain.worked, str(question.answer))
    assert not task.agrees(question, "none", "none")


def test_records_tell_where_they_go_wrong() -> None:
    record = Record(id="1", messages=[Message(role="user", content=CHAIN.question)], answer="47+28=75\n75-19=57")
    assert chains_task(1).finish(record).model_extra == {"first_error": 1}
    other = Record(id="2", messages=[Message(role="user", content="Who?")], answer="5")
    assert chains_task(1).finish(other) is other
