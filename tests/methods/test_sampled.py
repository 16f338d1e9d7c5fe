"""Confidence from samples: agreement and entropy of meanings, by the grader or by a judge."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confide.methods.sampled import ModelJudge, sampling_cost, self_consistency, semantic_entropy
from confide.records import Cost, Record, Sample
from scored_model import engine


def record(answer: str, told: Sequence[str], **how: object) -> Record:
    return Record(
        id="r", answer=answer, answered=answer or None,
        samples=[Sample(answer=a, answered=a or None) for a in told], **how,  # type: ignore[arg-type]
    )  # fmt: skip


def test_agreement_is_the_graders_where_it_was_measured() -> None:
    assert self_consistency(record("a", ["a", "a", "b", "c"])) == 0.5
    assert self_consistency(record("a", ["a", "b"], consistency=0.9)) == 0.9
    assert self_consistency(Record(id="x", answer="a")) is None


def test_answers_that_name_nothing_agree_by_their_text() -> None:
    row = Record(id="x", answer="No idea!", samples=[Sample(answer="no idea"), Sample(answer="pass")])
    assert self_consistency(row) == 0.5


def test_semantic_entropy_by_hand() -> None:
    found = semantic_entropy([record("a", "aaaa"), record("a", "abcd"), record("a", "aabb"), record("a", "a")])
    assert found == [1.0, pytest.approx(0.0), pytest.approx(0.5), None]


@given(st.lists(st.sampled_from("abcde"), min_size=2, max_size=10))
def test_semantic_entropy_is_a_confidence_whatever_the_order(told: list[str]) -> None:
    (value,) = semantic_entropy([record("a", told)])
    assert value is not None
    assert -1e-12 <= value <= 1
    assert semantic_entropy([record("a", sorted(told))])[0] == pytest.approx(value)
    (doubled,) = semantic_entropy([record("a", [*told, told[0]])])
    assert doubled is not None


def test_a_judge_decides_what_means_the_same() -> None:
    asked: list[tuple[str, str, str]] = []

    def judge(pairs: Sequence[tuple[str, str, str]]) -> list[bool]:
        asked.extend(pairs)
        return [{a, b} == {"Holland", "Netherlands"} for _, a, b in pairs]

    told = ["Holland", "Netherlands", "Belgium", "Holland"]
    row = record("x", told, messages=[{"role": "user", "content": "Where?"}])
    other = record("x", ["Holland", "Holland"])
    by_judge, alone = semantic_entropy([row, other], judge)
    assert by_judge == pytest.approx(semantic_entropy([record("x", "aaba")])[0])
    assert by_judge > (semantic_entropy([row])[0] or 0)
    assert alone == 1.0
    assert len(asked) == 3  # each pair of different answers once
    assert asked[0][0] == "Where?"


def test_a_model_as_judge_is_asked_both_ways_and_counts_its_cost() -> None:
    judge = ModelJudge(engine())
    said = judge([("Which?", "France", "Japan"), ("Which?", "Japan", "France")])
    assert said[0] == said[1]  # both orders are asked either way
    assert judge.tokens > 100
    assert judge.seconds > 0


def test_samples_cost_their_tokens_and_closing_ones() -> None:
    row = Record(id="x", samples=[Sample(answer="a b", answer_ids=[1, 2, 3]), Sample(answer="a b", finish="length")])
    assert sampling_cost(row) == Cost(tokens=4 + 2, seconds=0)
    noted = row.model_copy(update={"cost": {"samples": Cost(seconds=0.5)}})
    assert sampling_cost(noted).seconds == 0.5


def test_signs_that_fold_to_nothing_are_not_the_same() -> None:
    thumbs = [Sample(answer="👍"), Sample(answer=" 👍"), Sample(answer="👎"), Sample(answer="→")]
    row = Record(id="x", question="Good?", answer="👍", samples=thumbs)
    assert self_consistency(row) == 0.5
    (by_text,) = semantic_entropy([row])
    (by_judge,) = semantic_entropy([row], lambda pairs: [False] * len(pairs))
    assert by_text == by_judge == pytest.approx(0.25)


@pytest.mark.parametrize("k", range(2, 60))
def test_semantic_entropy_ends_exactly_at_none_and_one(k: int) -> None:
    apart, alike = [str(i) for i in range(k)], ["same"] * k
    assert semantic_entropy([record("a", apart), record("a", alike)]) == [0.0, 1.0]


def test_the_same_shares_of_meanings_tie_in_any_order() -> None:
    rng = random.Random(0)
    told = [*"aaaaa", *"bbb", *"cc", "d", "e", *"ff", *"ggggggg"]
    found = {semantic_entropy([record("a", rng.sample(told, len(told)))])[0] for _ in range(200)}
    assert len(found) == 1
